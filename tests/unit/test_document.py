"""The one JSON document, from runs and plans of every kind."""

from __future__ import annotations

import msgspec
import pytest

from nself_deploy.core import machine
from nself_deploy.core.document import (
    Document,
    answer_document,
    exit_status,
    run_document,
    unchanged_document,
    unchanged_step,
)
from nself_deploy.core.machine import Failure, Run, advance, new_run
from nself_deploy.core.model import Slot, StepStatus
from nself_deploy.core.plan import Facts, Plan, Timing, plan_blue_green
from nself_deploy.core.plan_canary import plan_canary
from nself_deploy.core.plan_document import PlanDocument, SettingLine, plan_document
from nself_deploy.core.step_lines import StepLine
from nself_deploy.errors import Exit
from tests.unit.plans import a_canary, a_project, a_release

LIVE = Facts(live=Slot.BLUE, live_release="old", occupied=(Slot.BLUE,), router_running=True)
BUILT = StepLine("Build and pin images", StepStatus.DONE, 1.5, "release new")


def a_plan(facts: Facts = LIVE) -> Plan:
    return plan_blue_green(a_project(), a_release(), facts, Timing(), "staging")


def played(plan: Plan, broken: str = "", *, failure: Failure | None = None) -> Run:
    """A run to its end; the step `broken` fails (or is interrupted, without a failure)."""
    run, _ = advance(new_run("r", plan, "2026-11-22T21:30:00Z"), machine.Begin())
    while not run.ended:
        step = run.current()
        wrong = machine.Failed(failure, 2.0) if failure else machine.Interrupt("interrupted by a person", 2.0)
        run, effects = advance(run, wrong if step and step.key == broken else machine.Done(0.25, "as it should be"))
        if not effects:
            break
    return run


def test_a_deploy_that_went_well() -> None:
    document = run_document(played(a_plan()), (BUILT,), 4321)

    assert (document.target, document.strategy) == ("staging", "blue-green")
    assert (document.release, document.previous_release) == ("new", "old")
    assert (document.success, document.rolled_back, document.final_percent, document.error) == (True, False, 100, "")
    assert document.duration_ms == 4321
    assert document.steps[0] is BUILT
    assert document.steps[1] == StepLine("Prepare networks", StepStatus.DONE, 0.25, "as it should be")
    assert {s.status for s in document.steps} == {StepStatus.DONE}


def test_a_candidate_that_was_refused_before_it_had_traffic() -> None:
    document = run_document(played(a_plan(), "health", failure=Failure("it is ill", unhealthy=True)))
    by_name = {s.name: s for s in document.steps}

    assert (document.success, document.rolled_back, document.final_percent) == (False, False, 0)
    assert document.error == "it is ill"
    assert by_name["Health check green"] == StepLine("Health check green", StepStatus.UNHEALTHY, 2.0, "it is ill")
    assert by_name["Move traffic to green"].status is StepStatus.SKIPPED
    assert by_name["Remove green"].status is StepStatus.DONE


def test_a_candidate_that_was_refused_under_traffic_was_rolled_back() -> None:
    document = run_document(played(a_plan(), "watch", failure=Failure("it fell over", unhealthy=True)))

    assert (document.success, document.rolled_back, document.final_percent) == (False, True, 0)
    assert "Move traffic back to blue" in [s.name for s in document.steps]


@pytest.mark.parametrize(
    ("run", "status"),
    [
        (played(a_plan()), Exit.OK),
        (played(a_plan(), "health", failure=Failure("ill", unhealthy=True)), Exit.FAILED),
        (played(a_plan(), "networks", failure=Failure("no engine", exit_status=2)), Exit.INFRASTRUCTURE),
        (played(a_plan(), "health"), Exit.INTERRUPTED),
        (played(a_plan(), "drain", failure=Failure("no engine", exit_status=2)), Exit.INFRASTRUCTURE),
    ],
    ids=["done", "unhealthy", "no engine", "interrupted", "stuck after the commit"],
)
def test_every_end_has_its_exit_status(run: Run, status: Exit) -> None:
    assert exit_status(run) is status
    assert run_document(run).success is (status is Exit.OK)


def test_nothing_to_do_is_one_step_that_says_so() -> None:
    plan = plan_blue_green(
        a_project(), a_release(), msgspec.structs.replace(LIVE, live_release="new"), Timing(), "local"
    )
    document = unchanged_document(plan, (unchanged_step(plan, 0.5),), 12)

    assert [(s.name, s.status, s.seconds) for s in document.steps] == [("Unchanged", StepStatus.DONE, 0.5)]
    assert (document.success, document.final_percent, document.duration_ms) == (True, 100, 12)


def test_a_plan_is_the_same_document_with_pending_steps_and_reasons() -> None:
    document = plan_document(a_plan(), a_project(), (SettingLine("drain", "1m", "default"),))

    assert {s.status for s in document.steps} == {StepStatus.PENDING}
    assert [(s.name, s.role) for s in document.services][:2] == [("api", "app"), ("cache", "shared")]
    assert document.routes == ({"key": "web_8000", "service": "web", "port": 8000, "protocol": "http", "source": ""},)
    assert document.changes[-1]["sign"] == "="
    assert document.settings == (SettingLine("drain", "1m", "default"),)


def test_documents_survive_json() -> None:
    document = run_document(
        played(a_plan(), "watch", failure=Failure("\x00 strange \u2028", unhealthy=True)), (BUILT,), 1
    )

    assert msgspec.json.decode(msgspec.json.encode(document), type=Document) == document
    assert issubclass(PlanDocument, Document)


def a_canary_run(at: str, event: machine.Event) -> Run:
    """A canary to this step, then this event, then to where it ends or waits."""
    plan = plan_canary(a_project(), a_release(), LIVE, Timing(), "prod", a_canary())
    run, effects = advance(new_run("r", plan, "2026-11-22T21:30:00Z"), machine.Begin())
    while effects:
        step = run.current()
        here = step is not None and step.key == at and run.phase is machine.Phase.FORWARD
        run, effects = advance(run, event if here else machine.Done(0.25, "pass: it is good; 1 of 2"))
    return run


def test_the_verdict_of_a_canary_is_told() -> None:
    promoted = run_document(a_canary_run("judge:50", machine.Done(1.0, "inconclusive: promoted by ann")))
    assert (promoted.strategy, promoted.verdict, promoted.final_percent) == ("canary", "inconclusive", 100)

    run = a_canary_run("judge:10", machine.Failed(Failure("it is worse", unhealthy=True)))
    failed = run_document(run)
    assert (failed.verdict, failed.final_percent, failed.rolled_back) == ("fail", 0, True)
    assert exit_status(run) is Exit.FAILED


@pytest.mark.parametrize(
    ("verdict", "back", "told", "percent"),
    [("hold", True, "hold", 0), ("inconclusive", False, "inconclusive", 10), ("", False, "inconclusive", 10)],
)
def test_a_parked_canary_says_why_and_ends_with_7(verdict: str, back: bool, told: str, percent: int) -> None:
    run = a_canary_run("judge:10", machine.Park(machine.Parking("nobody knows", verdict, back)))
    document = run_document(run)

    assert (document.success, document.error, document.verdict) == (False, "nobody knows", told)
    assert document.final_percent == percent
    assert exit_status(run) is Exit.PARKED


def test_an_answer_is_the_only_step() -> None:
    run = a_canary_run("judge:10", machine.Park(machine.Parking("paused")))
    line = StepLine("Pause", StepStatus.DONE, 0.0, "paused at 10 %")

    assert answer_document(run, line).steps == (line,)
    assert answer_document(run, line).success
