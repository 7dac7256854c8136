"""The command that watches service level objectives."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import click

from nself_deploy.cli.options import common
from nself_deploy.errors import Exit, UsageError

if TYPE_CHECKING:
    from nself_deploy.cli.output import Lines
    from nself_deploy.core.watch_document import WatchDocument
    from nself_deploy.wiring.watching import Watched

NAME = "Watch"
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

    Objectives stand in the Compose file (x-nself-deploy: slo), or are given: 'availability 99.9',
    'latency 99 % < 300ms', each with 'of SERVICE' or 'of SERVICE:PORT' behind it if it is about a part.

    An alert fires when the budget burns 14.4 times too fast over 5m and 1h (fast), or 6 times over 30m and 6h (slow); a
    younger release is judged by the time that it has. A fast alert that began after the release went live rolls it
    back, as --rollback does, and no key is needed; the circuit breaker is asked. Slow ones are told.

    Exit status: 0 the time is over and nothing is wrong; 5 it was rolled back; 7 a fast alert fires, and it could only
    be told; 4 the circuit breaker refused; 2 no engine; 6 another watch runs; 130 stopped before its time.
    """
    from nself_deploy.cli.output import Lines, print_error, print_json
    from nself_deploy.errors import NselfError

    lines, start = Lines(sys.stdout, quiet=as_json), time.monotonic()
    found = asyncio.run(_watch(directory, texts, for_s, lines))
    status = status_of(found, timed=for_s is not None)
    if as_json:
        print_json(document_of(found, status, round((time.monotonic() - start) * 1000)))
    state = found.end.state
    if status == Exit.PARKED:
        print_error(NselfError(f"An alert fires: {found.end.helpless}.", "Look at it: nself deploy status"))
    elif found.rollback is not None and state is not None and state.error:
        print_error(NselfError(state.error, found.rollback.remedy, evidence=found.rollback.evidence))
    elif state is not None:
        lines.note(f"{state.ui_state.value}: {state.service} in {state.environment}, back on {state.prior_version}")
    return int(status)


async def _watch(directory: str, texts: tuple[str, ...], for_s: float | None, lines: Lines) -> Watched:
    from nself_deploy.core.document import StepLine
    from nself_deploy.core.model import StepStatus
    from nself_deploy.wiring.service_rollback import Told
    from nself_deploy.wiring.watching import watch as run

    start = time.monotonic()

    def progress(text: str) -> None:
        lines.step(StepLine(NAME, StepStatus.RUNNING))
        lines.progress(text)

    told = Told(lines.step, progress, lines.note)
    _on_signals(told.stop, lines)
    async with lines.ticking():
        found = await run(directory, texts, for_s, told)
        words = _words(found)
        lines.step(StepLine(NAME, StepStatus.DONE, time.monotonic() - start, words))
    return found


def _on_signals(stop: asyncio.Event, lines: Lines) -> None:
    """The first Ctrl-C or SIGTERM ends the watch, or undoes its rollback in order; the second stops at once."""
    from nself_deploy.cli.output import emit
    from nself_deploy.cli.telling import ENDING, STOPPED

    def ask() -> None:
        if stop.is_set():
            emit(sys.stderr, STOPPED)
            os._exit(int(Exit.INTERRUPTED))
        stop.set()
        lines.note("the watch ends (again to stop at once)")

    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, ask)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)


def _words(found: Watched) -> str:
    from nself_deploy.app.slo_guard import progress

    return f"{'stopped; ' if found.end.stopped else ''}{progress(found.watch, None)}"


def status_of(found: Watched, *, timed: bool) -> Exit:
    """The exit status; a watch for good that is stopped has done what it was for."""
    from nself_deploy.core.rollback import RollbackUIState

    end = found.end
    if end.state is not None and end.state.ui_state is RollbackUIState.POPULATED and timed:
        return Exit.FAILED
    if end.stopped:
        return Exit.INTERRUPTED if timed else Exit.OK
    if end.helpless:
        return Exit(end.state.exit_status) if end.state is not None and end.state.error else Exit.PARKED
    return Exit.OK


def document_of(found: Watched, status: Exit, duration_ms: int) -> WatchDocument:
    """The document that is printed."""
    from nself_deploy.core.document import run_document
    from nself_deploy.core.model import Strategy
    from nself_deploy.core.watch_document import WatchDocument, alert_line, objective_lines

    end, result = found.end, found.rollback.result if found.rollback else None
    state, run = end.state, result.run if result else None
    made = run_document(run, result.before if result else (), duration_ms) if run else None
    return WatchDocument(
        target=state.environment if state else "local",
        strategy=made.strategy if made else Strategy.BLUE_GREEN.value,
        release=end.release,
        previous_release=made.previous_release if made else "",
        steps=made.steps if made else (),
        duration_ms=duration_ms,
        success=status is Exit.OK,
        rolled_back=made is not None and made.success,
        final_percent=made.final_percent if made else 100,
        error=_error(found, status),
        objectives=objective_lines(found.watch),
        alerts=tuple(alert_line(told.alert, told.at, firing=told.firing) for told in end.alerts),
        ui_state=state.ui_state if state else None,
        service=state.service if state else "",
        prior_version=state.prior_version if state else "",
        audit_event_id=state.audit_event_id if state else "",
    )


def _error(found: Watched, status: Exit) -> str:
    end = found.end
    if status is Exit.OK:
        return ""
    if status is Exit.FAILED and end.state is not None and not end.state.error:
        burnt = next((told.alert.words for told in reversed(end.alerts) if told.alert.windows.pace == "fast"), "")
        return f"rolled back to {end.state.prior_version}: {burnt}"
    return (end.state.error if end.state is not None else "") or end.helpless or "stopped before its time"
