"""Delivering the audit trail: in order, at least once, through outages of any length, and beside everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from nself_deploy.core import audit_delivery as rules
from nself_deploy.core.audit import Record
from nself_deploy.core.audit_delivery import Progress, Sink, SinkLine
from nself_deploy.errors import NselfError, StateFileError

PATIENCE_S = 60.0
"""How long another process may deliver to the same sink before we give up."""
BACKGROUND_S = 600.0
"""How long a sink that does not work is tried by the process in the background; the next command starts another."""
LOOK_S = 1.0
"""How often somebody who follows the trail looks for new events."""

_VERIFY = "Run nself deploy audit verify to see what is wrong; nothing is delivered past it."


class Outbox(Protocol):
    """What the journal keeps for the delivery."""

    def last(self) -> int:
        """Number of the newest event; 0 when there is none."""

    def after(self, number: int, limit: int) -> list[Record]:
        """The events after one, oldest first, at most so many."""

    def progress(self, sink: Sink) -> Progress:
        """How far a sink is."""

    def save(self, sink: Sink, progress: Progress) -> None:
        """Note how far a sink is; a power cut may take it back."""


class Receiver(Protocol):
    """A sink as it is spoken to."""

    at_once: int
    """Events that it takes in one call."""

    async def deliver(self, records: Sequence[Record]) -> None:
        """Have these events there when it returns. Those that are there already are no error, and not doubled.

        Raises:
            NselfError: some are not, as far as is known.
            ValueError: one can't be read.
        """

    async def close(self) -> None:
        """Let go of connections."""


class Time(Protocol):
    """The clock, as far as it is needed here."""

    def now(self) -> str:
        """UTC, RFC 3339."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class Route(msgspec.Struct, frozen=True):
    """A sink, and how it is spoken to."""

    sink: Sink
    receiver: Receiver


Turn = Callable[[Sink, float], AbstractAsyncContextManager[None]]
"""Gives the right to deliver to a sink to one process at a time; Locked when another keeps it for too long."""


class Courier:
    """Delivers what waits."""

    def __init__(self, outbox: Outbox, routes: Sequence[Route], turn: Turn, clock: Time) -> None:
        self._outbox = outbox
        self._routes = routes
        self._turn = turn
        self._clock = clock

    async def once(self, *, again: bool = False) -> dict[str, NselfError]:
        """Deliver what waits, to all sinks side by side; the errors of those that failed, by name.

        Args:
            again: from the first event on, for a sink that lost some.
        """
        results = await asyncio.gather(*(self._tried(route, again) for route in self._routes))
        return {name: error for name, error in results if error is not None}

    async def background(self) -> None:
        """Deliver what waits; a sink that does not work is tried again for a while, with growing pauses.

        Meanwhile the others get what is new, for nobody else delivers in the background.
        """
        behind = {route.sink.name for route in self._routes}
        await asyncio.gather(*(self._insist(route, behind) for route in self._routes))

    async def follow(self, told: Callable[[str], None], unchanged: Callable[[], bool]) -> None:
        """Deliver what waits and what is still to come, for as long as the sinks stay the same."""
        await asyncio.gather(*(self._follow(route, told, unchanged) for route in self._routes))

    def waits(self) -> bool:
        """Whether something waits for a sink."""
        return any(waits(self._outbox, route.sink) for route in self._routes)

    async def _tried(self, route: Route, again: bool) -> tuple[str, NselfError | None]:
        try:
            await self._deliver(route, again=again)
        except NselfError as error:
            return route.sink.name, error
        return route.sink.name, None

    async def _insist(self, route: Route, behind: set[str]) -> None:
        failures, until = 0, self._clock.monotonic() + BACKGROUND_S
        while True:
            try:
                if waits(self._outbox, route.sink):
                    await self._deliver(route)
                    failures = 0
            except NselfError as error:
                failures += 1
                if not error.retryable or self._clock.monotonic() >= until:
                    behind.discard(route.sink.name)
                    return
                await self._clock.sleep(rules.wait_s(failures))
                continue
            behind.discard(route.sink.name)
            if not behind:
                return
            await self._clock.sleep(LOOK_S)

    async def _follow(self, route: Route, told: Callable[[str], None], unchanged: Callable[[], bool]) -> None:
        failures, next_try = 0, self._clock.monotonic()
        while unchanged():
            if self._clock.monotonic() >= next_try and waits(self._outbox, route.sink):
                try:
                    await self._deliver(route)
                    failures = 0
                    told(f"{route.sink.name} has all events")
                except NselfError as error:
                    failures += 1
                    next_try = self._clock.monotonic() + rules.wait_s(failures)
                    if failures == 1:
                        told(f"{route.sink.name}: {error}")
            await self._clock.sleep(LOOK_S)

    async def _deliver(self, route: Route, *, again: bool = False) -> None:
        try:
            async with self._turn(route.sink, PATIENCE_S):
                if again:
                    self._outbox.save(route.sink, Progress())
                await drain(self._outbox, route, self._clock.now)
        finally:
            await route.receiver.close()


async def drain(outbox: Outbox, route: Route, now: Callable[[], str]) -> None:
    """Deliver all that waits for a sink. Only for who has its turn.

    How far it is, and why it failed, is noted.

    Raises:
        NselfError: it failed; what waits is sent from there on by the next one.
    """
    sink, receiver = route.sink, route.receiver
    progress = outbox.progress(sink)
    while records := outbox.after(progress.number, receiver.at_once):
        try:
            after = rules.delivered(progress, records, now())  # before they are sent: none may be missing
            await receiver.deliver(records)
        except ValueError as error:
            damaged = StateFileError(f"The audit trail is damaged: {error}.", _VERIFY)
            outbox.save(sink, rules.failed(progress, damaged.what, now()))
            raise damaged from error
        except NselfError as error:
            text = f"{error.where}: {error.what}" if error.where else error.what
            outbox.save(sink, rules.failed(progress, text, now()))
            raise
        progress = after
        outbox.save(sink, progress)


def waits(outbox: Outbox, sink: Sink) -> bool:
    """Whether an event waits for a sink."""
    return outbox.last() > outbox.progress(sink).number


def lines(outbox: Outbox, sinks: Sequence[Sink]) -> list[SinkLine]:
    """What is said of all sinks."""
    found = []
    for sink in sinks:
        progress = outbox.progress(sink)
        oldest = outbox.after(progress.number, 1)
        found.append(rules.line(sink, progress, outbox.last(), oldest[0] if oldest else None))
    return found
