"""A tiny engine with the operations that the lock is made of, and processes that meet on it in any order.

Each operation is one step: a process goes on only when the schedule says so, and may be killed before any of its steps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nself_deploy.adapters.docker_lock import DockerLock
from nself_deploy.core.lock_rules import Found, Generation, LockOwner, Patience
from nself_deploy.errors import Locked

TIME = "2026-11-26T12:00:00Z"

Make = Callable[["Volumes", "Machine"], DockerLock]


class Pause:
    """Here others may come in between."""

    def __await__(self) -> Generator[None, None, None]:
        yield


@dataclass
class Engine:
    """What everybody sees."""

    generations: dict[int, tuple[str, LockOwner]] = field(default_factory=dict)
    alive: set[int] = field(default_factory=set)
    inside: list[int] = field(default_factory=list)
    """Who thinks that the lock is theirs."""
    taken: int = 0


class Volumes:
    """The operations, each in one step."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def found(self) -> Found:
        await Pause()
        return Found(tuple(Generation(n, *made, TIME) for n, made in sorted(self._engine.generations.items())))

    async def create(self, number: int, token: str, owner: LockOwner) -> None:
        await Pause()
        self._engine.generations.setdefault(number, (token, owner))

    async def beat(self, number: int, token: str, count: int) -> None:
        await Pause()

    async def remove(self, number: int, beat: int = 0) -> bool:
        await Pause()
        return not beat and self._engine.generations.pop(number, None) is not None

    async def now(self) -> str:
        await Pause()
        return TIME


@dataclass
class Machine:
    """One for all: so each can look for the processes of the others."""

    engine: Engine
    pid: int

    def owner(self, purpose: str) -> LockOwner:
        return owner_of(self.pid, purpose)

    def is_there(self, pid: int, started: str) -> bool:
        return pid in self.engine.alive

    def monotonic(self) -> float:
        return 0.0

    def since_boot(self) -> float:
        return 0.0


def owner_of(pid: int, purpose: str = "deploy") -> LockOwner:
    return LockOwner("user", "host", pid, "boot", purpose, TIME, "machine", "space", "1")


def pause(seconds: float) -> Awaitable[None]:
    return Pause()


def plain(volumes: Volumes, machine: Machine) -> DockerLock:
    return DockerLock(volumes, machine, "local", Patience(), pause)


@dataclass
class Meeting:
    """Some processes that each want the lock, use it, and give it back."""

    processes: int
    dead: int = 0
    """Generations of dead owners that are there at first."""
    make: Make = plain

    def __post_init__(self) -> None:
        self.engine = Engine({n: (f"dead {n}", owner_of(1000 + n)) for n in range(1, self.dead + 1)})
        self.engine.alive = set(range(self.processes))
        self.running: dict[int, Coroutine[Any, Any, None]] = {n: self._work(n) for n in range(self.processes)}

    async def _work(self, pid: int) -> None:
        lock = self.make(Volumes(self.engine), Machine(self.engine, pid))
        try:
            await lock.acquire("deploy")
        except Locked:
            return
        self.engine.inside.append(pid)
        self.engine.taken += 1
        await Pause()
        self.engine.inside.remove(pid)
        await lock.release()

    def step(self, pid: int) -> None:
        """One operation of a process; with nobody of this number nothing."""
        work = self.running.get(pid)
        if work is None:
            return
        try:
            work.send(None)
        except StopIteration:
            del self.running[pid]
            self.engine.alive.discard(pid)
        assert len(self.engine.inside) <= 1, f"{self.engine.inside} hold it at once"

    def kill(self, pid: int) -> None:
        """It does nothing any more, whatever it was about to do."""
        work = self.running.pop(pid, None)
        if work is not None:
            self.engine.alive.discard(pid)
            self.engine.inside = [p for p in self.engine.inside if p != pid]
            self._dropped.append(work)

    @property
    def _dropped(self) -> list[Coroutine[Any, Any, None]]:
        return DROPPED

    def finish(self) -> None:
        """All go on to their end, one after the other."""
        for pid in list(self.running):
            while pid in self.running:
                self.step(pid)


DROPPED: list[Coroutine[Any, Any, None]] = []
"""Killed processes: closing them would let them clean up."""


def schedules(meeting: Callable[[], Meeting], switches: int) -> Iterator[tuple[Sequence[int], Meeting]]:
    """Every order of steps in which a process that could go on is left for another at most `switches` times."""
    pending: list[tuple[list[int], int]] = [([], switches)]
    while pending:
        prefix, left = pending.pop()
        met = meeting()
        for pid in prefix:
            met.step(pid)
        done = list(prefix)
        while met.running:
            current = done[-1] if done and done[-1] in met.running else None
            others = [p for p in met.running if p != current]
            if current is None:
                pending += [([*done, p], left) for p in others[1:]]
                current = others[0]
            elif left:
                pending += [([*done, p], left - 1) for p in others]
            met.step(current)
            done.append(current)
        yield done, met
