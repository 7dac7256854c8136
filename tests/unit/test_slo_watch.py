"""Watching objectives over a real log and a real journal: whose requests count, and what a watch knows after a kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nself_deploy.app.log_keeping import ALIVE_S, release_log, stop_recording, watched
from nself_deploy.app.slo_watch import STATE_KEY, SloWatch
from nself_deploy.core.journal_records import Entry, EntryKind
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.past_moves import LONGEST_S, live_of, live_since, moves_of
from nself_deploy.core.slo import Pace, availability, latency
from nself_deploy.core.slo_alerts import Alert
from nself_deploy.errors import UsageError
from tests.unit.slo_scene import NOON, SloScene

THREE_NINES = (availability("99.9 %"),)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[SloScene]:
    """Release one is live and served users for a while."""
    made = SloScene(tmp_path)
    made.deploy("one", web="one")
    made.serve(60)
    with made.journal:
        yield made


def fires(watch: SloWatch, scene: SloScene, seconds: float) -> tuple[Alert, ...]:
    """Users ask for so long, or until a fast alert fires."""
    end = scene.now + seconds
    while scene.now < end:
        scene.serve(1)
        alerts = watch.look()
        if any(alert.windows.pace is Pace.FAST for alert in alerts):
            return alerts
    return ()


def test_a_release_that_fails_later_is_found_and_named(scene: SloScene) -> None:
    scene.deploy("two", web="two")
    watch = SloWatch(scene.world, THREE_NINES)
    assert watch.state.release == "two" and watch.state.live_at == pytest.approx(scene.now, abs=2)
    assert fires(watch, scene, 30) == ()
    scene.wrong["two"] = 0.05
    began = scene.now
    alerts = fires(watch, scene, 300)

    assert alerts and scene.now - began < 60
    run = watch.brought_by()
    assert run is not None and watch.culprit(alerts[0], run) == "web"
    assert alerts[0].service == "web" and alerts[0].since > watch.state.watch.live_since


def test_the_service_that_was_changed_is_the_culprit_also_when_another_one_answers_badly(scene: SloScene) -> None:
    scene.deploy("two", web="one", api="two")
    watch = SloWatch(scene.world, THREE_NINES)
    scene.wrong["two"] = 0.5
    alerts, run = fires(watch, scene, 60), watch.brought_by()

    assert run is not None and alerts[0].service == "web" and watch.culprit(alerts[0], run) == "api"


def test_what_was_wrong_before_is_not_the_releases_doing(scene: SloScene) -> None:
    scene.wrong = {"one": 0.3, "two": 0.3}
    scene.serve(30)
    scene.deploy("two", web="two")
    watch = SloWatch(scene.world, THREE_NINES)

    assert fires(watch, scene, 120) == () and watch.state.watch.old


def test_a_deploy_that_comes_while_it_is_watched_is_judged_by_its_own_requests(scene: SloScene) -> None:
    watch = SloWatch(scene.world, THREE_NINES)
    assert fires(watch, scene, 10) == ()
    scene.deploy("two", web="two")
    scene.wrong["two"] = 0.2
    alerts = fires(watch, scene, 60)

    assert watch.state.release == "two" and alerts and alerts[0].requests <= (scene.now - watch.state.live_at) * 20 + 1


def test_a_release_that_came_back_is_not_what_was_changed_last(scene: SloScene) -> None:
    watch = SloWatch(scene.world, THREE_NINES)
    first = watch.brought_by()
    assert first is not None and first.plan.release == "one"
    scene.deploy("two", web="two", fails_at="watch")
    scene.serve(5)
    watch.look()

    assert (scene.split, watch.state.release) == (Split.all_to(Slot.BLUE), "one")
    assert watch.brought_by() is None


@pytest.mark.parametrize("away_s", [0.0, 20.0])
def test_a_kill_loses_nothing_and_counts_nothing_twice(scene: SloScene, away_s: float) -> None:
    scene.deploy("two", web="two")
    watch, start = SloWatch(scene.world, THREE_NINES), scene.now
    for _ in range(33):
        scene.serve(1)
        watch.look()
    scene.serve(away_s)
    again = SloWatch(scene.world, THREE_NINES)
    scene.serve(1)
    again.look()

    assert again.state.watch.counts(0) == (round((scene.now - start) * scene.rate), 0)
    assert len(scene.journal.meta(STATE_KEY)) < 6_000


def test_deploys_while_nobody_watched_are_known_afterwards(scene: SloScene) -> None:
    watch = SloWatch(scene.world, THREE_NINES)
    scene.serve(3)
    watch.look()
    watch.save()
    scene.deploy("two", web="two")
    scene.serve(30)
    scene.deploy("three", web="three")
    scene.serve(7)
    again = SloWatch(scene.world, THREE_NINES)
    again.look()

    assert (again.state.release, again.state.slot) == ("three", Slot.BLUE)
    assert again.state.watch.counts(0)[0] == pytest.approx(7 * 20, abs=3)


def test_other_objectives_begin_anew(scene: SloScene) -> None:
    watch = SloWatch(scene.world, THREE_NINES)
    watch.look()
    watch.save()

    assert SloWatch(scene.world, (availability("99"),)).state.watch.objectives[0].name == "availability 99 %"
    scene.journal.set_meta(STATE_KEY, "{")
    assert SloWatch(scene.world, THREE_NINES).state.release == "one"
    assert scene.notes == ["what an earlier watch knew can't be read; this one begins anew"]


def test_latency_of_one_route(scene: SloScene) -> None:
    scene.deploy("two", web="two")
    watch = SloWatch(scene.world, (latency("99 % < 300ms", route="web:8000"), latency("99 % < 300ms", service="api")))
    scene.slow_s = 0.4
    alerts = fires(watch, scene, 120)

    assert [alert.objective.name for alert in alerts if alert.windows.pace is Pace.FAST] == [
        "latency 99 % < 300ms of web:8000"
    ]


def test_it_goes_on_when_the_clock_is_set_back(scene: SloScene) -> None:
    scene.deploy("two", web="two")
    watch = SloWatch(scene.world, THREE_NINES)
    assert fires(watch, scene, 10) == ()
    scene.now -= 3600
    assert fires(watch, scene, 10) == ()
    scene.wrong["two"] = 0.5
    assert fires(watch, scene, 60)
    assert any("set back" in note for note in scene.notes)


def test_traffic_that_somebody_else_moved_is_noticed(scene: SloScene) -> None:
    watch = SloWatch(scene.world, THREE_NINES)
    scene.serve(2)
    watch.look()
    scene.split = Split.all_to(Slot.GREEN)
    scene.serve(5)
    watch.look()
    scene.serve(5)
    watch.look()

    assert watch.state.slot is Slot.GREEN and [m.split for m in watch.state.strays] == [Split.all_to(Slot.GREEN)]


def test_nothing_is_watched_where_nothing_is_live(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Nothing is live here yet"):
        SloWatch(SloScene(tmp_path).world, THREE_NINES)


async def test_the_log_is_kept_while_a_watch_lives(scene: SloScene) -> None:
    watch = SloWatch(scene.world, THREE_NINES)
    watch.save()
    await watch.keep_log()
    await stop_recording(scene.world)
    assert scene.recording and watched(scene.journal, scene.text())
    scene.passes(ALIVE_S + 1)
    await stop_recording(scene.world)
    assert not scene.recording
    watch.save()
    await watch.keep_log()
    await release_log(scene.world)
    assert not scene.recording and not watched(scene.journal, scene.text())


async def test_the_end_of_a_watch_leaves_the_log_to_a_run(scene: SloScene) -> None:
    scene.deploy("two", web="two", halt="watch")
    await release_log(scene.world)

    assert scene.recording


def test_moves_are_read_from_a_journal() -> None:
    def entry(seq: int, kind: EntryKind, detail: str) -> Entry:
        return Entry(seq, f"2026-11-26T12:00:0{seq}.000Z", kind, "move", "", detail)

    there, back = '{"do":"move-traffic","split":{"base":"green"}}', '{"do":"move-traffic","split":{"base":"blue"}}'
    found = moves_of(
        [entry(1, EntryKind.INTENT, there), entry(2, EntryKind.OUTCOME, "done"), entry(3, EntryKind.INTENT, back)]
    )

    assert [(move.split.name, move.since - NOON, move.until - NOON) for move in found] == [
        ("green", 1.0, 2.0),
        ("blue", 3.0, 3.0 + LONGEST_S),
    ]
    assert live_since(found) == NOON + 3 and live_since(found[:1]) == 0.0
    assert live_of(Split(Slot.BLUE, Slot.GREEN, 50)) is Slot.BLUE
    assert live_of(Split(Slot.BLUE, Slot.GREEN, 100)) is Slot.GREEN
    assert msgspec.json.encode(found)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_write_it_counts_each_request_once(
    scene: SloScene, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    scene.deploy("two", web="two")
    start, writes, real = scene.now, 0, scene.journal.set_meta

    def set_meta(key: str, value: str) -> None:
        nonlocal writes
        writes += 1
        if writes % 3 == 0 and not after:
            raise Killed
        real(key, value)
        if writes % 3 == 0:
            raise Killed

    monkeypatch.setattr(scene.journal, "set_meta", set_meta)
    watch, kills = SloWatch(scene.world, THREE_NINES), 0
    for _ in range(60):
        scene.serve(1)
        try:
            watch.look()
        except Killed:
            watch, kills = SloWatch(scene.world, THREE_NINES), kills + 1
    watch.look()

    assert kills > 3
    assert watch.state.watch.counts(0) == (round((scene.now - start) * scene.rate), 0)
