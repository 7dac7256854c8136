"""The audit trail: what was done, by whom, how it ended; each event carries the hash of the one before it (no I/O).

A record's hash is the sha256 of its document as stored, and the document holds its own number, its id and the hash of
the record before it. So a record that was changed, removed or moved breaks the chain, and one that is missing at the
end is missed by the head, which is kept in two places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from nself_deploy.core.machine import Outcome, Parking, Phase, Run
from nself_deploy.core.times import seconds_between

NOTHING_BEFORE = "0" * 64
"""The hash before the first event."""

TEXT_LIMIT = 2000
"""Characters of a text that are kept."""

LIST_LIMIT = 200

Detail = str | int | bool | list[str]


LOCK_TAKE_OVER = "lock-take-over"
"""Type of the event that the lock of an owner who is gone was taken. A run's end is called like its kind."""
PROMOTION = "promote"
"""Type of the event that a person moved a canary on."""
MIGRATION_OVERRIDE = "migration-override"
"""Type of the event that somebody went on with migrations that break a release."""
PAUSE = "pause"
"""Type of the event that a run began to wait for a person."""
ABORT = "abort"
"""Type of the event that a person asked to turn a run back, told with the run's end."""


class Trigger(StrEnum):
    """What set an event off."""

    COMMAND = "command"
    RECOVERY = "recovery"
    """The run's own process died; another one ended it."""


class AuditEvent(msgspec.Struct, frozen=True):
    """One event. `id`, `number`, `actor`, `timestamp` and the hashes are given to it when it is stored."""

    event_type: str
    environment: str
    """local, staging, prod."""
    outcome: str
    service: str = ""
    """Empty when it was about all of the project's services."""
    reason: str = ""
    """Why it was done, or why it was stopped."""
    prior_version: str = ""
    """Release id that was live before."""
    error: str = ""
    triggered_by: str = Trigger.COMMAND.value
    actor: str = ""
    """Who: `user@host`."""
    timestamp: str = ""
    metadata: dict[str, Detail] = {}
    id: str = ""
    """The same id is stored once only; without one it gets one of its own."""
    number: int = 0
    """Counts from 1 without gaps."""
    previous_hash: str = ""
    hash: str = ""


class Record(msgspec.Struct, frozen=True):
    """An event as it is stored."""

    number: int
    id: str
    hash: str
    document: str
    """The event as JSON (sorted keys, no spaces), all but its hash."""


class Anchor(msgspec.Struct, frozen=True):
    """How far the trail went, kept outside of the database; `Anchor()` when there is no event."""

    count: int = 0
    """Negative when the anchor can't be read."""
    hash: str = NOTHING_BEFORE


class Head(msgspec.Struct, frozen=True):
    """How far the trail goes, kept beside the events."""

    count: int = 0
    hash: str = NOTHING_BEFORE
    before: int = 0
    """The count before the newest transaction: the anchor is written after it, so a crash may leave it there."""


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong with the trail."""

    number: int
    """Of the event; 0 when it is about the trail as a whole."""
    what: str

    @property
    def words(self) -> str:
        """For people."""
        return f"event {self.number} {self.what}" if self.number else self.what


class Report(msgspec.Struct, frozen=True):
    """What a check of the trail found."""

    events: int
    """How many there are."""
    newest: str
    """Hash of the newest one."""
    findings: tuple[Finding, ...] = ()
    """All that is wrong; empty when the trail is whole."""


def run_ended(run: Run, now: str, trigger: Trigger) -> AuditEvent:
    """The one event of a run's end; made twice, it has the same id."""
    plan, steps = run.plan, [f"{s.name}: {s.status.value}" for s in run.steps]
    message = run.failure.message if run.failure else ""
    return AuditEvent(
        event_type=plan.kind.value,
        environment=plan.target,
        outcome=run.outcome.value if run.outcome else "",
        service=plan.cause.service,
        reason=message if run.outcome is Outcome.INTERRUPTED else plan.cause.reason,
        prior_version=plan.previous_release,
        error=message if run.outcome is Outcome.FAILED else "",
        triggered_by=trigger.value,
        metadata={
            "run": run.id,
            "project": plan.project,
            "release": plan.release,
            "strategy": plan.strategy.value,
            "candidate": plan.candidate.value if plan.candidate else "",
            "rolled_back": run.rolled_back,
            "duration_ms": max(round(seconds_between(run.started_at, now) * 1000), 0),
            "steps": steps,
            **({"key": plan.cause.key} if plan.cause.key else {}),
            **({"evidence": list(plan.cause.evidence)} if plan.cause.evidence else {}),
        },
        id=event_id(run),
    )


