"""How a candidate is judged: the settings of `analysis` and their defaults. Times are in seconds, rates from 0 to 1."""

from __future__ import annotations

import math
from enum import StrEnum

import msgspec

MOST = 0.5
"""No objective is worse than this."""


def _within(key: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{key}: {value!r} is out of range: {low:g} to {high:g} is possible")


class Mode(StrEnum):
    """Whether verdicts have consequences."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    """Everything is recorded, nothing acts."""


class Unit(StrEnum):
    """What an error is counted by."""

    CLIENT = "client"
    REQUEST = "request"


class OnInconclusive(StrEnum):
    """What happens when the longest soak is over without a verdict. There is no "promote"."""

    HOLD = "hold"
    ROLLBACK = "rollback"


class Grace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a hold waits for a comparison that says more."""

    errors: int = 3
    min_s: float = 5.0
    max_s: float = 30.0

    def __post_init__(self) -> None:
        _within("analysis.hold.grace.errors", self.errors, 0, 1000)
        _within("analysis.hold.grace.max", self.max_s, 0.0, 100.0)
        _within("analysis.hold.grace.min", self.min_s, 0.0, self.max_s)


class Hold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a candidate is parked because it misses the objective, though it may be no worse than the live slot."""

    alpha: float = 0.001
    grace: Grace = Grace()

    def __post_init__(self) -> None:
        _within("analysis.hold.alpha", self.alpha, 1e-9, 0.2)


class LatencyKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How times are compared; no cuts means that they are not."""

    cuts: tuple[float, ...] = (0.5, 0.9, 0.99)
    tolerance: float = 1.15
    warmup_s: float = 30.0

    def __post_init__(self) -> None:
        for cut in self.cuts:
            _within("analysis.latency.cuts", cut, 0.01, 0.9999)
        if len(self.cuts) > 5 or list(self.cuts) != sorted(set(self.cuts)):
            raise ValueError("analysis.latency.cuts: up to five different quantiles, the smallest first, are possible")
        _within("analysis.latency.tolerance", self.tolerance, 1.0, 10.0)
        _within("analysis.latency.warmup", self.warmup_s, 0.0, 3600.0)


class Analysis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it.

    Raises:
        ValueError: a value is out of range; says which one, and what is possible.
    """

    alpha: float = 0.001
    """The probability that a deployment of a healthy candidate is rolled back, at most."""
    beta: float = 0.05
    """The probability that a candidate is promoted that can't be accepted, at most."""
    slo_error_rate: float = 0.01
    hold: Hold = Hold()
    max_ratio: float = 3.0
    """Not to be accepted: worse than the objective, and so many times worse than the live slot."""
    min_effect: float = 0.003
    min_ratio: float = 1.5
    """Differences that matter: in error rate, and as a ratio."""
    min_errors: int = 3
    unit: Unit = Unit.CLIENT
    latency: LatencyKeys = LatencyKeys()
    soak_s: float = 300.0
    max_soak_s: float = 900.0
    on_inconclusive: OnInconclusive = OnInconclusive.HOLD
    mode: Mode = Mode.ENFORCE
    shield: bool = True
    """Whether the live slot answers what fails on the candidate, where it is safe to ask again."""

    def __post_init__(self) -> None:
        _within("analysis.alpha", self.alpha, 1e-9, 0.2)
        _within("analysis.beta", self.beta, 1e-9, 0.5)
        _within("analysis.slo_error_rate", self.slo_error_rate, 1e-5, MOST)
        _within("analysis.max_ratio", self.max_ratio, 1.1, 100.0)
        _within("analysis.min_effect", self.min_effect, 0.0, 1.0)
        _within("analysis.min_ratio", self.min_ratio, 1.0, 100.0)
        _within("analysis.min_errors", self.min_errors, 1, 1000)
        _within("analysis.soak", self.soak_s, 1.0, 86400.0)
        _within("analysis.max_soak", self.max_soak_s, self.soak_s, 86400.0 * 7)

    @property
    def latency_alpha(self) -> float:
        """The part of alpha that the comparison of times has; it needs less, for slow requests are many."""
        return 0.1 * self.alpha

    def error_alpha(self, routes: int, *, latency: bool) -> tuple[float, float]:
        """The part of alpha that all routes together have for errors, and the part that each one of them has.

        Times take a tenth when they are compared. With one route, the rest is for its errors; with more, all of them
        together have half of it and each one an equal part of the other half.
        """
        alpha = self.alpha - self.latency_alpha if latency else self.alpha
        return (alpha, 0.0) if routes < 2 else (alpha / 2, alpha / 2 / routes)
