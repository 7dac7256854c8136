"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from nself_deploy.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

DEPLOY_OPTIONS = (
    ("--strategy", "strategy", "NAME", "How the new version takes over: blue-green (the default) or canary."),
    ("--health-timeout", "health_timeout_s", "TIME", "How long the new version may take to be healthy [30s]."),
    ("--min-uptime", "min_uptime_s", "TIME", "How long it must have run before it gets traffic [7s]."),
    ("--drain", "drain_s", "TIME", "How long requests to the old version may take to end [60s]."),
    ("--standby", "standby_s", "TIME", "How long the old version stays warm for a rollback; 0 stops it [10m]."),
)
CANARY_OPTIONS = (
    ("--canary", "initial_percent", "N", "First share of a canary in percent, or auto; then 50 and 100 [10]."),
    ("--steps", "steps", "LIST", "All shares of a canary, such as 10,50,100 or 10:1m,25:2m,50:2m,100."),
    (
        "--soak",
        "soak_minutes",
        "TIME",
        "How long the first share of a canary is watched; a plain number is minutes [5m].",
    ),
    ("--error-threshold", "error_threshold_pct", "PERCENT", "Error rate that is unacceptable in itself [1.0]."),
    ("--bake", "bake_s", "TIME", "How long it is watched with all the traffic; the canary's default is 10m [0s]."),
)
"""Word, setting, placeholder, help. TIME is a number with its unit: 500ms, 90s, 5m, 1h30m; without a unit, seconds."""


REASON_HELP = "Why, in at most 1,000 characters; kept in the audit trail."

DELIVERY_WORDS = ("--postgres", "--webhook", "--secret-file", "--account", "--name", "--sink")
"""Words of commands about the delivery of the audit trail that are followed by a value."""

SERVE_WORDS = ("--listen", "--tls-cert", "--tls-key")
"""Words of `serve` that are followed by a value."""

GUARD_WORDS = ("--env", "--service", "--action", "--expires", "--overlap", "--key", "--key-file")
"""Words of commands about keys and breakers that are followed by a value."""


def value_options() -> frozenset[str]:
    """Words that are followed by a value, in any command."""
    words = {word for word, *_ in (*DEPLOY_OPTIONS, *CANARY_OPTIONS)}
    others = ["-C", "--to", "--limit", "--wait", "--noted", "--reason", "--max-retries", "--for", "--then"]
    return frozenset({*words, *others, "--objective", *GUARD_WORDS, *DELIVERY_WORDS, *SERVE_WORDS})


def deploy_options(command: F) -> F:
    """Settings of a deploy. Values are text here; they are checked where all settings are (flag, environment, file)."""
    return _with(command, DEPLOY_OPTIONS)


def canary_options(command: F) -> F:
    """Settings of a canary, likewise."""
    return _with(command, CANARY_OPTIONS)


def keep_failed_option(command: F) -> F:
    """`--keep-failed`. No setting: it changes nothing for users."""
    text = "Keep the containers of a new version that failed, without traffic, to look at them."
    return click.option("--keep-failed", is_flag=True, help=text)(command)


def force_migration_option(command: F) -> F:
    """`--force-migration`. No setting: nothing but a person's word gives it."""
    text = "Go on though a migration breaks the release that is live, or gone back to; kept in the audit trail."
    return click.option("--force-migration", is_flag=True, help=text)(command)


def service_rollback_options(command: F) -> F:
    """`--rollback` and what belongs to it, but for the key."""
    for option in (
        click.option("--max-retries", default=0, metavar="N", type=int, help="Tries after the first one failed [1]."),
        click.option("--env", "environment", default="", metavar="NAME", help="Where it was deployed to [prod]."),
        click.option("--reason", default="", metavar="TEXT", help=REASON_HELP),
        click.option("--service", default="", metavar="SERVICE", help="The service that is rolled back."),
        click.option("--rollback", "back", is_flag=True, help="Take one service back to the version before."),
    ):
        command = option(command)
    return command


def _with(command: F, options: tuple[tuple[str, str, str, str], ...]) -> F:
    for word, _, metavar, text in reversed(options):
        command = click.option(word, metavar=metavar, help=text)(command)
    return command


def wait_option(command: F) -> F:
    """`--wait`, in seconds. No setting: it changes nothing about what is done."""
    text = "Wait this long for another command that holds the lock, instead of being refused at once."
    return click.option("--wait", "wait_s", default="0", metavar="TIME", callback=_seconds, help=text)(command)


def _seconds(_context: click.Context, _option: click.Parameter, value: str) -> float:
    from nself_deploy.core.durations import parse_duration

    try:
        return parse_duration(value)
    except ValueError as error:
        raise UsageError(f"{error}.", where="--wait") from None


def common(command: F) -> F:
    """`--json` and `-C`."""
    command = click.option("-C", "directory", default=".", metavar="DIR", help="The project's directory [.].")(command)
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(command)


def flags_of(options: dict[str, Any]) -> dict[str, object]:
    """The options that were given, by the names of settings."""
    known = (*DEPLOY_OPTIONS, *CANARY_OPTIONS)
    names = {word.removeprefix("--").replace("-", "_"): setting for word, setting, *_ in known}
    return {setting: options[name] for name, setting in names.items() if options.get(name) is not None}
