"""The machine and canaries: parked runs, shares that are not given twice, candidates that are kept."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core import effects as do
from nself_deploy.core import machine
from nself_deploy.core.machine import Failure, Outcome, Park, Parking, Phase, Run, advance, new_run
from nself_deploy.core.model import Slot, Split, StepStatus
from nself_deploy.core.plan import Facts, Plan, Timing
from nself_deploy.core.plan_canary import plan_canary
from nself_deploy.core.recovery import Standing, Wish, decide
from tests.unit.plans import a_canary, a_project, a_release

FACTS = Facts(live=Slot.BLUE, live_release="old", occupied=(Slot.BLUE,), router_running=True)
ALL_BACK = do.MoveTraffic(Split.all_to(Slot.BLUE))


def a_plan(*, keep_failed: bool = False, bake_s: float = 600.0) -> Plan:
    canary = a_canary(keep_failed=keep_failed)
    return plan_canary(a_project(), a_release(), FACTS, Timing(bake_s=bake_s), "local", canary)


def at_step(plan: Plan, key: str) -> Run:
    """The run while this step is under way."""
    run, _ = advance(new_run("r", plan, "t"), machine.Begin())
    while (step := run.current()) is not None and step.key != key:
        run, _ = advance(run, machine.Done())
    assert step is not None
    return run


def parked_at(key: str, *, back: bool) -> Run:
    run, effects = advance(at_step(a_plan(), key), Park(Parking("too few requests", "inconclusive", back)))
    while effects:
        run, effects = advance(run, machine.Done())
    return run


def on(run: Run, event: machine.Event) -> tuple[Run, list[do.Effect]]:
    run, effects = advance(run, event)
    seen = [*effects]
    while effects:
        run, effects = advance(run, machine.Done())
        seen += effects
    return run, seen


def test_a_canary_is_given_more_and_more_and_is_judged_at_each_share() -> None:
    steps = {step.key: step for step in a_plan().steps}
    keys = list(steps)

    assert keys[keys.index("health") :] == [
        *("health", "smoke", "split:10", "judge:10", "split:50", "judge:50", "move", "watch", "bake"),
        *("drain", "retire", "record"),
    ]
    assert steps["judge:10"].effect == do.Judge(Slot.GREEN, 10, 300.0, 50)
    assert steps["judge:50"].effect == do.Judge(Slot.GREEN, 50, 60.0, 100)
    assert [key for key, step in steps.items() if step.commits] == ["bake"]


def test_the_plan_says_which_shares_it_gets_and_what_a_promotion_needs() -> None:
    lines = [f"{c.sign} {c.what}, {c.reason}" for c in a_plan().changes]

    shares = "10 % for 5m, 50 % for 1m, 100 %"
    proof = "longer while it lacks proof (about 400 good requests to it); back when it fails"
    proof += "; meanwhile blue answers what fails on green, where it is safe to ask again"
    assert f"~ split, from blue to green: {shares}, {proof}" in lines
    assert "= db (shared), never touched by a canary" in lines


@pytest.mark.parametrize(
    ("facts", "words"), [(Facts(), "nothing is live yet"), (Facts(live=Slot.PLAIN), "keeps no record of its requests")]
)
def test_without_anything_to_compare_with_it_is_blue_green_and_says_so(facts: Facts, words: str) -> None:
    plan = plan_canary(a_project(), a_release(), facts, Timing(), "local", a_canary())

    assert not plan.judged and plan.park is None
    assert words in plan.warnings[-1] and "as in blue-green" in plan.warnings[-1]


def test_an_unchanged_release_is_no_canary() -> None:
    facts = msgspec.structs.replace(FACTS, live_release="new")

    assert plan_canary(a_project(), a_release(), facts, Timing(), "local", a_canary()).unchanged


def test_a_failed_canary_loses_its_share_before_it_is_removed() -> None:
    run, seen = on(at_step(a_plan(), "judge:50"), machine.Failed(Failure("worse")))

    assert run.outcome is Outcome.FAILED and run.rolled_back and run.percent == 0
    assert seen[0] == ALL_BACK
    assert seen.index(do.RemoveSlot(Slot.GREEN)) > seen.index(do.Drain(Slot.GREEN, 60.0, keep=False))
    assert seen.count(ALL_BACK) == 1


def test_a_failed_canary_can_be_kept_but_an_aborted_one_goes() -> None:
    plan = a_plan(keep_failed=True)
    _, failed = on(at_step(plan, "judge:10"), machine.Failed(Failure("worse")))
    _, stopped = on(at_step(plan, "judge:10"), machine.Interrupt())

    assert failed[0] == stopped[0] == ALL_BACK
    assert do.RemoveSlot(Slot.GREEN) not in failed and do.Drain(Slot.GREEN, 60.0, keep=True) in failed
    assert do.RemoveSlot(Slot.GREEN) in stopped


def test_a_bake_that_fails_takes_everybody_back() -> None:
    run, seen = on(at_step(a_plan(), "bake"), machine.Failed(Failure("too many errors")))

    assert run.outcome is Outcome.FAILED
    assert seen[0] == ALL_BACK and do.RemoveSlot(Slot.GREEN) in seen


def test_a_parked_run_waits_where_it_is() -> None:
    run = parked_at("judge:10", back=False)

    assert run.phase is Phase.PARKED and run.waits and not run.ended
    assert run.percent == 10
    assert run.current() == next(s for s in run.plan.steps if s.key == "judge:10")


def test_users_are_taken_back_before_a_run_waits_without_them() -> None:
    run, effects = advance(at_step(a_plan(), "judge:50"), Park(Parking("both fail", "hold", back=True)))

    assert run.phase is Phase.PARKING and effects == (ALL_BACK,)
    failed, none = advance(run, machine.Failed(Failure("no router")))
    assert none == () and failed.phase is Phase.PARKING
    again, effects = advance(failed, machine.Resumed())
    assert effects == (ALL_BACK,)
    parked, none = advance(again, machine.Done())
    assert (parked.phase, parked.percent, none) == (Phase.PARKED, 0, ())


def test_a_resumed_canary_proves_itself_and_keeps_its_share() -> None:
    run, seen = on(parked_at("judge:50", back=False), machine.Resumed(finish=True))

    assert run.outcome is Outcome.DONE
    assert [e for e in seen if isinstance(e, do.MoveTraffic)] == [do.MoveTraffic(Split.all_to(Slot.GREEN))]
    assert [e.percent for e in seen if isinstance(e, do.Judge)] == [50]
    assert any(isinstance(e, do.ProveHealth) for e in seen) and any(isinstance(e, do.Smoke) for e in seen)


def test_a_canary_without_users_begins_at_its_first_share_when_it_is_resumed() -> None:
    run, seen = on(parked_at("judge:50", back=True), machine.Resumed(finish=True))

    assert run.outcome is Outcome.DONE
    assert [e.split.percent for e in seen if isinstance(e, do.MoveTraffic)] == [10, 50, 0]
    assert [e.percent for e in seen if isinstance(e, do.Judge)] == [10, 50]


@pytest.mark.parametrize("back", [False, True])
def test_an_aborted_parked_run_is_undone(back: bool) -> None:
    run, seen = on(parked_at("judge:10", back=back), machine.Resumed(aborted_by="ann"))

    assert run.outcome is Outcome.INTERRUPTED and run.rolled_back
    assert seen[0] == ALL_BACK and do.RemoveSlot(Slot.GREEN) in seen
    assert not [s for s in run.steps if s.status in (StepStatus.RUNNING, StepStatus.PENDING)]


def test_an_abort_while_users_are_being_taken_back_undoes_all() -> None:
    run, _ = advance(at_step(a_plan(), "judge:50"), Park(Parking("both fail", "hold", back=True)))
    run, seen = on(run, machine.Resumed(aborted_by="ann"))

    assert run.outcome is Outcome.INTERRUPTED and seen[0] == ALL_BACK
    assert not [s for s in run.steps if s.status in (StepStatus.RUNNING, StepStatus.PENDING)]


def test_what_is_committed_or_undone_is_not_parked() -> None:
    for run in (at_step(a_plan(), "drain"), advance(at_step(a_plan(), "judge:10"), machine.Interrupt())[0]):
        after, effects = advance(run, Park(Parking("paused")))

        assert not after.waits and effects


@given(st.sampled_from(["judge:10", "judge:50"]), st.booleans(), st.booleans(), st.sampled_from(Wish))
def test_only_a_person_decides_about_a_parked_run(key: str, back: bool, healthy: bool, wish: Wish) -> None:
    run = parked_at(key, back=back)
    split = Split(Slot.BLUE, Slot.GREEN, run.percent) if run.percent else Split.all_to(Slot.BLUE)
    decision = decide(run, Standing(split, healthy), wish)
    ill = not healthy and not back

    assert decision.waits is (wish is Wish.ONWARD and not ill)
    assert decision.finish is (wish is Wish.RESUME and not ill)
    assert decision.waits is decision.words.startswith("leave it")


def test_the_next_deploy_undoes_a_canary_that_nobody_watched_but_a_person_may_finish_it() -> None:
    run, standing = at_step(a_plan(), "judge:10"), Standing(Split(Slot.BLUE, Slot.GREEN, 10), candidate_healthy=True)

    assert not decide(run, standing, Wish.ONWARD).finish
    assert decide(run, standing, Wish.RESUME).finish


def test_a_parked_run_is_the_same_after_it_was_written_down() -> None:
    run = parked_at("judge:50", back=True)

    assert msgspec.json.decode(msgspec.json.encode(run), type=Run) == run
