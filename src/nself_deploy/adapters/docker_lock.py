"""The lock on the engine: one command at a time changes a project there, from whichever machine and directory.

Each owner makes an object of its own, a generation: the engine makes a name once, whoever asks for it. Having made it,
it looks again: with another live one there it takes its own away, so of two that meet at least one sees the other.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Protocol

from nself_deploy.core.lock_rules import (
    Found,
    Generation,
    Judgement,
    Life,
    LockOwner,
    Patience,
    Sign,
    in_sight,
    judge,
    next_number,
    refusal,
)
from nself_deploy.core.times import seconds_between
from nself_deploy.errors import EngineError, Locked, NselfError

ON_ENGINE = "the lock on the engine"

_TRIES = 8
_TIE_S = 0.2
_LOOK_S = 1.0
_STALE_BEATS = 2.5
"""After this many heartbeats' time without one, a holder makes sure of the lock before it goes on."""


class Volumes(Protocol):
    """The objects on the engine; each call is one step that others see whole or not at all."""

    async def found(self) -> Found:
        """All of them."""

    async def create(self, number: int, token: str, owner: LockOwner) -> None:
        """Make a generation; one that is there already stays as it is."""

    async def beat(self, number: int, token: str, count: int) -> None:
        """Make a heartbeat."""

    async def remove(self, number: int, beat: int = 0) -> bool:
        """Remove a generation, or one of its heartbeats; whether it was still there."""

    async def now(self) -> str:
        """The engine's clock."""


