"""What the journal says about a run beside the run itself."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class RunState(StrEnum):
    """What became of a run, as the journal sorts them."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNDONE = "undone"
    """A person stopped it."""
    PARKED = "parked"


class EntryKind(StrEnum):
    """What an entry tells."""

    INTENT = "intent"
    OUTCOME = "outcome"
    NOTE = "note"


class Entry(msgspec.Struct, frozen=True):
    """One line of a run's journal."""

    seq: int
    """Counts from 1 in each run, without gaps."""
    at: str
    kind: EntryKind
    step: str
    """Key of the step, or empty."""
    effect: str
    """The effect as JSON, for an intent; else empty."""
    detail: str
