"""Moments by two clocks, so that a clock which was set does not shorten what has to be waited for (no I/O).

The rule: between two moments of one boot, the time since that boot counts, which nobody can set. Across boots only the
wall clock is left; a moment that lies in its future counts as now. So a wait may become longer, but it is never cut
short by a clock that was set while the machine ran.
"""

from __future__ import annotations

import msgspec

from nself_deploy.core.times import seconds_between


class Moment(msgspec.Struct, frozen=True):
    """A point in time."""

    at: str
    """Of the wall clock: UTC, RFC 3339."""
    boot: str = ""
    """A word that changes with every boot, empty where it is not known."""
    uptime_s: float = 0.0
    """Seconds since that boot, with the time in which the machine slept."""


def elapsed_s(earlier: Moment, later: Moment) -> float:
    """Seconds that have passed for certain, never negative."""
    if earlier.boot and earlier.boot == later.boot:
        return max(later.uptime_s - earlier.uptime_s, 0.0)
    return max(seconds_between(earlier.at, later.at), 0.0)


def in_past(moment: Moment, now: Moment) -> Moment:
    """The moment, or `now` when it lies in the future: its wait begins anew instead of lasting until then."""
    if moment.boot and moment.boot == now.boot:
        return moment if moment.uptime_s <= now.uptime_s else now
    return moment if seconds_between(moment.at, now.at) >= 0 else now
