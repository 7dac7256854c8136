"""The moves of traffic that runs made, from their journals: which release answered a request of the past."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from nself_deploy.core.effects import MoveTraffic
from nself_deploy.core.journal_records import Entry, EntryKind
from nself_deploy.core.log_moves import Move
from nself_deploy.core.machine import Run
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.times import parse

_TAG = '"move-traffic"'


LONGEST_S = 5.0
"""A move that is not known to be over may have been made up to so long after it began."""


def moves_of(entries: Iterable[Entry]) -> tuple[Move, ...]:
    """The moves of one run, in order."""
    found: list[Move] = []
    under_way = False
    for entry in entries:
        at = parse(entry.at).timestamp()
        if under_way:
            found[-1] = msgspec.structs.replace(found[-1], until=at)
            under_way = False
        if entry.kind is EntryKind.INTENT and _TAG in entry.detail:
            effect = msgspec.json.decode(entry.detail, type=MoveTraffic)
            found.append(Move(effect.split, at, at + LONGEST_S))
            under_way = True
    return tuple(found)


def before(run: Run) -> Split:
    """The split that was in force before a run, as far as it is known."""
    plan = run.plan
    slot = plan.live or (plan.candidate.other if plan.candidate is not None else Slot.BLUE)
    return Split.all_to(slot)


def live_of(split: Split) -> Slot:
    """The slot whose release is live: a candidate is not before it serves everybody."""
    return split.candidate if split.candidate is not None and split.percent == 100 else split.base


def live_since(moves: Sequence[Move]) -> float:
    """When the slot that is live now became so (unix time); 0 when that is longer ago than what is known."""
    slot = live_of(moves[-1].split)
    for earlier, later in zip(reversed(moves[:-1]), reversed(moves[1:]), strict=True):
        if live_of(earlier.split) is not slot:
            return later.since
    return 0.0


def shared_since(moves: Sequence[Move]) -> float:
    """When the slot that is live now got its first requests, as a candidate (unix time); 0 as for `live_since`."""
    slot = live_of(moves[-1].split)
    for earlier, later in zip(reversed(moves[:-1]), reversed(moves[1:]), strict=True):
        if not earlier.split.percent_of(slot):
            return later.since
    return 0.0
