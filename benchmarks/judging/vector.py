"""The judge of `core/verdict.py` for thousands of deployments at once, in numpy.

Its input is counts per slice of time; its output is what the shipped judge says about the same requests, which
tests/unit/test_verdict_vector.py proves event by event. Clients are classified by the world that makes the requests.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from math import log

import numpy as np
from numpy.typing import NDArray

from nself_deploy.core.absolute import worse_rates
from nself_deploy.core.acceptance import MIN_REQUESTS, better_rates
from nself_deploy.core.analysis import Analysis
from nself_deploy.core.comparison import smaller_ratios
from nself_deploy.core.mixture import PARTS, rate_factors, ratio_factors, waiting_at
from nself_deploy.core.windows import WINDOW_S

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

WATCHING, FAIL, HOLD, PASS, INCONCLUSIVE = range(5)
_HUGE = 1e250
_SHARES = 4


@dataclass
class Slice:
    """What was answered in one slice of time, per deployment: of the candidate (first) and of the live slot."""

    good: tuple[Ints, Ints]
    old: tuple[Ints, Ints]
    """Errors of clients that had one before, but not within these ten seconds."""
    muted: tuple[Ints, Ints]
    """Errors of clients that had one within these ten seconds."""
    new: tuple[Ints, Ints]
    """First errors."""


Steps = Iterable[tuple[Ints, Ints]]
"""One by one the candidate's first errors: which deployments have another, and how many the live slot had before."""


def in_random_order(rng: np.random.Generator, new: tuple[Ints, Ints]) -> Steps:
    """The first errors of a slice, in any order with the same probability."""
    left, live = new[0].copy(), new[1].copy()
    while len(index := np.flatnonzero(left)):
        until_next = 1.0 - rng.random(len(index)) ** (1.0 / left[index])
        before = rng.binomial(live[index], until_next)
        live[index] -= before
        left[index] -= 1
        yield index, before


@dataclass
class State:
    """Per deployment; all arrays have the deployments first (but `rows`)."""

    number: Ints
    parts: Floats
    waiting: Floats
    firsts: Ints
    """First errors of candidate and live slot while each of the shares was in force."""
    absolute: Floats
    absolute_waiting: Floats
    good: Ints
    first: Ints
    """First errors on the candidate."""
    total: Ints
    recent: Ints
    requests: Ints
    failed: Ints
    trials: Ints
    trials_failed: Ints
    absolute_failed: Ints
    crossed_at: Floats
    crossed_failed: Ints
    verdict: Ints


