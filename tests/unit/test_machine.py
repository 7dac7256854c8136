"""The machine: forward, back, and on after a crash, over all plans and all histories."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core import effects as do
from nself_deploy.core import machine
from nself_deploy.core.machine import Failure, Outcome, Phase, Run, advance, new_run
from nself_deploy.core.model import Slot, Split, StepStatus
from nself_deploy.core.plan import Facts, Plan, Timing, plan_blue_green, plan_rollback
from nself_deploy.core.plan_canary import plan_canary
from tests.unit.plans import a_canary, a_project, a_release

FAILURE = Failure("it broke", unhealthy=True)

FACTS = st.builds(
    Facts,
    live=st.sampled_from([None, Slot.PLAIN, Slot.BLUE, Slot.GREEN]),
    live_release=st.just("old"),
    occupied=st.sampled_from([(), (Slot.BLUE,), (Slot.GREEN,), (Slot.BLUE, Slot.GREEN)]),
    stopped_shared=st.sampled_from([(), ("db",), ("db", "cache")]),
    router_running=st.booleans(),
)
TIMING = st.builds(Timing, standby_s=st.sampled_from([0.0, 600.0]), bake_s=st.sampled_from([0.0, 60.0]))
SINGLES = st.booleans()


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A deploy (blue-green or canary) or a warm rollback from any facts."""
    project, release = a_project(), a_release(single=draw(SINGLES))
    facts, timing = draw(FACTS), draw(TIMING)
    if draw(st.booleans()) and facts.live in (Slot.BLUE, Slot.GREEN):
        facts = msgspec.structs.replace(
            facts,
            standby=facts.live.other,
            standby_release=release.id,
            standby_warm=True,
            occupied=(Slot.BLUE, Slot.GREEN),
        )
        return plan_rollback(project, release, facts, timing, "local")
    if draw(st.booleans()):
        return plan_canary(project, release, facts, timing, "local", a_canary())
    return plan_blue_green(project, release, facts, timing, "local")


def play(run: Run, events: list[machine.Event]) -> tuple[Run, list[do.Effect]]:
    """Feed events, then successes until the run ends; all effects in order."""
    seen: list[do.Effect] = []
    queue = [machine.Begin(), *events]
    while not run.ended:
        run, effects = advance(run, queue.pop(0) if queue else machine.Done())
        seen += effects
        if not effects and not run.ended:
            break
    return run, seen


@given(plans())
def test_a_run_without_trouble_performs_every_step_once_and_ends_done(plan: Plan) -> None:
    run, seen = play(new_run("r", plan, "t"), [])

    assert run.outcome is Outcome.DONE
    assert seen == [s.effect for s in plan.steps]
    assert all(s.status is StepStatus.DONE for s in run.steps)


@given(plans(), st.integers(0, 20))
def test_a_failure_before_the_commit_ends_with_traffic_where_it_was(plan: Plan, at: int) -> None:
    run, seen = play(new_run("r", plan, "t"), [machine.Done()] * at + [machine.Failed(FAILURE)])
    commit = next(i for i, s in enumerate(plan.steps) if s.commits)
    if at > commit:
        return

    assert run.outcome is Outcome.FAILED
    moves = [e for e in seen if isinstance(e, do.MoveTraffic)]
    if plan.live is not None and moves:
        assert moves[-1].split == Split.all_to(plan.live)
    if plan.live is None or plan.candidate not in (None, plan.live):
        started = any(isinstance(e, do.StartSlot) for e in seen)
        removed = [i for i, e in enumerate(seen) if e == do.RemoveSlot(plan.candidate or Slot.BLUE)]
        assert not started or removed
    assert isinstance(seen[-1], do.Record)


@given(plans(), st.integers(0, 20))
def test_traffic_is_taken_back_before_the_candidate_goes(plan: Plan, at: int) -> None:
    run, seen = play(new_run("r", plan, "t"), [machine.Done()] * at + [machine.Failed(FAILURE)])
    if plan.live is None or run.outcome is not Outcome.FAILED:
        return
    for index, effect in enumerate(seen):
        if isinstance(effect, do.RemoveSlot) and effect.slot is plan.candidate:
            before = [e for e in seen[:index] if isinstance(e, do.MoveTraffic)]

            assert not before or before[-1].split == Split.all_to(plan.live)


@given(plans(), st.integers(0, 20))
def test_the_live_slot_is_stopped_only_after_traffic_moved_and_it_was_drained(plan: Plan, at: int) -> None:
    _, seen = play(new_run("r", plan, "t"), [machine.Done()] * at + [machine.Failed(FAILURE)])
    for index, effect in enumerate(seen):
        if (isinstance(effect, do.RemoveSlot) and effect.slot is plan.live) or isinstance(effect, do.RetirePlain):
            kinds = [type(e) for e in seen[:index]]

            assert do.MoveTraffic in kinds
            assert kinds.index(do.Drain) > kinds.index(do.MoveTraffic)
            assert plan.candidate is not None
            assert [e for e in seen[:index] if isinstance(e, do.MoveTraffic)][-1].split == Split.all_to(plan.candidate)


