"""The users: requests come all the time, last for a while, and belong to the slot that they were sent to."""

from __future__ import annotations

import random

import msgspec

from nself_deploy.core.model import Slot


class Flight(msgspec.Struct):
    """A request that was in flight when users went elsewhere."""

    began: float
    ends: float
    counted: bool
    """Whether nginx's counter knows of it: what came before the first install it doesn't."""


class Users:
    """A stream so dense that a slot with traffic always has requests in flight.

    When a slot loses its traffic, the last requests are still there for a moment; some last long (an upload, a
    WebSocket), longer even than the grace time.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._flights: dict[Slot, list[Flight]] = {slot: [] for slot in Slot}
        self.left_at: dict[Slot, float] = {}

    def kept(self) -> tuple[dict[Slot, list[Flight]], dict[Slot, float]]:
        """All that is known of them."""
        return self._flights, self.left_at

    def restore(self, kept: tuple[dict[Slot, list[Flight]], dict[Slot, float]]) -> None:
        """Be as they were."""
        self._flights, self.left_at = kept

    def left(self, slot: Slot, now: float, *, counted: bool = True) -> None:
        """A slot gets no more requests."""
        dice, flights = self._dice, self._flights[slot]
        flights[:] = [f for f in flights if f.ends > now]
        flights.append(Flight(now - 0.05, now + dice.uniform(0.02, 0.3), counted))
        if dice.random() < 0.3:
            flights.append(Flight(now - dice.uniform(0, 3), now + dice.choice((0.6, 1.5, 4.0, 30.0)), counted))
        self.left_at[slot] = now

    def reloaded(self, slot: Slot, now: float) -> float:
        """The first install: what is in flight to the plain stack is in old workers. Until when."""
        self.left(slot, now, counted=False)
        del self.left_at[slot]
        return max(f.ends for f in self._flights[slot])

    def cut(self) -> None:
        """Nginx stopped: nobody is connected any more."""
        for flights in self._flights.values():
            flights.clear()

    def in_flight(self, slot: Slot, now: float) -> int:
        """What nginx counts, apart from those that come all the time."""
        return sum(1 for f in self._flights[slot] if f.ends > now and f.counted)

    def lost(self, slot: Slot, started: float, now: float) -> float:
        """How long ago the slot lost its traffic, while a request is still in flight to a container; -1 if none is.

        Requests from before the container's present run were lost when the run before ended.
        """
        if not any(f.ends > now and f.began >= started for f in self._flights[slot]):
            return -1.0
        return now - self.left_at.get(slot, now)
