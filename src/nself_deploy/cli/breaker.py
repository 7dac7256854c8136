"""Commands about circuit breakers: status, reset."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from nself_deploy.cli.group import PartsGroup
from nself_deploy.cli.options import REASON_HELP, common

if TYPE_CHECKING:
    from nself_deploy.cli.output import Lines
    from nself_deploy.core.breaker import BreakerLine


@click.group(cls=PartsGroup, no_args_is_help=False, short_help="What stops rollbacks that go in circles.")
def breaker() -> None:
    """The circuit breakers, one for each service and environment: they stop rollbacks that go in circles.

    More than 3 rollbacks of a service within an hour are refused (exit status 4, rate-limited), for an hour; then one
    is let through. The project's file may say otherwise. A version that was rolled back from is not returned to for a
    day. What a person rolls back is never refused, but counts.
    """


@breaker.command(short_help="Which breakers are open, and what would close them.")
@common
def status(as_json: bool, directory: str) -> int:
    """Each service that was rolled back lately: whether its breaker is open, what would close it, and when."""
    from nself_deploy.app import breaker as use_case
    from nself_deploy.cli.output import Lines, print_json
    from nself_deploy.wiring import guards

    with guards.open_guards(directory, write=False) as store:
        found = use_case.status(store, guards.now())
    if as_json:
        print_json(found)
    else:
        _show(found, Lines(sys.stdout))
    return 0


@breaker.command(short_help="Close a breaker now, and forget what was bad.")
@click.argument("service", metavar="SERVICE")
@click.option("--env", "environment", default="prod", metavar="NAME", help="The environment [prod].")
@click.option("--reason", default="", metavar="TEXT", help=REASON_HELP)
@common
def reset(service: str, environment: str, reason: str, as_json: bool, directory: str) -> int:
    """Close the breaker of SERVICE now, and forget its rollbacks and which versions were bad.

    It is an event of the audit trail. When there is nothing to reset it says so, and that is no error.
    """
    from nself_deploy.app import breaker as use_case
    from nself_deploy.cli.output import Lines, print_json, printable
    from nself_deploy.core.rollback import checked_reason
    from nself_deploy.core.settings import TARGETS
    from nself_deploy.wiring import guards

    environment, reason = TARGETS.get(environment, environment), checked_reason(reason, "--reason")
    with guards.open_guards(directory, write=True) as store:
        changed = use_case.reset(store, environment, service, reason)
        left = use_case.status(store, guards.now())
    if as_json:
        print_json(left)
        return 0
    words = f"the breaker of {service} in {environment}"
    said = f"[done] Reset {words}" if changed else f"There is nothing to reset: {words} remembers no rollback."
    Lines(sys.stdout).note(printable(said))
    return 0


def _show(found: list[BreakerLine], lines: Lines) -> None:
    """One line for each, and what would close it below."""
    known = [line for line in found if line.rollbacks or line.bad or line.closes]
    for line in known:
        count = f"{line.rollbacks} of {line.limit} rollbacks in {line.window_s / 60:g} min"
        lines.note(f"{line.service} in {line.environment}: {line.state.value}, {count}")
        if line.closes:
            lines.list([line.closes])
        if line.bad:
            lines.list([f"not returned to: {', '.join(line.bad)}"])
    if not known:
        lines.note("No service was rolled back lately.")
