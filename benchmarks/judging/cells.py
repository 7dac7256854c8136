"""The cells of the simulation: a world, a rate of requests, so many deployments; what came of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import sqrt
from zlib import crc32

import numpy as np

from benchmarks.judging import times
from benchmarks.judging.peers import Found, judged
from benchmarks.judging.vector import FAIL, HOLD, PASS, VectorJudge, in_random_order
from benchmarks.judging.worlds import (
    FLAT,
    RAMP,
    SOAK_S,
    Independent,
    Plan,
    World,
    constant,
    from_then,
    healthy,
    share_at,
)
from nself_deploy.core.acceptance import MIN_REQUESTS
from nself_deploy.core.analysis import Analysis

RATES = (2.0, 10.0, 50.0, 200.0, 1000.0)
_COMPACT = 0.05
_LIVE, _LATE_S = 0.001, 150.0
"""Beside sick candidates: the live slot's error rate; when late faults begin."""


@dataclass(frozen=True)
class Outcome:
    """How the deployments of a cell ended. Shares are from 0 to 1, times in seconds after the onset."""

    kind: str
    world: str
    per_s: float
    runs: int
    failed: float
    held: float = 0.0
    passed: float = 0.0
    median: float | None = None
    p95: float | None = None
    users: float | None = None
    least: tuple[float | None, float | None] = (None, None)
    """Median and 95 % quantile, less two standard errors of so many runs."""
    unproved: int = 0
    """Promotions of candidates that had hardly any requests."""


@dataclass(frozen=True)
class Cell:
    """One cell; `make` gives its world when it is run."""

    kind: str
    world: str
    per_s: float
    runs: int
    make: Callable[[], World | times.Times]
    plan: Plan = RAMP
    length: float = 1.0
    """Of a slice of time, seconds."""
    onset: float = 0.0
    gate: bool = True

    def run(self, seed: int) -> list[Outcome]:
        """Simulate it; the seed and the cell's name determine everything."""
        rng = np.random.default_rng([seed, crc32(f"{self.kind}/{self.world}/{self.per_s}/{self.gate}".encode())])
        world = self.make()
        if isinstance(world, times.Times):
            done = times.run(world, self.plan, self.runs, rng)
            return [self._outcome(done.verdicts, done.times, None)]
        judge = simulate(world, self.plan, self.runs, self.length, rng, gate=self.gate)
        starved = (judge.verdicts == PASS) & (judge.asked < MIN_REQUESTS)
        own = self._outcome(judge.verdicts, judge.times, judge.victims, int(starved.sum()))
        if self.kind not in ("sick", "late") or not isinstance(world, Independent):
            return [own]
        return [own, *(self._peer(found) for found in judged(self.per_s, world.candidate, world.live, self.runs, rng))]

    def _outcome(self, verdicts: np.ndarray, at: np.ndarray, victims: np.ndarray | None, unproved: int = 0) -> Outcome:
        stopped = (verdicts == FAIL) | (verdicts == HOLD)
        seconds = np.where(stopped, at - self.onset, np.inf)
        median, p95 = _quantiles(seconds)
        users = float(victims[stopped].mean()) if victims is not None and stopped.any() else None
        shares = [float((verdicts == verdict).mean()) for verdict in (FAIL, HOLD, PASS)]
        return Outcome(
            self.kind,
            self.world,
            self.per_s,
            self.runs,
            *shares,
            median=median,
            p95=p95,
            users=users,
            least=_quantiles(seconds, 2.0),
            unproved=unproved,
        )

    def _peer(self, found: Found) -> Outcome:
        rolled_back = ~np.isnan(found.times)
        median, p95 = _quantiles(np.where(rolled_back, found.times - self.onset, np.inf))
        share, users = float(rolled_back.mean()), float(found.victims.mean())
        return Outcome(found.rule, self.world, self.per_s, self.runs, share, median=median, p95=p95, users=users)


