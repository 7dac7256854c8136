"""What `--rollback --service` does: roll one service back, as a machine asks for it, with a deploy key."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from nself_deploy.cli.output import Lines, print_error, print_json, subject
from nself_deploy.core.rollback import Request, checked
from nself_deploy.core.settings import KNOWN_TARGETS, TARGETS
from nself_deploy.errors import NselfError, UsageError

if TYPE_CHECKING:
    from nself_deploy.wiring.service_rollback import Outcome


def rollback(
    service: str, key: str, environment: str, reason: str, max_retries: int, directory: str, *, as_json: bool
) -> int:
    """Roll a service back; the exit status."""
    environment = TARGETS.get(environment, environment)
    subject().target = environment
    if environment not in KNOWN_TARGETS:
        raise UsageError(f"There is no environment {environment!r}.", f"Environments: {', '.join(KNOWN_TARGETS)}.")
    if not service:
        raise UsageError("--rollback needs a service.", "Name it with --service, or use nself deploy rollback for all.")
    request = checked(service, environment, reason, max_retries)
    from nself_deploy.app.service_rollback import document_of
    from nself_deploy.wiring.service_rollback import hear

    lines = Lines(sys.stdout, quiet=as_json)
    outcome = asyncio.run(_execute(directory, request, key, lines))
    if as_json:
        print_json(document_of(outcome.state, outcome.result))
    _tell(outcome, lines)
    hear(outcome)
    return outcome.state.exit_status


async def _execute(directory: str, request: Request, key: str, lines: Lines) -> Outcome:
    from nself_deploy.cli.telling import on_signals
    from nself_deploy.wiring.service_rollback import Told, execute

    told = Told(lines.step, lines.progress, lines.note)
    on_signals(told.stop, lines)
    async with lines.ticking():
        return await execute(directory, request, key, told)


def _tell(outcome: Outcome, lines: Lines) -> None:
    from nself_deploy import wiring

    state, result = outcome.state, outcome.result
    if state.error:
        print_error(NselfError(state.error, outcome.remedy, evidence=outcome.evidence))
    elif result is not None:
        wiring.schedule_expiry(result.plan, outcome.root)
    lines.note(f"{state.ui_state.value}: {state.service} in {state.environment} after {state.duration_ms / 1000:.1f} s")
