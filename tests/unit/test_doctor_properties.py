"""Whatever happened: nothing of others is touched, nothing that serves users is stopped, and repairs lead to an end."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from nself_deploy.core import effects as do
from nself_deploy.core import findings as fix
from nself_deploy.core.doctor import diagnose, fixes
from nself_deploy.core.doctor_facts import Facts
from nself_deploy.core.doctor_ours import complete, why_not_ours
from nself_deploy.core.findings import touched
from nself_deploy.core.model import LABEL_PROJECT, Container, Slot, Split
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from tests.unit.doctor_scene import NEW, NOW, OLD, change, container, repaired, well
from tests.unit.doctor_table import TABLE

SLOTS = st.sampled_from([Slot.BLUE, Slot.GREEN])
ENDLESS = 40
"""Repairs after which something goes round in circles."""


@st.composite
def any_container(draw: st.DrawFn) -> Container:
    """One of ours, or one that differs from it in one thing or in many."""
    release = draw(st.sampled_from([OLD, NEW]))
    slot, service = draw(SLOTS), draw(st.sampled_from(["web", "api", "worker", "migrate", "none"]))
    made = container(release, slot, service, draw(st.integers(0, 3)))
    spoilt = {
        "name": draw(st.sampled_from([made.name, made.name, made.name, "mine"])),
        "project": draw(st.sampled_from([made.project, made.project, "", "shop"])),
        "release": draw(st.sampled_from([made.release, made.release, "", "unknown"])),
        "slot": draw(st.sampled_from([made.slot, made.slot, Slot.PLAIN])),
        "state": draw(st.sampled_from(["running", "exited", "created", "paused", "dead"])),
        "health": draw(st.sampled_from(["", "healthy", "unhealthy", "starting"])),
        "labels": draw(st.sampled_from([made.labels, made.labels, {}, {LABEL_PROJECT: "shop"}, {LABEL_PROJECT: "x"}])),
    }
    return change(made, id=draw(st.uuids()).hex, **spoilt)


def any_record() -> st.SearchStrategy[SlotRecord]:
    return st.builds(
        SlotRecord,
        st.sampled_from(["", OLD.id, NEW.id, "unknown"]),
        st.sampled_from(SlotRole),
        st.just(NOW),
        st.sampled_from(["", "2026-11-22T21:00:00Z", "2026-11-22T23:00:00Z"]),
    )


SPLITS = st.sampled_from(
    [None, *(Split.all_to(s) for s in Slot), Split(Slot.GREEN, Slot.BLUE, 10), Split(Slot.BLUE, Slot.GREEN, 100)]
)


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    """The clean state, after some accidents."""
    facts = well()
    for case in draw(st.lists(st.sampled_from(sorted(TABLE)), max_size=4)):
        spoil: Callable[[Facts], Facts] = TABLE[case][0]
        facts = spoil(facts)
    if draw(st.booleans()):
        kept = tuple(c for c in facts.containers if draw(st.booleans()))
        more = tuple(draw(st.lists(any_container(), max_size=4)))
        named = {c.name: c for c in (*kept, *more)}  # the engine has one container of a name
        facts = change(facts, containers=tuple(named.values()))
    if draw(st.booleans()):
        facts = change(facts, slots=facts.slots | {s: draw(any_record()) for s in (Slot.BLUE, Slot.GREEN)})
    return change(facts, split=draw(SPLITS)) if draw(st.booleans()) else facts


@settings(max_examples=150, deadline=None)
@given(any_facts())
def test_nothing_of_others_is_touched(facts: Facts) -> None:
    known = {c.id: c for c in facts.containers}
    for what in fixes(diagnose(facts)):
        for container_id in touched(what):
            assert why_not_ours(known[container_id], facts) == ""


@settings(max_examples=150, deadline=None)
@given(any_facts())
def test_nothing_that_gets_requests_is_stopped_and_requests_go_to_what_is_healthy(facts: Facts) -> None:
    known = {c.id: c for c in facts.containers}
    for what in fixes(diagnose(facts)):
        if isinstance(what, fix.ClearSlot | fix.RemoveContainers):
            assert not facts.serves(what.slot)
            assert {known[i].slot for i in what.containers} <= {what.slot}
        if isinstance(what, do.MoveTraffic):
            assert complete(facts, what.split.base)
        if isinstance(what, fix.CorrectSlots):
            live = [slot for slot, record in what.slots.items() if record.role is SlotRole.LIVE]
            assert live == [facts.live]


@settings(max_examples=150, deadline=None)
@given(any_facts())
def test_repairs_lead_to_an_end(facts: Facts) -> None:
    for _ in range(ENDLESS):
        todo = fixes(diagnose(facts))
        if not todo:
            break
        facts = repaired(facts, todo[0])
    assert fixes(diagnose(facts)) == ()
