"""Whether the candidate answers later than the live slot: counts of slow requests, compared like errors.

"Slow" is beyond a cut point of the live slot's own times; for the candidate the cut is a tolerance further away. There
is one comparison per cut, and the evidence is their mean.

Cut points are frozen before anything counts: before the candidate gets a request, or, when too few times were known
then, at the live slot's thousandth answer beside it. The candidate's own answers have no influence on them. Clients who
came until then never count, on neither slot: the cuts were made from the times of those on the live slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, log

import msgspec

from nself_deploy.core.clients import Clients
from nself_deploy.core.comparison import Comparison
from nself_deploy.core.evidence import Request
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


class Gathered(msgspec.Struct):
    """What is known while there are no cut points yet."""

    quantiles: tuple[float, ...]
    seconds: list[float] = msgspec.field(default_factory=list)
    """How long the live slot's answers took."""
    clients: Clients = msgspec.field(default_factory=Clients)
    """Who came meanwhile, to either slot."""


class Latency(msgspec.Struct):
    """The comparison of times. `counts`: requests of candidate and live slot, then the slow ones per cut, likewise."""

    cuts: tuple[float, ...]
    """None of them: they are not known yet, and nothing counts."""
    tolerance: float
    comparisons: list[Comparison]
    counts: Counts
    gathered: Gathered | None = None
    """None when there are cut points."""
    late: bool = False
    """Whether they are of answers that were given beside the candidate."""

    @classmethod
    def of(
        cls, cuts: tuple[float, ...], tolerance: float, planned_s: float, *, random: bool, by_client: bool
    ) -> Latency:
        """A comparison at these cut points."""
        tests = [Comparison(planned_s, random, at_once=False, by_client=by_client) for _ in cuts]
        return cls(cuts, tolerance, tests, Counts.of(2 + 2 * len(cuts)))

    @classmethod
    def later(
        cls, quantiles: tuple[float, ...], tolerance: float, planned_s: float, *, random: bool, by_client: bool
    ) -> Latency:
        """A comparison that begins when the live slot has given enough answers; its cut points are their quantiles."""
        found = cls.of(quantiles, tolerance, planned_s, random=random, by_client=by_client)
        found.cuts, found.gathered, found.late = (), Gathered(quantiles), True
        return found

    def gather(self, request: Request) -> None:
        """Any request while there are no cut points yet; enough good ones of the live slot, and there are."""
        gathered = self.gathered
        assert gathered is not None
        gathered.clients.first(request.client)
        if request.candidate or request.failed or request.seconds is None:
            return
        gathered.seconds.append(request.seconds)
        self.cuts = cut_points(gathered.seconds, gathered.quantiles)
        if self.cuts:
            for comparison in self.comparisons:
                comparison.clients = gathered.clients.copy()
            self.gathered = None

    def advance(self, at: float, share: float) -> bool:
        """It is this time; whether there is new evidence."""
        if self.gathered is not None:
            return False
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
