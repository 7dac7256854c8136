"""What `doctor` finds, and what would put it right: plain data, nothing is done here."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from nself_deploy.core import effects as do
from nself_deploy.core.model import Slot
from nself_deploy.core.slot_records import SlotRecord


class Severity(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    """Nothing has to be done."""
    WARNING = "warning"
    """Users notice nothing; the next deploy or rollback may."""
    ERROR = "error"
    """Users may notice, or deploys are refused."""


class _Repair(msgspec.Struct, frozen=True, tag_field="do"):
    """Base: gives every repair a tag in JSON. Every one is safe to repeat, and harmless when it is cut short."""


class Recover(_Repair, frozen=True, tag="recover"):
    """The interrupted run is finished or undone, as the next deploy would do it."""


class CorrectSlots(_Repair, frozen=True, tag="correct-slots"):
    """The slots are recorded so."""

    slots: dict[Slot, SlotRecord]


class StartContainers(_Repair, frozen=True, tag="start-containers"):
    """These containers of ours (ids) run, and are healthy."""

    slot: Slot
    containers: tuple[str, ...]


class ClearSlot(_Repair, frozen=True, tag="clear-slot"):
    """Nothing is in flight to the slot, these containers of ours (ids) are gone, and it is recorded as empty."""

    slot: Slot
    containers: tuple[str, ...]


class RemoveContainers(_Repair, frozen=True, tag="remove-containers"):
    """These containers of ours (ids), which get no requests, are stopped and gone."""

    slot: Slot
    containers: tuple[str, ...]


class WriteOverride(_Repair, frozen=True, tag="write-override"):
    """The generated override is what it has to be."""


class WriteSlotFile(_Repair, frozen=True, tag="write-slot-file"):
    """The slot's compiled Compose file is there."""

    release: str
    slot: Slot


class StopRecording(_Repair, frozen=True, tag="stop-recording"):
    """nginx no longer writes our access log."""


class WriteStates(_Repair, frozen=True, tag="write-states"):
    """These JSON files (paths below the project) say what the journal and the link say."""

    files: tuple[str, ...]


class ForgetOwner(_Repair, frozen=True, tag="forget-owner"):
    """The lock was taken over from its dead owner and given back."""


class RemoveFiles(_Repair, frozen=True, tag="remove-files"):
    """These leftovers (paths below the project) are gone."""

    paths: tuple[str, ...]


Fix = (
    Recover
    | do.MoveTraffic
    | CorrectSlots
    | do.PrepareNetworks
    | StartContainers
    | ClearSlot
    | RemoveContainers
    | do.InstallRouter
    | WriteOverride
    | WriteSlotFile
    | StopRecording
    | WriteStates
    | ForgetOwner
    | RemoveFiles
)
"""What `--fix` does, in the order in which it is done."""

ORDER: tuple[type, ...] = (
    Recover,
    do.MoveTraffic,
    CorrectSlots,
    do.PrepareNetworks,
    StartContainers,
    ClearSlot,
    RemoveContainers,
    do.InstallRouter,
    WriteOverride,
    WriteSlotFile,
    StopRecording,
    WriteStates,
    ForgetOwner,
    RemoveFiles,
)


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it should be (or, a note, only worth knowing)."""

    code: str
    """A word for programs, e.g. `standby-expired`; it stays."""
    severity: Severity
    what: str
    """What was found, one line."""
    why: str = ""
    """What it means, or how it comes about."""
    remedy: str = ""
    """What to do."""
    fix: Fix | None = None
    """What `--fix` does; None when it is left to a person."""


def touched(fix: Fix | None) -> tuple[str, ...]:
    """The containers (ids) that a fix starts, stops or removes."""
    match fix:
        case StartContainers(_, ids) | ClearSlot(_, ids) | RemoveContainers(_, ids):
            return ids
        case _:
            return ()
