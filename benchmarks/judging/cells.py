"""The cells of the simulation: a world, a rate of requests, so many deployments; what came of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import sqrt
from zlib import crc32

import numpy as np

from benchmarks.judging import split, times
from benchmarks.judging.peers import Found, judged
from benchmarks.judging.shipped import ShippedJudges
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
_GOALS_AT = (50.0, 200.0)
_COMPACT = 0.05
_SPLITS = ((1.0, "right"), (1.2, "1.2 times the share"), (2.0, "2 times the share"))
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
    make: Callable[[], World | times.Times | split.Split]
    plan: Plan = RAMP
    length: float = 1.0
    """Of a slice of time, seconds."""
    onset: float = 0.0
    gate: bool = True
    """Whether differences must matter. The shipped judge always asks that; without it the transcribed one judges."""
    transcribed: bool = False

    def run(self, seed: int) -> list[Outcome]:
        """Simulate it; the seed and the cell's name determine everything."""
        rng = np.random.default_rng([seed, crc32(f"{self.kind}/{self.world}/{self.per_s}/{self.gate}".encode())])
        world = self.make()
        if isinstance(world, times.Times):
            done = times.run(world, self.plan, self.runs, rng)
            return [self._outcome(done.verdicts, done.times, None)]
        if isinstance(world, split.Split):
            return [self._alarmed(split.run(world, self.plan, self.runs, rng))]
        judge: VectorJudge | ShippedJudges
        if self.transcribed or not self.gate:
            judge = transcribed(world, self.plan, self.runs, self.length, rng, gate=self.gate)
        else:
            judge = shipped(world, self.plan, self.runs, self.length, rng)
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

    def _alarmed(self, at: np.ndarray) -> Outcome:
        """Of the guard of the split."""
        median, p95 = _quantiles(np.where(np.isnan(at), np.inf, at))
        alarms = float((~np.isnan(at)).mean())
        return Outcome(self.kind, self.world, self.per_s, self.runs, alarms, median=median, p95=p95)

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


def shipped(world: World, plan: Plan, runs: int, length: float, rng: np.random.Generator) -> ShippedJudges:
    """Watch so many deployments in a world with the shipped judge, for the whole soak or until they are decided."""
    judges = ShippedJudges(runs, Analysis(), rng)
    for number in range(1, round(SOAK_S / length) + 1):
        at = round(number * length, 6)
        share = share_at(plan, at)
        judges.step(at, share, world.draw(rng, at, length, share, len(judges)))
        if judges.decided > _COMPACT:
            world.keep(judges.compact())
            if not len(judges):
                break
    judges.end(SOAK_S)
    return judges


def transcribed(
    world: World, plan: Plan, runs: int, length: float, rng: np.random.Generator, *, gate: bool = True
) -> VectorJudge:
    """The same with the judge in numpy, which is faster and can do without the gate."""
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
    """Deployments in each healthy world, over all rates of requests."""
    sick: int = 2_000
    """Deployments of each sick candidate at the rates that goals are about; half as many at the others."""
    rates: tuple[float, ...] = RATES

    def healthy_at(self, per_s: float) -> int:
        """A quarter at each of the low rates, fewer where every deployment has very many requests."""
        return round(self.healthy * (0.10 if per_s > 500 else 0.15 if per_s > 100 else 0.25))

    def sick_at(self, per_s: float) -> int:
        """As `sick` says."""
        return self.sick if per_s in _GOALS_AT else self.sick // 2


def cells(size: Size) -> list[Cell]:
    """All of them, the slowest first."""
    found: list[Cell] = []
    few = "better, few clients come back"
    for per_s in size.rates:
        runs = size.healthy_at(per_s)
        for name in healthy(per_s):
            fewer = max(1, runs // 10) if name == few and per_s > 100 else runs
            found.append(Cell("healthy", name, per_s, fewer, partial(_healthy, per_s, name)))
        found.append(Cell("no gate", few, per_s, max(1, runs // 10), partial(_healthy, per_s, few), gate=False))
        for factor, what in ((1.0, "healthy times"), (1.1, "times +10 %")):
            found.append(Cell("healthy", what, per_s, runs, partial(times.Times, per_s, factor)))
        for factor, what in _SPLITS:
            found.append(Cell("split", what, per_s, runs, partial(split.Split, per_s, factor)))
        found += _sick(per_s, size.sick_at(per_s))
    found += [
        Cell("starved", "healthy, 0.1 %", per_s, size.healthy // 4, partial(_healthy, per_s, "healthy, 0.1 %"))
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
        if per_s in _GOALS_AT:
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
