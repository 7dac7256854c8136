"""What the journal says about a run beside the run itself."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from nself_deploy.core.machine import Outcome, Run


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


class PlanTarget(msgspec.Struct, frozen=True):
    """As much of a plan as says where it is for."""

    target: str


class RunTarget(msgspec.Struct, frozen=True):
    """As much of a run: quick to read, for who waits."""

    plan: PlanTarget


_ENDED = {Outcome.DONE: RunState.DONE, Outcome.FAILED: RunState.FAILED, Outcome.INTERRUPTED: RunState.UNDONE}


def state_of(run: Run) -> RunState:
    """Where a run is in its life."""
    if not run.ended:
        return RunState.PARKED if run.waits else RunState.RUNNING
    return RunState.RUNNING if run.outcome is None else _ENDED[run.outcome]
