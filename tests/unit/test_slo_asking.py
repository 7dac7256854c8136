"""Objectives that Prometheus is asked about, in a watch and in a bake: over what users met, and while it is away."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from nself_deploy.app import baking
from nself_deploy.app.slo_asking import ready
from nself_deploy.app.slo_guard import End, Guard
from nself_deploy.app.slo_watch import SloWatch, bake_key
from nself_deploy.app.world import World
from nself_deploy.cli.watched import document_of, status_of
from nself_deploy.core.effects import Bake
from nself_deploy.core.log_moves import Move
from nself_deploy.core.metrics import Outcome, Reading
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.past_moves import live_since, shared_since
from nself_deploy.core.plan import Kind
from nself_deploy.core.rollback import Request, RollbackUIState, ServiceRollback
from nself_deploy.core.slo import Queries, availability, ratio
from nself_deploy.core.slo_alerts import Alert
from nself_deploy.errors import ConfigError, Exit, Unhealthy
from nself_deploy.wiring.watching import Watched
from tests.unit.slo_scene import NOON, SloScene

CHECKOUTS = ratio(99.9, "checkouts", Queries("total[{{window}}]", "bad[{{window}}]"), "web")
_ASKED = re.compile(r"(total|bad)\[(\d+)s\]")


class Memory:
    """A Prometheus that knows what the users of a scene met, since some time; or says what it is told to say."""

    def __init__(self, scene: SloScene) -> None:
        self.scene = scene
        self.since = 0.0
        self.says: Reading | None = None
        self.asked: list[tuple[str, float | None]] = []
        self.waiting = self.most = 0
        self.hangs = False
        self.read, self.known = 0, list[tuple[float, bool]]()

    def check(self) -> None:
        if self.says is not None and self.says.outcome is Outcome.WRONG:
            raise ConfigError("Others may read it.", "chmod 600 it.")

    async def ask(self, query: str, at: float | None = None) -> Reading:
        self.asked.append((query, at))
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await asyncio.sleep(0)
            if self.hangs:
                await asyncio.Event().wait()
            return self.says or self._count(query, at or self.scene.now)
        finally:
            self.waiting -= 1

    def _count(self, query: str, at: float) -> Reading:
        found = _ASKED.fullmatch(query)
        if found is None:
            return Reading.wrong("no PromQL")
        if at < self.since:
            return Reading.no_data("no series")
        with self.scene.path.open() as log:
            log.seek(self.read)
            self.known += [(line["time"], line["status"] == "500") for line in map(json.loads, log.readlines())]
            self.read = log.tell()
        start = max(self.since, at - int(found[2]))
        return Reading.of(float(sum(found[1] == "total" or bad for time, bad in self.known if start < time <= at)))


class Site:
    """A watched project with a Prometheus; rollbacks succeed."""

    def __init__(self, scene: SloScene) -> None:
        self.scene, self.memory = scene, Memory(scene)
        self.scene.world.metrics = self.memory
        self.asked: list[tuple[float, Request]] = []

    async def roll_back(self, request: Request) -> ServiceRollback:
        self.asked.append((self.scene.now, request))
        self.scene.deploy("one", web="one", kind=Kind.ROLLBACK)
        return ServiceRollback(RollbackUIState.POPULATED, request.service, request.environment, "one")

    async def watch(self, seconds: float) -> End:
        slo = SloWatch(self.scene.world, (availability("50"), CHECKOUTS))
        end = await Guard(self.scene.world, slo, self.roll_back).run(seconds, asyncio.Event())
        await slo.close()
        assert self.memory.waiting == 0
        self.found = Watched(end, None)
        return end

    @property
    def status(self) -> Exit:
        return status_of(self.found, timed=True)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Release two went live a moment ago."""
    scene = SloScene(tmp_path)
    scene.deploy("one", web="one")
    scene.serve(60)
    scene.deploy("two", web="two")
    with scene.journal:
        yield Site(scene)


