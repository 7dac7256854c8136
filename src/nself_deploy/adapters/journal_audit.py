"""The audit trail in the journal's database, and its anchor, the small file `.nself/audit.head` (0600) beside it.

Events are written in the transaction of what they tell about. The head (count, hash of the newest) is in the same
transaction; the anchor is written after it, under the database's write lock: it never leads, and after a crash it
lags by the newest transaction at most, which the next writer makes good before it adds anything. An anchor that does
not fit is evidence, and never overwritten.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from nself_deploy.adapters.durable_files import read_bounded, write_atomic
from nself_deploy.adapters.journal_schema import ANCHOR_FILE, RESTORE, as_migrated
from nself_deploy.core.audit import (
    NOTHING_BEFORE,
    Anchor,
    AuditEvent,
    Finding,
    Head,
    Record,
    Report,
    fits,
    migrations_overridden,
    opened,
    seal,
    verify,
)
from nself_deploy.core.machine import Run
from nself_deploy.errors import InfrastructureError, NselfError, StateFileError

_HEAD = "audit"
"""The head's key in the journal's words."""

_UNREADABLE = Anchor(-1, "")
"""An anchor that fits no trail."""

_TRIES = 50
_VERIFY = "Run nself deploy audit verify to see what is wrong, and restore .nself from a backup."


Rows = Callable[..., list[tuple[Any, ...]]]
"""(SQL, values) -> all rows; none without a database."""

Execute = Callable[..., int]
"""(SQL, values) -> rows changed."""


class AuditTrail:
    """The events of one open journal."""

    def __init__(self, path: Path, rows: Rows, execute: Execute, now: Callable[[], str], actor: str) -> None:
        """The trail in the database at `path`, that is read and written as the journal does; `actor` is who writes."""
        self._path = path
        self._anchor_path = path.with_name(ANCHOR_FILE)
        self._rows, self._execute = rows, execute
        self._now = now
        self._actor = actor
        self._added = False

    def add(self, event: AuditEvent) -> AuditEvent:
        """Write an event (inside a transaction); one whose id is there already is not written again.

        Returns the event as it is stored.

        Raises:
            StateFileError: the record of the trail's end can't be read.
            NselfError: the anchor of earlier events is missing and can't be written.
        """
        known = self.event(event.id) if event.id else None
        if known is not None:
            return known
        head = self.head()
        if not self._added:
            self._catch_up(head)
            head = Head(head.count, head.hash, head.count)
        ((last,),) = self._rows("SELECT coalesce(max(number), 0) FROM audit_events")
        number = max(head.count, last) + 1
        record = seal(
            msgspec.structs.replace(
                event,
                id=event.id or f"{event.event_type}-{secrets.token_hex(8)}",
                timestamp=event.timestamp or self._now(),
                actor=event.actor or self._actor,
            ),
            number,
            head.hash,
        )
        self._execute(
            "INSERT INTO audit_events (number, id, hash, document) VALUES (?, ?, ?, ?)",
            record.number,
            record.id,
            record.hash,
            record.document,
        )
        self._write_head(Head(number, record.hash, head.before))
        self._added = True
        return opened(record)

    def check(self) -> None:
        """Meet now, before a run begins (inside a transaction), what would stop it at its end.

        Raises:
            NselfError: no event could be written.
        """
        self._catch_up(self.head())
        self._records("LIMIT 1")

    def begin(self, run: Run) -> None:
        """What is written when a run begins, in its transaction. Raises like `check`."""
        self.check()
        event = migrations_overridden(run)
        if event is not None:
            self.add(event)

    def forget(self) -> None:
        """A transaction was taken back."""
        self._added = False

    def anchor(self) -> None:
        """A transaction was committed: what it added is anchored.

        A failure is no error, for the events are written: the next writer makes it good before it adds any.
        """
        added, self._added = self._added, False
        if not added:
            return
        with contextlib.suppress(NselfError):
            self._execute("BEGIN IMMEDIATE")  # nobody writes events meanwhile
            try:
                self._catch_up(self.head())
            finally:
                self._execute("ROLLBACK")

    def head(self) -> Head:
        """How far the trail goes.

        Raises:
            StateFileError: it can't be read.
        """
        rows = self._rows("SELECT value FROM meta WHERE key = ?", _HEAD)
        return self._decoded_head(rows[0][0] if rows else None)

    def _decoded_head(self, value: str | None) -> Head:
        try:
            return Head() if value is None else msgspec.json.decode(value, type=Head)
        except (ValueError, TypeError) as error:
            what = f"the record of the audit trail's end can't be read: {error}."
            raise StateFileError(what, RESTORE, where=str(self._path)) from error

    def event(self, event_id: str) -> AuditEvent | None:
        """One event by id."""
        found = self._records("WHERE id = ?", event_id)
        return self._opened(found[0]) if found else None

    def events(self, limit: int) -> list[AuditEvent]:
        """Events, newest first.

        Raises:
            StateFileError: one can't be read.
        """
        return [self._opened(r) for r in self._records("ORDER BY number DESC LIMIT ?", max(limit, 0))]

    def records(self) -> list[Record]:
        """All events as they are stored, oldest first."""
        return self._records("ORDER BY number")

    def verify(self, noted: Anchor | None = None) -> Report:
        """Check the whole trail, also against an earlier end of it that was noted elsewhere."""
        changed = self._changed_tables()
        if changed:
            return Report(0, "", changed)
        # The same anchor before and after is the one of what was read between.
        anchor = self._read_anchor()
        for _ in range(_TRIES):
            records, value = self._snapshot()
            before, anchor = anchor, self._read_anchor()
            if before == anchor:
                break
        else:
            raise InfrastructureError("is written to all the time.", "Try again later.", where=str(self._anchor_path))
        newest = records[-1].hash if records else NOTHING_BEFORE
        try:
            findings = verify(records, self._decoded_head(value), anchor, noted)
        except StateFileError as error:
            findings = (Finding(0, error.what),)
        return Report(len(records), newest, findings)

    def _changed_tables(self) -> tuple[Finding, ...]:
        """What is wrong with the table and the triggers that keep events from being changed."""
        names = "SELECT name, sql FROM sqlite_master WHERE tbl_name = 'audit_events' AND sql IS NOT NULL ORDER BY name"
        found: dict[str, str] = dict(self._rows(names))
        right: dict[str, str] = dict(as_migrated(names))
        wrong = sorted(name for name in found.keys() | right.keys() if found.get(name) != right.get(name))
        if not wrong or not self._rows("SELECT 1"):  # there is no database
            return ()
        return (Finding(0, f"was changed or removed in the database's schema: {', '.join(wrong)}."),)

    def _snapshot(self) -> tuple[list[Record], str | None]:
        """Events and the head's word as they were at one moment."""
        rows = self._rows(
            "SELECT number, id, hash, document, (SELECT value FROM meta WHERE key = ?) FROM audit_events "
            "UNION ALL SELECT NULL, '', '', '', (SELECT value FROM meta WHERE key = ?) ORDER BY 1",
            _HEAD,
            _HEAD,
        )
        records = [Record(n, str(name), str(digest), str(text)) for n, name, digest, text, _ in rows if n is not None]
        return records, rows[0][4] if rows else None

    def _records(self, rest: str, *values: object) -> list[Record]:
        rows = self._rows(f"SELECT number, id, hash, document FROM audit_events {rest}", *values)  # noqa: S608 - our own words
        return [Record(number, str(name), str(digest), str(text)) for number, name, digest, text in rows]

    def _opened(self, record: Record) -> AuditEvent:
        try:
            return opened(record)
        except ValueError as error:
            what = f"the record of audit event {record.number} can't be read: {error}."
            raise StateFileError(what, _VERIFY, where=str(self._path)) from error

    def _write_head(self, head: Head) -> None:
        value = msgspec.json.encode(head).decode()
        self._execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", _HEAD, value)

    def _catch_up(self, head: Head) -> None:
        """Let the anchor know the events up to the head, unless it is not one of ours."""
        anchor, wanted = self._read_anchor(), Anchor(head.count, head.hash)
        if anchor != wanted and fits(anchor, head, self._hash_at):
            write_atomic(self._anchor_path, msgspec.json.encode(wanted) + b"\n")

    def _hash_at(self, number: int) -> str:
        if number == 0:
            return NOTHING_BEFORE
        rows = self._rows("SELECT hash FROM audit_events WHERE number = ?", number)
        return str(rows[0][0]) if rows else ""

    def _read_anchor(self) -> Anchor:
        """What is kept outside; one that fits nothing when it is no anchor."""
        try:
            data = read_bounded(self._anchor_path)
            return Anchor() if data is None else msgspec.json.decode(data, type=Anchor)
        except (StateFileError, ValueError):
            return _UNREADABLE
