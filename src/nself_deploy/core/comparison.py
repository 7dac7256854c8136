"""Whether something happens more often to clients of the candidate than to clients of the live slot.

What counts is the first time that it happens to a client in this deployment, on whichever slot: errors of one client
are one misfortune, and a client that always fails must not count again when the split moves it to the candidate. If
nothing is wrong, this first time is on the candidate with the probability `share`, whatever the error rate is and
however it moves. Good requests do not enter.

A split that is not random (by header, round robin) says nothing about a single event: then events are collected in
ticks of one to ten seconds, and the share is that of the requests in the tick.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from nself_deploy.core.clients import Clients
from nself_deploy.core.mixture import Factors, Mixture, powers, ratio_factors, spaced, waiting_at

_TICK_S, _LONGEST_TICK_S, _TICK_REQUESTS = 1, 10, 50


@lru_cache(maxsize=32)
def smaller_ratios(most: float) -> Factors:
    """The alternatives of the reverse test: ratios below the one that can't be accepted."""
    return spaced(most / 20.0, most / 1.3)


@lru_cache(maxsize=256)
def _accept_factors(share: float, most: float) -> tuple[Factors, Factors]:
    """What events are worth in the reverse test; kept by two numbers, for the alternatives are many to look up by."""
    return ratio_factors(share, smaller_ratios(most), most)


class Tick(msgspec.Struct):
    """What has happened and is not in the mixture yet."""

    since: int = 0
    share: float = 0.0
    candidate: int = 0
    live: int = 0
    """Events."""
    candidate_requests: int = 0
    live_requests: int = 0
    """Of clients to whom it has not happened yet; counted when the split is not random."""


class Comparison(msgspec.Struct):
    """The test for one kind of event.

    `at_once` puts every event into the mixture when it comes, otherwise those of a second are put in together.
    `accept` doubts, in the reverse direction, that the candidate is `most` times worse; None leaves that out.
    """

    planned_s: float
    random_split: bool = True
    at_once: bool = True
    by_client: bool = True
    most: float = 0.0
    clients: Clients = msgspec.field(default_factory=Clients)
    mixture: Mixture = msgspec.field(default_factory=Mixture.late)
    accept: Mixture | None = None
    tick: Tick = msgspec.field(default_factory=Tick)
    candidate: int = 0
    live: int = 0
    """Clients to whom it happened."""

    def request(self, client: int, *, candidate: bool) -> None:
        """A request, whatever came of it: needed only when the split is not random."""
        if not self.random_split and not (self.by_client and self.clients.settled(client)):
            if candidate:
                self.tick.candidate_requests += 1
            else:
                self.tick.live_requests += 1

    def event(self, at: float, client: int, share: float, *, candidate: bool) -> bool:
        """It happened to a client; whether that is its first time, and counts."""
        if self.by_client and not self.clients.first(client):
            return False
        if candidate:
            self.candidate += 1
            self.tick.candidate += 1
        else:
            self.live += 1
            self.tick.live += 1
        if self.random_split and self.at_once:
            self.tick.share = share
            self._settle(at)
        return True

    def advance(self, at: float, share: float) -> bool:
        """It is this time, and this is the candidate's share now; whether something was put into the mixture."""
        tick, second = self.tick, int(at)
        if self.random_split and self.at_once:
            return False
        if self.random_split:
            over = second > tick.since or share != tick.share
        else:
            length = second - tick.since
            enough = tick.candidate_requests + tick.live_requests >= _TICK_REQUESTS
            quiet = not (tick.candidate_requests or tick.live_requests)
            over = quiet or length >= _LONGEST_TICK_S or (length >= _TICK_S and enough)
        if not over:
            return False
        settled = self._settle(at)
        self.tick = Tick(second, share)
        return settled

    def _settle(self, at: float) -> bool:
        tick = self.tick
        if not tick.candidate and not tick.live:
            return False
        share = tick.share
        if not self.random_split:
            share = tick.candidate_requests / (tick.candidate_requests + tick.live_requests)
        self.mixture.start(waiting_at(at if self.random_split and self.at_once else tick.since, self.planned_s))
        _put(self.mixture, tick, ratio_factors(share))
        if self.accept is not None:
            _put(self.accept, tick, _accept_factors(share, self.most))
        tick.candidate = tick.live = 0
        return True


def _put(mixture: Mixture, tick: Tick, factors: tuple[Factors, Factors]) -> None:
    for count, worth in ((tick.candidate, factors[0]), (tick.live, factors[1])):
        if count:
            mixture.multiply(worth if count == 1 else powers(worth, count))
