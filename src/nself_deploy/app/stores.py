"""What survives a command, as the use cases need it: the journal, the state files, and our other files.

Seams like those in `ports`; what is written there holds for these too.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.journal_records import Entry
from nself_deploy.core.machine import Run
from nself_deploy.core.model import Project, Release, Slot
from nself_deploy.core.slot_records import SlotRecord
from nself_deploy.core.state import BlueGreenState, RollbackState, StrategyState


class Store(Protocol):
    """The journal with everything that must survive: runs, releases, slots, addresses."""

    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside are one: durable when it ends, none of them when it raises. May stand inside another."""

    def begin(self, run: Run, slots: Mapping[Slot, SlotRecord] | None = None) -> None:
        """A new run and the slots that it takes, in one transaction; durable when it returns."""

    def record(self, run: Run, kind: str, step: str, detail: str = "") -> int:
        """The run as it is now and one journal entry (`intent`, `outcome`, `note`), in one transaction; its number."""

    def unfinished(self) -> Run | None:
        """The run that was interrupted, if there is one."""

    def run(self, run_id: str) -> Run | None:
        """One run, as it is now."""

    def ended(self, run_id: str) -> bool:
        """Whether one run has ended, as it is now."""

    def history(self, limit: int = 20) -> list[Run]:
        """Runs, newest first."""

    def entries(self, run_id: str) -> list[Entry]:
        """The journal of one run, in order."""

    def add_event(self, event: AuditEvent) -> AuditEvent:
        """Add to the audit trail (a run's end is added by itself); the same id twice is one. Returns it as stored."""

    def events(self, limit: int = 20) -> list[AuditEvent]:
        """The audit trail, newest first."""

    def save_release(self, release: Release) -> None:
        """Keep a release's record."""

    def release(self, release_id: str) -> Release | None:
        """A release by id."""

    def release_by_fingerprint(self, fingerprint: str) -> Release | None:
        """The newest release with this content."""

    def releases(self, limit: int = 100) -> list[Release]:
        """Releases, newest first."""

    def forget_release(self, release_id: str) -> None:
        """Forget a release, and which of its jobs ran."""

    def slots(self) -> dict[Slot, SlotRecord]:
        """What is in each slot."""

    def set_slots(self, slots: Mapping[Slot, SlotRecord]) -> None:
        """Remember what is in the slots named."""

    def addresses(self) -> dict[tuple[str, str, int], int]:
        """(network, service, replica) -> host number."""

    def save_addresses(self, addresses: Mapping[tuple[str, str, int], int]) -> None:
        """Remember host numbers."""

    def meta(self, key: str) -> str:
        """A remembered word, empty when there is none."""

    def set_meta(self, key: str, value: str) -> None:
        """Remember a word; an empty one is forgotten."""

    def close(self) -> None:
        """Let go of the file."""


class States(Protocol):
    """The JSON files for other programs (spec: files)."""

    def save_deploy(self, state: StrategyState) -> None:
        """`.nself/state/deploy.json`."""

    def load_deploy(self) -> StrategyState:
        """The same, a zero value when there is none; StateFileError when it can't be understood."""

    def save_blue_green(self, state: BlueGreenState) -> None:
        """`.nself/bluegreen/state.json`."""

    def load_blue_green(self) -> BlueGreenState:
        """The same, like `load_deploy`."""

    def save_rollback(self, environment: str, service: str, state: RollbackState) -> None:
        """`.nself/rollback-state/<env>/<service>.json`."""

    def load_rollback(self, environment: str, service: str) -> RollbackState:
        """The same, like `load_deploy`."""


class Files(Protocol):
    """The other files of ours in the project."""

    def write_slot(self, release_id: str, slot: Slot, model: dict[str, object]) -> str:
        """A slot's compiled Compose file; its path."""

    def slot_file(self, release_id: str, slot: Slot) -> str:
        """Where it is, or would be."""

    def forget_release(self, release_id: str) -> None:
        """Remove what was written for a release; what is gone is fine."""

    def write_override(self, model: dict[str, object]) -> str:
        """The generated override that plain Compose picks up; its path."""

    def override_files(self) -> tuple[str, ...]:
        """The generated override, if it has been written (to be given to Compose behind the user's files)."""

    def file_hashes(self, project: Project) -> dict[str, str]:
        """sha256 of the files that configs and secrets come from."""
