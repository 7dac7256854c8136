"""Before a deployment: what the traffic allows to see, and how soon. Formulas, no simulation; good within a third."""

from __future__ import annotations

from math import ceil, log

import msgspec

_STAKE = 4.0
"""What mixtures cost beside the threshold (nats): the stake is spread over ratios and beginnings."""
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


def detection(
    per_s: float, share: float, error_rate: float, live_rate: float, alpha: float, min_errors: int
) -> Detection:
    """The expected time until a verdict, for a candidate with `error_rate` beside a live slot with `live_rate`.

    `per_s` is the requests per second of all clients together, `share` (0 to 1) is the candidate's part of the clients.
    """
    live_rate = max(live_rate, LEAST_RATE)
    ratio = error_rate / live_rate
    errors_per_s = per_s * (share * error_rate + (1.0 - share) * live_rate)
    if ratio <= 1.0 or not 0.0 < share < 1.0 or not errors_per_s:
        return Detection(error_rate, None, 0.0)
    there = share * ratio / (1.0 - share + share * ratio)
    nats = nats_per_error(share, ratio)
    seconds = max((log(1.0 / alpha) + _STAKE) / (nats * errors_per_s), min_errors / (errors_per_s * there))
    return Detection(error_rate, seconds, seconds * per_s * share * error_rate)


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


def proof_s(per_s: float, share: float, objective: float) -> float | None:
    """Seconds until a faultless candidate is proved good; None without traffic."""
    return needed_requests(objective) / (per_s * share) if per_s * share > 0.0 else None
