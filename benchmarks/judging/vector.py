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
_SHARES, _SLACK, _MUCH = 4, 1e-6, 600.0


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
    current: Ints
    """Requests of this second; `total` and `recent` have those before."""
    bad: Ints
    """Failed requests of the candidate in this second, as `good` has the good ones."""
    noted: Ints
    """First errors of this slice (candidate, live slot) that are not in `parts` yet."""
    errors_before: Floats
    objective_before: Floats
    """Evidence (logarithms) before this slice, and before this second."""


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
            verdict=ints(), current=ints(4), bad=ints(), noted=ints(2), errors_before=np.zeros(runs),
            objective_before=np.zeros(runs),
        )  # fmt: skip
        self.rows = np.zeros((WINDOW_S, runs, 4), dtype=np.int64)
        self.second = 0
        self.verdicts = np.full(runs, WATCHING)
        self.times = np.full(runs, np.nan)
        self.victims, self.asked = np.zeros((2, runs), dtype=np.int64)
        """Of each deployment: users that met an error of the candidate, and its requests, until the verdict."""
        error, ok = rate_factors(settings.slo_error_rate, worse_rates(settings.slo_error_rate))
        self._log_bad, self._log_ok = np.log(np.array(error)), np.log(np.array(ok))
        self.crossed = False
        self._start_objective()

    def step(self, at: float, share: float, made: Slice, steps: Steps) -> None:
        """Everything that was answered in the slice that ends at this time: the good, the old, then the new errors."""
        s = self.state
        self._advance(int(at))
        self._deadlines(at)
        s.good += made.good[0]
        s.requests += made.good[0] + made.muted[0]
        s.failed += made.muted[0]
        s.trials += made.good[0]
        s.current[:, 0] += made.good[0]
        s.current[:, 1] += made.good[1] + made.old[1]
        s.current[:, 3] += made.old[1]
        for number in range(int(made.old[0].max(initial=0))):
            index = np.flatnonzero(made.old[0] > number)
            self._fresh(index)
            self._check(at, share, index)
        if made.muted[0].any():
            self._check(at, share, np.flatnonzero(made.muted[0]))
        self._first_errors(at, share, made.new, steps)

    def _first_errors(self, at: float, share: float, new: tuple[Ints, Ints], steps: Steps) -> None:
        """Errors are noted one by one; what many of them are worth is worked out together, at the end."""
        s, left = self.state, new[1].copy()
        touched = np.flatnonzero(new[0] + new[1])
        now = waiting_at(at, self.settings.soak_s)
        s.parts[touched] += (s.waiting[touched] - now)[:, None]
        s.waiting[touched] = now
        for index, before in steps:
            left[index] -= before
            self._live(index, before)
            self._fresh(index)
            s.first[index] += 1
            s.noted[index, 0] += 1
            self._check(at, share, index)
        self._live(touched, left[touched])
        if share not in self.shares:
            self.shares.append(share)
        s.firsts[:, self.shares.index(share)] += s.noted
        s.parts[touched] = np.minimum(self._parts(share, touched), _HUGE)
        s.noted[touched] = 0
        s.errors_before[touched] = self.log_errors(touched)

    def _live(self, index: Ints, errors: Ints) -> None:
        s = self.state
        s.noted[index, 1] += errors
        s.current[index, 1] += errors
        s.current[index, 3] += errors

    def _fresh(self, index: Ints) -> None:
        """Failed requests of the candidate that count for rates, one in each of these deployments."""
        s = self.state
        s.current[index, 0] += 1
        s.current[index, 2] += 1
        for counter in (s.requests, s.failed, s.trials, s.trials_failed, s.absolute_failed, s.bad):
            counter[index] += 1

    def _parts(self, share: float, index: Ints) -> Floats:
        """The comparison's parts with what is noted."""
        noted = self.state.noted[index]
        value: Floats = self.state.parts[index]
        for side, factors in enumerate(ratio_factors(share)):
            value *= _powers(np.log(np.array(factors)), noted[:, side])
        return value

    def _absolute(self, index: Ints | slice) -> Floats:
        """The parts of the test of the objective with the requests since the last whole second."""
        s = self.state
        worth = s.good[index][:, None] * self._log_ok + s.bad[index][:, None] * self._log_bad
        with np.errstate(over="ignore"):
            value: Floats = np.minimum(s.absolute[index] * np.exp(np.minimum(worth, _MUCH)), _HUGE)
        return value

    def _advance(self, second: int) -> None:
        s = self.state
        while self.second < second:
            s.total += s.current
            s.recent += s.current
            self.rows[self.second % WINDOW_S] = s.current
            s.current[:] = 0
            self.second += 1
            s.recent -= self.rows[self.second % WINDOW_S]
            s.absolute = self._absolute(slice(None))
            s.good[:] = 0
            s.bad[:] = 0
            self._start_objective()

    def _start_objective(self) -> None:
        s, now = self.state, waiting_at(self.second, self.settings.soak_s)
        s.absolute += (s.absolute_waiting - now)[:, None]
        s.absolute_waiting[:] = now
        s.objective_before = self.log_objective()

    def _deadlines(self, at: float, *, passed: bool = True) -> None:
        """Holds whose time has come: it `passed` since the last look, or is now, because of an error."""
        if not self.crossed:
            return
        s, grace = self.state, self.settings.hold.grace
        enough = s.absolute_failed - s.crossed_failed >= grace.errors
        deadline = s.crossed_at + np.where(enough, grace.min_s, grace.max_s)
        due = np.flatnonzero((deadline <= at) & (s.verdict == WATCHING))
        self._decide(due, HOLD, deadline[due] if passed else at)

    def log_errors(self, index: Ints | slice = slice(None)) -> Floats:
        """The evidence about errors (logarithm)."""
        s = self.state
        value: Floats = np.log(s.waiting[index] + s.parts[index].mean(axis=1))
        return value

    def log_objective(self, index: Ints | slice = slice(None)) -> Floats:
        """The evidence about the objective at the last whole second (logarithm)."""
        s = self.state
        value: Floats = np.log(s.absolute_waiting[index] + s.absolute[index].mean(axis=1))
        return value

    def _check(self, at: float, share: float, index: Ints) -> None:
        """After a failed request of the candidate in each of these deployments.

        Most are far from a decision: what their errors can be worth at most is looked at first.
        """
        s, settings = self.state, self.settings
        index = index[s.verdict[index] == WATCHING]
        most = s.errors_before[index] + _best(share, s.noted[index])
        maybe = index[(s.first[index] >= settings.min_errors) & (most >= self.log_needed - _SLACK)]
        if len(maybe):
            value = np.log(s.waiting[maybe] + self._parts(share, maybe).mean(axis=1))
            failing = maybe[value >= self.log_needed]
            if self.gate:
                now = s.current[failing]
                failing = failing[self._matters(s.total[failing] + now) | self._matters(s.recent[failing] + now)]
            self._decide(failing, FAIL, at)
        limit = -log(settings.hold.alpha)
        most = s.objective_before[index] + s.bad[index] * self._log_bad[-1]
        maybe = index[
            (most >= limit - _SLACK)
            & (s.verdict[index] == WATCHING)
            & (s.absolute_failed[index] >= settings.min_errors)
            & np.isinf(s.crossed_at[index])
        ]
        if len(maybe):
            value = np.log(s.absolute_waiting[maybe] + self._absolute(maybe).mean(axis=1))
            crossed = maybe[value >= limit]
            s.crossed_at[crossed], s.crossed_failed[crossed] = at, s.absolute_failed[crossed]
            self.crossed |= bool(len(crossed))
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


def _best(share: float, noted: Ints) -> Floats:
    """The most that these errors can be worth (logarithm), with the ratio that fits them best."""
    ours, live = noted[:, 0], noted[:, 1]
    there = np.clip(ours / np.maximum(1, ours + live), share, 1.0 - 1e-12)
    value: Floats = ours * np.log(there / share) + live * (np.log1p(-there) - log(1.0 - share))
    return value


def _powers(logs: Floats, counts: Ints) -> Floats:
    """Per deployment, factors to the power of its count."""
    table: Floats = np.exp(np.arange(counts.max(initial=0) + 1)[:, None] * logs)
    value: Floats = table[counts]
    return value


def _log_mean(terms: Floats) -> Floats:
    value: Floats = np.logaddexp.reduce(terms, axis=1) - log(terms.shape[1])
    return value
