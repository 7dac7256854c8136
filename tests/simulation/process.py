"""A process of ours in the simulated world: killed at any call, it has no effect any more.

Every call that changes something is a *point*. The schedule names points (the first, the second, … of a process) at
which something happens: a kill before or after it, an error, an answer that is lost, a person who interferes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from nself_deploy.errors import EngineError, InfrastructureError, NselfError
from tests.simulation.world import SimWorld

T = TypeVar("T")

DEBT_S = 0.04


class Killed(BaseException):
    """The process is gone. Nothing may catch this."""


class Fault(msgspec.Struct, frozen=True):
    """Something that happens at a point of a process: its `at`-th one, or `at` points after a step was begun."""

    at: int
    kind: str
    arg: int = 0
    step: str = ""


CALL_FAULTS = ("kill-before", "kill-after", "refuse", "lost", "slow", "half")
"""Those that befall the call itself; all others befall the world (see `shocks`)."""

Refused = Callable[[str], NselfError]


def engine_error(what: str) -> NselfError:
    """What the engine's adapters raise."""
    return EngineError(f"{what}: the engine said no.", "Try again.")


def disk_error(what: str) -> NselfError:
    """What the adapters of files raise."""
    return InfrastructureError(f"cannot write {what}: the disk is full.", "Free some space.")


class Process:
    """One run of the program, with what it holds."""

    def __init__(
        self,
        world: SimWorld,
        name: str,
        faults: tuple[Fault, ...],
        shock: Callable[[Process, Fault], None],
        *,
        elsewhere: bool = False,
    ) -> None:
        self.world = world
        self.name = name
        self.pid = world.number()
        self.elsewhere = elsewhere
        """It runs on another machine, which shares the disk but not the kernel."""
        self.wait_s = 0.0
        """How long it waits for the lock."""
        self.ahead = False
        """It is on a way back to a warm release, and has the lock of its directory only."""
        self.alive = True
        world.living.add(self.pid)
        self.interrupted = asyncio.Event()
        self.points = 0
        self.fired = 0
        self._faults: dict[int, list[Fault]] = {}
        self._waiting: dict[str, list[Fault]] = {}
        for fault in faults:
            (self._waiting.setdefault(fault.step, []) if fault.step else self._faults.setdefault(fault.at, [])).append(
                fault
            )
        self._shock = shock
        self._sleepers: dict[asyncio.Future[None], None] = {}
        self._debt = 0.0
        """Seconds that calls took which only look: they pass together."""

    def die(self) -> None:
        """kill -9: the kernel takes the lock back, and nobody of it ever wakes up."""
        self.alive = False
        world = self.world
        world.flocks = {where: holder for where, holder in world.flocks.items() if holder is not self}
        world.inside.pop(self, None)
        world.living.discard(self.pid)
        world.note(self.name, "is gone")
        for sleeper in list(self._sleepers):
            if not sleeper.done():
                sleeper.set_exception(Killed())

    def end(self) -> None:
        """It ended by itself."""
        if self.alive:
            self.die()

    def living(self) -> None:
        """Raises Killed in a process that is gone."""
        if not self.alive:
            raise Killed

    async def pause(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.living()
        loop = self.world.loop
        sleeper: asyncio.Future[None] = asyncio.Future(loop=loop)
        timer = loop.call_at(loop.now + seconds, _wake, sleeper)
        self._sleepers[sleeper] = None
        try:
            await sleeper
        finally:
            timer.cancel()
            del self._sleepers[sleeper]

    def begun(self, step: str) -> None:
        """The intent of a step is written: its faults lie ahead."""
        for fault in self._waiting.pop(step, ()):
            self._faults.setdefault(self.points + fault.at, []).append(fault)

    async def spend(self, seconds: float) -> None:
        """Let a little time pass, now or with what comes next."""
        self.living()
        self._debt += seconds
        if self._debt > DEBT_S:
            seconds, self._debt = self._debt, 0.0
            await self.pause(seconds)

    def point(self) -> str:
        """Before a call that changes something: what befalls it (empty: nothing)."""
        self.living()
        self.points += 1
        mode = ""
        for fault in self._faults.get(self.points, ()):
            self.fired += 1
            if fault.kind == "kill-before":
                self.die()
                raise Killed
            if fault.kind in CALL_FAULTS:
                mode = fault.kind
            else:
                self._shock(self, fault)
        return mode

    def touch(self, what: str, change: Callable[[], T], error: Refused = disk_error) -> T:
        """A call that changes something at once: a write, a lock."""
        mode, disk = self.point(), self.world.disk
        if disk.full > 0 and error is disk_error:
            disk.full -= 1
            raise error(what)
        if mode in ("refuse", "half"):
            raise error(what)
        result = change()
        self.world.happened(self, what)
        self._after(mode, what, error)
        return result

    async def act(self, what: str, change: Callable[[], T], seconds: float = 0.02, error: Refused = engine_error) -> T:
        """A call that takes time and then changes something."""
        mode = self.point()
        slow = 8.0 if mode == "slow" else seconds * self.world.random.uniform(0.5, 1.5)
        slow, self._debt = slow + self._debt, 0.0
        try:
            await self.pause(slow)
        except asyncio.CancelledError:
            if self.alive and self.world.random.random() < 0.5:
                change()  # it was on its way already
                self.world.happened(self, f"{what} (given up by the caller, and done all the same)")
            raise
        self.answering(error)
        if mode in ("refuse", "half"):
            raise error(what)
        result = change()
        self.world.happened(self, what)
        self._after(mode, what, error)
        return result

    async def ask(self, seconds: float = 0.004, error: Refused = engine_error) -> None:
        """A call that only looks."""
        await self.spend(seconds)
        self.answering(error)

    def answering(self, error: Refused) -> None:
        """The engine is there, if it is asked."""
        if error is engine_error and self.world.engine_back > self.world.now:
            raise EngineError("The engine does not answer.", "Start it.")

    async def steps(self, what: str, changes: Iterator[tuple[str, Callable[[], None]]], seconds: float = 0.1) -> None:
        """A call of several changes (`compose up`): a kill, an error or a cancellation leaves it half done."""
        await self.ask()
        for name, change in changes:
            mode = self.point()
            await self.pause(8.0 if mode == "slow" else seconds * self.world.random.uniform(0.5, 1.5))
            self.answering(engine_error)
            if mode == "refuse":
                raise engine_error(what)
            change()
            self.world.happened(self, f"{what}: {name}")
            self._after("lost" if mode == "half" else mode, what, engine_error)

    def _after(self, mode: str, what: str, error: Refused) -> None:
        if mode == "kill-after":
            self.die()
            raise Killed
        if mode == "lost" and error is not disk_error:
            raise error(f"{what} (the answer was lost)")


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
