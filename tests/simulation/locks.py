"""The locks of the simulated world: the kernel's, one for each directory, and the objects on the engine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from nself_deploy.app.locking import held, held_here
from nself_deploy.app.way_back import Complete
from nself_deploy.app.world import World
from nself_deploy.core.lock_rules import Found, Generation, LockOwner
from nself_deploy.core.state import format_time
from nself_deploy.errors import Locked
from tests.simulation.process import Process
from tests.simulation.world import EPOCH, SimWorld


def owner_of(process: Process, purpose: str) -> LockOwner:
    """What a process writes down about itself."""
    place = "there" if process.elsewhere else "here"
    return LockOwner(
        "ann", place, process.pid, f"boot-{place}", purpose, "2026-11-22T21:30:00Z", place, place, f"{process.pid}"
    )


class SimLock:
    """The `Lock` port: the kernel gives it to one, and takes it back from the dead."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.previous: LockOwner | None = None
        self.noted: LockOwner | None = None
        self._world = process.world

    def acquire(self, purpose: str) -> None:
        world, process = self._world, self.process
        process.living()
        holder = world.flocks.get(process.elsewhere)
        if holder is process:
            return
        if holder is not None:
            locked = Locked(f"process {holder.pid} is busy.", "Wait until it has ended.")
            locked.purpose = world.lock_files[process.elsewhere].purpose
            raise locked

        def take() -> None:
            self.previous = world.lock_files.get(process.elsewhere)
            self.noted = world.lock_files.get(not process.elsewhere)
            world.flocks[process.elsewhere] = process
            world.lock_files[process.elsewhere] = owner_of(process, purpose)

        process.touch(f"lock for {purpose}", take)

    def release(self) -> None:
        process, world = self.process, self._world
        process.living()
        if world.flocks.get(process.elsewhere) is process:
            del world.flocks[process.elsewhere]
            del world.lock_files[process.elsewhere]
            world.happened(process, "lock given back")

    def owner(self) -> LockOwner | None:
        self.process.living()
        held_here = self.process.elsewhere in self._world.flocks
        return self._world.lock_files[self.process.elsewhere] if held_here else None


class SimVolumes:
    """The objects that the lock on the engine is made of."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._made = process.world.generations

    async def found(self) -> Found:
        await self._process.ask()
        known = sorted(self._made.items())
        return Found(tuple(g for _, g in known))

    async def create(self, number: int, token: str, owner: LockOwner) -> None:
        made = Generation(number, token, owner, self._time())
        await self._process.act(f"lock on the engine {number}", lambda: self._made.setdefault(number, made), 0.01)

    async def beat(self, number: int, token: str, count: int) -> None:
        def beat() -> None:
            found = self._made.get(number)
            if found is not None and found.token == token:
                beats = (*(b for b in found.beats if b[0] != count), (count, self._time()))
                self._made[number] = msgspec.structs.replace(found, beats=beats)

        await self._process.act(f"lock on the engine {number}: beat {count}", beat, 0.01)

    async def remove(self, number: int, beat: int = 0) -> bool:
        def remove() -> bool:
            found = self._made.get(number)
            if not beat:
                return self._made.pop(number, None) is not None
            if found is None or all(one != beat for one, _ in found.beats):
                return False
            self._made[number] = msgspec.structs.replace(found, beats=tuple(b for b in found.beats if b[0] != beat))
            return True

        return await self._process.act(f"lock on the engine {number}: remove {beat or 'it'}", remove, 0.01)

    async def now(self) -> str:
        await self._process.ask()
        return self._time()

    def _time(self) -> str:
        return format_time(datetime.fromtimestamp(EPOCH + self._process.world.now, UTC))


class SimMachine:
    """What the lock asks of the machine."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def owner(self, purpose: str) -> LockOwner:
        return owner_of(self._process, purpose)

    def is_there(self, pid: int, started: str) -> bool:
        return pid in self._process.world.living

    def monotonic(self) -> float:
        return self._process.world.now

    since_boot = monotonic


Held = Callable[..., Any]


@contextlib.asynccontextmanager
async def watched(world: World, *args: Any, **rest: Any) -> AsyncIterator[None]:
    """`held`, and the world knows who is inside."""
    assert isinstance(world.lock, SimLock)
    process = world.lock.process
    sim: SimWorld = process.world
    async with held(world, *args, **rest):
        sim.inside[process] = None
        sim.note(process.name, "is inside")
        try:
            yield
        finally:
            sim.inside.pop(process, None)


@contextlib.asynccontextmanager
async def watched_here(world: World, *args: Any, **rest: Any) -> AsyncIterator[Complete]:
    """`held_here`; who has only the lock of the directory is not inside yet."""
    assert isinstance(world.lock, SimLock)
    process, on_engine = world.lock.process, world.engine_lock
    sim: SimWorld = process.world
    async with held_here(world, *args, **rest) as take:
        process.ahead = True

        async def complete() -> None:
            await take(on_engine)
            process.ahead = False
            sim.inside[process] = None
            sim.note(process.name, "is inside")

        try:
            yield complete
        finally:
            process.ahead = False
            sim.inside.pop(process, None)