@given(plans())
def test_traffic_moves_only_to_a_slot_that_was_proved(plan: Plan) -> None:
    _, seen = play(new_run("r", plan, "t"), [])
    moved = next(i for i, e in enumerate(seen) if isinstance(e, do.MoveTraffic))
    proofs = [e for e in seen[:moved] if isinstance(e, do.ProveHealth | do.ProbeWarm)]

    assert proofs and proofs[-1].slot is plan.candidate


@given(plans(), st.integers(0, 20))
def test_a_failure_after_the_commit_leaves_the_run_for_the_next_command_which_finishes_it(plan: Plan, at: int) -> None:
    commit = next(i for i, s in enumerate(plan.steps) if s.commits)
    at = min(max(at, commit + 1), len(plan.steps) - 1)
    run, _ = play(new_run("r", plan, "t"), [machine.Done()] * at + [machine.Failed(FAILURE)])

    assert not run.ended and run.phase is Phase.FORWARD

    run, effects = advance(run, machine.Resumed())
    assert effects == (plan.steps[at].effect,)
    while not run.ended:
        run, effects = advance(run, machine.Done())
    assert run.outcome is Outcome.DONE


@given(plans(), st.integers(0, 20))
def test_an_interruption_undoes_what_is_not_committed_and_finishes_what_is(plan: Plan, at: int) -> None:
    commit = next(i for i, s in enumerate(plan.steps) if s.commits)
    at = min(at, len(plan.steps) - 1)
    run, _ = play(new_run("r", plan, "t"), [machine.Done()] * at + [machine.Interrupt()])

    assert run.outcome is (Outcome.INTERRUPTED if at <= commit else Outcome.DONE)


@given(plans(), st.integers(0, 20), st.integers(0, 20))
def test_a_crash_anywhere_also_during_the_undo_reaches_an_end(plan: Plan, at: int, undo_at: int) -> None:
    run, effects = advance(new_run("r", plan, "t"), machine.Begin())
    for _ in range(at):
        if run.ended:
            break
        run, effects = advance(run, machine.Done())
    if not run.ended:
        reread = msgspec.json.decode(msgspec.json.encode(run), type=Run)
        assert reread == run
        run, effects = advance(reread, machine.Resumed())
    for _ in range(undo_at):
        if run.ended:
            break
        run, effects = advance(run, machine.Done())
    if not run.ended:
        again, repeated = advance(run, machine.Resumed())
        assert repeated == effects or again.phase is not run.phase
        run = again
    for _ in range(100):
        if run.ended:
            break
        run, effects = advance(run, machine.Done())

    assert run.ended


@given(plans())
def test_no_step_is_left_running_or_pending_at_the_end(plan: Plan) -> None:
    for at in range(len(plan.steps)):
        run, _ = play(new_run("r", plan, "t"), [machine.Done()] * at + [machine.Failed(FAILURE)])
        if run.ended:
            assert not [s for s in run.steps if s.status in (StepStatus.RUNNING, StepStatus.PENDING)]


def warm_rollback(*, single: bool = False) -> Plan:
    facts = Facts(
        live=Slot.GREEN, live_release="bad", standby=Slot.BLUE, standby_release="new", standby_warm=True,
        occupied=(Slot.BLUE, Slot.GREEN),
    )  # fmt: skip
    return plan_rollback(a_project(), a_release(single=single), facts, Timing(), "local")


@given(SINGLES, st.sampled_from([1, 2, 6]))
def test_a_warm_way_back_leaves_users_where_they_are_when_the_rest_can_not_be_done(single: bool, status: int) -> None:
    away = machine.Failed(Failure("no engine", exit_status=status))
    run, _ = play(new_run("r", warm_rollback(single=single), "noon"), [machine.Done(), machine.Done(), away])

    assert run.left and not run.ended and not run.rolled_back and run.percent == 100
    again, effects = advance(run, machine.Resumed(finish=True))
    assert isinstance(effects[0], do.ProbeWarm)
    while not again.ended:
        again, _ = advance(again, machine.Done())
    assert again.outcome is Outcome.DONE


def test_a_warm_way_back_to_a_slot_that_is_ill_is_undone() -> None:
    run, effects = play(
        new_run("r", warm_rollback(), "noon"), [machine.Done(), machine.Done(), machine.Failed(FAILURE)]
    )

    assert run.outcome is Outcome.FAILED and run.rolled_back and not run.left
    assert do.MoveTraffic(Split.all_to(Slot.GREEN)) in effects
