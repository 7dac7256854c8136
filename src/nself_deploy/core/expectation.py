"""Before a deployment: what the traffic allows to see, and how soon. Formulas, no simulation."""

from __future__ import annotations

from math import ceil, log

import msgspec

_MOST_PERCENT = 50
LEAST_RATE = 1e-6
"""No live slot is taken to fail less often."""


class Detection(msgspec.Struct, frozen=True):
    """When a candidate with a certain error rate would be found out."""

    error_rate: float
    seconds: float | None
    """None: it can't be told from the live slot."""
    users: float
    """Clients that meet an error until then."""


def nats_per_error(share: float, ratio: float) -> float:
    """The evidence that an error brings on average, on whichever slot, that the candidate fails `ratio` times as often.

    `share` is between 0 and 1; the unit is the natural logarithm.
    """
    there = share * ratio / (1.0 - share + share * ratio)
    nats = there * log(there / share)
    return nats + (1.0 - there) * log((1.0 - there) / (1.0 - share)) if there < 1.0 else nats


def auto_percent(per_s: float, seconds: float, objective: float) -> int:
    """The smallest share (percent, 1 to 50) with which the proof of the objective fits into this time."""
    if per_s <= 0.0 or seconds <= 0.0:
        return _MOST_PERCENT
    return min(_MOST_PERCENT, max(1, ceil(100.0 * needed_requests(objective) / (per_s * seconds))))


def needed_requests(objective: float) -> int:
    """Good requests to the candidate that prove it, about: 400 for an objective of 1 %."""
    return ceil(4.0 / objective)
