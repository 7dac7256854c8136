"""The comparison of times for thousands of deployments at once, second by second: `core/latency.py` in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, log, sqrt

import numpy as np

from benchmarks.judging.vector import FAIL, WATCHING, Floats, Ints
from benchmarks.judging.worlds import SOAK_S, Plan, share_at
from nself_deploy.core.analysis import Analysis
from nself_deploy.core.clients import LIMIT
from nself_deploy.core.latency import SLOWER
from nself_deploy.core.mixture import PARTS, ratio_factors, waiting_at
from nself_deploy.core.windows import WINDOW_S

SIGMA = 0.3
"""Times are log-normal with this width: with a median of 50 ms, the 99th percentile is 100 ms."""
_Z = (0.0, 1.2815515655446004, 2.3263478740408408)
"""Of the cuts at 50, 90 and 99 %."""


@dataclass(frozen=True)
class Times:
    """How slow the candidate is: all of its times are `factor` times as long."""

    per_s: float
    factor: float

    def slow(self, tolerance: float) -> tuple[Floats, Floats]:
        """Probabilities of being beyond each cut: the candidate's (with tolerance), the live slot's."""
        shift = log(tolerance / self.factor) / SIGMA
        beyond = [[0.5 * (1.0 - erf((z + by) / sqrt(2.0))) for z in _Z] for by in (shift, 0.0)]
        return np.array(beyond[0]), np.array(beyond[1])


class VectorTimes:
    """The comparison of times, for `runs` deployments."""

    def __init__(self, runs: int, settings: Analysis) -> None:
        self.settings = settings
        self.parts = np.zeros((runs, 3, PARTS))
        self.waiting = 1.0
        self.total, self.recent = np.zeros((2, runs, 4, 2), dtype=np.int64)
        self.rows = np.zeros((WINDOW_S, runs, 4, 2), dtype=np.int64)
        self.seen = np.zeros((runs, 3), dtype=np.int64)
        self.halvings = np.zeros((runs, 3), dtype=np.int64)
        self.number = np.arange(runs)
        self.verdicts = np.full(runs, WATCHING)
        self.times = np.full(runs, np.nan)

    def step(self, second: int, share: float, counts: Ints, rng: np.random.Generator | None) -> None:
        """A second that is over. `counts[:, 0]` are requests of candidate and live slot, then the slow ones per cut.

        Without `rng` no client is ever left out (fewer of them than a sample holds).
        """
        row = self.rows[second % WINDOW_S]
        self.recent += counts - row
        row[:] = counts
        self.total += counts
        counted = counts[:, 1:] if rng is None else self._sample(counts[:, 1:], rng)
        now = waiting_at(second, self.settings.soak_s)
        self.parts += self.waiting - now
        self.waiting = now
        ours, theirs = (np.log(np.array(f)) for f in ratio_factors(share))
        self.parts *= np.exp(counted[:, :, :1] * ours + counted[:, :, 1:] * theirs)
        values = self.waiting + self.parts.mean(axis=2)
        reached = np.log(values.mean(axis=1)) >= -log(self.settings.latency_alpha)
        if reached.any():
            index = np.flatnonzero(reached)
            top = values[index].argmax(axis=1) + 1
            slower = self._slower(self.total[index], top) | self._slower(self.recent[index], top)
            self._fail(index[slower], second + 1.0)

    def log_value(self) -> Floats:
        """The evidence about times (logarithm)."""
        value: Floats = np.log((self.waiting + self.parts.mean(axis=2)).mean(axis=1))
        return value

    def _sample(self, counts: Ints, rng: np.random.Generator) -> Ints:
        """Of so many new clients, those that count (see `core/clients.py`)."""
        kept = np.where(self.halvings[:, :, None] > 0, rng.binomial(counts, 0.5 ** self.halvings[:, :, None]), counts)
        self.seen += kept.sum(axis=2)
        while (over := self.seen > LIMIT).any():
            self.halvings += over
            self.seen = np.where(over, rng.binomial(self.seen, 0.5), self.seen)
        return kept

    def _slower(self, counts: Ints, top: Ints) -> Ints:
        index = np.arange(len(counts))
        ours, theirs = (counts[index, top, side] / np.maximum(1, counts[:, 0, side]) for side in (0, 1))
        slower: Ints = (ours > 0) & (ours >= SLOWER * theirs)
        return slower

    def _fail(self, index: Ints, at: float) -> None:
        number = self.number[index]
        self.verdicts[number], self.times[number] = FAIL, at
        kept = np.ones(len(self.number), dtype=bool)
        kept[index] = False
        for name in ("parts", "total", "recent", "seen", "halvings", "number"):
            setattr(self, name, getattr(self, name)[kept])
        self.rows = self.rows[:, kept]


def run(times: Times, plan: Plan, runs: int, rng: np.random.Generator) -> VectorTimes:
    """Deployments that are watched for the whole soak."""
    settings = Analysis()
    judge = VectorTimes(runs, settings)
    slow = times.slow(settings.latency.tolerance)
    for second in range(int(settings.latency.warmup_s), int(SOAK_S)):
        share = share_at(plan, second + 1.0)
        left = len(judge.number)
        if not left:
            break
        counts = np.zeros((left, 4, 2), dtype=np.int64)
        for side, arm in enumerate((share, 1.0 - share)):
            counts[:, 0, side] = more = rng.poisson(times.per_s * arm, left)
            before = 1.0
            for cut in range(3):
                counts[:, 1 + cut, side] = more = rng.binomial(more, slow[side][cut] / before)
                before = slow[side][cut]
        judge.step(second, share, counts, rng)
    return judge
