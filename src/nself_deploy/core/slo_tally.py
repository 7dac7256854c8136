"""Good and bad requests over the last six hours, small enough to be written down every few seconds."""

from __future__ import annotations

from math import ceil

import msgspec

from nself_deploy.core.slo import BUCKET_S, LONGEST_S

MINUTE_S = 60
FINE_S = 300
"""Windows up to this length are counted in buckets of `BUCKET_S`, longer ones in minutes."""


class Ring(msgspec.Struct):
    """Counts in buckets of one width; those in which nothing happened are left out, old ones are forgotten."""

    width_s: int
    most: int
    """How many buckets are remembered, beside the present one."""
    buckets: list[tuple[int, int, int]] = []
    """Number of the bucket, requests, bad ones; oldest first."""

    def add(self, at: float, *, bad: bool) -> None:
        """A request that was answered at this time; one that comes late counts as one of the newest bucket."""
        number = int(at // self.width_s)
        if self.buckets and self.buckets[-1][0] >= number:
            number, requests, failed = self.buckets[-1]
            self.buckets[-1] = (number, requests + 1, failed + bad)
            return
        self.buckets.append((number, 1, int(bad)))
        while self.buckets[0][0] < number - self.most:
            del self.buckets[0]

    def over(self, now: float, seconds: int) -> tuple[int, int]:
        """Requests and bad ones of the last so many seconds: whole buckets, and the present one."""
        first = now // self.width_s - ceil(seconds / self.width_s)
        requests = bad = 0
        for number, some, failed in reversed(self.buckets):
            if number < first:
                break
            requests, bad = requests + some, bad + failed
        return requests, bad


class Tally(msgspec.Struct):
    """The requests of one objective."""

    now: float = 0.0
    """Seconds since the beginning."""
    fine: Ring = msgspec.field(default_factory=lambda: Ring(BUCKET_S, FINE_S // BUCKET_S))
    coarse: Ring = msgspec.field(default_factory=lambda: Ring(MINUTE_S, LONGEST_S // MINUTE_S))

    def add(self, at: float, *, bad: bool) -> None:
        """A request that was answered at this time."""
        self.advance(at)
        self.fine.add(at, bad=bad)
        self.coarse.add(at, bad=bad)

    def advance(self, at: float) -> None:
        """It is this time now; time that goes back is the present."""
        self.now = max(self.now, at)

    def over(self, seconds: int) -> tuple[int, int]:
        """Requests and bad ones of the last so many seconds: up to one bucket more (5 s, or a minute beyond 5 min)."""
        return (self.fine if seconds <= FINE_S else self.coarse).over(self.now, seconds)