class Machine(Protocol):
    """What the lock asks of the machine that we run on."""

    def owner(self, purpose: str) -> LockOwner:
        """Ourselves."""

    def is_there(self, pid: int, started: str) -> bool:
        """Whether a process with this id and start runs."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def since_boot(self) -> float:
        """The same, with the time in which the machine slept."""


class DockerLock:
    """The lock of one project on the engine, for one holder."""

    def __init__(
        self,
        volumes: Volumes,
        machine: Machine,
        target: str,
        patience: Patience | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """A lock that nobody holds yet.

        Args:
            volumes: the objects on the engine.
            machine: this one.
            target: what will be deployed to; for the message only, the lock is the project's.
            patience: how long others may be silent.
            sleep: waits so many seconds.
        """
        self.patience = patience or Patience()
        self.taken_over: tuple[tuple[LockOwner, str], ...] = ()
        """After `acquire`: dead owners whose lock was taken, and how we know that they are dead."""
        self._volumes = volumes
        self._machine = machine
        self._target = target
        self._sleep = sleep
        self._busy = asyncio.Lock()
        self._here = machine.owner("")
        self._held: Generation | None = None
        self._left = ""
        """The token of one of ours that could not be given back: this process lives, so nobody else takes it away."""
        self._count = 0
        self._confirmed = 0.0
        self._watched: dict[str, tuple[object, float]] = {}

    async def acquire(self, purpose: str) -> None:
        """Take it; holding it already is fine.

        An owner who seems dead is watched for a while first.

        Raises:
            Locked: somebody else has it; says who, since when and doing what.
            EngineError: the engine can't be asked.
        """
        async with self._busy:
            if self._held is None:
                if self._left:
                    await self._withdraw(self._left)
                    self._left = ""
                await self._acquire(secrets.token_hex(16), self._machine.owner(purpose))

    async def beat(self) -> None:
        """Show that we live; a lock that somebody removed by hand is made again. Nothing while we don't hold it.

        Raises:
            Locked: somebody else has it now.
            EngineError: the engine can't be asked.
        """
        async with self._busy:
            held = self._held
            if held is None:
                return
            if (await self._volumes.found()).of(held.token) is None:
                await self._again(held)
            held = self._held
            assert held is not None
            self._count += 1
            await self._volumes.beat(held.number, held.token, self._count)
            if self._count > 1:
                await self._volumes.remove(held.number, self._count - 1)  # never without one: the new one is there
            self._confirmed = self._machine.since_boot()

    async def confirm(self) -> None:
        """Make sure that it is still ours when that has not been known for a while (this machine may have slept).

        Raises:
            Locked: somebody else has it now.
            EngineError: the engine can't be asked.
        """
        if self._machine.since_boot() - self._confirmed > _STALE_BEATS * self.patience.beat_s:
            await self.beat()

    async def release(self) -> None:
        """Give it back; not holding it is fine.

        Raises:
            EngineError: the engine can't be asked; then the next one finds that we are gone, or we take it away first.
        """
        async with self._busy:
            held, self._held = self._held, None
            if held is not None:
                self._left = held.token
                await self._withdraw(held.token)
                self._left = ""
                if self._count:
                    await self._volumes.remove(held.number, self._count)  # left when somebody removed the lock itself

    async def owner(self) -> LockOwner | None:
        """Who holds it now, None when nobody alive does. Changes nothing.

        Raises:
            EngineError: the engine can't be asked.
        """
        found = await self._volumes.found()
        for one, judged in await self._judged(found, ""):
            if judged.life is not Life.DEAD:
                return one.owner
        return None

    async def dead(self) -> tuple[tuple[LockOwner, str], ...]:
        """Owners who died and left it, and how we know that they are dead. Changes nothing.

        Raises:
            EngineError: the engine can't be asked.
        """
        judged = await self._judged(await self._volumes.found(), "")
        return tuple((one.owner, how.reason) for one, how in judged if how.life is Life.DEAD)

    async def _acquire(self, token: str, owner: LockOwner) -> None:
        rival: Generation | None = None
        taken: set[int] = set()
        for attempt in range(_TRIES):
            if attempt:
                await self._sleep(_TIE_S * (50 + secrets.randbelow(100)) / 100)  # two that meet shall not meet again
            found = await self._settled()
            number = next_number(found.generations, taken)
            try:
                await self._volumes.create(number, token, owner)
                found = await self._volumes.found()
                judged = await self._judged(found, token)
                rival = next((one for one, how in judged if how.life is not Life.DEAD), None)
                mine = found.of(token)
                if mine is not None and rival is None:
                    await self._clear(judged, found)
                    self._held, self._count, self._confirmed = mine, 0, self._machine.since_boot()
                    return
            except BaseException:
                await self._quietly_withdraw(token)
                raise
            if mine is not None:
                await self._withdraw(token)
            elif rival is not None:
                raise self._locked(rival)
            else:
                taken.add(number)  # something else has this name, or its owner was very quick
        if rival is not None:
            raise self._locked(rival)
        raise EngineError(
            "the lock on the engine can't be made: other volumes have its name.",
            "Look for them with `docker volume ls --filter name=nself-lock`.",
        )

    async def _settled(self) -> Found:
        """What is there, once every owner is known to be dead; one that seems dead is watched.

        Raises:
            Locked: one lives.
        """
        while True:
            found = await self._volumes.found()
            judged = await self._judged(found, "")
            alive = next((one for one, how in judged if how.life is Life.ALIVE), None)
            if alive is not None:
                raise self._locked(alive)
            if all(how.life is Life.DEAD for _, how in judged):
                return found
            await self._sleep(min(_LOOK_S, self.patience.watch_s / 5))

    async def _judged(self, found: Found, ours: str) -> list[tuple[Generation, Judgement]]:
        """All generations but ours, and whether their owners live."""
        others = [g for g in found.generations if g.token != ours]
        now = await self._volumes.now() if any(not in_sight(g.owner, self._here) for g in others) else ""
        return [(g, self._judge(g, now)) for g in others]

    def _judge(self, one: Generation, now: str) -> Judgement:
        owner, seen = one.owner, self._machine.monotonic()
        if in_sight(owner, self._here):
            there = self._machine.is_there(owner.pid, owner.started)
            return judge(owner, self._here, process=there, sign=Sign(0, 0), patience=self.patience)
        newest = (one.number, *one.newest)
        before, since = self._watched.get(one.token, (None, seen))
        if before != newest:
            since = seen
        self._watched[one.token] = newest, since
        try:
            age = seconds_between(one.newest[1], now)
        except ValueError:
            age = 0.0
        return judge(owner, self._here, process=False, sign=Sign(age, seen - since), patience=self.patience)

    async def _clear(self, dead: list[tuple[Generation, Judgement]], found: Found) -> None:
        """We have it: take away what dead owners left.

        One whose lock is not there any more gave it back before it ended, after we had looked.
        """
        taken = []
        for one, how in dead:
            for count, _ in one.beats:
                await self._volumes.remove(one.number, count)
            if await self._volumes.remove(one.number):
                taken.append((one.owner, how.reason))
        for number, count in found.strays:
            await self._volumes.remove(number, count)
        self.taken_over = tuple(taken)

    async def _again(self, held: Generation) -> None:
        """Somebody removed it: make it again, unless another one was quicker."""
        self._held = None
        try:
            await self._acquire(held.token, held.owner)
        except Locked as error:
            raise Locked(
                f"the lock on the engine was removed while this command ran, and {error.what}",
                "This command stopped where it was. nself deploy status shows what is under way.",
                where=error.where,
            ) from error
        except NselfError:
            self._held = held
            raise

    async def _withdraw(self, token: str) -> None:
        """Take away what is ours, the lock itself last: what is left of it would be a dead owner's."""
        mine = (await self._volumes.found()).of(token)
        if mine is None:
            return
        for count, _ in mine.beats:
            await self._volumes.remove(mine.number, count)
        await self._volumes.remove(mine.number)

    async def _quietly_withdraw(self, token: str) -> None:
        try:
            await self._withdraw(token)
        except NselfError:
            return  # we end, and then it is a dead owner's

    def _locked(self, holder: Generation) -> Locked:
        return refusal(holder.owner, self._target, ON_ENGINE)