def migrations_overridden(run: Run) -> AuditEvent | None:
    """The note that a run begins though its migrations break a release; None when it doesn't. Made twice, it is one."""
    plan = run.plan
    if not plan.override:
        return None
    return AuditEvent(
        event_type=MIGRATION_OVERRIDE,
        environment=plan.target,
        outcome="done",
        service=plan.cause.service,
        reason=plan.cause.reason,
        prior_version=plan.previous_release,
        metadata={
            "run": run.id,
            "kind": plan.kind.value,
            "project": plan.project,
            "release": plan.release,
            "breaks": list(plan.override),
        },
        id=f"{run.id}-{MIGRATION_OVERRIDE}",
    )


def run_events(run: Run, now: str, trigger: Trigger, *, outcome: bool, number: int) -> tuple[AuditEvent, ...]:
    """What belongs into the trail with one entry of a run's journal; made twice, they have the same ids.

    Args:
        run: as it is with the entry.
        now: UTC, RFC 3339.
        trigger: what ends it, if it has ended.
        outcome: whether the entry tells how an effect ended.
        number: of the entry.
    """
    if run.ended:
        end = run_ended(run, now, trigger)
        return (_aborted(run), end) if run.aborted_by else (end,)
    if outcome and run.phase is Phase.PARKED and run.parking is not None:
        return (parked(run, run.parking, f"{run.id}-{PAUSE}-{number}"),)
    return ()


def parked(run: Run, parking: Parking, id_: str = "") -> AuditEvent:
    """A note that a canary waits for a person, and why."""
    return AuditEvent(
        event_type=PAUSE,
        environment=run.plan.target,
        outcome="done",
        service=run.plan.cause.service,
        reason=parking.reason,
        prior_version=run.plan.previous_release,
        metadata={
            "run": run.id,
            "release": run.plan.release,
            "percent": run.percent,
            "verdict": parking.verdict,
            "evidence": list(parking.evidence),
        },
        id=id_,
    )


def _aborted(run: Run) -> AuditEvent:
    refused = run.outcome is Outcome.DONE
    return AuditEvent(
        event_type=ABORT,
        environment=run.plan.target,
        outcome="refused" if refused else "done",
        service=run.plan.cause.service,
        reason="it had proved itself under traffic already, so it was finished" if refused else "",
        prior_version=run.plan.previous_release,
        metadata={"run": run.id, "release": run.plan.release, "by": run.aborted_by},
        id=f"{run.id}-{ABORT}",
    )


def event_id(run: Run) -> str:
    """The id of the one event of a run's end."""
    return f"{run.id}-{run.plan.kind.value}"


def promoted(run: Run, by: str, reason: str, evidence: Sequence[str]) -> AuditEvent:
    """A note that a person moved a canary on.

    Args:
        run: the canary.
        by: who asked.
        reason: why it may go on without proof; empty when there was proof.
        evidence: what was known of it.
    """
    return AuditEvent(
        event_type=PROMOTION,
        environment=run.plan.target,
        outcome="done",
        reason=reason,
        prior_version=run.plan.previous_release,
        metadata={
            "run": run.id,
            "release": run.plan.release,
            "by": by,
            "percent": run.percent,
            "proved": not reason,
            "evidence": list(evidence),
        },
    )


def lock_taken_over(environment: str, owner: str, purpose: str, since: str, reason: str) -> AuditEvent:
    """A note that the lock of an owner who is gone was taken.

    Args:
        environment: local, staging, prod.
        owner: who held it: user, host, process.
        purpose: what for.
        since: when it was taken.
        reason: how we know that the owner is gone.
    """
    return AuditEvent(
        event_type=LOCK_TAKE_OVER,
        environment=environment,
        outcome="done",
        reason=reason,
        metadata={"owner": owner, "purpose": purpose, "since": since},
    )


def seal(event: AuditEvent, number: int, previous_hash: str) -> Record:
    """The record of an event at its place in the chain. Its texts are cut to what is kept."""
    fields = msgspec.structs.asdict(event) | {"number": number, "previous_hash": previous_hash}
    del fields["hash"], fields["metadata"]
    details = {_text(name): _kept(value) for name, value in event.metadata.items()}
    kept = {name: _kept(value) for name, value in fields.items()} | {"metadata": details}
    document = msgspec.json.encode(kept, order="sorted").decode()
    return Record(number, str(kept["id"]), digest(document), document)


