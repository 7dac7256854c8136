"""What `pause` and `promote` do: ask the process that works on a canary, or move on one that waits."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from nself_deploy import wiring
from nself_deploy.app import asking
from nself_deploy.app.locking import held
from nself_deploy.app.pausing import SAY_WHEN, limit_pause, moment
from nself_deploy.app.result import Result
from nself_deploy.app.waiting import waited
from nself_deploy.app.world import World
from nself_deploy.cli.output import Lines, print_error, print_json
from nself_deploy.cli.telling import on_signals, tell_result
from nself_deploy.core.asking import Answer, Wanted
from nself_deploy.core.document import answer_document, run_document
from nself_deploy.core.machine import Run
from nself_deploy.core.model import StepStatus
from nself_deploy.core.rollback import checked_reason
from nself_deploy.core.step_lines import StepLine
from nself_deploy.errors import Exit, GateRefused, UsageError


def pause(directory: str, flags: dict[str, Any], *, as_json: bool, wait_s: float) -> int:
    """Park a canary that runs, or give one that is parked an end of that."""
    lines = Lines(sys.stdout, quiet=as_json)
    run, answer = asyncio.run(_pause(directory, flags, lines, wait_s))
    return _told(run, answer, lines, "Pause", as_json=as_json)


async def _pause(directory: str, flags: dict[str, Any], lines: Lines, wait_s: float) -> tuple[Run, Answer | None]:
    async with wiring.open_world(directory, flags, write=True) as opened, lines.ticking():
        world, limit = opened.world, opened.canary.pause
        world.progress, world.note = lines.progress, lines.note
        run, same_end = asking.under_way(world), flags["pause_expiry_s"] is None
        if flags["pause_then"] and not limit.seconds and not (run.waits and same_end):
            raise UsageError("--then needs a pause that ends.", SAY_WHEN, where="--then")
        if run.waits and same_end and flags["pause_then"] is None:
            return run, Answer(
                "", done=True, words=f"it is parked already: {run.parking.reason if run.parking else ''}"
            )
        if run.waits:
            async with held(world, "pause", opened.settings.target, asyncio.Event(), wait_s=wait_s):
                run = limit_pause(world, run, limit, same_end=same_end)
            return run, Answer("", done=True, words=f"it is parked{_until(world, run)}")
        if not asking.works(world):
            raise UsageError("Nobody works on it: its process ended.", "nself deploy resume goes on, abort undoes it.")
        lines.step(StepLine("Pause", StepStatus.RUNNING))
        answer = await asking.ask(world, run, Wanted.PAUSE, limit=limit if limit.seconds else None)
        return world.store.run(run.id) or run, answer


def _until(world: World, run: Run) -> str:
    expiry = run.parking.expiry if run.parking is not None else None
    return f" {expiry.words(moment(world))}" if expiry is not None else " until somebody decides"


def promote(directory: str, *, full: bool, accept: bool, reason: str, as_json: bool, wait_s: float) -> int:
    """Move a canary on."""
    if accept is not bool(reason.strip()):
        what = (
            "--accept-inconclusive needs a reason." if accept else "--reason says why --accept-inconclusive is right."
        )
        raise UsageError(what, "Give both, or none of them.", where="--reason" if reason else "--accept-inconclusive")
    why = checked_reason(reason, "--reason")
    lines, start = Lines(sys.stdout, quiet=as_json), time.monotonic()
    run, answer, result, root = asyncio.run(_promote(directory, lines, why, wait_s, full=full))
    if result is None:
        return _told(run, answer, lines, "Promote", as_json=as_json)
    if as_json and result.run is not None:
        print_json(run_document(result.run, result.before, int((time.monotonic() - start) * 1000)))
    return int(tell_result(result, root, lines))


async def _promote(
    directory: str, lines: Lines, reason: str, wait_s: float, *, full: bool
) -> tuple[Run, Answer | None, Result | None, str]:
    stop = asyncio.Event()
    async with wiring.open_world(directory, {}, write=True) as opened, lines.ticking():
        world = opened.world
        world.watcher, world.progress, world.note = lines.step, lines.progress, lines.note
        run = asking.under_way(world)
        if not run.waits and asking.works(world):
            lines.step(StepLine("Promote", StepStatus.RUNNING))
            answer = await asking.ask(world, run, Wanted.PROMOTE, full=full, reason=reason)
            return run, answer, None, ""
        on_signals(stop, lines, world.store.unfinished)
        async with held(world, "promote", opened.settings.target, stop, wait_s=wait_s):
            found = await asking.promote_waiting(world, stop, full=full, reason=reason)
        result = Result(found.run.plan, found.run, (found.line,)) if found else None
        after = await waited(world, result, opened.settings.target, stop) if result else None
        return run, None, after, str(world.root)


def _told(run: Run, answer: Answer | None, lines: Lines, name: str, *, as_json: bool) -> int:
    """Say what was answered."""
    done = answer is not None and answer.done
    words = answer.words if answer is not None else "it ended before it could answer; see nself deploy status"
    line = StepLine(name, StepStatus.DONE if done else StepStatus.FAILED, 0.0, words)
    lines.step(line)
    if as_json:
        print_json(answer_document(run, line))
    if done:
        return int(Exit.OK)
    remedy = (
        "Wait for more of the evidence, or add --accept-inconclusive --reason TEXT."
        if answer and answer.evidence
        else ""
    )
    error = GateRefused(f"{words[:1].upper()}{words[1:]}.", remedy, evidence=answer.evidence if answer else ())
    print_error(error)
    return int(error.exit_status)
