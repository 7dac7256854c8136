"""Facts and a request -> steps and changes; the cases are in tests/plans/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ruamel.yaml import YAML

from nself_deploy.core import effects as do
from nself_deploy.core import machine
from nself_deploy.core.model import Slot, Split, Strategy
from nself_deploy.core.plan import Facts, Kind, Plan, Timing, plan_blue_green, plan_rollback
from tests.unit.plans import a_project, a_release

CASES = Path(__file__).parents[1] / "plans"


class Case(msgspec.Struct, forbid_unknown_fields=True):
    case: str
    facts: Facts = Facts()
    timing: Timing = Timing()
    single: bool = False
    steps: list[str] | None = None
    first_steps: list[str] | None = None
    commits: str = ""
    changes: list[str] | None = None
    undo_of_the_last_step: list[str] | None = None


def cases() -> Iterator[Any]:
    for name, make in (("blue_green", plan_blue_green), ("rollback", plan_rollback)):
        raw = YAML(typ="safe").load((CASES / f"{name}.yaml").read_text())
        for case in msgspec.convert(raw, list[Case]):
            yield pytest.param(case, make, id=f"{name}: {case.case}")


def undo_names(plan: Plan) -> list[str]:
    """What is undone when the step that commits fails."""
    run, _ = machine.advance(machine.new_run("r", plan, "t"), machine.Begin())
    while not run.current().commits:
        run, _ = machine.advance(run, machine.Done())
    run, _ = machine.advance(run, machine.Failed(machine.Failure("it broke")))
    return [step.name for step in run.undo]


@pytest.mark.parametrize(("case", "make"), list(cases()))
def test_a_plan_says_what_will_be_done(case: Case, make: Any) -> None:
    plan = make(a_project(), a_release(single=case.single), case.facts, case.timing, "local")
    names = [step.name for step in plan.steps]

    assert case.steps is not None or case.first_steps is not None
    if case.steps is not None:
        assert names == case.steps
    if case.first_steps is not None:
        assert names[: len(case.first_steps)] == case.first_steps
    if case.changes is not None:
        assert [f"{c.sign} {c.what}, {c.reason}" for c in plan.changes] == case.changes
    if case.commits:
        assert [step.name for step in plan.steps if step.commits] == [case.commits]
    if case.undo_of_the_last_step is not None:
        assert undo_names(plan) == case.undo_of_the_last_step


def test_a_plan_knows_what_it_is_about() -> None:
    facts = Facts(live=Slot.BLUE, live_release="old", warnings=("beware",))
    plan = plan_blue_green(a_project(), a_release(), facts, Timing(), "staging")

    assert (plan.kind, plan.strategy, plan.target) == (Kind.DEPLOY, Strategy.BLUE_GREEN, "staging")
    assert (plan.project, plan.release, plan.previous_release) == ("shop", "new", "old")
    assert (plan.live, plan.candidate, plan.unchanged) == (Slot.BLUE, Slot.GREEN, False)
    assert plan.warnings == ("beware",)


def test_the_limits_of_a_run_are_in_its_effects() -> None:
    timing = Timing(health_timeout_s=11, min_uptime_s=2, watch_s=3, drain_s=44, standby_s=55, job_timeout_s=66)
    facts = Facts(live=Slot.BLUE, live_release="old", router_running=True)
    effects = {s.key: s.effect for s in plan_blue_green(a_project(), a_release(), facts, timing, "local").steps}

    assert effects["job:migrate"] == do.RunJob("new", Slot.GREEN, "migrate", 66)
    assert effects["health"] == do.ProveHealth("new", Slot.GREEN, 11, 2)
    assert effects["move"] == do.MoveTraffic(Split.all_to(Slot.GREEN))
    assert effects["watch"] == do.WatchLive("new", Slot.GREEN, 3)
    assert effects["drain"] == do.Drain(Slot.BLUE, 44, keep=True)
    assert effects["retire"] == do.KeepWarm(Slot.BLUE, 55)
    assert effects["record"] == do.Record(Slot.GREEN, "new", Slot.BLUE, "old", 55)


def test_a_router_on_the_host_is_not_started_by_us() -> None:
    project = a_project()
    assert project.router is not None
    host = msgspec.structs.replace(project, router=msgspec.structs.replace(project.router, service=""))
    plan = plan_blue_green(host, a_release(), Facts(), Timing(), "local")

    assert "Start router" not in [s.name for s in plan.steps]
    assert not [c for c in plan.changes if "router" in c.what]


def test_a_job_that_failed_leaves_nothing_of_the_candidate() -> None:
    plan = plan_blue_green(a_project(), a_release(), Facts(live=Slot.BLUE, live_release="old"), Timing(), "local")
    job = next(s for s in plan.steps if s.key == "job:migrate")

    assert [u.effect for u in job.undo] == [do.RemoveSlot(Slot.GREEN)]


def test_after_an_undo_the_standby_that_had_to_go_is_not_recorded() -> None:
    facts = Facts(
        live=Slot.GREEN,
        live_release="old",
        standby=Slot.BLUE,
        standby_release="older",
        occupied=(Slot.BLUE, Slot.GREEN),
        router_running=True,
    )
    plan = plan_blue_green(a_project(), a_release(), facts, Timing(), "local")

    assert [s.effect for s in plan.closing] == [do.Record(Slot.GREEN, "old")]


def test_after_the_undo_of_a_warm_rollback_the_standby_is_still_there() -> None:
    facts = Facts(
        live=Slot.GREEN,
        live_release="old",
        standby=Slot.BLUE,
        standby_release="new",
        standby_warm=True,
        occupied=(Slot.BLUE, Slot.GREEN),
        router_running=True,
    )
    plan = plan_rollback(a_project(), a_release(), facts, Timing(standby_s=300), "local")

    assert [s.effect for s in plan.closing] == [do.Record(Slot.GREEN, "old", Slot.BLUE, "new", 300)]
