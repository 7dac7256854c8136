"""What is sent of an event: its row, and the body of a webhook."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core import audit
from nself_deploy.core.audit import AuditEvent, Record, seal
from nself_deploy.core.audit_delivery import Sink, SinkKind, sink_event
from nself_deploy.core.audit_rows import BODY_LIMIT, body, row
from nself_deploy.core.audit_table import COLUMNS

NOW = "2026-11-27T04:00:00.000Z"


def sealed(event: AuditEvent, number: int = 1, before: str = audit.NOTHING_BEFORE) -> Record:
    named = msgspec.structs.replace(event, id=event.id or "e-1", timestamp=NOW, actor=event.actor or "ada@one")
    return seal(named, number, before)


def test_a_deploy_is_a_row_about_a_service_and_the_rest_is_in_its_metadata() -> None:
    event = AuditEvent("rollback", "prod", "done", "web", "slo", "r1", metadata={"run": "x", "steps": ["a: done"]})
    record = sealed(event, 7, "b" * 64)
    made = row(record, "shop")
    metadata = json.loads(made.metadata)

    assert msgspec.structs.asdict(made) | {"metadata": ""} == {
        "id": "e-1",
        "source_account_id": "shop",
        "actor_user_id": "ada@one",
        "actor_type": "user",
        "event_type": "rollback",
        "resource_type": "service",
        "resource_id": "web",
        "metadata": "",
        "severity": "info",
        "created_at": NOW,
        "source_plugin": "deploy",
    }
    assert metadata == {
        "environment": "prod",
        "outcome": "done",
        "reason": "slo",
        "prior_version": "r1",
        "error": "",
        "triggered_by": "command",
        "number": 7,
        "previous_hash": "b" * 64,
        "hash": record.hash,
        "details": {"run": "x", "steps": ["a: done"]},
        "document": record.document,
    }
    assert set(made.__struct_fields__) <= set(COLUMNS)


@pytest.mark.parametrize(
    ("event", "severity", "actor_type"),
    [
        (AuditEvent("deploy", "prod", "done"), "info", "user"),
        (AuditEvent("deploy", "prod", "failed"), "critical", "user"),
        (AuditEvent("deploy", "prod", "interrupted", triggered_by="recovery"), "warning", "system"),
        (AuditEvent("denied-attempt", "prod", "denied"), "warning", "user"),
        (AuditEvent("denied-attempt", "", "summary"), "warning", "user"),
        (AuditEvent("breaker-opened", "prod", "done"), "warning", "system"),
        (AuditEvent("breaker-reset", "prod", "done"), "warning", "user"),
        (AuditEvent("key-created", "prod", "done"), "info", "user"),
        (AuditEvent("promote", "prod", "done", metadata={"proved": True}), "info", "user"),
        (AuditEvent("promote", "prod", "done", metadata={"proved": False}), "warning", "user"),
        (audit.lock_taken_over("prod", "bob", "deploy", "", "gone"), "warning", "system"),
        (sink_event("sink-removed", Sink("s", SinkKind.WEBHOOK, "https://a/b", "https://a")), "warning", "user"),
    ],
)
def test_severity_and_who_acted(event: AuditEvent, severity: str, actor_type: str) -> None:
    made = row(sealed(event), "primary")

    assert (made.severity, made.actor_type) == (severity, actor_type)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
EVENTS = st.builds(
    AuditEvent,
    event_type=TEXT,
    environment=TEXT,
    outcome=TEXT,
    service=TEXT,
    reason=TEXT,
    error=TEXT,
    actor=TEXT,
    metadata=st.dictionaries(TEXT, TEXT | st.integers(-(2**53), 2**53) | st.booleans() | st.lists(TEXT, max_size=3)),
)


@given(EVENTS, st.integers(1, 10**9))
def test_any_event_is_the_same_each_time_fits_a_table_and_proves_its_hash(event: AuditEvent, number: int) -> None:
    record = sealed(event, number)
    made = row(record, "primary")
    metadata = json.loads(made.metadata)
    sent = json.loads(body(record))

    assert made == row(record, "primary") and body(record) == body(record)
    assert not any("\0" in str(value) for value in msgspec.structs.asdict(made).values())
    assert "\\u0000" not in made.metadata.replace("\\\\", "")
    assert hashlib.sha256(metadata["document"].encode()).hexdigest() == metadata["hash"] == sent.pop("hash")
    assert json.loads(metadata["document"]) == sent


def test_a_body_that_is_too_large_goes_without_details_and_says_so() -> None:
    large = sealed(AuditEvent("deploy", "prod", "failed", metadata={f"m{n}": ["x" * 2000] * 20 for n in range(10)}))
    sent = body(large)

    assert len(large.document) > BODY_LIMIT > len(sent)
    assert json.loads(sent)["cut"] is True and json.loads(sent)["hash"] == large.hash
    assert json.loads(sent)["metadata"] == {}


def test_a_record_that_can_not_be_read_is_an_error() -> None:
    for make in (body, lambda record: row(record, "primary")):
        with pytest.raises(ValueError):
            make(Record(1, "e", "h", "{"))


def test_the_note_of_a_sink_has_nothing_secret() -> None:
    made = Sink("s", SinkKind.POSTGRES, "postgresql://a:secret@h/d", "a@h:5432/d", secret_file="/etc/s")
    event = sink_event("sink-added", made)

    assert "secret" not in str(event) and event.metadata["to"] == "a@h:5432/d"
