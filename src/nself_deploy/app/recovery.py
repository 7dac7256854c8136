"""Putting right what was interrupted: by the next deploy, or because a person asks to resume or to abort.

There is no second path: the machine goes on from the journalled run, by the decision of `core/recovery.py`.
"""

from __future__ import annotations

import asyncio

import msgspec

from nself_deploy.app import observe
from nself_deploy.app.executor import Executor
from nself_deploy.app.judging import promote_if_proved
from nself_deploy.app.pausing import answer_of, due
from nself_deploy.app.runner import REQUEST_POLL_S, Runner, request_key
from nself_deploy.app.world import World
from nself_deploy.core import machine
from nself_deploy.core.asking import answer_key, ask_key
from nself_deploy.core.machine import Run
from nself_deploy.core.model import StepStatus
from nself_deploy.core.recovery import Decision, Standing, Wish, decide
from nself_deploy.core.step_lines import StepLine
from nself_deploy.errors import NselfError, Parked


class Recovered(msgspec.Struct, frozen=True):
    """An interrupted run, as it was put right."""

    run: Run
    decision: Decision
    line: StepLine
    """What was done about it, and why."""


async def recover(world: World, interrupted: asyncio.Event, wish: Wish) -> Recovered | None:
    """Finish or undo a run whose process died; None when there is none. The caller holds the lock.

    A canary that is resumed may wait again afterwards: its run says why.

    Raises:
        Parked: a person has to decide about it first.
        NselfError: it can't be put right now; it stays in the journal, and the next command tries again.
    """
    run = world.store.unfinished()
    if run is None:
        return None
    decision = decide(run, await standing(world, run), wish)
    if decision.waits and run.phase is machine.Phase.PARKED:
        raise parked_error(run)
    name = f"{'Decide about the parked' if run.waits else 'Put right the interrupted'} {run.plan.kind} {run.id}"
    world.watcher(StepLine(name, StepStatus.RUNNING))
    world.watcher(line := StepLine(name, StepStatus.DONE, detail=decision.words))
    for key in (request_key(run), ask_key(run.id)):
        world.store.set_meta(key, "")  # what its dead process was asked for: `wish` decides now
    if answer := answer_of(run):  # who asked for the pause may not have looked yet
        world.store.set_meta(answer_key(run.id), msgspec.json.encode(answer).decode())
    world.store.record(run, "note", "", f"{wish.value} by {world.user}: {decision.words}")
    expired = wish is Wish.ONWARD and due(world, run) is not None
    if expired and decision.finish:
        promote_if_proved(world, run)
    why = decision.why if expired else ""
    event = machine.Resumed(decision.finish, world.user if wish is Wish.ABORT else "", why, decision.again)
    run = await Runner(world, Executor(world).perform, interrupted).run(run, event)
    if run.phase is machine.Phase.PARKED and wish is not Wish.RESUME:
        raise parked_error(run)
    if not run.ended and run.phase is not machine.Phase.PARKED:
        failure = run.failure
        raise NselfError(
            f"The interrupted {run.plan.kind} {run.id} can't be put right yet: {failure.message if failure else ''}",
            failure.remedy if failure else "",
            evidence=failure.evidence if failure else (),
        )
    return Recovered(run, decision, line)


def parked_error(run: Run) -> Parked:
    """Why a run waits, and what a person can do."""
    parking = run.parking or machine.Parking("it waits")
    return Parked(
        f"The {run.plan.strategy} {run.plan.kind} of {run.plan.release} is parked: {parking.reason}.",
        parking.remedy or "nself deploy resume goes on with it, abort undoes it.",
        evidence=parking.evidence,
    )


async def standing(world: World, run: Run) -> Standing:
    """A fresh look at the run's candidate."""
    slot, release = run.plan.candidate, world.store.release(run.plan.release)
    healthy = slot is not None and release is not None and await observe.all_healthy(world, slot, release)
    return Standing(world.router.split(), healthy, due(world, run))


async def abort_of_another(world: World, run: Run) -> Run:
    """Ask the process that works on `run` to undo it, and wait until it has ended (or the process is gone)."""
    world.store.set_meta(request_key(run), world.user or "somebody")
    while True:
        now = world.store.run(run.id) or run
        if now.ended or world.lock.owner() is None:
            return now
        step = now.current()
        world.progress(f"asked; it is at {step.name!r}" if step else "asked")
        await world.clock.sleep(REQUEST_POLL_S)
