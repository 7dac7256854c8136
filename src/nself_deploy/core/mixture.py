"""Evidence as a bet that may be looked at after every event: mixtures of likelihood ratios whose parts start late.

Every mixture begins with the value 1. While its null hypothesis holds, the value is on average at most 1 at any time,
whoever looks and however often: it ever reaches 1/alpha with a probability of at most alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import exp, ldexp, log
from operator import mul

import msgspec

PARTS = 24
"""Alternatives in a mixture."""

_HUGE, _TINY, _STEP = 2.0**512, 2.0**-512, 512
_AT_ONCE, _PLANNED, _LATER = 0.65, 0.25, 0.10

Factors = tuple[float, ...]


def waiting_at(seconds: float, planned_s: float) -> float:
    """The share of the stake that is not yet at work after some time.

    65 % of it work from the beginning, 25 % start one after the other over the planned time, and 10 % over the time
    after it, without an end: a pause or an extension can't leave it without means.
    """
    if seconds < planned_s:
        return 1.0 - _AT_ONCE - _PLANNED * max(0.0, seconds) / planned_s
    return _LATER * planned_s / max(seconds, planned_s)


def spaced(low: float, high: float, count: int = PARTS) -> Factors:
    """Numbers from low to high, each the same multiple of the one before."""
    step = log(high / low) / (count - 1)
    return tuple(low * exp(step * i) for i in range(count))


class Mixture(msgspec.Struct):
    """A mixture in equal parts. `parts` are in units of 2**exponent, so that no product is too large or too small."""

    parts: list[float]
    waiting: float = 1.0
    """The share of the stake that has not started; it is worth itself."""
    exponent: int = 0

    @classmethod
    def late(cls, count: int = PARTS) -> Mixture:
        """One whose parts start over time (`start`)."""
        return cls([0.0] * count)

    @classmethod
    def at_once(cls, count: int = PARTS) -> Mixture:
        """One whose parts have all started."""
        return cls([1.0] * count, 0.0)

    def start(self, waiting: float) -> None:
        """Put to work what is more than `waiting`; the value stays the same. It must not depend on what comes next."""
        if waiting < self.waiting:
            fresh = ldexp(self.waiting - waiting, -self.exponent)
            self.parts = [part + fresh for part in self.parts]
            self.waiting = waiting

    def multiply(self, factors: Sequence[float]) -> None:
        """Something happened: per part, how much likelier it was under this alternative than under the null.

        There are as many factors as parts.
        """
        self.parts = parts = list(map(mul, self.parts, factors))
        top = max(parts)
        if top > _HUGE:
            self._shift(_STEP)
        elif top < _TINY and (self.exponent > 0 or (self.waiting == 0.0 and top > 0.0)):
            self._shift(-_STEP)

    def _shift(self, by: int) -> None:
        self.parts = [ldexp(part, -by) for part in self.parts]
        self.exponent += by

    @property
    def log_value(self) -> float:
        """The natural logarithm of the value; -inf when nothing is left."""
        total = ldexp(self.waiting, -self.exponent) + sum(self.parts) / len(self.parts)
        return log(total) + self.exponent * log(2.0) if total > 0.0 else float("-inf")


RATIOS = spaced(2.0, 120.0)
"""How many times more often the candidate fails than the live slot: the alternatives.

What is beyond them is found too: with 2 against the 1.5 that matter by default, with 120 against an outage.
"""


@lru_cache(maxsize=256)
def ratio_factors(share: float, ratios: Factors = RATIOS, null: float = 1.0) -> tuple[Factors, Factors]:
    """What an event is worth that happened on the candidate, and one on the live slot.

    `share` is the part of the clients that the candidate had at the time. The event was on the candidate with the odds
    share * ratio against 1 - share; `null` is the ratio that is doubted.
    """
    base = 1.0 + share * (null - 1.0)
    scale = [base / (1.0 + share * (ratio - 1.0)) for ratio in ratios]
    return tuple(s * ratio / null for s, ratio in zip(scale, ratios, strict=True)), tuple(scale)


@lru_cache(maxsize=64)
def rate_factors(null: float, rates: Factors) -> tuple[Factors, Factors]:
    """What a failed request and a good one are worth when the rate `null` is doubted in favour of others."""
    return tuple(rate / null for rate in rates), tuple((1.0 - rate) / (1.0 - null) for rate in rates)


def powers(factors: Sequence[float], count: int) -> Factors:
    """What `count` events of one kind are worth."""
    return tuple(factor**count for factor in factors)
