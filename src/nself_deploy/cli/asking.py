"""What `pause` and `promote` do: ask the process that works on a canary, or move on one that waits."""

from __future__ import annotations

import asyncio
import sys
import time

from nself_deploy import wiring
from nself_deploy.app import asking
from nself_deploy.app.locking import held
from nself_deploy.app.result import Result
from nself_deploy.cli.output import Lines, print_error, print_json
from nself_deploy.cli.telling import on_signals, tell_result
from nself_deploy.core.asking import Answer, Wanted
from nself_deploy.core.document import StepLine, answer_document, run_document
from nself_deploy.core.machine import Run
from nself_deploy.core.model import StepStatus
from nself_deploy.errors import Exit, GateRefused, UsageError


def pause(directory: str, *, as_json: bool) -> int:
    """Park a canary that runs."""
    lines = Lines(sys.stdout, quiet=as_json)
    run, answer = asyncio.run(_pause(directory, lines))
    return _told(run, answer, lines, "Pause", as_json=as_json)


async def _pause(directory: str, lines: Lines) -> tuple[Run, Answer | None]:
    async with wiring.open_world(directory, {}, write=True) as opened, lines.ticking():
        world = opened.world
        world.progress = lines.progress
        run = asking.under_way(world)
        if run.waits:
            return run, Answer(
                "", done=True, words=f"it is parked already: {run.parking.reason if run.parking else ''}"
            )
        if not asking.works(world):
            raise UsageError("Nobody works on it: its process ended.", "nself deploy resume goes on, abort undoes it.")
        lines.step(StepLine("Pause", StepStatus.RUNNING))
        answer = await asking.ask(world, run, Wanted.PAUSE)
        return world.store.run(run.id) or run, answer


def promote(directory: str, *, full: bool, accept: bool, reason: str, as_json: bool, wait_s: float) -> int:
    """Move a canary on."""
    if accept is not bool(reason.strip()):
        what = (
            "--accept-inconclusive needs a reason." if accept else "--reason says why --accept-inconclusive is right."
        )
        raise UsageError(what, "Give both, or none of them.", where="--reason" if reason else "--accept-inconclusive")
    lines, start = Lines(sys.stdout, quiet=as_json), time.monotonic()
    run, answer, result, root = asyncio.run(_promote(directory, lines, reason.strip(), wait_s, full=full))
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
        return run, None, result, str(world.root)


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
