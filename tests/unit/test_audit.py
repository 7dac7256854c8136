"""The chain of audit events: whatever is done to it is found, and nothing that was not done."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core import audit
from nself_deploy.core.audit import Anchor, AuditEvent, Head, Record, Trigger
from nself_deploy.core.machine import Done, Event, Failed, Failure, Interrupt, Park, Parking, Run, advance
from tests.unit.hardship import a_run

TEXTS = st.text(st.characters(), max_size=30)
EVENTS = st.builds(
    AuditEvent,
    event_type=TEXTS,
    environment=TEXTS,
    outcome=TEXTS,
    error=TEXTS,
    id=TEXTS,
    metadata=st.dictionaries(TEXTS, TEXTS | st.integers(-(2**53), 2**53) | st.booleans() | st.lists(TEXTS, max_size=3)),
)


def a_chain(events: list[AuditEvent]) -> list[Record]:
    before, records = audit.NOTHING_BEFORE, []
    for number, event in enumerate(events, 1):
        records.append(audit.seal(event, number, before))
        before = records[-1].hash
    return records


CHAINS = st.lists(EVENTS, min_size=1, max_size=8).map(a_chain)


def ends(records: list[Record]) -> tuple[Head, Anchor]:
    """What is kept about the end, when nothing was cut short."""
    last = records[-1].hash if records else audit.NOTHING_BEFORE
    return Head(len(records), last, max(len(records) - 1, 0)), Anchor(len(records), last)


def sealed_anew(records: list[Record], start: int) -> list[Record]:
    """The chain as somebody makes it who can compute hashes, from an index on."""
    made = records[:start]
    for record in records[start:]:
        before = made[-1].hash if made else audit.NOTHING_BEFORE
        made.append(audit.seal(audit.opened(record), len(made) + 1, before))
    return made


@given(CHAINS)
def test_a_chain_is_whole_and_says_what_was_put_in(records: list[Record]) -> None:
    assert audit.verify(records, *ends(records)) == ()
    assert [audit.opened(r).number for r in records] == list(range(1, len(records) + 1))
    assert [audit.opened(r).hash for r in records] == [r.hash for r in records]


def test_an_empty_trail_is_whole() -> None:
    assert audit.verify([], Head(), Anchor()) == ()


@given(CHAINS, st.data())
def test_an_anchor_may_lag_by_the_newest_transaction_and_no_more(records: list[Record], data: st.DataObject) -> None:
    before = data.draw(st.integers(0, len(records) - 1))
    head = Head(len(records), records[-1].hash, before)
    for count in range(len(records) + 1):
        anchor = Anchor(count, records[count - 1].hash if count else audit.NOTHING_BEFORE)
        assert (audit.verify(records, head, anchor) == ()) is (count >= before)


@given(CHAINS, st.data())
def test_a_changed_event_is_named(records: list[Record], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(records) - 1))
    place = data.draw(st.integers(0, len(records[at].document) - 1))
    old = records[at].document
    new = old[:place] + data.draw(st.characters(codec="utf-8").filter(lambda c: c != old[place])) + old[place + 1 :]
    changed = [*records]
    changed[at] = msgspec.structs.replace(records[at], document=new)

    assert audit.verify(changed, *ends(records))[0] == audit.Finding(at + 1, "was changed after it was written.")


@given(CHAINS, st.data())
def test_removed_events_are_named(records: list[Record], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(records) - 1))
    end = data.draw(st.integers(start + 1, len(records)))
    found = audit.verify(records[:start] + records[end:], *ends(records))

    assert found[0].number == start + 1
    assert found[0].what.startswith("is missing")


@given(CHAINS, st.data(), st.booleans())
def test_events_that_changed_places_are_found(records: list[Record], data: st.DataObject, numbers_too: bool) -> None:
    order = data.draw(st.permutations(records).filter(lambda other: other != records))
    if numbers_too:
        order = [msgspec.structs.replace(r, number=n) for n, r in enumerate(order, 1)]

    assert audit.verify(order, *ends(records))


@given(CHAINS, st.data())
def test_who_computes_the_hashes_anew_is_betrayed_by_the_anchor(records: list[Record], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(records) - 1))
    event = msgspec.structs.replace(audit.opened(records[at]), actor="somebody else")
    forged = sealed_anew([*records[:at], audit.seal(event, at + 1, ""), *records[at + 1 :]], at)
    head, anchor = ends(records)
    its_head, _ = ends(forged)

    assert audit.verify(forged, head, anchor)
    assert audit.verify(forged, its_head, anchor) == (
        audit.Finding(len(records), "is not the one that the anchor knows."),
    )
    for count in range(len(records)):
        cut = records[:count]
        assert audit.verify(cut, ends(cut)[0], anchor)[0].number == count + 1


@given(CHAINS)
def test_events_that_nobody_wrote_are_found(records: list[Record]) -> None:
    more = a_chain([*(audit.opened(r) for r in records), AuditEvent("deploy", "prod", "done")])
    found = audit.verify(more, *ends(records))

    assert found[0] == audit.Finding(len(more), f"is more than was written: {len(records)} were.")


@given(EVENTS)
def test_an_exported_line_can_be_checked_without_us(event: AuditEvent) -> None:
    fields = json.loads(audit.exported(audit.seal(event, 7, "ab")))
    theirs = fields.pop("hash")
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert hashlib.sha256(text.encode()).hexdigest() == theirs
    assert fields["previous_hash"] == "ab" and fields["number"] == 7


def test_an_event_of_a_later_version_stays_whole() -> None:
    document = '{"environment":"prod","event_type":"deploy","id":"x","number":1,"outcome":"done","previous_hash":"' + (
        audit.NOTHING_BEFORE + '","weather":"fine"}'
    )
    record = Record(1, "x", audit.digest(document), document)

    assert audit.verify([record], *ends([record])) == ()
    assert json.loads(audit.exported(record))["weather"] == "fine"


def test_texts_are_bounded_and_can_be_stored() -> None:
    event = AuditEvent("deploy", "prod", "failed", error="x" * 9000 + "\ud800", metadata={"steps": ["\udcff"] * 900})
    stored = audit.opened(audit.seal(event, 1, audit.NOTHING_BEFORE))

    assert stored.error == "x" * audit.TEXT_LIMIT + " [cut]"
    assert stored.metadata["steps"] == ["?"] * audit.LIST_LIMIT


def ended(event: Event) -> Run:
    run, _ = advance(a_run(), event)
    while not run.ended:
        run, _ = advance(run, Done())
    return run


def test_a_run_that_a_person_aborts_is_two_events_with_its_end() -> None:
    done, stopped = ended(Done()), ended(Interrupt("aborted by ann", by="ann"))
    finished = msgspec.structs.replace(done, aborted_by="ann")
    now = "2026-11-22T21:00:02.500Z"

    def told(run: Run) -> list[tuple[str, str]]:
        made = audit.run_events(run, now, Trigger.COMMAND, outcome=True, number=9)
        assert made == audit.run_events(run, now, Trigger.COMMAND, outcome=True, number=9)
        assert len({event.id for event in made}) == len(made)
        return [(event.event_type, event.outcome) for event in made]

    assert told(done) == [("deploy", "done")]
    assert told(stopped) == [("abort", "done"), ("deploy", "interrupted")]
    assert told(finished) == [("abort", "refused"), ("deploy", "done")]


def test_each_pause_is_one_event_when_it_begins() -> None:
    run = a_run()
    parked, effects = advance(run, Park(Parking("paused by ann", evidence=("12 of 12",))))

    def told(run: Run, number: int, *, outcome: bool = True) -> list[tuple[str, str, str]]:
        made = audit.run_events(run, "2026-11-22T21:00:02Z", Trigger.COMMAND, outcome=outcome, number=number)
        return [(event.event_type, event.reason, event.id) for event in made]

    assert effects == () and told(run, 3) == []
    assert told(parked, 4) == [("pause", "paused by ann", "run-1-pause-4")]
    assert told(parked, 5, outcome=False) == []


@pytest.mark.parametrize(
    ("event", "outcome", "reason", "error"),
    [
        (Done(), "done", "", ""),
        (Failed(Failure("web answered 503", evidence=("PASSWORD=x",))), "failed", "", "web answered 503"),
        (Interrupt("interrupted by a person"), "interrupted", "interrupted by a person", ""),
    ],
    ids=["done", "failed", "interrupted"],
)
def test_the_event_of_a_runs_end_says_what_is_known(event: Event, outcome: str, reason: str, error: str) -> None:
    run = ended(event)
    made = audit.run_ended(run, "2026-11-22T21:00:02.500Z", Trigger.COMMAND)

    assert (made.id, made.event_type, made.environment) == ("run-1-deploy", "deploy", "local")
    assert (made.outcome, made.reason, made.error, made.prior_version) == (outcome, reason, error, "r1")
    assert made.metadata == {
        "run": "run-1",
        "project": "shop",
        "release": "r2",
        "strategy": "blue-green",
        "candidate": "green",
        "rolled_back": False,
        "duration_ms": 2500,
        "steps": [f"{s.name}: {s.status.value}" for s in run.steps],
    }
    assert "PASSWORD" not in audit.seal(made, 1, "").document


def test_a_clock_that_was_set_back_makes_no_negative_duration() -> None:
    made = audit.run_ended(ended(Done()), "2026-11-22T20:00:00.000Z", Trigger.RECOVERY)

    assert made.metadata["duration_ms"] == 0
    assert made.triggered_by == "recovery"


def test_a_take_over_names_the_owner_who_is_gone() -> None:
    made = audit.lock_taken_over("prod", "ada on one (process 7)", "deploy", "2026-11-22T20:00:00.000Z", "it ended")

    assert (made.event_type, made.environment, made.reason, made.id) == ("lock-take-over", "prod", "it ended", "")
    assert made.metadata["owner"] == "ada on one (process 7)"
