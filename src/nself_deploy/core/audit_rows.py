"""What is sent of an event: a row of the table `np_auditlog_events`, or the body of a webhook (no I/O).

Both are made of the record alone, so that an event that is sent twice is the same both times. The record's document
goes along as it is stored: whoever has it can check the chain of hashes without us.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nself_deploy.core.audit import (
    LOCK_TAKE_OVER,
    MIGRATION_OVERRIDE,
    PROMOTION,
    AuditEvent,
    Record,
    Trigger,
    exported,
    opened,
)

BODY_LIMIT = 256 * 1024
"""Bytes of a webhook's body. A larger event is sent without its details."""

_OWN = ("breaker-closed", "breaker-opened", "breaker-trial", LOCK_TAKE_OVER)
"""Types of events that nobody asked for: the program found it had to."""
_WARNINGS = (
    "breaker-opened", "breaker-reset", "denied-attempt", LOCK_TAKE_OVER, MIGRATION_OVERRIDE,
    "sink-changed", "sink-removed",
)  # fmt: skip
_SENT_APART = ("actor", "event_type", "id", "service", "timestamp")
"""Fields that have a column of their own."""


class Row(msgspec.Struct, frozen=True):
    """One row of the table, as text; the columns that are left out stay null."""

    id: str
    source_account_id: str
    actor_user_id: str
    actor_type: str
    event_type: str
    resource_type: str
    resource_id: str
    metadata: str
    """JSON."""
    severity: str
    created_at: str
    source_plugin: str


def row(record: Record, account: str) -> Row:
    """The row of an event.

    Raises:
        ValueError: the record can't be read.
    """
    event = opened(record)
    return Row(
        id=_plain(event.id),
        source_account_id=account,
        actor_user_id=_plain(event.actor),
        actor_type=actor_type(event),
        event_type=_plain(event.event_type),
        resource_type="service",
        resource_id=_plain(event.service),
        metadata=msgspec.json.encode(_metadata(event, record), order="sorted").decode(),
        severity=severity(event),
        created_at=event.timestamp,
        source_plugin="deploy",
    )


def severity(event: AuditEvent) -> str:
    """`info`, `warning` or `critical`."""
    if event.outcome == "failed":
        return "critical"
    unproved = event.event_type == PROMOTION and event.metadata.get("proved") is False
    done = event.outcome == "done"
    return "warning" if not done or unproved or event.event_type in _WARNINGS else "info"


def actor_type(event: AuditEvent) -> str:
    """`user`, or `system` when the program did it by itself."""
    own = event.triggered_by == Trigger.RECOVERY.value or event.event_type in _OWN
    return "system" if own else "user"


def body(record: Record) -> bytes:
    """The body of a webhook: the line of an export; one that is too large has no metadata, and says `"cut": true`.

    Raises:
        ValueError: the record can't be read.
    """
    text = exported(record).encode()
    if len(text) <= BODY_LIMIT:
        return text
    fields = msgspec.json.decode(text, type=dict[str, Any])
    return msgspec.json.encode(fields | {"metadata": {}, "cut": True}, order="sorted")


def _metadata(event: AuditEvent, record: Record) -> dict[str, Any]:
    """Everything that has no column. Its document is text, so that its hash can be worked out from it."""
    fields = {k: v for k, v in msgspec.structs.asdict(event).items() if k not in (*_SENT_APART, "metadata")}
    return {**_cleaned(fields), "details": _cleaned(event.metadata), "document": record.document}


def _cleaned(fields: dict[str, Any]) -> dict[str, Any]:
    return {_plain(name): _clean(value) for name, value in fields.items()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _plain(value)
    return [_plain(line) for line in value] if isinstance(value, list) else value


def _plain(text: str) -> str:
    """Without the one character that PostgreSQL can't keep."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
