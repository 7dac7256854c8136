"""What doctor finds in tables of facts, and what it would do about it."""

from __future__ import annotations

import re

import pytest

from nself_deploy.core import effects as do
from nself_deploy.core import findings as fix
from nself_deploy.core.doctor import all_well, diagnose, fixes
from nself_deploy.core.doctor_facts import Facts
from nself_deploy.core.findings import Finding, Severity
from nself_deploy.core.machine import Outcome
from nself_deploy.core.model import LABEL_PROJECT, Container, Slot, Split
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from tests.unit.doctor_scene import (
    ENDED,
    NOW,
    OLD,
    a_run,
    change,
    each,
    well,
)
from tests.unit.doctor_table import TABLE, add, is_service, no_standby
from tests.unit.house import ROOT

AS_WELL = {"state-stale", "live-missing", "recording-left", "container-by-hand"}
"""What may be found beside something else, as a thing of its own."""


def found(facts: Facts) -> dict[str, Finding]:
    return {finding.code: finding for finding in diagnose(facts)}


@pytest.mark.parametrize("clean", [well(), no_standby(well()), Facts(project="shop", now=NOW)])
def test_nothing_is_found_when_all_is_well(clean: Facts) -> None:
    assert diagnose(clean) == ()
    assert all_well(diagnose(clean))


@pytest.mark.parametrize("case", TABLE)
def test_each_thing_is_found_explained_and_repaired(case: str) -> None:
    spoil, code, severity, wanted = TABLE[case]
    findings = found(spoil(well()))

    finding = findings[code]
    assert (finding.severity, finding.fix) == (severity, wanted)
    assert finding.what
    assert finding.remedy or severity is Severity.NOTE or code == "router-unknown"
    assert all_well(findings.values()) is (severity is Severity.NOTE)


@pytest.mark.parametrize(
    "case", [c for c, (_, code, *_) in TABLE.items() if code not in {"link-lost", "records-wrong"}]
)
def test_one_thing_is_found_once(case: str) -> None:
    """What one leftover leads to is not told as several."""
    spoil, code, *_ = TABLE[case]

    assert {f.code for f in diagnose(spoil(well()))} - {code} <= AS_WELL


def test_a_container_of_another_release_in_the_live_slot_is_left_alone() -> None:
    facts = each(well(), is_service(Slot.GREEN, "api"), release=OLD.id)

    findings = found(facts)
    assert findings["live-other-release"].fix is None
    assert fixes(findings.values()) == ()


def test_nothing_is_ours_while_the_journal_can_not_be_read() -> None:
    facts = TABLE["half-written files"][0](TABLE["a leftover candidate"][0](well()))
    facts = TABLE["the journal can't be read"][0](facts)
    facts = change(facts, disk=change(facts.disk, release_dirs={OLD.id: True}))

    assert fixes(diagnose(facts)) == ()


def test_a_slot_with_requests_is_not_cleared() -> None:
    facts = change(TABLE["a leftover candidate"][0](well()), split=Split(Slot.GREEN, Slot.BLUE, 10))

    assert not any(isinstance(f, fix.ClearSlot) for f in fixes(diagnose(facts)))


def test_a_run_that_is_not_ended_hides_what_follows_from_it() -> None:
    facts = TABLE["a leftover candidate"][0](change(well(), unfinished=a_run(None)))

    assert [f.code for f in diagnose(facts)] == ["run-interrupted"]


def test_a_failed_deploy_leaves_the_rollback_records() -> None:
    facts = change(well(), last=a_run(Outcome.FAILED))
    states = change(facts.states, deploy=change(facts.states.deploy, success=False), rollback={})

    assert diagnose(change(facts, states=states)) == ()


def test_a_first_deploy_that_was_undone_leaves_the_link_and_nothing_else() -> None:
    empty = {slot: SlotRecord("", SlotRole.EMPTY, ENDED) for slot in Slot}
    facts = Facts(project="shop", now=NOW, slots=empty, last=a_run(Outcome.FAILED), split=Split.all_to(Slot.BLUE))

    assert diagnose(facts) == ()


def test_another_project_in_our_compose_project_is_a_stranger() -> None:
    other = Container(id="x", name="x", project="shop-blue", service="web", labels={LABEL_PROJECT: "shop-blue"})

    assert set(found(add(other)(well()))) == {"container-foreign"}


def test_findings_that_matter_most_come_first() -> None:
    facts = well()
    for case in ("a traceback", "half-written files", "the router is down"):
        facts = TABLE[case][0](facts)

    assert [f.severity for f in diagnose(facts)] == [Severity.ERROR, Severity.WARNING, Severity.NOTE]


def test_repairs_are_done_once_and_in_order() -> None:
    facts = well()
    for case in ("half-written files", "a network was removed", "the router was disconnected", "a leftover candidate"):
        facts = TABLE[case][0](facts)

    todo = [type(f) for f in fixes(diagnose(facts))]
    assert todo == [do.PrepareNetworks, fix.ClearSlot, fix.StopRecording, fix.RemoveFiles]


def test_every_finding_and_whether_it_is_repaired_is_documented() -> None:
    rows = re.findall(r"^\| (`.+`) \| .+ \| (.*)\|$", (ROOT / "docs/how-to/doctor.md").read_text(), re.MULTILINE)
    documented = {code: bool(does.strip()) for codes, does in rows for code in re.findall(r"`([a-z-]+)`", codes)}

    for spoil, code, _, repair in TABLE.values():
        assert code in documented, code
        assert documented[code] or repair is None, code
        assert code in found(spoil(well()))