def _quantiles(seconds: np.ndarray, errors: float = 0.0) -> tuple[float | None, float | None]:
    """Median and 95 % quantile over all deployments, less some standard errors; None where they were not stopped."""
    ordered, runs = np.sort(seconds), len(seconds)
    places = [q * runs - errors * sqrt(q * (1.0 - q) * runs) for q in (0.5, 0.95)]
    found = [float(ordered[min(runs - 1, max(0, int(place)))]) for place in places]
    return found[0] if np.isfinite(found[0]) else None, found[1] if np.isfinite(found[1]) else None


def simulate(
    world: World, plan: Plan, runs: int, length: float, rng: np.random.Generator, *, gate: bool = True
) -> VectorJudge:
    """Watch so many deployments in a world, for the whole soak or until they are decided."""
    judge = VectorJudge(runs, Analysis(), gate=gate)
    for number in range(1, round(SOAK_S / length) + 1):
        left = len(judge.state.number)
        if not left:
            return judge
        at = number * length
        share = share_at(plan, at)
        made = world.draw(rng, at, length, share, left)
        judge.step(at, share, made, in_random_order(rng, made.new))
        if (judge.state.verdict != 0).mean() > _COMPACT:
            world.keep(judge.compact())
    judge.end(SOAK_S)
    return judge


@dataclass(frozen=True)
class Size:
    """How much is simulated."""

    healthy: int = 10_000
    sick: int = 2_000
    rates: tuple[float, ...] = RATES


def cells(size: Size) -> list[Cell]:
    """All of them, the slowest first."""
    found: list[Cell] = []
    for per_s in size.rates:
        found += [Cell("healthy", name, per_s, size.healthy, partial(_healthy, per_s, name)) for name in healthy(per_s)]
        name = "better, few clients come back"
        found.append(Cell("no gate", name, per_s, size.healthy // 10, partial(_healthy, per_s, name), gate=False))
        for factor, what in ((1.0, "healthy times"), (1.1, "times +10 %")):
            found.append(Cell("healthy", what, per_s, size.healthy, partial(times.Times, per_s, factor)))
        found += _sick(per_s, size.sick)
    found += [
        Cell("starved", "healthy, 0.1 %", per_s, size.healthy, partial(_healthy, per_s, "healthy, 0.1 %"))
        for per_s in (0.0, 0.2, 0.5, 1.0)
    ]
    return sorted(found, key=lambda cell: -cell.per_s * cell.runs)


def _healthy(per_s: float, name: str) -> World:
    return healthy(per_s)[name]


def _failing(per_s: float, rate: float, onset: float) -> World:
    return Independent(per_s, from_then(_LIVE, rate, onset), constant(_LIVE))


def _sick(per_s: float, runs: int) -> list[Cell]:
    length = 0.1 if per_s >= 50 else 0.5
    found = []
    for rate in (0.01, 0.02, 0.05, 0.2, 1.0):
        make = partial(_failing, per_s, rate, 0.0)
        found.append(Cell("sick", f"{rate:.0%} errors", per_s, runs, make, length=length))
        if per_s in (50.0, 200.0):
            found.append(Cell("flat", f"{rate:.0%} errors", per_s, runs, make, FLAT, length))
    for rate in (0.02, 0.05):
        make, name = partial(_failing, per_s, rate, _LATE_S), f"{rate:.0%} errors from {_LATE_S:.0f} s"
        found.append(Cell("late", name, per_s, runs, make, length=length, onset=_LATE_S))
    warmup = Analysis().latency.warmup_s
    for factor, what in ((1.3, "times +30 %"), (2.0, "times x 2")):
        found.append(Cell("slow", what, per_s, runs, partial(times.Times, per_s, factor), onset=warmup))
    return found


def run_cell(cell: Cell, seed: int) -> list[Outcome]:
    """For a process of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return cell.run(seed)
