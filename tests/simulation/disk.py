"""The disk: what a process wrote and had acknowledged, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec

from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.journal_records import Entry
from nself_deploy.core.machine import Run
from nself_deploy.core.model import Release, Slot, Split
from nself_deploy.core.routing import TreeSpec
from nself_deploy.core.slot_records import SlotRecord
from nself_deploy.core.state import BlueGreenState, RollbackState, StrategyState


class Saved(msgspec.Struct, frozen=True):
    """The journal's database after one commit; a transaction makes another one and leaves this as it is."""

    runs: dict[str, Run] = {}
    """In the order in which they began."""
    entries: dict[str, tuple[Entry, ...]] = {}
    """Run -> its journal."""
    events: dict[str, AuditEvent] = {}
    releases: dict[str, Release] = {}
    slots: dict[Slot, SlotRecord] = {}
    addresses: dict[tuple[str, str, int], int] = {}
    meta: dict[str, str] = {}


class Disk:
    """One project's directory."""

    def __init__(self) -> None:
        self.saved = Saved()
        self.split: Split | None = None
        """The link that says where requests go."""
        self.tree: TreeSpec | None = None
        self.tree_print = ""
        self.recording = False
        self.deploy: StrategyState | None = None
        self.blue_green: BlueGreenState | None = None
        self.rollback: dict[tuple[str, str], RollbackState] = {}
        self.records: dict[str, bytes] = {}
        """Run -> what its judge was told and said."""
        self.files: dict[str, dict[str, Any]] = {}
        """Path -> Compose model."""
        self.full = 0
        """How many writes from now on find the disk full."""
