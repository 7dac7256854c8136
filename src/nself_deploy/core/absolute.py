"""Whether the candidate fails more often than the objective allows, compared with nobody.

A request counts unless its client has failed within the same ten seconds: a burst of errors is one.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from nself_deploy.core.mixture import Factors, Mixture, powers, rate_factors, spaced, waiting_at


@lru_cache(maxsize=32)
def worse_rates(objective: float) -> Factors:
    """The alternatives: error rates above the objective (which is at most `analysis.MOST`)."""
    return spaced(1.5 * objective, 0.9)


@lru_cache(maxsize=32)
def _worth(objective: float) -> tuple[Factors, Factors]:
    """What a failed request and a good one are worth."""
    return rate_factors(objective, worse_rates(objective))


class AbsoluteTest(msgspec.Struct):
    """The test of one slot against one rate. Parts start at whole seconds, when the first request of a second comes."""

    objective: float
    planned_s: float
    mixture: Mixture = msgspec.field(default_factory=Mixture.late)
    second: int = 0
    good: int = 0
    """Good requests that are not in the mixture yet."""
    failed: int = 0

    def add(self, second: int, *, failed: bool) -> None:
        """One request in this second."""
        if second > self.second or self.mixture.waiting == 1.0:
            self._settle()
            self.second = second
            self.mixture.start(waiting_at(second, self.planned_s))
        if not failed:
            self.good += 1
            return
        self._settle()
        self.failed += 1
        self.mixture.multiply(_worth(self.objective)[0])

    def _settle(self) -> None:
        if self.good:
            self.mixture.multiply(powers(_worth(self.objective)[1], self.good))
            self.good = 0

    @property
    def log_value(self) -> float:
        """The evidence now (logarithm)."""
        if not self.good:
            return self.mixture.log_value
        now = Mixture([*self.mixture.parts], self.mixture.waiting, self.mixture.exponent)
        now.multiply(powers(_worth(self.objective)[1], self.good))
        return now.log_value
