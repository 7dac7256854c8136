"""The delivery of the audit trail: where to, how far it is, when it is tried again (no I/O).

The trail itself is the outbox. Of each sink only one number is kept, the last event that is known to be there; all
after it wait. An event that was sent and not noted is sent again, and the sink knows it by its id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from nself_deploy.core.audit import AuditEvent, Record, digest, opened
from nself_deploy.core.times import seconds_between

ACCOUNT = "primary"
"""The source account of events when none is named."""
BATCH = 200
"""Events that are read, and sent to a table, at once."""
ERROR_CHARS = 500
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


class SinkKind(StrEnum):
    """What a sink is."""

    POSTGRES = "postgres"
    WEBHOOK = "webhook"


class Sink(msgspec.Struct, frozen=True):
    """A place that events are delivered to. It holds secrets: it is kept in a private file and never shown."""

    name: str
    kind: SinkKind
    address: str
    """The DSN or the URL."""
    to: str
    """The address for people, without what is secret in it."""
    account: str = ACCOUNT
    """`source_account_id` of its rows."""
    secret_file: str = ""
    """Absolute path of the file with the secret that a webhook's bodies are signed with; empty: not signed."""

    @property
    def key(self) -> str:
        """A word for the place itself: what is there stays there, under another password or name as well."""
        place = self.to if self.kind is SinkKind.POSTGRES else self.address
        return digest(f"{self.kind.value}\n{place}\n{self.account}")[:32]


class Progress(msgspec.Struct, frozen=True):
    """How far the delivery to one sink is."""

    number: int = 0
    """The last event that is known to be there; 0 when none is."""
    delivered_at: str = ""
    """When that was noted."""
    failed_at: str = ""
    """When it failed last; empty since it works again."""
    failures: int = 0
    """In a row."""
    error: str = ""
    """Why it failed last."""


class SinkLine(msgspec.Struct, frozen=True):
    """A sink as people and programs see it."""

    name: str
    kind: str
    to: str
    account: str
    delivered: int
    """Number of the last event that is there."""
    waiting: int
    """How many events wait."""
    since: str
    """When the oldest of them was written; empty when none waits."""
    delivered_at: str
    failures: int
    """Tries that failed since the last one that did not."""
    failed_at: str
    error: str


def check_name(name: str) -> bool:
    """Whether a sink may be called this."""
    return _NAME.fullmatch(name) is not None


def delivered(progress: Progress, records: Sequence[Record], now: str) -> Progress:
    """After these events, which follow what was there, have arrived.

    Raises:
        ValueError: one is missing between.
    """
    numbers = [record.number for record in records]
    if numbers != list(range(progress.number + 1, progress.number + 1 + len(records))):
        raise ValueError(f"events {numbers} do not follow event {progress.number}")
    return Progress(progress.number + len(records), now)


def failed(progress: Progress, error: str, now: str) -> Progress:
    """After a try that failed. What of it arrived is not known, and will be sent again."""
    text = " ".join(error.split())
    cut = text if len(text) <= ERROR_CHARS else text[:ERROR_CHARS] + " [cut]"
    return msgspec.structs.replace(progress, failed_at=now, failures=progress.failures + 1, error=cut)


def wait_s(failures: int) -> float:
    """Seconds until it is tried again after so many failures in a row."""
    return min(FIRST_WAIT_S * 2.0 ** min(max(failures - 1, 0), 16), LONGEST_WAIT_S)


def line(sink: Sink, progress: Progress, last: int, oldest: Record | None) -> SinkLine:
    """What is said of a sink.

    Args:
        sink: where to.
        progress: how far it is.
        last: number of the newest event.
        oldest: the first event that waits; None when none does.
    """
    return SinkLine(
        sink.name,
        sink.kind.value,
        sink.to,
        sink.account if sink.kind is SinkKind.POSTGRES else "",
        progress.number,
        max(last - progress.number, 0),
        opened(oldest).timestamp if oldest is not None else "",
        progress.delivered_at,
        progress.failures,
        progress.failed_at,
        progress.error,
    )


def waiting_words(found: SinkLine, now: str) -> str:
    """How much waits for a sink and why, for people; empty when nothing does."""
    if not found.waiting:
        return ""
    events = "1 event waits" if found.waiting == 1 else f"{found.waiting} events wait"
    age = max(round(seconds_between(found.since, now)), 0) if found.since else 0
    error = f": {found.error}" if found.error else ""
    return f"{events} for {found.name} ({found.to}) since {found.since}, {age} s{error}"


def sink_event(kind: str, sink: Sink) -> AuditEvent:
    """A note that a sink was added, changed or removed (`sink-added`, `sink-changed`, `sink-removed`)."""
    return AuditEvent(
        event_type=kind,
        environment="",
        outcome="done",
        reason=f"{sink.name}: {sink.kind.value} {sink.to}",
        metadata={"sink": sink.name, "kind": sink.kind.value, "to": sink.to, "signed": bool(sink.secret_file)},
    )
