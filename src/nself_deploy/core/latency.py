"""Whether the candidate answers later than the live slot: counts of slow requests, compared like errors.

"Slow" is beyond a cut point of the live slot's own times, frozen before the candidate gets a request; for the candidate
the cut is a tolerance further away. There is one comparison per cut, and the evidence is their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, log

import msgspec

from nself_deploy.core.comparison import Comparison
from nself_deploy.core.windows import Counts

ENOUGH = 1000
"""Requests to the live slot that cut points need."""
SLOWER = 1.1
"""How many times more slow requests the candidate must have for the difference to matter."""


def cut_points(seconds: Sequence[float], quantiles: Sequence[float]) -> tuple[float, ...]:
    """The cut points of the live slot's times, or none when there are too few of them."""
    if len(seconds) < ENOUGH:
        return ()
    ordered = sorted(seconds)
    return tuple(ordered[min(len(ordered), ceil(q * len(ordered))) - 1] for q in quantiles)


class Latency(msgspec.Struct):
    """The comparison of times. `counts`: requests of candidate and live slot, then the slow ones per cut, likewise."""

    cuts: tuple[float, ...]
    tolerance: float
    comparisons: list[Comparison]
    counts: Counts

    @classmethod
    def of(
        cls, cuts: tuple[float, ...], tolerance: float, planned_s: float, *, random: bool, by_client: bool
    ) -> Latency:
        """A comparison at these cut points."""
        tests = [Comparison(planned_s, random, at_once=False, by_client=by_client) for _ in cuts]
        return cls(cuts, tolerance, tests, Counts.of(2 + 2 * len(cuts)))

    def advance(self, at: float, share: float) -> bool:
        """It is this time; whether there is new evidence."""
        second, first = int(at), self.comparisons[0]
        self.counts.advance(second)
        if first.random_split and second <= first.tick.since and share == first.tick.share:
            return False  # all of them have the same tick, and it is not over
        fresh = [comparison.advance(at, share) for comparison in self.comparisons]
        return any(fresh)

    def add(self, at: float, client: int, share: float, seconds: float, *, candidate: bool) -> None:
        """A request and how long it took."""
        side = 0 if candidate else 1
        self.counts.add(side)
        scaled = seconds / self.tolerance if candidate else seconds
        if not self.comparisons[0].random_split:
            for comparison in self.comparisons:
                comparison.request(client, candidate=candidate)
        for i, (cut, comparison) in enumerate(zip(self.cuts, self.comparisons, strict=True)):
            if scaled > cut:
                self.counts.add(2 + 2 * i + side)
                comparison.event(at, client, share, candidate=candidate)

    @property
    def log_value(self) -> float:
        """The evidence: the mean of the cuts' values, as a logarithm."""
        values = [comparison.mixture.log_value for comparison in self.comparisons]
        top = max(values)
        return top + log(sum(exp(value - top) for value in values) / len(values))

    @property
    def slower(self) -> bool:
        """Whether the candidate is noticeably slower at the cut with the most evidence, ever or of late.

        Clients are counted once per cut. When those of the live slot have all been counted, the few of a candidate
        that is *faster* come last, alone, and would look bad.
        """
        top = max(range(len(self.cuts)), key=lambda i: self.comparisons[i].mixture.log_value)
        for counts in (self.counts.total, self.counts.recent):
            ours, theirs = (counts[2 + 2 * top + side] / max(1, counts[side]) for side in (0, 1))
            if ours > 0.0 and ours >= SLOWER * theirs:
                return True
        return False