async def test_a_release_that_fails_is_rolled_back_with_reason_and_evidence(site: Site) -> None:
    site.scene.at[100.0] = lambda: site.scene.wrong.update(two=0.05)
    await site.watch(600)

    [(at, request)] = site.asked
    assert 120 <= at - NOON < 160
    assert request.reason.startswith("slo-watcher: checkouts 99.9 % burn ") and "x over 1m/" in request.reason
    assert "requests were bad" in request.evidence[1] and "by Prometheus' count" in request.evidence[1]
    assert (request.service, request.whole, site.status) == ("web", True, Exit.FAILED)
    assert "watching availability 50 %, checkouts 99.9 %; two is live" in site.scene.notes


async def test_few_are_asked_at_a_time_and_not_often(site: Site) -> None:
    await site.watch(200)

    assert site.memory.most <= 4
    moments = {at for _, at in site.memory.asked}
    assert len(moments) <= 200 / 15 + 2
    assert site.status is Exit.OK
    [_, line] = document_of(site.found, Exit.OK, 1).objectives
    assert (line.objective, line.source, line.no_data, line.bad) == ("checkouts 99.9 %", "prometheus", "", 0)
    assert line.requests > 1000


async def test_what_burnt_before_is_left_alone(tmp_path: Path) -> None:
    scene = SloScene(tmp_path, wrong={"one": 0.2, "two": 0.2})
    scene.deploy("one", web="one")
    scene.serve(60)
    scene.deploy("two", web="two")
    site = Site(scene)
    end = await site.watch(200)

    assert site.asked == [] and end.alerts == [] and site.status is Exit.OK


async def test_a_prometheus_that_is_away_is_said_and_nothing_is_rolled_back(site: Site) -> None:
    site.scene.wrong = {"two": 0.3}
    site.memory.says = Reading.error("http://p: can't be reached")
    end = await site.watch(200)

    assert site.asked == [] and end.alerts == []
    assert site.scene.notes[1] == "no data: checkouts 99.9 % can't be judged: `total`: http://p: can't be reached"
    assert len(site.scene.notes) == 2 and site.status is Exit.PARKED
    document = document_of(site.found, site.status, 1)
    assert document.error == "no data: checkouts 99.9 %: `total`: http://p: can't be reached"
    assert document.objectives[1].no_data and not document.success


async def test_when_it_is_back_it_says_what_was_before_and_the_release_goes_back(site: Site) -> None:
    site.scene.wrong = {"two": 0.3}
    site.memory.says = Reading.no_data("no series")
    site.scene.at[250.0] = lambda: setattr(site.memory, "says", None)
    await site.watch(600)

    [(at, _)] = site.asked
    assert 250 <= at - NOON < 330
    assert "data again: checkouts 99.9 % is judged" in site.scene.notes


async def test_an_alert_that_fires_when_prometheus_goes_has_not_stopped(site: Site) -> None:
    site.scene.wrong = {"two": 0.011}  # slow
    site.scene.at[300.0] = lambda: setattr(site.memory, "says", Reading.error("away"))
    end = await site.watch(300)

    assert end.alerts[-1].firing and end.alerts[-1].alert.windows.pace == "slow"
    assert site.scene.notes[-1].startswith("no data: checkouts 99.9 %")


async def test_an_answer_that_never_comes_holds_nothing_up(site: Site) -> None:
    site.memory.hangs = True
    end = await site.watch(120)

    assert "not 1m old, or there was no answer yet" in end.unmeasured and site.status is Exit.PARKED


async def test_a_prometheus_that_does_not_know_the_past_is_believed_about_what_begins_later(site: Site) -> None:
    site.memory.since = site.scene.now + 1
    site.scene.at[200.0] = lambda: site.scene.wrong.update(two=0.3)
    await site.watch(600)
    assert len(site.asked) == 1

    site.scene.deploy("two", web="two")
    site.scene.wrong, site.memory.since = {"two": 0.3}, site.scene.now + 1
    await site.watch(200)
    assert len(site.asked) == 1 and site.status is Exit.PARKED
    assert "nobody knows whether it did before the release" in site.found.end.unmeasured


