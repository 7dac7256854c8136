"""What `resume` and `abort` do: put an interrupted run right, or ask the process that works on it; say how it went."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

from nself_deploy import wiring
from nself_deploy.app import deploy as use_cases
from nself_deploy.app.locking import held
from nself_deploy.app.recovery import abort_of_another, parked_error
from nself_deploy.app.result import Result
from nself_deploy.app.waiting import waited
from nself_deploy.app.world import World
from nself_deploy.cli.output import Lines, emit, print_error, print_json
from nself_deploy.cli.telling import on_signals
from nself_deploy.core.document import exit_status, nothing_document, run_document
from nself_deploy.core.machine import Outcome
from nself_deploy.errors import Exit, GateRefused, NselfError

Act = Callable[[World, asyncio.Event], Awaitable[Result | None]]


def resume(directory: str, *, as_json: bool, wait_s: float) -> int:
    """Finish what was interrupted, or undo it."""
    lines, start = Lines(sys.stdout, quiet=as_json), time.monotonic()
    result, root = asyncio.run(_act(directory, "resume", use_cases.resume, lines, wait_s))
    if result is None or result.run is None:
        return _nothing(lines, as_json=as_json)
    run, status = result.run, exit_status(result.run)
    if as_json:
        print_json(run_document(run, result.before, int((time.monotonic() - start) * 1000)))
    if status is Exit.OK:
        wiring.schedule_expiry(result.plan, root)
        lines.note(f"Finished: {run.plan.release} is live in {run.plan.candidate}.")
    elif run.waits:
        print_error(parked_error(run))
    elif run.failure is not None:
        print_error(NselfError(run.failure.message, run.failure.remedy, evidence=run.failure.evidence))
        _where(result)
    return int(status)


def abort(directory: str, *, as_json: bool, wait_s: float) -> int:
    """Undo what runs or was interrupted."""
    lines, start = Lines(sys.stdout, quiet=as_json), time.monotonic()
    result, root = asyncio.run(_act(directory, "abort", use_cases.abort, lines, wait_s))
    if result is None or result.run is None:
        return _nothing(lines, as_json=as_json)
    run = result.run
    if as_json:
        print_json(run_document(run, result.before, int((time.monotonic() - start) * 1000)))
    if run.outcome is Outcome.DONE:
        wiring.schedule_expiry(result.plan, root)
        what = f"The {run.plan.kind} had proved itself under traffic already, so it was finished: {run.plan.release}"
        error = GateRefused(f"{what} is live.", "nself deploy rollback goes back to the previous release.")
        print_error(error)
        return int(error.exit_status)
    lines.note(
        f"Aborted the {run.plan.kind} of {run.plan.release}; users are on {run.plan.previous_release or 'nothing'}."
    )
    return int(Exit.OK)


async def _act(directory: str, purpose: str, act: Act, lines: Lines, wait_s: float) -> tuple[Result | None, str]:
    stop = asyncio.Event()
    on_signals(stop, lines)
    async with wiring.open_world(directory, {}, write=True) as opened, lines.ticking():
        world = opened.world
        on_signals(stop, lines, world.store.unfinished)
        world.watcher, world.progress, world.note = lines.step, lines.progress, lines.note
        if purpose == "abort" and (found := await _asked(world)) is not None:
            return found, str(world.root)
        target = opened.settings.target
        async with held(world, purpose, target, stop, wait_s=wait_s):
            result = await act(world, stop)
        return await waited(world, result, target, stop) if result else None, str(world.root)


async def _asked(world: World) -> Result | None:
    """A run that a living process works on is undone by that process; None when there is no such run any more."""
    run = world.store.unfinished()
    if run is None or world.lock.owner() is None:
        return None
    run = await abort_of_another(world, run)
    return Result(run.plan, run) if run.ended else None


def _nothing(lines: Lines, *, as_json: bool) -> int:
    if as_json:
        print_json(nothing_document())
    lines.note("Nothing was interrupted: there is nothing to do.")
    return int(Exit.OK)


def _where(result: Result) -> None:
    where = f"traffic is on {result.plan.live}" if result.plan.live else "nothing is live"
    emit(sys.stderr, f"  {where}; everything was undone.\n")
