"""Pauses and processes that are killed just before one is on record, or that go on with it at once."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from nself_deploy.app import asking, recovery
from nself_deploy.app.pausing import Paused
from nself_deploy.core import machine
from nself_deploy.core.asking import Answer, Wanted, answer_key
from nself_deploy.core.machine import Phase
from nself_deploy.core.pauses import Limit, Then
from nself_deploy.core.recovery import Standing, Wish
from nself_deploy.errors import Parked
from tests.unit.judging_scene import TEN, a_scene
from tests.unit.test_machine_canary import a_plan, at_step
from tests.unit.test_pauses import planned


async def test_a_kill_before_the_pause_is_on_record_does_not_skip_it() -> None:
    """What the judge knows is written down first, then that the run is parked."""
    scene = planned(Limit(600.0, Then.PROMOTE))
    with pytest.raises(Paused):
        await scene.judge("judge:10")

    assert scene.run.phase is Phase.FORWARD  # the process is killed here
    with pytest.raises(Paused, match="paused at 10 %, as planned"):
        await scene.judge("judge:10")


def test_a_planned_pause_is_made_again_by_a_candidate_that_begins_again() -> None:
    run, _ = machine.advance(at_step(a_plan(), "judge:10"), machine.Park(machine.Parking("paused", planned=True)))
    assert run.paused == ("judge:10",)
    run, _ = machine.advance(run, machine.Resumed(finish=True))
    assert run.paused == ("judge:10",) and run.phase is Phase.FORWARD
    while (step := run.current()) is not None and step.key != "judge:50":
        run, _ = machine.advance(run, machine.Done())
    run, _ = machine.advance(run, machine.Park(machine.Parking("both fail", "hold", back=True)))
    run, _ = machine.advance(run, machine.Done())
    run, _ = machine.advance(run, machine.Resumed(finish=True))

    assert run.paused == ()


async def test_nothing_counts_as_paused_before_that_is_on_record() -> None:
    scene = a_scene()
    asked: list[asyncio.Future[Answer | None]] = []
    scene.at[20.0] = lambda: asked.append(asyncio.ensure_future(asking.ask(scene.world, scene.run, Wanted.PAUSE)))
    with pytest.raises(Parked):
        await scene.judge("judge:10")
    scene.owner = None  # the process is killed here

    assert await asked[0] is None


async def test_who_resumes_at_once_leaves_an_answer_to_who_asked_for_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, said = a_scene(), Answer("one", done=True, words="paused by ann at 10 %")
    parking = machine.Parking(said.words, asked=said.id)
    scene.run, _ = machine.advance(scene.run, machine.Park(parking))

    async def waits(_world: Any, _run: Any) -> Standing:
        return Standing(TEN, True)

    async def stays(_runner: Any, run: Any, _event: Any) -> Any:
        return run

    monkeypatch.setattr(recovery, "standing", waits)
    monkeypatch.setattr(recovery.Runner, "run", stays)
    await recovery.recover(scene.world, asyncio.Event(), Wish.RESUME)

    assert msgspec.json.decode(scene.words[answer_key(scene.run.id)], type=Answer) == said