def opened(record: Record) -> AuditEvent:
    """The event of a record.

    Raises:
        ValueError: it holds none.
    """
    return msgspec.structs.replace(msgspec.json.decode(record.document, type=AuditEvent), hash=record.hash)


def exported(record: Record) -> str:
    """One line of JSON: the document as it is stored, and its hash.

    Raises:
        ValueError: the document can't be read.
    """
    fields = msgspec.json.decode(record.document, type=dict[str, Any])
    return msgspec.json.encode(fields | {"hash": record.hash}, order="sorted").decode()


def digest(document: str) -> str:
    """The hash of a document."""
    return hashlib.sha256(document.encode()).hexdigest()


def fits(anchor: Anchor, head: Head, hash_at: Callable[[int], str]) -> bool:
    """Whether the anchor is one that our own writers left, at the latest when they died before they wrote it again.

    Args:
        anchor: what is kept outside.
        head: what is kept beside the events.
        hash_at: the hash of the event with this number, empty when there is none; `NOTHING_BEFORE` for 0.
    """
    return head.before <= anchor.count <= head.count and hash_at(anchor.count) == anchor.hash


def verify(records: Sequence[Record], head: Head, anchor: Anchor, noted: Anchor | None = None) -> tuple[Finding, ...]:
    """Everything that is wrong with the trail; empty when it is whole.

    Args:
        records: the events, by number.
        head: what is kept beside them.
        anchor: what is kept outside.
        noted: an earlier end of the trail, if somebody noted one elsewhere.
    """
    hashes = {0: NOTHING_BEFORE} | {record.number: record.hash for record in records}
    findings = [*_chain(records)]
    newest = max(hashes)
    if head.count > newest:
        findings.append(Finding(newest + 1, f"is missing, with all after it: {head.count} were written."))
    elif head.count < newest:
        findings.append(Finding(head.count + 1, f"is more than was written: {head.count} were."))
    elif hashes[newest] != head.hash:
        findings.append(Finding(newest, "is not the one that was written last."))
    if not fits(anchor, head, lambda number: hashes.get(number, "")):
        findings.append(_misfit(anchor, head, hashes))
    if noted is not None and hashes.get(noted.count) != noted.hash:
        findings.append(Finding(noted.count, "is not the one that was noted."))
    return tuple(findings)


def _chain(records: Iterable[Record]) -> Iterable[Finding]:
    expected, before = 1, NOTHING_BEFORE
    for record in records:
        if record.number != expected:
            yield Finding(expected, "is missing.")
        what = _fault(record, before if record.number == expected else "")
        if what:
            yield Finding(record.number, what)
        expected, before = record.number + 1, record.hash


def _fault(record: Record, before: str) -> str:
    """What is wrong with one record; `before` is empty when the one before it is missing."""
    if digest(record.document) != record.hash:
        return "was changed after it was written."
    try:
        event = opened(record)
    except ValueError as error:
        return f"can't be read: {error}."
    if (event.number, event.id) != (record.number, record.id):
        return f"stands in the place of another: it was written as event {event.number} ({event.id})."
    if before and event.previous_hash != before:
        return "does not follow the event before it: one of the two was replaced."
    return ""


def _misfit(anchor: Anchor, head: Head, hashes: dict[int, str]) -> Finding:
    if anchor.count < 0:
        return Finding(0, "the anchor can't be read.")
    if anchor.count > max(hashes):
        what = f"is missing, with all after it: the anchor knows {anchor.count} events."
        return Finding(max(hashes) + 1, what)
    if anchor.count < head.before:
        what = f"the anchor knows {anchor.count} events only, of {head.count}: it was replaced or removed."
        return Finding(0, what)
    return Finding(anchor.count, "is not the one that the anchor knows.")


def _kept(value: Detail) -> Detail:
    """What is stored of a value: valid UTF-8, bounded."""
    if isinstance(value, str):
        return _text(value)
    return [_text(line) for line in value[:LIST_LIMIT]] if isinstance(value, list) else value


def _text(text: str) -> str:
    clean = text.encode("utf-8", "replace").decode()
    return clean if len(clean) <= TEXT_LIMIT else clean[:TEXT_LIMIT] + " [cut]"
