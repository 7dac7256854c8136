"""The way back to a warm release: users first, whatever the engine does, and wherever the process dies."""

from __future__ import annotations

import pytest

from nself_deploy.core.model import Split
from tests.simulation.history import History, begun, in_virtual_time, played
from tests.simulation.process import Fault
from tests.simulation.schedule import Command, Schedule
from tests.simulation.shop import Shape

WARM = Shape(standby=True, single=True)
FAULTS = ("kill-before", "kill-after", "refuse", "lost", "engine-down", "person-stops-router", "disk-full")


def schedule(*commands: Command, shape: Shape = WARM) -> Schedule:
    return Schedule(1, shape, "standby", commands)


def after_a_rollback_without_an_engine() -> tuple[Split | None, Split | None, History]:
    """Where requests went before and after, and the history."""
    one = History(schedule(Command("rollback")))
    world = one.world
    world.restore(begun(WARM, "standby"))
    before = world.disk.split
    world.engine_back = world.now + 10_000.0
    one.watch.begin()
    in_virtual_time(world, one._command(0, one.schedule.commands[0]))
    return before, world.disk.split, one


def test_users_are_back_while_the_engine_is_down_and_the_run_is_left() -> None:
    before, after, history = after_a_rollback_without_an_engine()

    (run,) = (run for run in history.world.disk.saved.runs.values() if not run.ended)
    assert before is not None and after is not None and run.plan.candidate is not None
    assert (before.base, after.base) == (run.plan.live, run.plan.candidate)
    assert run.left and run.percent == 100 and run.failure is not None
    assert history.watch.found == []


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_anywhere_is_put_right(kind: str) -> None:
    for at in range(1, 30, 2):
        one = schedule(Command("rollback", faults=(Fault(at, kind, at % 6),)), Command("resume"))
        assert played(one).violations == (), (kind, at)


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("other", ["deploy", "rollback", "resume", "abort"])
def test_another_command_at_the_same_time_breaks_nothing(other: str, elsewhere: bool) -> None:
    version = "good" if other == "deploy" else ""
    for after in (0.0, 0.05, 0.3, 1.0, 2.5):
        second = {"elsewhere": elsewhere, "second_after": after}
        for one in (
            schedule(Command("rollback", second=other, **second)),
            schedule(Command(other, version=version, second="rollback", **second)),
        ):
            assert played(one).violations == (), (other, after)
