"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_FLAGS = {
    "strategy": "strategy",
    "health_timeout": "health_timeout_s",
    "min_uptime": "min_uptime_s",
    "drain": "drain_s",
    "standby": "standby_s",
}


def deploy_options(command: F) -> F:
    """Settings of a deploy. Values are text here; they are checked where all settings are (flag, environment, file)."""
    for option in reversed(
        (
            click.option("--strategy", metavar="NAME", help="blue-green (the default)."),
            click.option(
                "--health-timeout", metavar="TIME", help="How long the new version may take to be healthy [30s]."
            ),
            click.option("--min-uptime", metavar="TIME", help="How long it must run before it gets traffic [7s]."),
            click.option("--drain", metavar="TIME", help="How long requests of the old version may take to end [60s]."),
            click.option("--standby", metavar="TIME", help="How long the old version stays warm; 0 to stop it [10m]."),
        )
    ):
        command = option(command)
    return command


def common(command: F) -> F:
    """`--json` and `-C`."""
    command = click.option("-C", "directory", default=".", metavar="DIR", help="The project's directory [.].")(command)
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(command)


def flags_of(options: dict[str, Any]) -> dict[str, object]:
    """The options that were given, by the names of settings."""
    return {field: options[name] for name, field in _FLAGS.items() if options.get(name) is not None}
