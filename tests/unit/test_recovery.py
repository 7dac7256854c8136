"""Which way an interrupted run goes on, and that the machine goes that way."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core import effects as do
from nself_deploy.core import machine
from nself_deploy.core.machine import Outcome, Phase, Run, advance, new_run
from nself_deploy.core.model import Slot, Split, StepStatus
from nself_deploy.core.plan import Plan
from nself_deploy.core.recovery import Standing, Wish, decide, has_traffic
from tests.unit.test_machine import plans


def interrupted(plan: Plan, at: int) -> Run | None:
    """The run as the journal has it when its process dies during step `at`; None when it has ended by then."""
    run, _ = advance(new_run("r", plan, "t"), machine.Begin())
    for _ in range(at):
        if run.ended:
            return None
        run, _ = advance(run, machine.Done())
    return None if run.ended else run


def split_of(run: Run) -> Split | None:
    """Where the link sends requests: the run is the only one who moves it."""
    moved = [s for s in run.plan.steps[: run.position] if isinstance(s.effect, do.MoveTraffic)]
    if moved and isinstance(moved[-1].effect, do.MoveTraffic):
        return moved[-1].effect.split
    return Split.all_to(run.plan.live) if run.plan.live else None


def finish(run: Run, event: machine.Event) -> tuple[Run, list[do.Effect]]:
    """Go on, and let everything work."""
    run, effects = advance(run, event)
    seen = [*effects]
    while not run.ended:
        run, effects = advance(run, machine.Done())
        seen += effects
    return run, seen


@given(plans(), st.integers(0, 20), st.booleans(), st.sampled_from(Wish))
def test_every_interrupted_run_reaches_an_end_with_traffic_on_a_slot_that_is_right(
    plan: Plan, at: int, healthy: bool, wish: Wish
) -> None:
    run = interrupted(plan, at)
    if run is None:
        return
    split = split_of(run)
    decision = decide(run, Standing(split, healthy), wish)
    ended, seen = finish(run, machine.Resumed(decision.finish, again=decision.again))
    moves = [e.split for e in seen if isinstance(e, do.MoveTraffic)]
    end = moves[-1] if moves else split

    assert decision.why
    assert (ended.outcome is Outcome.DONE) is decision.finish
    if decision.finish:
        assert plan.candidate is not None and end == Split.all_to(plan.candidate)
    elif plan.live is not None:
        assert end == Split.all_to(plan.live)
    assert not [s for s in ended.steps if s.status in (StepStatus.RUNNING, StepStatus.PENDING)]
    assert isinstance(seen[-1], do.Record)


@given(plans(), st.integers(0, 20))
def test_a_finished_run_proves_the_candidate_anew_before_users_reach_it(plan: Plan, at: int) -> None:
    run = interrupted(plan, at)
    if run is None or run.committed:
        return
    _, seen = finish(run, machine.Resumed(finish=True))
    move = next((i for i, e in enumerate(seen) if isinstance(e, do.MoveTraffic)), len(seen))

    assert [e for e in seen[:move] if isinstance(e, do.ProveHealth | do.ProbeWarm)]


@given(plans(), st.integers(0, 20), st.integers(0, 20), st.booleans())
def test_traffic_that_was_moved_is_taken_back_when_finishing_fails(
    plan: Plan, at: int, fails_at: int, dies_again: bool
) -> None:
    run = interrupted(plan, at)
    if run is None or run.committed or plan.live is None or not has_traffic(run, split_of(run)):
        return
    run, _ = advance(run, machine.Resumed(finish=True))
    for _ in range(fails_at):
        if not run.committed:
            run, _ = advance(run, machine.Done())
    if run.committed:
        return
    event = machine.Resumed(finish=False) if dies_again else machine.Failed(machine.Failure("ill"))
    ended, seen = finish(run, event)

    assert ended.outcome is Outcome.FAILED and ended.rolled_back
    back = seen.index(do.MoveTraffic(Split.all_to(plan.live)))
    assert not [e for e in seen[:back] if isinstance(e, do.RemoveSlot)]


@given(plans(), st.integers(0, 20))
def test_a_candidate_that_users_are_on_and_that_is_ill_is_never_kept(plan: Plan, at: int) -> None:
    run = interrupted(plan, at)
    if run is None or run.committed or not has_traffic(run, split_of(run)):
        return
    for wish in Wish:
        assert not decide(run, Standing(split_of(run), candidate_healthy=False), wish).finish


@given(plans(), st.integers(0, 20), st.sampled_from(Wish), st.sampled_from((None, *Slot)))
def test_a_committed_run_gets_its_requests_back_before_it_does_the_rest(
    plan: Plan, at: int, wish: Wish, where: Slot | None
) -> None:
    run, split = interrupted(plan, at), Split.all_to(where) if where else None
    if run is None or not run.committed or plan.candidate in (None, where):
        return
    decision = decide(run, Standing(split, candidate_healthy=True), wish)
    ended, seen = finish(run, machine.Resumed(decision.finish, again=decision.again))
    move = seen.index(do.MoveTraffic(Split.all_to(plan.candidate)))

    assert decision.finish and decision.again and ended.outcome is Outcome.DONE
    assert [e for e in seen[:move] if isinstance(e, do.ProveHealth | do.ProbeWarm)]
    assert not [e for e in seen[:move] if isinstance(e, do.Ending | do.MoveTraffic)]
    assert not [e for e in seen if isinstance(e, do.Judge | do.Bake)]
    commit = next(n for n, step in enumerate(plan.steps) if step.commits)
    rest = [step.effect for step in plan.steps[commit + 1 :]]
    assert seen[-len(rest) :] == rest


@given(plans(), st.integers(0, 20))
def test_a_committed_run_that_is_ill_is_proved_anew_but_hinders_no_new_version(plan: Plan, at: int) -> None:
    run = interrupted(plan, at)
    if run is None or not run.committed:
        return
    ill = Standing(split_of(run), candidate_healthy=False)

    assert decide(run, ill, Wish.RESUME).again and decide(run, ill, Wish.ABORT).again
    onward = decide(run, ill, Wish.ONWARD)
    assert onward.finish and not onward.again


@given(plans(), st.integers(0, 20), st.integers(0, 4), st.booleans())
def test_a_committed_run_that_does_not_prove_itself_anew_is_left_and_can_still_be_finished(
    plan: Plan, at: int, fails_at: int, dies: bool
) -> None:
    run = interrupted(plan, at)
    if run is None or not run.committed:
        return
    run, effects = advance(run, machine.Resumed(finish=True, again=True))
    for _ in range(fails_at):
        if effects and not isinstance(effects[0], do.Ending):
            run, effects = advance(run, machine.Done())
    if isinstance(effects[0], do.Ending):
        return
    if not dies:
        run, effects = advance(run, machine.Failed(machine.Failure("ill", unhealthy=True)))
        assert not effects and not run.ended
    ended, seen = finish(run, machine.Resumed(finish=True))

    assert ended.outcome is Outcome.DONE
    assert all(isinstance(effect, do.Ending) for effect in seen)
    assert all(s.status is StepStatus.DONE for s in ended.steps)


@given(plans(), st.integers(0, 20), st.booleans())
def test_abort_undoes_whatever_can_be_undone(plan: Plan, at: int, healthy: bool) -> None:
    run = interrupted(plan, at)
    if run is None:
        return
    decision = decide(run, Standing(split_of(run), healthy), Wish.ABORT)

    assert decision.finish is run.committed
    if not run.committed:
        ended, _ = finish(run, machine.Resumed(finish=False, aborted_by="ann"))
        assert ended.outcome is Outcome.INTERRUPTED
        assert ended.failure and ended.failure.message == "aborted by ann"


@given(plans(), st.integers(0, 20), st.integers(0, 20))
def test_what_was_being_undone_goes_on_being_undone(plan: Plan, at: int, undo_at: int) -> None:
    run = interrupted(plan, at)
    if run is None or run.committed:
        return
    run, _ = advance(run, machine.Interrupt())
    for _ in range(undo_at):
        if not run.ended:
            run, _ = advance(run, machine.Done())
    if run.ended:
        return
    assert run.phase is Phase.UNDO
    for wish in Wish:
        assert not decide(run, Standing(split_of(run), candidate_healthy=True), wish).finish


@given(plans(), st.integers(0, 20))
def test_a_standby_whose_removal_had_begun_is_removed_wholly(plan: Plan, at: int) -> None:
    run = interrupted(plan, at)
    vacates = [n for n, s in enumerate(plan.steps) if s.key == "vacate"]
    if run is None or run.committed or not vacates:
        return
    _, seen = finish(run, machine.Resumed(finish=False))

    assert do.RemoveSlot(plan.candidate or Slot.BLUE) in seen


def test_a_run_that_has_ended_needs_no_decision() -> None:
    plan = msgspec.structs.replace(plans_example(), steps=())
    run, _ = advance(new_run("r", plan, "t"), machine.Begin())
    with pytest.raises(ValueError, match="has ended"):
        decide(run, Standing(None, candidate_healthy=True), Wish.RESUME)


def plans_example() -> Plan:
    """Any plan."""
    from nself_deploy.core.plan import Facts, Timing, plan_blue_green
    from tests.unit.plans import a_project, a_release

    return plan_blue_green(a_project(), a_release(single=False), Facts(), Timing(), "local")
