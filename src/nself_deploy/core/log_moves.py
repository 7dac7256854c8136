"""Which split was in force when a request came: from the times at which the router got each one.

nginx decides about a request when it has read its head, and writes its line when it is answered. A move takes a moment
(`since` to `until`); what came within that moment, or close to it, could have met either split, and tells nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nself_deploy.core.model import Slot, Split
from nself_deploy.core.nginx_flags import BUCKETS, bucket_slot

MARGIN_S = 0.05
"""Times in the log are as exact as nginx's clock, which it looks at once per turn of its loop."""


class Move(msgspec.Struct, frozen=True):
    """The router got this split at some time between `since` and `until` (seconds since the epoch).

    The first one of a row was in force before, whatever its times are.
    """

    split: Split
    since: float = 0.0
    until: float = 0.0


class Spell(msgspec.Struct, frozen=True):
    """A time in which one split was in force for certain."""

    since: float
    until: float
    share: float
    """The candidate's part of the clients, 0 to 1."""
    sides: dict[str, bool]
    """Slot and bucket, e.g. `blue07`: whether that is the candidate. Others do not occur with this split."""


def spells(moves: Sequence[Move], candidate: Slot) -> tuple[Spell, ...]:
    """The spells of a row of moves, in their order. They leave out the moments of the moves."""
    found = []
    for number, move in enumerate(moves):
        since = float("-inf") if number == 0 else move.until + MARGIN_S
        until = moves[number + 1].since - MARGIN_S if number + 1 < len(moves) else float("inf")
        if since < until:
            share = move.split.percent_of(candidate) / 100
            found.append(Spell(since, until, share, _sides(move.split, candidate)))
    return tuple(found)


def _sides(split: Split, candidate: Slot) -> dict[str, bool]:
    found = ((bucket, bucket_slot(split, bucket)) for bucket in range(BUCKETS))
    return {f"{slot}{bucket:02d}": slot is candidate for bucket, slot in found}
