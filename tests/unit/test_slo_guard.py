"""What follows from an alert: one rollback of what was deployed last, or words why not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nself_deploy.adapters.watch_lock import WatchLock
from nself_deploy.app import baking, judging
from nself_deploy.app.service_rollback import look, note
from nself_deploy.app.slo_guard import AGAIN_S, End, Guard
from nself_deploy.app.slo_watch import SloWatch, bake_key
from nself_deploy.cli.watched import document_of, status_of
from nself_deploy.core.effects import Bake
from nself_deploy.core.model import Slot
from nself_deploy.core.plan import Cause, Kind
from nself_deploy.core.rollback import STATUS, Request, RollbackUIState, ServiceRollback
from nself_deploy.core.slo import availability
from nself_deploy.errors import Exit, Locked, Unhealthy
from nself_deploy.wiring.watching import Watched
from tests.unit.slo_scene import NOON, SloScene

THREE_NINES = (availability("99.9 %"),)


class Site:
    """A watched project; rollbacks are what is asked for, and end in these states one after the other."""

    def __init__(self, scene: SloScene) -> None:
        self.scene = scene
        self.asked: list[tuple[float, Request]] = []
        self.states = [RollbackUIState.POPULATED]
        self.stop = asyncio.Event()

    async def roll_back(self, request: Request) -> ServiceRollback:
        scene = self.scene
        self.asked.append((scene.now, request))
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        done = state is RollbackUIState.POPULATED
        if done:
            scene.deploy("one", web="one", kind=Kind.ROLLBACK)
        error = "" if done else f"it is {state}"
        return ServiceRollback(
            state, request.service, request.environment, "one", error, exit_status=int(STATUS[state])
        )

    async def watch(self, seconds: float | None) -> End:
        slo = SloWatch(self.scene.world, THREE_NINES)
        end = await Guard(self.scene.world, slo, self.roll_back).run(seconds, self.stop)
        self.found = Watched(end, None)
        return end

    def status(self, *, timed: bool = True) -> Exit:
        status = status_of(self.found, timed=timed)
        document = document_of(self.found, status, 1)
        assert document.success is (status is Exit.OK) and bool(document.error) is not document.success
        return status


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Release two went live a moment ago."""
    scene = SloScene(tmp_path)
    scene.deploy("one", web="one")
    scene.serve(60)
    scene.deploy("two", web="two")
    with scene.journal:
        yield Site(scene)


async def test_a_release_that_keeps_its_objectives_is_left_alone(site: Site) -> None:
    end = await site.watch(20)

    assert site.asked == [] and end.alerts == [] and end.release == "two"
    assert site.scene.notes == ["watching availability 99.9 %; two is live"]
    assert site.status() is Exit.OK


async def test_a_fast_alert_rolls_back_once_with_reason_and_evidence(site: Site) -> None:
    site.scene.at[80.0] = lambda: site.scene.wrong.update(two=0.05)
    end = await site.watch(3600)

    [(at, request)] = site.asked
    assert at - NOON < 140
    assert (request.service, request.environment, request.whole) == ("web", "local", True)
    assert request.reason.startswith("slo-watcher: availability 99.9 % burn ") and "x over " in request.reason
    assert "requests were bad" in request.evidence[1] and "live for" in request.evidence[2]
    assert end.state is not None and end.state.prior_version == "one"
    assert any(note.startswith("rolled back to one: availability 99.9 %") for note in site.scene.notes)
    assert site.status() is Exit.FAILED
    document = document_of(site.found, Exit.FAILED, 1)
    assert document.ui_state is RollbackUIState.POPULATED and document.alerts[-1].pace == "fast"
    assert document.objectives[0].objective == "availability 99.9 %"


async def test_for_good_it_goes_on_and_never_goes_back_and_forth(site: Site) -> None:
    site.scene.wrong = {"two": 0.5}
    site.scene.at[120.0] = lambda: site.scene.wrong.update(one=0.5)
    site.scene.at[300.0] = site.stop.set
    end = await site.watch(None)

    assert len(site.asked) == 1 and end.release == "one"
    assert "came back" in end.helpless
    assert site.status(timed=False) is Exit.OK


async def test_a_slow_alert_is_only_told(site: Site) -> None:
    site.scene.wrong = {"two": 0.009}
    end = await site.watch(300)

    assert site.asked == [] and {told.alert.windows.pace for told in end.alerts} == {"slow"}
    assert site.status() is Exit.OK


async def test_what_was_wrong_before_is_never_rolled_back(tmp_path: Path) -> None:
    scene = SloScene(tmp_path, wrong={"one": 0.2, "two": 0.2})
    scene.deploy("one", web="one")
    scene.serve(60)
    scene.deploy("two", web="two")
    site = Site(scene)
    end = await site.watch(60)

    assert site.asked == [] and end.alerts == [] and site.status() is Exit.OK


