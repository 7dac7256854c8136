"""Both locks, for as long as a command changes things: that of this directory, then that on the engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from nself_deploy.app.runner import stoppable
from nself_deploy.app.world import World
from nself_deploy.core import audit
from nself_deploy.core.durations import format_duration
from nself_deploy.core.lock_rules import LockOwner, take_over, who
from nself_deploy.core.model import StepStatus
from nself_deploy.core.slot_records import standby_slot
from nself_deploy.core.step_lines import StepLine
from nself_deploy.errors import EngineError, Locked, NselfError

if TYPE_CHECKING:
    from nself_deploy.app.ports import EngineLock

EXPIRY = "remove the expired standby"
"""Purpose of the lock while a standby is removed: the one that others wait for."""
EXPIRY_S = 90.0
POLL_S = 0.5
AWAY_S = 5.0
"""How long a command that can do without the engine waits for its answer."""
WAITING = "Wait for the lock"

Take = Callable[[World, str, str, bool], Awaitable[None]]


@contextlib.asynccontextmanager
async def held(
    world: World, purpose: str, target: str, interrupted: asyncio.Event, *, wait_s: float = 0.0, warm: bool = False
) -> AsyncIterator[None]:
    """Hold both locks, and show on the engine that we live.

    When somebody else has got the lock on the engine meanwhile, `interrupted` is set and no further effect begins.

    Args:
        world: the project.
        purpose: what for, in words.
        target: local, staging, prod.
        interrupted: set from outside to give up waiting.
        wait_s: how long to wait for others.
        warm: the release to go back to is warm, so this goes on without an engine that can't be asked.

    Raises:
        Locked: somebody else changes things.
        EngineError: the engine can't be asked.
        Interrupted: a person gave up waiting.
    """
    await stoppable(_take(world, purpose, target, wait_s, warm=warm), interrupted)
    async with _alive(world, interrupted):
        yield


@contextlib.asynccontextmanager
async def held_here(
    world: World, purpose: str, target: str, interrupted: asyncio.Event, *, wait_s: float = 0.0
) -> AsyncIterator[OnEngine]:
    """Hold the lock of this directory at once, and that on the engine from when what is given is called.

    Raises like `held`, but for the engine: nobody asks it until then, and one that can't be asked stops nothing.
    """
    world.engine_lock = None
    await stoppable(_take(world, purpose, target, wait_s, warm=True), interrupted)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(_give_back, world)

        async def on_engine(lock: EngineLock | None) -> None:
            world.engine_lock = lock
            await _take(world, purpose, target, wait_s, warm=True, take=_both_from_here)
            await stack.enter_async_context(_alive(world, interrupted))

        yield on_engine


OnEngine = Callable[["EngineLock | None"], Awaitable[None]]
"""Takes the lock on the engine too; Locked when somebody else has it."""


@contextlib.asynccontextmanager
async def _alive(world: World, interrupted: asyncio.Event) -> AsyncIterator[None]:
    """Show that we live as long as this lasts, then give everything back."""
    lost: list[Locked] = []
    beats = asyncio.ensure_future(_beat(world, interrupted, lost))
    world.still_ours = lambda: _still_ours(world, lost)
    try:
        yield
    finally:
        await _give_back(world)
        beats.cancel()
        await asyncio.gather(beats, return_exceptions=True)


def is_warm(world: World, release: str) -> bool:
    """Whether going back to a release (empty: the previous one) needs no start of containers, as far as is recorded."""
    slots = world.store.slots()
    slot = standby_slot(slots)
    return slot is not None and world.store.unfinished() is None and release in ("", slots[slot].release)


async def _take(
    world: World, purpose: str, target: str, wait_s: float, *, warm: bool, take: Take | None = None
) -> None:
    start, told = world.clock.monotonic(), ""
    while True:
        try:
            await (take or _both)(world, purpose, target, warm)
        except Locked as error:
            waited = world.clock.monotonic() - start
            if waited >= max(wait_s, EXPIRY_S if error.purpose == EXPIRY else 0.0):
                raise _in_vain(error, waited if wait_s else 0.0) from error
            if wait_s and error.what != told:
                told = error.what
                world.note(f"waiting up to {format_duration(wait_s)}: {told}")
                world.watcher(StepLine(WAITING, StepStatus.RUNNING))
            await world.clock.sleep(POLL_S)
            continue
        if told:
            world.watcher(StepLine(WAITING, StepStatus.DONE, round(world.clock.monotonic() - start, 3)))
        return


def _in_vain(error: Locked, waited: float) -> Locked:
    if not waited:
        return error
    return Locked(f"{error.what} Waited for {format_duration(round(waited))}.", error.remedy, where=error.where)


async def _both(world: World, purpose: str, target: str, warm: bool) -> None:
    """Both or none: who waits keeps nobody else out. Take-overs are said to the person and kept in the audit trail."""
    _directory(world, purpose)
    dead = [(world.lock.previous, "its process is gone")] if world.lock.previous is not None else []
    try:
        dead += await _engine(world, purpose, warm=warm)
        _tell_of(world, target, dead)
    except BaseException:
        await _give_back(world)
        raise


async def _both_from_here(world: World, purpose: str, target: str, warm: bool) -> None:
    """That on the engine too, when that of the directory is held."""
    _tell_of(world, target, await _engine(world, purpose, warm=warm))


def _tell_of(world: World, target: str, dead: list[tuple[LockOwner, str]]) -> None:
    """Each dead owner once."""
    told: set[tuple[str, int, str]] = set()
    for owner, reason in dead:
        if (one := (owner.host, owner.pid, owner.started)) not in told:
            told.add(one)
            world.note(take_over(owner, reason))
            event = audit.lock_taken_over(target, who(owner), owner.purpose, owner.since, reason)
            world.store.add_event(event)


def _directory(world: World, purpose: str) -> None:
    try:
        world.lock.acquire(purpose)
    except Locked:
        if world.lock.owner() is not None:
            raise
        world.lock.acquire(purpose)  # given back at this moment


async def _engine(world: World, purpose: str, *, warm: bool) -> list[tuple[LockOwner, str]]:
    """The lock on the engine; the dead owners that it was taken from."""
    lock = world.engine_lock
    if lock is None:
        return []
    try:
        async with asyncio.timeout(AWAY_S if warm else None):
            await lock.acquire(purpose)
    except (EngineError, TimeoutError) as error:
        if not warm:
            raise
        why = error.what if isinstance(error, EngineError) else f"the engine did not answer within {AWAY_S:g} s."
        world.note(f"going on without the lock on the engine, since the way back is warm: {why}")
        return []
    return list(lock.taken_over)


async def _beat(world: World, interrupted: asyncio.Event, lost: list[Locked]) -> None:
    """Show that we live, until the lock is another's. An engine that is away may be restarting: that stops nothing."""
    lock = world.engine_lock
    while lock is not None:
        await world.clock.sleep(lock.patience.beat_s)
        with contextlib.suppress(EngineError):
            try:
                await lock.beat()
            except Locked as error:
                _lose(world, error, lost)
                interrupted.set()
                return


async def _still_ours(world: World, lost: list[Locked]) -> None:
    """Before every effect: after the lock was lost nothing more is done, since its new owner may do the same things.

    Raises:
        Locked: it is another's.
    """
    if not lost and world.engine_lock is not None:
        with contextlib.suppress(EngineError):
            try:
                await world.engine_lock.confirm()
            except Locked as error:
                _lose(world, error, lost)
    if lost:
        raise lost[0]


def _lose(world: World, error: Locked, lost: list[Locked]) -> None:
    world.note(f"stopping: {error.what}")
    lost.append(error)


async def _give_back(world: World) -> None:
    try:
        if world.engine_lock is not None:
            await world.engine_lock.release()
    except NselfError as error:
        world.note(f"the lock on the engine was not given back; the next command finds that we are gone ({error.what})")
    finally:
        world.lock.release()
