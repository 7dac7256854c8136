"""What guards rollbacks, in the journal's database: deploy keys, failed attempts with them, circuit breakers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from nself_deploy.adapters.journal_schema import RESTORE
from nself_deploy.core.attempts import SOURCES_LIMIT, Overall, Source
from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.breaker import Breaker, Rules
from nself_deploy.core.deploy_keys import DeployKey
from nself_deploy.errors import StateFileError

_RULES = "breaker-rules"
"""The rules' key in the journal's words."""

_ALL = ""
"""The row of all sources together; a source has a name."""

T = TypeVar("T")


class Guards:
    """The guards of one open journal."""

    def __init__(
        self,
        path: Path,
        rows: Callable[..., list[tuple[Any, ...]]],
        execute: Callable[..., int],
        transaction: Callable[[], AbstractContextManager[None]],
        add_event: Callable[[AuditEvent], AuditEvent],
    ) -> None:
        """The guards in the database at `path`, that is read and written as the journal does."""
        self._path = path
        self._rows, self._execute, self._begin = rows, execute, transaction
        self.add_event = add_event

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """All writes inside are one; may stand inside another.

        Without `durable` it is not waited until they are on the disk: a power cut may take the newest ones back, in
        their order. For what may be lost only, and not inside another transaction.
        """
        if durable:
            with self._begin():
                yield
            return
        self._execute("PRAGMA synchronous = NORMAL")
        try:
            with self._begin():
                yield
        finally:
            self._execute("PRAGMA synchronous = FULL")

    # Keys.

    def deploy_keys(self) -> list[DeployKey]:
        """All keys, oldest first."""
        rows = self._rows("SELECT id, record FROM deploy_keys ORDER BY number")
        return [self._decoded(text, DeployKey, f"deploy key {name}") for name, text in rows]

    def save_key(self, key: DeployKey) -> None:
        """Keep a key, in the place of the one with its id."""
        with self._begin():
            self._execute(
                "INSERT INTO deploy_keys (id, record) VALUES (?, ?) "
                "ON CONFLICT (id) DO UPDATE SET record = excluded.record",
                key.id,
                _json(key),
            )

    def forget_key(self, key_id: str) -> None:
        """Remove a key."""
        with self._begin():
            self._execute("DELETE FROM deploy_keys WHERE id = ?", key_id)

    # Attempts.

    def attempts_from(self, source: str) -> Source | None:
        """What is remembered of a source."""
        return self._attempts(source or "-", Source)

    def attempts_overall(self) -> Overall | None:
        """What is remembered of all sources together."""
        return self._attempts(_ALL, Overall)

    def _attempts(self, name: str, kind: type[T]) -> T | None:
        rows = self._rows("SELECT record FROM key_attempts WHERE source = ?", name)
        return self._decoded(rows[0][0], kind, f"attempts from {name or 'all sources'}") if rows else None

    def save_attempts(self, source: Source, overall: Overall) -> None:
        """Remember both; beyond a limit, sources that no good key came from are forgotten, the oldest first."""
        with self._begin():
            is_new = self.attempts_from(source.name) is None
            self._save(source.name or "-", source.bucket.at.at, bool(source.proved_at), _json(source))
            self.save_overall(overall)
            if is_new:
                self._execute(
                    "DELETE FROM key_attempts WHERE source IN (SELECT source FROM key_attempts WHERE source <> ? "
                    "ORDER BY proved DESC, at DESC LIMIT -1 OFFSET ?)",
                    _ALL,
                    SOURCES_LIMIT,
                )

    def save_overall(self, overall: Overall) -> None:
        """Remember what is about all sources."""
        self._save(_ALL, overall.bucket.at.at, False, _json(overall))

    def _save(self, name: str, at: str, proved: bool, record: str) -> None:
        with self._begin():
            self._execute(
                "INSERT OR REPLACE INTO key_attempts (source, at, proved, record) VALUES (?, ?, ?, ?)",
                name,
                at,
                int(proved),
                record,
            )

    # Breakers.

    def breaker(self, environment: str, service: str) -> Breaker | None:
        """One of them."""
        rows = self._rows("SELECT record FROM breakers WHERE environment = ? AND service = ?", environment, service)
        return self._decoded(rows[0][0], Breaker, f"the breaker of {service}") if rows else None

    def breakers(self) -> list[Breaker]:
        """All that are remembered, by environment and service."""
        rows = self._rows("SELECT service, record FROM breakers ORDER BY environment, service")
        return [self._decoded(text, Breaker, f"the breaker of {service}") for service, text in rows]

    def save_breaker(self, breaker: Breaker) -> None:
        """Remember one."""
        with self._begin():
            self._execute(
                "INSERT OR REPLACE INTO breakers (environment, service, record) VALUES (?, ?, ?)",
                breaker.environment,
                breaker.service,
                _json(breaker),
            )

    def rules(self) -> Rules | None:
        """The rules of the project's breakers, None while nobody has told them."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", _RULES)
        return self._decoded(rows[0][0], Rules, "the breakers' rules") if rows else None

    def keep_rules(self, rules: Rules) -> None:
        """Remember the rules, if they are not those in force."""
        if rules != (self.rules() or Rules()):
            with self._begin():
                self._execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", _RULES, _json(rules))

    def _decoded(self, text: str, kind: type[T], what: str) -> T:
        try:
            return msgspec.json.decode(text, type=kind)
        except (ValueError, TypeError, RecursionError) as error:
            message = f"the record of {what} can't be read: {error}."
            raise StateFileError(message, RESTORE, where=str(self._path)) from error


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
