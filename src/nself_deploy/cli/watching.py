"""The command that watches service level objectives."""

from __future__ import annotations

import click

from nself_deploy.cli.options import common
from nself_deploy.errors import UsageError

LEAST_S = 1.0


def _time(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    from nself_deploy.core.durations import parse_duration

    if value is None:
        return None
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise UsageError(f"{error}.", where="--for") from None
    if seconds < LEAST_S:
        raise UsageError(f"{value!r} is too short.", "At least 1s; leave it out to watch for good.", where="--for")
    return seconds


@click.command(short_help="Watch objectives; roll back a release that burns them.")
@click.option("--for", "for_s", metavar="TIME", callback=_time, help="End after this time; else it watches for good.")
@click.option(
    "--objective",
    "texts",
    multiple=True,
    metavar="TEXT",
    help="Watch this in place of the project's own, such as 'availability 99.9'; may be repeated.",
)
@common
def watch(for_s: float | None, texts: tuple[str, ...], as_json: bool, directory: str) -> int:
    """Watch service level objectives by the router's own log, and roll back a release that burns their error budget.

    Objectives stand in the Compose file (x-nself-deploy: slo), where they may also be queries of Prometheus, or are
    given: 'availability 99.9', 'latency 99 % < 300ms', each with 'of SERVICE' or 'of SERVICE:PORT' behind it if it is
    about a part.

    An alert fires when the budget burns 14.4 times too fast over 5m and 1h (fast), or 6 times over 30m and 6h (slow); a
    younger release is judged by the time that it has. A fast alert that began after the release went live rolls it
    back, as --rollback does, and no key is needed; the circuit breaker is asked. Slow ones are told.

    Exit status: 0 the time is over and nothing is wrong; 5 it was rolled back; 7 a fast alert fires, and it could only
    be told, or there was no data of an objective; 4 the circuit breaker refused; 2 no engine; 6 another watch runs;
    130 stopped before its time.
    """
    from nself_deploy.cli import watched

    return watched.watch(directory, texts, for_s, as_json=as_json)
