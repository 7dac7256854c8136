"""Worlds in which canaries live: what their clients ask and get, as counts per slice of time.

A world makes the traffic of many deployments at once. Clients are new with every request (what they do is
independent), except where a world says that they come back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks.judging.vector import Flags, Ints, Slice

Rate = Callable[[float], float]
"""Error rate at a time (seconds)."""

RAMP = ((60.0, 0.10), (180.0, 0.25), (300.0, 0.50))
"""Until when (seconds) the candidate has which share."""
FLAT = ((300.0, 0.10),)
SOAK_S = 300.0

Plan = tuple[tuple[float, float], ...]


def share_at(plan: Plan, at: float) -> float:
    """The candidate's share of the clients in the slice that ends at this time."""
    return next(share for until, share in plan if at <= until + 1e-9)


class World(Protocol):
    """Makes traffic."""

    def draw(self, rng: np.random.Generator, at: float, length: float, share: float, runs: int) -> Slice:
        """The slice of this length that ends at `at`, for so many deployments."""

    def keep(self, kept: Flags) -> None:
        """Some deployments are decided: forget them."""


@dataclass
class Independent:
    """Every request by another client; the error rates of candidate and live slot may change with time."""

    per_s: float
    candidate: Rate
    live: Rate
    bursts: float = 0.0
    """Per request: how often a client begins a burst of errors, ten on average, on whichever slot it is."""

    def draw(self, rng: np.random.Generator, at: float, length: float, share: float, runs: int) -> Slice:
        """As `World` says."""
        rates = (self.candidate(at), self.live(at))
        arms = (share, 1.0 - share)
        good = [rng.poisson(self.per_s * length * a * (1.0 - p), runs) for a, p in zip(arms, rates, strict=True)]
        new = [rng.poisson(self.per_s * length * a * p, runs) for a, p in zip(arms, rates, strict=True)]
        none = np.zeros(runs, dtype=np.int64)
        muted = [none, none]
        if self.bursts:
            for i, a in enumerate(arms):
                begun = rng.poisson(self.per_s * length * a * self.bursts, runs)
                longer = rng.negative_binomial(np.maximum(begun, 1), 0.1) * (begun > 0)
                new[i], muted[i] = new[i] + begun, longer
        return Slice((good[0], good[1]), (none, none), (muted[0], muted[1]), (new[0], new[1]))

    def keep(self, kept: Flags) -> None:
        """Nothing is remembered."""


@dataclass
class Returning:
    """A fixed number of clients that come back, each of which fails with its slot's probability at every request.

    All clients of a slot are alike, so it is enough to count those that have failed and those that have not; when the
    share grows, some of the live slot's clients move to the candidate. Around them is independent traffic.
    """

    clients: int
    every_s: float
    """How often each of them sends a request."""
    fails: tuple[float, float]
    """Probability of failing: on the candidate, on the live slot."""
    around: Independent
    share: float = 0.0
    groups: Ints | None = None
    """Per deployment: candidate's clients that have not failed yet, live slot's, then those that have."""

    def draw(self, rng: np.random.Generator, at: float, length: float, share: float, runs: int) -> Slice:
        """As `World` says."""
        made = self.around.draw(rng, at, length, share, runs)
        if self.groups is None:
            self.groups = np.zeros((runs, 4), dtype=np.int64)
            self.groups[:, 1] = self.clients
        if share != self.share:
            moving = (share - self.share) / (1.0 - self.share)
            for live in (1, 3):
                moved = rng.binomial(self.groups[:, live], moving)
                self.groups[:, live] -= moved
                self.groups[:, live - 1] += moved
            self.share = share
        good, old, new = list(made.good), list(made.old), list(made.new)
        asks = 1.0 - np.exp(-length / self.every_s)
        for side, p in enumerate(self.fails):
            fresh, failed = self.groups[:, side], self.groups[:, 2 + side]
            errors, again = rng.binomial(fresh, asks * p), rng.binomial(failed, asks * p)
            good[side] = good[side] + rng.binomial(fresh - errors + failed - again, asks * (1.0 - p))
            old[side] = old[side] + again
            new[side] = new[side] + errors
            self.groups[:, side] -= errors
            self.groups[:, 2 + side] += errors
        return Slice((good[0], good[1]), (old[0], old[1]), made.muted, (new[0], new[1]))

    def keep(self, kept: Flags) -> None:
        """As `World` says."""
        if self.groups is not None:
            self.groups = self.groups[kept]


def constant(rate: float) -> Rate:
    """Always the same."""
    return lambda at: rate


def drift(low: float, high: float) -> Rate:
    """Up and down and up within the soak."""
    return lambda at: low + (high - low) * (0.5 - 0.5 * np.cos(3.0 * np.pi * at / SOAK_S))


def outage(base: float, rate: float, begin: float, seconds: float) -> Rate:
    """A time in which much fails."""
    return lambda at: rate if begin < at <= begin + seconds else base


def from_then(base: float, rate: float, begin: float) -> Rate:
    """A fault that shows late."""
    return lambda at: rate if at > begin else base


def healthy(per_s: float) -> dict[str, World]:
    """The worlds in which a rollback is wrong, at a number of requests per second."""
    same = {
        "healthy, 0.1 %": constant(0.001),
        "healthy, 0.5 %": constant(0.005),
        "both drift, 0.1-0.5 %": drift(0.001, 0.005),
        "both down, 50 % for 20 s": outage(0.001, 0.5, 120.0, 20.0),
        "both 3 %": constant(0.03),
    }
    worlds: dict[str, World] = {name: Independent(per_s, rate, rate) for name, rate in same.items()}
    quiet = constant(0.001)
    worlds["bursts of one client"] = Independent(per_s, quiet, quiet, bursts=0.0005)
    worlds["clients that always fail"] = Returning(
        max(1, round(0.4 * per_s)), 60.0, (1.0, 1.0), Independent(per_s, quiet, quiet)
    )
    worlds["candidate 10 times better"] = Independent(per_s, constant(0.0005), constant(0.005))
    nobody = Independent(0.0, quiet, quiet)
    worlds["better, few clients come back"] = Returning(max(1, round(3 * per_s)), 3.0, (0.008, 0.10), nobody)
    return worlds