async def test_an_engine_that_is_away_is_asked_again(site: Site) -> None:
    site.scene.wrong = {"two": 0.5}
    site.states = [RollbackUIState.OFFLINE, RollbackUIState.OFFLINE, RollbackUIState.POPULATED]
    await site.watch(600)

    first, second, third = (at for at, _ in site.asked)
    assert second - first >= AGAIN_S and third - second >= 2 * AGAIN_S
    assert site.status() is Exit.FAILED


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (RollbackUIState.RATE_LIMITED, Exit.REFUSED),
        (RollbackUIState.EMPTY, Exit.USAGE),
        (RollbackUIState.ERROR, Exit.FAILED),
    ],
)
async def test_a_rollback_that_is_refused_ends_a_timed_watch(site: Site, state: RollbackUIState, status: Exit) -> None:
    site.scene.wrong = {"two": 0.5}
    site.states = [state]
    end = await site.watch(600)

    assert len(site.asked) == 1 and end.helpless == f"it is {state}"
    assert site.scene.now - NOON < 120 and site.status() is status


async def test_a_rollback_that_was_refused_is_not_asked_for_again_and_again(site: Site) -> None:
    site.scene.wrong = {"two": 0.5}
    site.states = [RollbackUIState.RATE_LIMITED]
    site.scene.at[400.0] = site.stop.set
    await site.watch(None)

    assert len(site.asked) == 1


async def test_a_deploy_that_runs_decides_by_itself(site: Site) -> None:
    scene = site.scene
    scene.wrong = {"three": 0.5}
    scene.deploy("three", web="three", halt="watch")
    scene.owner = "somebody"
    end = await site.watch(60)
    assert site.asked == [] and "a deploy is under way" in end.helpless
    assert site.status() is Exit.PARKED


async def test_a_person_ends_it(site: Site) -> None:
    site.scene.at[70.0] = site.stop.set
    end = await site.watch(600)

    assert end.stopped and site.status() is Exit.INTERRUPTED and site.status(timed=False) is Exit.OK


def test_one_watch_at_a_time(tmp_path: Path) -> None:
    with WatchLock(tmp_path), pytest.raises(Locked, match="watched by another process"), WatchLock(tmp_path):
        pass
    with WatchLock(tmp_path):
        pass


async def test_a_bake_goes_by_the_objectives_beside_its_own_test(site: Site) -> None:
    scene = site.scene
    run = scene.deploy("three", web="three", halt="bake")
    scene.world.objectives = (availability("99.99"),)
    scene.wrong = {"three": 0.008}  # the bake itself allows 1 %
    with pytest.raises(
        Unhealthy, match=r"burns the error budget of an objective: availability 99.99 % burn "
    ) as caught:
        await baking.bake(scene.world, run, Bake(Slot.BLUE, 600.0))

    assert "requests were bad" in caught.value.evidence[0]
    assert scene.journal.meta(bake_key(run.id))
    judging.forget(scene.world, run)
    assert not scene.journal.meta(bake_key(run.id))


async def test_a_bake_whose_objectives_are_kept_goes_on_to_its_end(site: Site) -> None:
    run = site.scene.deploy("three", web="three", halt="bake")
    site.scene.world.objectives = THREE_NINES

    assert (await baking.bake(site.scene.world, run, Bake(Slot.BLUE, 20.0))).startswith("over; 0 of ")


def test_the_whole_release_goes_back_and_not_one_service_of_it(site: Site) -> None:
    site.scene.deploy("three", web="three", api="three")
    whole = look(site.scene.world, Request("web", "local", whole=True))
    single = look(site.scene.world, Request("web", "local"))

    assert whole is not None and whole.to.id == "two"
    assert single is not None and single.to.images["api"].id == "sha256:three"


async def test_the_audit_trail_has_reason_and_evidence_of_a_rollback(site: Site) -> None:
    site.scene.wrong = {"two": 0.5}
    await site.watch(60)
    [(_, request)] = site.asked
    scene = site.scene
    scene.deploy("four", web="four")
    plan = scene.journal.history(1)[0].plan
    cause = Cause(request.service, request.reason, evidence=request.evidence)
    scene.perform(msgspec.structs.replace(plan, kind=Kind.ROLLBACK, cause=cause))
    note(scene.journal, request, "refused", "the breaker is open", "")
    refused, done = scene.journal.events(2)

    assert (done.service, done.reason) == ("web", request.reason)
    assert done.metadata["evidence"] == refused.metadata["evidence"] == list(request.evidence)
    assert "key" not in done.metadata and "key" not in refused.metadata
