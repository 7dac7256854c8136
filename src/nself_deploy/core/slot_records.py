"""What is remembered about each slot."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from nself_deploy.core.model import Slot


class SlotRole(StrEnum):
    """What a slot is for now."""

    LIVE = "live"
    STANDBY = "standby"
    CANDIDATE = "candidate"
    EMPTY = "empty"


class SlotRecord(msgspec.Struct, frozen=True):
    """One slot."""

    release: str
    role: SlotRole
    since: str
    until: str = ""
    """When a standby may be removed (RFC 3339), empty for others."""


def live_slot(slots: dict[Slot, SlotRecord]) -> Slot | None:
    """The slot that is live by our records."""
    return next((s for s, r in slots.items() if r.role is SlotRole.LIVE), None)


def standby_slot(slots: dict[Slot, SlotRecord]) -> Slot | None:
    """The slot that is kept warm by our records."""
    return next((s for s, r in slots.items() if r.role is SlotRole.STANDBY), None)
