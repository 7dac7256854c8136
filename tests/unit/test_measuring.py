"""Asking for metrics while a canary is watched: in time, beside the log, and never in the way of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from nself_deploy.app import measuring
from nself_deploy.app.world import World
from nself_deploy.core.analysis import Analysis, Mode
from nself_deploy.core.metrics import Condition, Metric, Reading
from nself_deploy.core.plan import Plan
from nself_deploy.core.recorder import Recorder
from nself_deploy.errors import ConfigError, InfrastructureError, Parked, Unhealthy
from tests.unit.judging_scene import NOON, TEN, Scene
from tests.unit.test_machine_canary import a_plan, at_step

ERRORS = Metric("errors", 'e{slot="{{slot}}",of="{{release}}"}', success=Condition(below=0.1))
LATE = Metric("late", 'late{slot="{{live_slot}}"}[{{window}}]', success=Condition(below=1))


class Answers:
    """Says what it is told to say about each query, at once or (None) never."""

    def __init__(self, answer: Callable[[str], Reading | None], wrong: ConfigError | None = None) -> None:
        self.answer, self.wrong = answer, wrong
        self.asked: list[str] = []
        self.waiting = self.most = 0

    def check(self) -> None:
        if self.wrong is not None:
            raise self.wrong

    async def ask(self, query: str, at: float | None = None) -> Reading:
        self.asked.append(query)
        answer = Reading.of(1.0) if query == "vector(1)" else self.answer(query)
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            if answer is None:
                await asyncio.Event().wait()
                raise AssertionError
            await asyncio.sleep(0)
            return answer
        finally:
            self.waiting -= 1


@dataclass
class Measured(Scene):
    """A canary that is judged by metrics as well."""

    metrics: Answers = field(default_factory=lambda: Answers(lambda _: Reading.of(0.0)))

    @property
    def world(self) -> World:
        world = super().world
        world.metrics = self.metrics
        return world


def a_measured(answer: Callable[[str], Reading | None], *metrics: Metric, **more: Any) -> Measured:
    plan = msgspec.structs.replace(a_plan(), metrics=metrics or (ERRORS,))
    scene = Measured(at_step(plan, "judge:10"), metrics=Answers(answer), **more)
    scene.give(TEN)
    return scene


async def test_good_metrics_let_it_go_on_and_are_asked_for_in_their_time() -> None:
    scene = a_measured(lambda _: Reading.of(0.0), ERRORS, LATE)
    words = await scene.judge("judge:10")

    assert words.startswith("inconclusive: good enough for 50 %")
    assert scene.now - NOON == pytest.approx(300, abs=1)
    assert set(scene.metrics.asked) == {'e{slot="green",of="new"}', 'late{slot="blue"}[60s]'}
    assert len(scene.metrics.asked) == pytest.approx(2 * (1 + 240 / 15), abs=4)
    judge = scene.session.metrics
    assert judge is not None and judge.tallies[0].good >= 15
    assert scene.replays() and b'["known","inconclusive",' in scene.record and b',"pass"]' in scene.record


async def test_a_bad_metric_takes_users_back_though_no_request_failed() -> None:
    scene = a_measured(lambda _: Reading.of(0.5))
    with pytest.raises(Unhealthy, match=r"failed at 10 %: the metric errors was bad 3 times in a row") as caught:
        await scene.judge("judge:10")

    assert scene.now - NOON == pytest.approx(60 + 2 * 15, abs=4)
    assert any("metric errors: 0.5" in line for line in caught.value.evidence)
    assert scene.replays() and b'["way",' in scene.record and b'"back","the metric errors was bad' in scene.record


async def test_an_outage_parks_it_with_its_users_back() -> None:
    scene = a_measured(lambda _: Reading.error("nobody answers"))
    with pytest.raises(Parked, match=r"invalid at 10 %: the metric errors could not be measured 4 times") as caught:
        await scene.judge("judge:10")

    assert (caught.value.verdict, caught.value.back) == ("invalid", True)
    assert scene.replays()
    assert scene.now - NOON == pytest.approx(60 + 3 * 15, abs=4)


async def test_a_short_outage_only_takes_time() -> None:
    answers = itertools.chain([Reading.of(0.0)] * 2, [Reading.error("away")] * 3, itertools.repeat(Reading.of(0.0)))
    scene = a_measured(lambda _: next(answers))

    assert (await scene.judge("judge:10")).startswith("inconclusive: good enough for 50 %")


async def test_no_data_is_waited_for_and_promotes_nothing() -> None:
    scene = a_measured(lambda _: Reading.no_data("no series"))
    with pytest.raises(Parked, match="inconclusive at 10 %") as caught:
        await scene.judge("judge:10")

    assert not caught.value.back
    assert any("3 more good values of errors: 0 of 3" in line for line in caught.value.evidence)


async def test_an_answer_that_never_comes_is_not_waited_for() -> None:
    scene = a_measured(lambda _: None)
    scene.at[100.0] = lambda: setattr(scene, "failing", 0.5)
    with pytest.raises(Unhealthy, match="more requests fail"):
        await scene.judge("judge:10")

    assert scene.now - NOON < 130
    assert (len(scene.metrics.asked), scene.metrics.waiting) == (1, 0)


async def test_few_are_asked_at_a_time() -> None:
    metrics = tuple(Metric(f"m{n}", f"m{n}", success=Condition(below=1)) for n in range(20))
    scene = a_measured(lambda _: Reading.of(0.0), *metrics)
    await scene.judge("judge:10")

    assert scene.metrics.most == measuring.AT_ONCE
    assert set(scene.metrics.asked) == {metric.query for metric in metrics}


async def test_a_kill_in_the_middle_forgets_no_measurement() -> None:
    scene = a_measured(lambda _: Reading.of(0.5), msgspec.structs.replace(ERRORS, failures_in_a_row=5, failures=0))
    task = asyncio.ensure_future(scene.judge("judge:10"))
    while scene.now < NOON + 100:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert scene.session.metrics is not None and scene.session.metrics.tallies[0].bad == 3
    with pytest.raises(Unhealthy, match="bad 5 times in a row"):
        await scene.judge("judge:10")

    assert scene.replays()
    assert scene.now - NOON == pytest.approx(60 + 4 * 15, abs=4)


async def test_nobody_is_named_any_more() -> None:
    scene = a_measured(lambda _: Reading.of(0.0))
    session = scene.session
    judge = session.metrics
    assert judge is not None
    async with measuring.Measuring(a_world(None), scene.run.plan, Recorder(session)) as asking:
        for at in (60.0, 61.0):
            asking.look(at)
            await asyncio.sleep(0)

    assert judge.tallies[0].last is not None and "is gone" in judge.tallies[0].last.detail


def a_world(metrics: Answers | None, notes: list[str] | None = None) -> World:
    return cast("World", SimpleNamespace(metrics=metrics, note=(notes if notes is not None else []).append))


def measured_plan(*metrics: Metric, mode: Mode = Mode.ENFORCE) -> Plan:
    return msgspec.structs.replace(a_plan(), metrics=metrics or (ERRORS,), analysis=Analysis(mode=mode))


async def test_before_anything_is_started_each_query_is_tried() -> None:
    answers = Answers(lambda _: Reading.no_data("nothing runs yet"))
    await measuring.ready(a_world(answers), measured_plan(ERRORS, LATE))

    assert answers.asked == ["vector(1)", 'e{slot="green",of="new"}', 'late{slot="blue"}[60s]']


async def test_a_query_that_can_never_be_answered_is_refused_with_its_place() -> None:
    answers = Answers(lambda query: Reading.wrong("no PromQL") if "late" in query else Reading.of(0.0))
    with pytest.raises(ConfigError, match="The metric late can't be measured: no PromQL") as caught:
        await measuring.ready(a_world(answers), measured_plan(ERRORS, LATE))

    assert caught.value.where == "x-nself-deploy.analysis.metrics[1].query"


@pytest.mark.parametrize("found", [Reading.error("it can't be reached"), Reading.of(2.0)])
async def test_nothing_is_started_when_prometheus_does_not_answer(found: Reading) -> None:
    answers = Answers(lambda _: found)
    answers.ask = lambda _: asyncio.sleep(0, found)  # type: ignore[method-assign]
    with pytest.raises(InfrastructureError, match="Metrics can't be measured: (it can't be reached|2.0)"):
        await measuring.ready(a_world(answers), measured_plan())


async def test_nothing_is_started_when_nobody_is_named_or_a_password_can_not_be_read() -> None:
    with pytest.raises(InfrastructureError, match="analysis.prometheus is gone"):
        await measuring.ready(a_world(None), measured_plan())
    wrong = ConfigError("Others may read it.", "chmod 600 it.")
    with pytest.raises(ConfigError, match="Others may read it"):
        await measuring.ready(a_world(Answers(lambda _: None, wrong)), measured_plan())


async def test_who_only_observes_is_told_and_not_refused() -> None:
    notes: list[str] = []
    await measuring.ready(a_world(None, notes), measured_plan(mode=Mode.OBSERVE))

    assert len(notes) == 1 and notes[0].startswith("metrics can't be observed: ")


async def test_without_metrics_or_a_judge_nobody_is_asked() -> None:
    await measuring.ready(a_world(None), a_plan())
    alone = msgspec.structs.replace(measured_plan(), steps=())
    await measuring.ready(a_world(None), alone)
