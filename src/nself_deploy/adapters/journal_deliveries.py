"""The outbox of the audit trail's delivery, in the journal's database: the events, and how far each sink is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from nself_deploy.adapters.journal_schema import RESTORE
from nself_deploy.core.audit import Record
from nself_deploy.core.audit_delivery import Progress, Sink
from nself_deploy.errors import StateFileError

_PROGRESS = "audit-delivery:"
"""The beginning of the keys of progress in the journal's words."""


class _Transaction(Protocol):
    def __call__(self, *, durable: bool = True) -> AbstractContextManager[None]: ...


class Deliveries:
    """The outbox of one open journal."""

    def __init__(
        self,
        path: Path,
        rows: Callable[..., list[tuple[Any, ...]]],
        execute: Callable[..., int],
        transaction: _Transaction,
    ) -> None:
        """The outbox in the database at `path`, that is read and written as the journal does."""
        self._path = path
        self._rows, self._execute, self._begin = rows, execute, transaction

    def last(self) -> int:
        """Number of the newest event; 0 when there is none."""
        ((last,),) = self._rows("SELECT coalesce(max(number), 0) FROM audit_events") or [(0,)]
        return int(last)

    def after(self, number: int, limit: int) -> list[Record]:
        """The events after one, oldest first, at most so many."""
        rows = self._rows(
            "SELECT number, id, hash, document FROM audit_events WHERE number > ? ORDER BY number LIMIT ?",
            number,
            limit,
        )
        return [Record(found, str(name), str(digest), str(text)) for found, name, digest, text in rows]

    def progress(self, sink: Sink) -> Progress:
        """How far a sink is.

        Raises:
            StateFileError: the record can't be read.
        """
        rows = self._rows("SELECT value FROM meta WHERE key = ?", _PROGRESS + sink.key)
        if not rows:
            return Progress()
        try:
            return msgspec.json.decode(rows[0][0], type=Progress)
        except (ValueError, TypeError) as error:
            what = f"the record of how far the sink {sink.name} is can't be read: {error}."
            raise StateFileError(what, RESTORE, where=str(self._path)) from error

    def save(self, sink: Sink, progress: Progress) -> None:
        """Note how far a sink is. A power cut may take it back, for what was sent may be sent again."""
        value = msgspec.json.encode(progress).decode()
        with self._begin(durable=False):
            self._execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", _PROGRESS + sink.key, value)