async def looks(watch: SloWatch, scene: SloScene, seconds: float) -> tuple[Alert, ...]:
    """The alerts after so long."""
    alerts: tuple[Alert, ...] = ()
    for _ in range(round(seconds)):
        await scene.sleep(1)
        for _ in range(60):
            await asyncio.sleep(0)
        alerts = watch.look()
    return alerts


async def test_after_a_kill_it_is_still_known_what_is_old(site: Site) -> None:
    scene = site.scene
    scene.wrong = {"two": 0.3}
    watch = SloWatch(scene.world, (CHECKOUTS,))
    assert await looks(watch, scene, 90)
    watch.save()
    await watch.close()
    site.memory.since = scene.now - 10  # nobody could tell now
    again = SloWatch(scene.world, (CHECKOUTS,))
    assert again.state.asked == watch.state.asked
    [alert, *_] = await looks(again, scene, 40)
    await again.close()

    assert alert.since == pytest.approx(again.state.watch.live_since + 60, abs=2)


async def test_by_another_time_nothing_older_is_taken_for_the_releases(site: Site) -> None:
    scene = site.scene
    watch = SloWatch(scene.world, (CHECKOUTS,))
    assert await looks(watch, scene, 90) == ()
    scene.now -= 3600
    assert await looks(watch, scene, 30) == ()
    await watch.close()

    assert watch.state.asked.live_since > watch.state.watch.live_since
    assert any("set back" in note for note in scene.notes)


async def test_a_bake_goes_by_it_too(site: Site) -> None:
    scene = site.scene
    run = scene.deploy("three", web="three", halt="bake")
    scene.world.objectives = (ratio(99.99, "checkouts", CHECKOUTS.queries or Queries("", ""), "web"),)
    scene.wrong["three"] = 0.008  # the bake itself allows 1 %
    with pytest.raises(Unhealthy, match=r"burns the error budget of an objective: checkouts 99.99 % burn ") as caught:
        await baking.bake(scene.world, run, Bake(Slot.BLUE, 600.0))

    assert "by Prometheus' count" in caught.value.evidence[0] and site.memory.waiting == 0
    assert scene.journal.meta(bake_key(run.id))


async def test_a_bake_without_data_says_so_and_takes_nothing_back(site: Site) -> None:
    run = site.scene.deploy("three", web="three", halt="bake")
    site.scene.world.objectives = (CHECKOUTS,)
    site.memory.says = Reading.error("away")

    words = await baking.bake(site.scene.world, run, Bake(Slot.BLUE, 90.0))
    assert words.startswith("over; ") and words.endswith("; no data of checkouts 99.9 %: `total`: away")


async def test_what_can_never_be_measured_is_refused_before_it_is_watched(site: Site) -> None:
    world = site.scene.world
    await ready(world, (availability("99"), CHECKOUTS))
    assert site.memory.asked == [("total[60s]", None), ("bad[60s]", None)]
    site.memory.says = Reading.error("away")
    await ready(world, (CHECKOUTS,))
    assert len(site.memory.asked) == 3

    site.memory.says = None
    world.objectives = (availability("99"), ratio(99, "x", Queries("total[{{window}}]", "sum(")))
    with pytest.raises(ConfigError, match="The objective x 99 % can't be measured: no PromQL") as caught:
        await ready(world, world.objectives)
    assert caught.value.where == "x-nself-deploy.slo[1].prometheus.bad"
    site.memory.says = Reading.wrong("x")
    with pytest.raises(ConfigError, match="Others may read it"):
        await ready(world, (CHECKOUTS,))
    await ready(cast("World", SimpleNamespace(metrics=None)), (CHECKOUTS,))


def test_what_a_canary_got_is_not_before_it() -> None:
    blue, green = Split.all_to(Slot.BLUE), Split.all_to(Slot.GREEN)
    shares = [Move(Split(Slot.BLUE, Slot.GREEN, share), float(share)) for share in (10, 50)]

    assert (shared_since([Move(blue), *shares, Move(green, 100.0)]), live_since([Move(blue), Move(green, 9.0)])) == (
        10,
        9,
    )
    assert shared_since([Move(green, 5.0)]) == 0.0
    assert shared_since([Move(blue, 1.0), Move(green, 5.0), Move(blue, 7.0)]) == 7.0
