"""From another terminal: pause a canary, or move it on; one that runs, and one that waits."""

from __future__ import annotations

import asyncio
import secrets

import msgspec

from nself_deploy.app.judging import load, promote, proved_now
from nself_deploy.app.pausing import answer_of
from nself_deploy.app.recovery import Recovered, recover
from nself_deploy.app.runner import REQUEST_POLL_S
from nself_deploy.app.world import World
from nself_deploy.core.asking import Answer, Ask, Wanted, answer_key, ask_key
from nself_deploy.core.canary import Consent, known_words
from nself_deploy.core.effects import Bake, Judge
from nself_deploy.core.machine import Run
from nself_deploy.core.pauses import Limit
from nself_deploy.core.recorder import Recorder
from nself_deploy.core.recovery import Wish
from nself_deploy.errors import GateRefused, UsageError


def under_way(world: World) -> Run:
    """The run that is judged now, or waits.

    Raises:
        UsageError: there is none, or nobody judges it.
    """
    run = world.store.unfinished()
    if run is None:
        raise UsageError("Nothing is under way.", "Begin with nself deploy --strategy canary.")
    if not any(isinstance(step.effect, Judge | Bake) for step in run.plan.steps):
        what = f"The {run.plan.strategy} {run.plan.kind} of {run.plan.release} has no shares of the traffic"
        raise UsageError(f"{what}, so it can't be paused or promoted.", "nself deploy abort undoes it.")
    return run


def works(world: World) -> bool:
    """Whether a living process of this directory works on it."""
    return world.lock.owner() is not None


async def ask(
    world: World, run: Run, wanted: Wanted, *, full: bool = False, reason: str = "", limit: Limit | None = None
) -> Answer | None:
    """Ask the process that works on the run, and wait for its answer; None when it ended without one."""
    question = Ask(secrets.token_hex(8), wanted, world.user or "somebody", full, reason, limit)
    world.store.set_meta(ask_key(run.id), msgspec.json.encode(question).decode())
    while True:
        text = world.store.meta(answer_key(run.id))
        answer = msgspec.json.decode(text, type=Answer) if text else None
        if answer is not None and answer.id == question.id:
            return answer
        working = works(world)  # before the run: what a process did last is on record then
        now = world.store.run(run.id) or run
        if now.ended or now.waits or not working:
            world.store.set_meta(ask_key(run.id), "")
            paused = answer_of(now)
            return paused if paused is not None and paused.id == question.id else None
        step = now.current()
        world.progress(f"asked; it is at {step.name!r}" if step else "asked")
        await world.clock.sleep(REQUEST_POLL_S)


async def promote_waiting(world: World, interrupted: asyncio.Event, *, full: bool, reason: str) -> Recovered | None:
    """Move a canary on that nobody works on; it may wait again, for another reason. The caller holds the lock.

    Raises:
        GateRefused: it is not shown to be good enough, and no reason is given to accept that.
        UsageError: it waits at a step where nothing is judged.
    """
    run = under_way(world)
    step, session = run.current(), load(world, run)
    if step is None or session is None or not isinstance(step.effect, Judge):
        where = f", at {step.name!r}" if step else ""
        raise UsageError(
            f"The {run.plan.kind} {run.id} was interrupted{where}.", "nself deploy resume goes on with it."
        )
    share = step.effect.next_percent
    recorder = Recorder(session)
    good = proved_now(world, recorder, share)
    if not good and not reason:
        raise GateRefused(
            f"The candidate is not shown to be good enough for {share} % of the traffic.",
            "Give it more time (nself deploy resume), or add --accept-inconclusive --reason TEXT.",
            evidence=known_words(session),
        )
    promote(world, run, recorder, Consent(world.user or "somebody", "" if good else reason, full))
    return await recover(world, interrupted, Wish.RESUME)
