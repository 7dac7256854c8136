"""Pauses that end by themselves: who waits for the end, and what is done then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from nself_deploy.app.world import World
from nself_deploy.core import audit
from nself_deploy.core.asking import Answer
from nself_deploy.core.durations import format_duration
from nself_deploy.core.effects import Judge
from nself_deploy.core.machine import Parking, Phase, Run
from nself_deploy.core.model import StepStatus
from nself_deploy.core.moments import Moment
from nself_deploy.core.pauses import Expiry, Limit, Then
from nself_deploy.core.step_lines import StepLine
from nself_deploy.errors import InfrastructureError, Locked, Parked, UsageError

POLL_S = 1.0
"""How often a waiting command looks whether somebody decided."""
WAITING = "Wait for the end of the pause"
SAY_WHEN = "Say when, with --for 30m."


class Paused(Parked):
    """It waits for a person, but not for ever."""

    expiry: Expiry | None = None
    """Its end; None: there is none."""
    planned: bool = False
    """Whether the plan has it. That it was made is written with the parked run itself: no kill skips it."""
    asked: str = ""
    """The question of another terminal that it answers."""


def moment(world: World) -> Moment:
    """Now."""
    return Moment(world.clock.now(), world.boot, world.clock.monotonic())


def paused(world: World, what: str, remedy: str, limit: Limit | None, *, planned: bool = False) -> Paused:
    """The pause that begins now."""
    error = Paused(what, remedy)
    error.expiry, error.planned = _begun(world, limit), planned
    return error


def parking_of(error: Parked) -> Parking:
    """How a run waits, for the journal."""
    parking = Parking(error.what, error.verdict, error.back, error.remedy, error.evidence)
    if not isinstance(error, Paused):
        return parking
    return msgspec.structs.replace(parking, expiry=error.expiry, planned=error.planned, asked=error.asked)


def answer_of(run: Run) -> Answer | None:
    """What a paused run says to the terminal that asked for it, as soon as it is on record; None: nobody asked."""
    parking = run.parking
    if parking is None or not run.waits or not parking.asked:
        return None
    return Answer(parking.asked, done=True, words=parking.reason)


def _begun(world: World, limit: Limit | None) -> Expiry | None:
    return Expiry(limit, moment(world)) if limit is not None and limit.seconds else None


def due(world: World, run: Run) -> Expiry | None:
    """The pause of a parked run, if it is over."""
    expiry = run.parking.expiry if run.parking is not None and run.phase is Phase.PARKED else None
    return expiry if expiry is not None and expiry.over(moment(world)) else None


def limit_pause(world: World, run: Run, limit: Limit, *, same_end: bool = False) -> Run:
    """Give a run that is parked an end, from now on, or none (0 seconds). The caller holds the lock.

    With `same_end` one that has an end keeps it, and only what is done then is changed.

    Raises:
        UsageError: it was moved on meanwhile, can't be promoted, or has no end that it could keep.
    """
    run = world.store.run(run.id) or run
    if run.parking is None or run.phase is not Phase.PARKED:
        raise UsageError("It is not parked any more.", "nself deploy status shows how it goes.")
    step = run.current()
    if limit.then is Then.PROMOTE and (run.parking.back or step is None or not isinstance(step.effect, Judge)):
        raise UsageError("It has no share of the traffic now, so there is no next one.", "Choose resume or abort.")
    expiry = run.parking.expiry if same_end else None
    if expiry is not None:
        limit = Limit(expiry.limit.seconds, limit.then)
        expiry = Expiry(limit, expiry.began)
    elif same_end and not limit.seconds:
        raise UsageError(f"Its pause has no end at which to {limit.then} it.", SAY_WHEN, where="--then")
    parking = msgspec.structs.replace(run.parking, expiry=expiry or _begun(world, limit))
    run = msgspec.structs.replace(run, parking=parking)
    how = f"for {format_duration(limit.seconds)}, then {limit.then}" if limit.seconds else "until somebody decides"
    with world.store.transaction():
        world.store.record(run, "note", "", f"parked {how}: asked by {world.user}")
        world.store.add_event(audit.parked(run, msgspec.structs.replace(parking, reason=f"it waits {how}")))
    return run


async def wait_out(world: World, run: Run, interrupted: asyncio.Event, act: Callable[[], Awaitable[None]]) -> Run:
    """Stay with a run whose pause has an end, until somebody decides or it is over; the run as it is then.

    The lock is free meanwhile, so that any terminal can decide. `act` takes it and does what is to be done at the end.
    What another process does with the run is waited for. `interrupted` leaves the run as it is.
    """
    told = False
    while not run.ended and not interrupted.is_set():
        if run.waits:
            expiry = run.parking.expiry if run.parking is not None else None
            if expiry is None:
                break
            left = expiry.left_s(moment(world))
            if not left:
                await _undisturbed(act, world.progress)
                left = POLL_S
            world.progress(f"{expiry.then} in {format_duration(round(left))}")
        elif world.lock.owner() is None:
            run = world.store.run(run.id) or run  # who worked on it may have written down its end just now
            if not run.ended and not run.waits:
                break  # it was moved on by a process that died
            continue
        if not told:
            world.watcher(StepLine(WAITING, StepStatus.RUNNING))
            told = True
        await world.clock.sleep(POLL_S)
        run = world.store.run(run.id) or run
    return run


async def _undisturbed(act: Callable[[], Awaitable[None]], progress: Callable[[str], None]) -> None:
    """What is to be done at the end, unless another command does it already, or it waits again afterwards.

    An engine or router that is being restarted at this moment is no reason to leave users where they are: tried again.
    """
    try:
        await act()
    except (Locked, Parked):
        return
    except InfrastructureError as error:
        if not error.retryable:
            raise
        progress(f"{error.what} Trying again.")
