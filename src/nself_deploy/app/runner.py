"""The loop: write the intent, perform one effect, record the outcome."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from nself_deploy.app.world import World
from nself_deploy.core import machine
from nself_deploy.core.effects import Effect, ProbeWarm
from nself_deploy.core.machine import Event, Failure, Run
from nself_deploy.core.plan import Plan
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from nself_deploy.core.step_lines import step_line
from nself_deploy.errors import Exit, InfrastructureError, Interrupted, Locked, NselfError, Parked, Unhealthy

REQUEST_POLL_S = 0.3
"""How often the process that works on a run looks whether another terminal asks to abort it."""

PAUSES_S = (0.5, 2.0)
"""Between the tries of an effect that can't be taken back any more."""

T = TypeVar("T")

Perform = Callable[[Effect, Run], Awaitable[str]]
"""Performs one effect; returns what to say about it."""


class Runner:
    """Drives one run to its end.

    `interrupted` is set from outside (a signal) to ask for an orderly end.
    """

    def __init__(self, world: World, perform: Perform, interrupted: asyncio.Event) -> None:
        self._world = world
        self._perform = perform
        self._interrupted = interrupted
        self._taken = False
        """Another command ended our run: this process was frozen for so long that it counted as dead."""

    async def run(self, run: Run, event: Event) -> Run:
        """Go on from `event` until the run has ended, or can't go on (then it is still unfinished in the journal)."""
        watch = asyncio.ensure_future(self._watch_requests(run))
        try:
            return await self._loop(run, event)
        finally:
            watch.cancel()

    async def _loop(self, run: Run, event: Event) -> Run:
        run, effects = machine.advance(run, event)
        while effects:
            for effect in effects:
                await self._world.still_ours()
                self._tell(run)
                step = run.current()
                key = step.key if step else ""
                self._world.store.record(run, "intent", key, msgspec.json.encode(effect).decode())
                event = await self._once(effect, run)
                await self._world.still_ours()
                self._refuse_taken(run)
                before = run
                run, effects = machine.advance(run, event)
                if run.ended:
                    run = msgspec.structs.replace(run, completed_at=self._world.clock.now())
                self._world.store.record(run, "outcome", key, _words(event))
                self._tell(before, run)  # what people are told is on record already
        return run

    async def _once(self, effect: Effect, run: Run) -> Event:
        """One effect, raced against an interruption."""
        start = time.monotonic()
        stoppable = run.phase is machine.Phase.FORWARD and not run.committed
        task = asyncio.ensure_future(self._perform(effect, run) if stoppable else self._insist(effect, run))
        stop = asyncio.ensure_future(self._interrupted.wait())
        try:
            await asyncio.wait({task, stop} if stoppable else {task}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                return self._stopped(run, start)
            detail = task.result()
            if stoppable and stop.done():
                return self._stopped(run, start)
            return machine.Done(time.monotonic() - start, detail)
        except Parked as error:
            from nself_deploy.app.pausing import parking_of

            return machine.Park(parking_of(error), time.monotonic() - start)
        except NselfError as error:
            return machine.Failed(failure_of(error), time.monotonic() - start)
        finally:
            stop.cancel()

    def _stopped(self, run: Run, start: float) -> Event:
        by = self._world.store.meta(request_key(run))
        reason = f"aborted by {by}" if by else "interrupted by a person"
        return machine.Interrupt(reason, time.monotonic() - start, by)

    async def _insist(self, effect: Effect, run: Run) -> str:
        """An effect of a run that can't turn back any more is tried again: a lost answer says nothing of the effect."""
        for pause in PAUSES_S:
            try:
                return await self._perform(effect, run)
            except InfrastructureError as error:
                if not error.retryable:
                    raise
                self._world.progress(f"{error.what} Trying again.")
            await self._world.clock.sleep(pause)
        return await self._perform(effect, run)

    def _refuse_taken(self, run: Run) -> None:
        if self._taken or self._world.store.ended(run.id):
            raise Locked(
                f"Another command put {run.plan.kind} {run.id} right meanwhile: this process was taken for dead.",
                "nself deploy status shows how it ended.",
            )

    async def _watch_requests(self, run: Run) -> None:
        """Another terminal may ask for an orderly end too, or have ended the run while this process was frozen."""
        with contextlib.suppress(NselfError):  # a journal that can't be read stops the run at its next effect
            while not self._world.store.meta(request_key(run)):
                if self._world.store.ended(run.id):
                    self._taken = True
                    break
                await self._world.clock.sleep(REQUEST_POLL_S)
            self._interrupted.set()

    def _tell(self, run: Run, after: Run | None = None) -> None:
        """Tell the watcher of every step that changed (or of the one that starts)."""
        if after is None:
            current = run.current()
            for state in run.steps:
                if current and state.key == current.key:
                    self._world.watcher(step_line(state))
            return
        known = {s.key: s for s in run.steps}
        current = after.current()
        for state in after.steps:
            changed = known.get(state.key) != state and not (current and state.key == current.key)
            if changed and state.status not in ("pending", "skipped"):
                self._world.watcher(step_line(state))


async def carry_out(world: World, plan: Plan, interrupted: asyncio.Event, perform: Perform) -> Run:
    """A new run of a plan, from its beginning to its end.

    Raises:
        Locked: another command has begun one, or has the lock.
        NselfError: it can't be written down.
    """
    await world.still_ours()  # a person may have thought about the plan for long
    other = world.store.unfinished()
    if other is not None:  # a way back to a warm release begins without the lock on the engine
        raise Locked(
            f"Another command began the {other.plan.kind} {other.id} meanwhile.", "nself deploy status shows it."
        )
    started = world.clock.now()
    run = machine.new_run(f"{started[:19].replace('-', '').replace(':', '')}-{secrets.token_hex(3)}", plan, started)
    warm = any(isinstance(step.effect, ProbeWarm) for step in plan.steps)
    taken = None if warm else plan.candidate
    world.store.begin(run, {taken: SlotRecord(plan.release, SlotRole.CANDIDATE, started)} if taken else {})
    return await Runner(world, perform, interrupted).run(run, machine.Begin())


def request_key(run: Run) -> str:
    """Where a request to abort a run is written down."""
    return f"abort:{run.id}"


async def stoppable(work: Coroutine[Any, Any, T], interrupted: asyncio.Event) -> T:
    """The result of something that changes nothing for users, given up as soon as a person asks to stop.

    Raises:
        Interrupted: a person asked.
    """
    task, stop = asyncio.ensure_future(work), asyncio.ensure_future(interrupted.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise Interrupted("Interrupted before anything was changed.")
        return task.result()
    finally:
        stop.cancel()


def failure_of(error: NselfError) -> Failure:
    """An error as the machine keeps it."""
    return Failure(
        message=f"{error.where}: {error.what}" if error.where else error.what,
        remedy=error.remedy,
        evidence=error.evidence,
        exit_status=int(error.exit_status) or int(Exit.FAILED),
        unhealthy=isinstance(error, Unhealthy),
    )


def _words(event: Event) -> str:
    match event:
        case machine.Done(_, detail):
            return detail
        case machine.Failed(failure, _):
            return failure.message
        case machine.Interrupt(reason, _):
            return reason
        case machine.Park(parking, _):
            return f"parked: {parking.reason}"
        case _:
            return type(event).__name__