class VectorJudge:
    """The judge for `runs` deployments that are watched at the same times."""

    def __init__(self, runs: int, settings: Analysis, *, latency: bool = True, gate: bool = True) -> None:
        self.settings, self.gate = settings, gate
        self.log_needed = -log(settings.error_alpha(1, latency=latency)[0])
        self.shares: list[float] = []

        def ints(*more: int) -> Ints:
            return np.zeros((runs, *more), dtype=np.int64)

        self.state = State(
            number=np.arange(runs), parts=np.zeros((runs, PARTS)), waiting=np.ones(runs),
            firsts=ints(_SHARES, 2), absolute=np.zeros((runs, PARTS)), absolute_waiting=np.ones(runs),
            good=ints(), first=ints(), total=ints(4), recent=ints(4), requests=ints(), failed=ints(), trials=ints(),
            trials_failed=ints(), absolute_failed=ints(), crossed_at=np.full(runs, np.inf), crossed_failed=ints(),
            verdict=ints(),
        )  # fmt: skip
        self.rows = np.zeros((WINDOW_S, runs, 4), dtype=np.int64)
        self.second = 0
        self.verdicts = np.full(runs, WATCHING)
        self.times = np.full(runs, np.nan)
        self.victims, self.asked = np.zeros((2, runs), dtype=np.int64)
        """Of each deployment: users that met an error of the candidate, and its requests, until the verdict."""
        error, ok = rate_factors(settings.slo_error_rate, worse_rates(settings.slo_error_rate))
        self._bad, self._log_ok = np.array(error), np.log(np.array(ok))

    def step(self, at: float, share: float, made: Slice, steps: Steps) -> None:
        """Everything that was answered in the slice that ends at this time: the good, the old, then the new errors."""
        s = self.state
        self._advance(int(at))
        self._deadlines(at)
        self._good(at, made.good)
        s.requests += made.muted[0]
        s.failed += made.muted[0]
        self._count(slice(None), 1, made.old[1], made.old[1])
        self._old(at, made)
        left = made.new[1].copy()
        for index, before in steps:
            left[index] -= before
            self._count(index, 1, before, before)
            self._fresh(index)
            self._compare(at, share, index, before, 1)
            self._check(at, index)
        index = np.flatnonzero(left)
        self._count(index, 1, left[index], left[index])
        self._compare(at, share, index, left[index], 0)

    def _old(self, at: float, made: Slice) -> None:
        for number in range(int(made.old[0].max(initial=0))):
            index = np.flatnonzero(made.old[0] > number)
            self._fresh(index)
            self._check(at, index)
        if made.muted[0].any():
            self._check(at, np.flatnonzero(made.muted[0]))

    def _advance(self, second: int) -> None:
        s = self.state
        while self.second < second:
            self.second += 1
            row = self.rows[self.second % WINDOW_S]
            s.recent -= row
            row[:] = 0
            worth = np.exp(np.arange(s.good.max(initial=0) + 1)[:, None] * self._log_ok)
            s.absolute *= worth[s.good]
            s.good[:] = 0
            now = waiting_at(self.second, self.settings.soak_s)
            s.absolute += (s.absolute_waiting - now)[:, None]
            s.absolute_waiting[:] = now

    def _deadlines(self, at: float, *, passed: bool = True) -> None:
        """Holds whose time has come: it `passed` since the last look, or is now, because of an error."""
        s, grace = self.state, self.settings.hold.grace
        enough = s.absolute_failed - s.crossed_failed >= grace.errors
        deadline = s.crossed_at + np.where(enough, grace.min_s, grace.max_s)
        due = np.flatnonzero((deadline <= at) & (s.verdict == WATCHING))
        self._decide(due, HOLD, deadline[due] if passed else at)

    def _good(self, at: float, good: tuple[Ints, Ints]) -> None:
        s = self.state
        if not at >= 1.0:  # before the first whole second the half that works at once must be there
            now = waiting_at(0.0, self.settings.soak_s)
            s.absolute += (s.absolute_waiting - now)[:, None]
            s.absolute_waiting[:] = now
        s.good += good[0]
        s.requests += good[0]
        s.trials += good[0]
        self._count(slice(None), 0, good[0], 0)
        self._count(slice(None), 1, good[1], 0)

    def _count(self, index: slice | Ints, side: int, requests: Ints | int, failed: Ints | int) -> None:
        row = self.rows[self.second % WINDOW_S]
        for counts in (self.state.total, self.state.recent, row):
            counts[index, side] += requests
            counts[index, 2 + side] += failed

    def _fresh(self, index: Ints) -> None:
        """Failed requests of the candidate that count for rates, one in each of these deployments."""
        s = self.state
        self._count(index, 0, 1, 1)
        for counter in (s.requests, s.failed, s.trials, s.trials_failed, s.absolute_failed):
            counter[index] += 1
        worth = np.exp(s.good[index, None] * self._log_ok) * self._bad
        s.absolute[index] = np.minimum(s.absolute[index] * worth, _HUGE)
        s.good[index] = 0

    def _compare(self, at: float, share: float, index: Ints, live: Ints, candidate: int) -> None:
        """Some first errors of the live slot, then of the candidate."""
        s = self.state
        now = waiting_at(at, self.settings.soak_s)
        ours, theirs = (np.array(f) for f in ratio_factors(share))
        worth = np.cumprod(np.vstack([ours**candidate, np.tile(theirs, (live.max(initial=0), 1))]), axis=0)
        parts = s.parts[index] + (s.waiting[index] - now)[:, None]
        s.parts[index] = np.minimum(parts * worth[live], _HUGE)
        s.waiting[index] = now
        if share not in self.shares:
            self.shares.append(share)
        number = self.shares.index(share)
        s.firsts[index, number, 1] += live
        s.firsts[index, number, 0] += candidate
        s.first[index] += candidate

    def log_errors(self, index: Ints | slice = slice(None)) -> Floats:
        """The evidence about errors (logarithm)."""
        s = self.state
        value: Floats = np.log(s.waiting[index] + s.parts[index].mean(axis=1))
        return value

    def log_objective(self, index: Ints | slice = slice(None)) -> Floats:
        """The evidence about the objective (logarithm)."""
        s = self.state
        value: Floats = np.log(s.absolute_waiting[index] + s.absolute[index].mean(axis=1))
        return value

    def _check(self, at: float, index: Ints) -> None:
        """After a failed request of the candidate in each of these deployments."""
        s, settings = self.state, self.settings
        index = index[s.verdict[index] == WATCHING]
        fail = (s.first[index] >= settings.min_errors) & (self.log_errors(index) >= self.log_needed)
        failing = index[fail]
        if self.gate:
            failing = failing[self._matters(s.total[failing]) | self._matters(s.recent[failing])]
        self._decide(failing, FAIL, at)
        index = index[s.verdict[index] == WATCHING]
        crossing = (s.absolute_failed[index] >= settings.min_errors) & np.isinf(s.crossed_at[index])
        crossing &= self.log_objective(index) >= -log(settings.hold.alpha)
        crossed = index[crossing]
        s.crossed_at[crossed], s.crossed_failed[crossed] = at, s.absolute_failed[crossed]
        self._deadlines(at, passed=False)

    def _matters(self, counts: Ints) -> Flags:
        rate, live = (counts[:, 2 + side] / np.maximum(1, counts[:, side]) for side in (0, 1))
        enough: Flags = (counts[:, 2] > 0) & (rate - live >= self.settings.min_effect)
        enough &= rate >= self.settings.min_ratio * live
        return enough

    def _decide(self, index: Ints, verdict: int, at: float | Floats) -> None:
        s = self.state
        s.verdict[index] = verdict
        number = s.number[index]
        self.verdicts[number], self.times[number] = verdict, at
        self.victims[number], self.asked[number] = s.first[index], s.requests[index]

    def compact(self) -> Flags:
        """Leave out what is decided; which of the deployments are kept."""
        s = self.state
        kept: Flags = s.verdict == WATCHING
        if not kept.all():
            self.state = State(**{f.name: getattr(s, f.name)[kept] for f in fields(State)})
            self.rows = self.rows[:, kept]
        return kept

    def log_proof(self) -> Floats:
        """The proof of acceptability as it is now (logarithm)."""
        s, limit = self.state, self.settings.slo_error_rate
        rates = np.array(better_rates(limit))
        good = (s.trials - s.trials_failed)[:, None]
        alone = s.trials_failed[:, None] * np.log(rates / limit) + good * (np.log1p(-rates) - np.log1p(-limit))
        value: Floats = np.logaddexp(_log_mean(alone), _log_mean(self._accept())) - log(2.0)
        return value

    def _accept(self) -> Floats:
        s, most = self.state, self.settings.max_ratio
        terms = np.zeros((len(s.number), len(smaller_ratios(most))))
        for number, share in enumerate(self.shares):
            for side, worth in enumerate(ratio_factors(share, smaller_ratios(most), most)):
                terms += s.firsts[:, number, side, None] * np.log(np.array(worth))
        return terms

    def end(self, at: float) -> None:
        """The soak is over: what is not decided is a pass or inconclusive."""
        s = self.state
        self._deadlines(at)
        watching = s.verdict == WATCHING
        enough = (s.trials >= MIN_REQUESTS) & (s.failed <= self.settings.slo_error_rate * s.requests)
        proved = enough & np.isinf(s.crossed_at) & (self.log_proof() >= -log(self.settings.beta))
        self._decide(np.flatnonzero(watching & proved), PASS, at)
        self._decide(np.flatnonzero(watching & ~proved), INCONCLUSIVE, at)


def _log_mean(terms: Floats) -> Floats:
    value: Floats = np.logaddexp.reduce(terms, axis=1) - log(terms.shape[1])
    return value
