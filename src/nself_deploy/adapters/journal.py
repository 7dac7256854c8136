"""The journal: everything that must survive, in one SQLite file (`.nself/nself.db`, 0600).

A call that writes has its data on the disk when it returns (WAL, `synchronous=FULL`), all of it or none. What is
damaged, newer or gone is an error; the file is never made anew in silence.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from nself_deploy.adapters.durable_files import ensure_nself_dir
from nself_deploy.adapters.journal_audit import AuditTrail
from nself_deploy.adapters.journal_schema import RESTORE, identity, mapped, open_database
from nself_deploy.core.audit import AuditEvent, Trigger, run_events
from nself_deploy.core.journal_records import Entry, EntryKind, RunState, RunTarget, state_of
from nself_deploy.core.machine import Run
from nself_deploy.core.model import Release, Slot
from nself_deploy.core.plan import Kind
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from nself_deploy.core.state import format_time
from nself_deploy.errors import StateFileError

if TYPE_CHECKING:
    from nself_deploy.adapters.journal_deliveries import Deliveries
    from nself_deploy.adapters.journal_guards import Guards

JOURNAL_FILE = ".nself/nself.db"

Addresses = dict[tuple[str, str, int], int]
"""(network, service, replica) -> host number."""

T = TypeVar("T")


def _utc_now() -> str:
    return format_time(datetime.now(UTC))


class Journal:
    """An open journal. Not to be shared between threads or carried over a fork."""

    def __init__(
        self, path: Path, db: sqlite3.Connection | None, writable: bool, now: Callable[[], str], actor: str
    ) -> None:
        """Use `Journal.open`."""
        self.path = path
        self._db = db
        self._writable = writable
        self._closed = False
        self._now = now
        self._identity = identity(path)
        self._begun: set[str] = set()
        self.at_end: Callable[[Journal], None] = lambda journal: None
        """Called when a journal that was open for writing is closed, just before."""
        self.at_run: Callable[[Journal, Run], None] = lambda journal, run: None
        """Called in the transaction in which a run begins, and in the one in which it ends."""
        self.audit = AuditTrail(path, self._rows, self._execute, now, actor)

    @cached_property
    def guards(self) -> Guards:
        """Deploy keys and circuit breakers; a rollback that a person asks for does without."""
        from nself_deploy.adapters.journal_guards import Guards

        return Guards(self.path, self._rows, self._execute, self.transaction, self.add_event)

    @cached_property
    def deliveries(self) -> Deliveries:
        """The outbox of the audit trail."""
        from nself_deploy.adapters.journal_deliveries import Deliveries

        return Deliveries(self.path, self._rows, self._execute, self.guards.transaction)

    @classmethod
    def open(
        cls,
        project_root: str | os.PathLike[str],
        *,
        create: bool = True,
        now: Callable[[], str] = _utc_now,
        actor: str = "",
    ) -> Journal:
        """Open to write, making the database (and `.nself`) where there is none.

        With `create=False` it is opened to read: nothing is made, and a project without a journal gives an empty one.

        Args:
            project_root: the project's directory.
            create: whether this is for writing.
            now: the time of entries, RFC 3339.
            actor: who writes, for the audit trail: `user@host`.

        Raises:
            StateFileError: damaged, empty, another program's, from a newer version, or gone.
            NselfError: it can't be opened (disk full, not writable, busy).
        """
        path = Path(project_root, JOURNAL_FILE)
        if create:
            ensure_nself_dir(project_root)
        return cls(path, open_database(path, create), create, now, actor)

    def close(self) -> None:
        """Let go of the file; closing twice is fine."""
        if self._db is not None:
            try:
                if self._writable:
                    self.at_end(self)
            finally:
                with mapped(self.path, "close"):
                    self._db.close()
        self._db, self._closed = None, True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are one: durable when it ends, none of them when it raises. May be nested.

        Raises:
            NselfError: it could not be written; then nothing was.
        """
        if self._db is None or not self._writable:
            raise RuntimeError(f"{self.path} is not open for writing")
        if self._db.in_transaction:
            yield
            return
        self._still_there()
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            self._take_back()
            raise
        self.audit.anchor()
        self._still_there()

    def _take_back(self) -> None:
        """Roll back; SQLite has done so itself after some errors."""
        self.audit.forget()
        if self._db is not None and self._db.in_transaction:
            self._execute("ROLLBACK")

    def _still_there(self) -> None:
        """SQLite goes on writing to a file that was removed or replaced; nobody would ever read it."""
        if identity(self.path) != self._identity:
            raise StateFileError("was removed or replaced while in use.", RESTORE, where=str(self.path))

    # Runs.

    def begin(self, run: Run, slots: Mapping[Slot, SlotRecord] | None = None) -> None:
        """A new run and the slots that it takes, in one transaction; durable when it returns.

        Raises:
            ValueError: there is a run with this id.
        """
        with self.transaction():
            self.audit.begin(run)
            if self._rows("SELECT 1 FROM runs WHERE run_id = ?", run.id):
                raise ValueError(f"run {run.id} has begun already")
            self._execute(
                "INSERT INTO runs (run_id, kind, started_at, updated_at, state, document) VALUES (?, ?, ?, ?, ?, ?)",
                *(run.id, run.plan.kind.value, run.started_at, self._now(), state_of(run).value, _json(run)),
            )
            self.set_slots(slots or {})
            self.at_run(self, run)
        self._begun.add(run.id)

    def record(
        self,
        run: Run,
        kind: EntryKind | str,
        step: str,
        detail: str = "",
        *,
        slots: Mapping[Slot, SlotRecord] | None = None,
    ) -> int:
        """The run as it is now, one entry (`intent`, `outcome`, `note`) and the slots given, in one transaction.

        An intent carries the effect of the step under way. Returns the entry's number.

        Raises:
            ValueError: the run never began, or no such kind.
        """
        kind = EntryKind(kind)
        current = run.current() if kind is EntryKind.INTENT else None
        effect = _json(current.effect) if current is not None else ""
        with self.transaction():
            changed = self._execute(
                "UPDATE runs SET updated_at = ?, state = ?, document = ? WHERE run_id = ?",
                *(self._now(), state_of(run).value, _json(run), run.id),
            )
            if changed != 1:
                raise ValueError(f"run {run.id} never began")
            ((seq,),) = self._rows("SELECT coalesce(max(seq), 0) + 1 FROM journal_entries WHERE run_id = ?", run.id)
            self._execute(
                "INSERT INTO journal_entries (run_id, seq, at, kind, step, effect, detail) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                *(run.id, seq, self._now(), kind.value, step, effect, detail),
            )
            self.set_slots(slots or {})
            trigger = Trigger.COMMAND if run.id in self._begun else Trigger.RECOVERY
            for event in run_events(run, self._now(), trigger, outcome=kind is EntryKind.OUTCOME, number=int(seq)):
                self.audit.add(event)
            if run.ended:
                self.at_run(self, run)
        return int(seq)

    def finish(self, run: Run, slots: Mapping[Slot, SlotRecord] | None = None) -> None:
        """The run's end, with the slots as they are now, in one transaction."""
        self.record(run, EntryKind.NOTE, "", run.outcome.value if run.outcome else "", slots=slots)

    def unfinished(self) -> Run | None:
        """The run that was interrupted, if there is one (the newest)."""
        found = self.all_unfinished()
        return found[-1] if found else None

    def all_unfinished(self) -> list[Run]:
        """Runs that have not ended, oldest first."""
        rows = self._rows("SELECT run_id, document FROM runs WHERE state IN ('running', 'parked') ORDER BY number")
        return [self._decoded(text, Run, f"run {run_id}") for run_id, text in rows]

    def run(self, run_id: str) -> Run | None:
        """One run."""
        rows = self._rows("SELECT document FROM runs WHERE run_id = ?", run_id)
        return self._decoded(rows[0][0], Run, f"run {run_id}") if rows else None

    def ended(self, run_id: str) -> bool:
        """Whether one run has ended, as it is now; False for one that is not there."""
        return bool(self._rows("SELECT 1 FROM runs WHERE run_id = ? AND state NOT IN ('running', 'parked')", run_id))

    def last_target(self) -> str | None:
        """The environment of the last deploy that was done; None when there was none."""
        words = "SELECT run_id, document FROM runs WHERE kind = ? AND state = ? ORDER BY number DESC LIMIT 1"
        rows = self._rows(words, Kind.DEPLOY.value, RunState.DONE.value)
        return self._decoded(rows[0][1], RunTarget, f"run {rows[0][0]}").plan.target if rows else None

    def history(self, limit: int = 20) -> list[Run]:
        """Runs, newest first."""
        rows = self._rows("SELECT run_id, document FROM runs ORDER BY number DESC LIMIT ?", max(limit, 0))
        return [self._decoded(text, Run, f"run {run_id}") for run_id, text in rows]

    def entries(self, run_id: str) -> list[Entry]:
        """The journal of one run, in order."""
        rows = self._rows(
            "SELECT seq, at, kind, step, effect, detail FROM journal_entries WHERE run_id = ? ORDER BY seq", run_id
        )
        with self._readable(f"run {run_id}"):
            return [Entry(seq, at, EntryKind(kind), *rest) for seq, at, kind, *rest in rows]

    def add_event(self, event: AuditEvent) -> AuditEvent:
        """Add to the audit trail; an event whose id is there already is not added again. Returns it as stored."""
        with self.transaction():
            return self.audit.add(event)

    def events(self, limit: int = 20) -> list[AuditEvent]:
        """The audit trail, newest first."""
        return self.audit.events(limit)

    # Releases.

    def save_release(self, release: Release) -> None:
        """Keep a release's record; the same one again changes nothing.

        Raises:
            ValueError: another release has this id.
        """
        with self.transaction():
            known = self.release(release.id)
            if known == release:
                return
            if known is not None:
                raise ValueError(f"release {release.id} is on record with other content")
            self._execute(
                "INSERT INTO releases (id, fingerprint, created_at, record) VALUES (?, ?, ?, ?)",
                *(release.id, release.fingerprint, release.created_at, _json(release)),
            )

    def release(self, release_id: str) -> Release | None:
        """A release by id."""
        return self._first_release("SELECT id, record FROM releases WHERE id = ?", release_id)

    def release_by_fingerprint(self, fingerprint: str) -> Release | None:
        """The newest release with this content."""
        return self._first_release(
            "SELECT id, record FROM releases WHERE fingerprint = ? ORDER BY number DESC LIMIT 1", fingerprint
        )

    def releases(self, limit: int = 100) -> list[Release]:
        """Releases, newest first."""
        rows = self._rows("SELECT id, record FROM releases ORDER BY number DESC LIMIT ?", max(limit, 0))
        return [self._decoded(text, Release, f"release {name}") for name, text in rows]

    def forget_release(self, release_id: str) -> None:
        """Forget a release, and which of its jobs ran; one that is not there is fine."""
        jobs = f"job-done:{release_id}:"
        with self.transaction():
            self._execute("DELETE FROM releases WHERE id = ?", release_id)
            self._execute("DELETE FROM meta WHERE substr(key, 1, ?) = ?", len(jobs), jobs)

    def _first_release(self, sql: str, value: str) -> Release | None:
        rows = self._rows(sql, value)
        return self._decoded(rows[0][1], Release, f"release {rows[0][0]}") if rows else None

    # Slots, addresses, words.

    def slots(self) -> dict[Slot, SlotRecord]:
        """What is in each slot; slots that nothing was recorded for are missing."""
        rows = self._rows("SELECT slot, release_id, role, since, standby_until FROM slots ORDER BY slot")
        with self._readable("the slots"):
            return {
                Slot(slot): SlotRecord(release, SlotRole(role), since, until)
                for slot, release, role, since, until in rows
            }

    def set_slots(self, slots: Mapping[Slot, SlotRecord]) -> None:
        """Record the slots given; others stay."""
        insert = "INSERT OR REPLACE INTO slots (slot, release_id, role, since, standby_until) VALUES (?, ?, ?, ?, ?)"
        with self.transaction():
            for slot, known in slots.items():
                self._execute(insert, slot.value, known.release, known.role.value, known.since, known.until)

    def addresses(self) -> Addresses:
        """(network, service, replica) -> host number."""
        rows = self._rows("SELECT network, service, replica, host FROM addresses ORDER BY network, service, replica")
        return {(network, service, replica): host for network, service, replica, host in rows}

    def save_addresses(self, addresses: Mapping[tuple[str, str, int], int]) -> None:
        """Replace all host numbers by these.

        Raises:
            ValueError: two services of one network have the same number.
        """
        if len({(key[0], host) for key, host in addresses.items()}) != len(addresses):
            raise ValueError("two services of one network have the same address")
        insert = "INSERT INTO addresses (network, service, replica, host) VALUES (?, ?, ?, ?)"
        with self.transaction():
            self._execute("DELETE FROM addresses")
            for (network, service, replica), host in addresses.items():
                self._execute(insert, network, service, replica, host)

    def meta(self, key: str) -> str:
        """A remembered word, empty when there is none."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else ""

    def set_meta(self, key: str, value: str) -> None:
        """Remember a word; an empty one is forgotten."""
        with self.transaction():
            self._execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", key, value)
            self._execute("DELETE FROM meta WHERE key = ? AND value = ''", key)

    # The database.

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        if self._closed:
            raise RuntimeError(f"{self.path} is closed")
        if self._db is None:
            return []
        with mapped(self.path, "read"):
            return self._db.execute(sql, values).fetchall()

    def _execute(self, sql: str, *values: object) -> int:
        """Rows changed."""
        if self._db is None:
            raise RuntimeError(f"{self.path} is not open")
        with mapped(self.path, "write"):
            return self._db.execute(sql, values).rowcount

    def _decoded(self, text: str, kind: type[T], what: str) -> T:
        with self._readable(what):
            return msgspec.json.decode(text, type=kind)

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, RecursionError) as error:  # msgspec's errors are ValueErrors
            message = f"the record of {what} can't be read: {error}."
            raise StateFileError(message, RESTORE, where=str(self.path)) from error


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


__all__ = ["JOURNAL_FILE", "Addresses", "Entry", "EntryKind", "Journal", "RunState"]
