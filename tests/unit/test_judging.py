"""Watching a canary: what is read, written down, asked and answered; killed in the middle, it goes on from there."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from nself_deploy.app import asking, baking, executor, judging
from nself_deploy.app.judge_records import closed_key
from nself_deploy.core import effects as do
from nself_deploy.core import machine
from nself_deploy.core.asking import Answer, Wanted, answer_key, ask_key
from nself_deploy.core.canary import known_words
from nself_deploy.core.model import Container, Slot, Split
from nself_deploy.core.times import parse
from nself_deploy.errors import GateRefused, Parked, Unhealthy, UsageError
from tests.unit.judging_scene import HALF, NOON, TEN, Scene, a_scene
from tests.unit.test_machine_canary import a_plan, at_step


async def test_a_healthy_canary_may_have_its_next_share_when_its_time_is_over() -> None:
    scene = a_scene()
    words = await scene.judge("judge:10")

    assert scene.now - NOON == pytest.approx(300, abs=1)
    assert words.startswith("inconclusive: good enough for 50 %; 0 of ")
    assert scene.notes == [
        "times are compared from the 1,000th answer of the live version on: 0 were in the log before the first share"
    ]
    scene.give(HALF)
    assert (await scene.judge("judge:50")).startswith("pass: ")
    assert scene.now - NOON == pytest.approx(360, abs=2)
    assert scene.recording == [True, True]
    assert [m.split for m in scene.session.moves] == [Split.all_to(Slot.BLUE), TEN, HALF]
    assert scene.replays() > 1440  # one at each look


async def test_the_log_is_kept_before_the_first_user_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, kept = Scene(at_step(a_plan(), "split:10")), list[list[bool]]()

    async def moved(_world: Any, split: Split) -> str:
        kept.append([*scene.recording])
        return split.name

    monkeypatch.setattr(executor.traffic, "move", moved)
    for split in (TEN, Split.all_to(Slot.BLUE), TEN):
        await executor.Executor(scene.world).perform(do.MoveTraffic(split), scene.run)

    assert kept == [[True], [True], [True, True]]


async def test_a_canary_that_fails_is_found_in_seconds_and_says_how_many_were_hit() -> None:
    scene = a_scene(failing=0.5)
    with pytest.raises(Unhealthy, match=r"failed at 10 %: more requests fail.*clients were hit") as caught:
        await scene.judge("judge:10")

    assert scene.now - NOON < 20
    assert any("evidence of more errors" in line for line in caught.value.evidence)
    assert scene.replays() and b'"fail"' in scene.record


@pytest.mark.parametrize("rate", [60, 400])
async def test_a_canary_that_hangs_is_found_by_what_is_in_flight(rate: int) -> None:
    scene = a_scene(rate=rate, hangs=True)
    with pytest.raises(Unhealthy, match=r"failed at 10 %: the candidate hangs: \d+ or more requests wait for it"):
        await scene.judge("judge:10")

    assert 5 < scene.now - NOON < 9
    assert scene.replays() and b'"hanging"' in scene.record


async def test_without_traffic_it_waits_for_a_person_at_its_share() -> None:
    scene = a_scene(rate=0)
    with pytest.raises(Parked, match="inconclusive at 10 %") as caught:
        await scene.judge("judge:10")

    assert (caught.value.verdict, caught.value.back) == ("inconclusive", False)
    assert any("0 of" in line for line in caught.value.evidence)
    assert scene.now - NOON == pytest.approx(1080, abs=2)
    assert scene.recording[-1] is False
    with pytest.raises(Parked):
        await scene.judge("judge:10")  # resumed: it has as much time again
    assert scene.now - NOON == pytest.approx(2160, abs=4)
    assert scene.replays()


async def test_a_log_that_can_not_be_trusted_takes_users_back() -> None:
    scene = a_scene(problem="it was cut")
    with pytest.raises(Parked, match="invalid at 10 %: it was cut") as caught:
        await scene.judge("judge:10")

    assert (caught.value.verdict, caught.value.back) == ("invalid", True)


async def test_a_log_that_is_emptied_meanwhile_lacks_a_little_and_that_is_said() -> None:
    scene = a_scene()
    for moment in (3.0, 5.0):
        scene.at[moment] = lambda: setattr(scene, "lost_s", 0.25)
    words = await scene.judge("judge:10")
    session = scene.session

    assert words.startswith("inconclusive: good enough for 50 %")
    assert (session.cuts, session.lost_s) == (2, 0.5)
    said = "the access log was emptied 2 times while it was read: up to 0.5 s of it count for nothing"
    assert known_words(session)[-1] == said


async def test_a_log_that_lacks_more_than_a_little_takes_users_back() -> None:
    scene = a_scene()
    for moment in (3.0, 4.0, 5.0):
        scene.at[moment] = lambda: setattr(scene, "lost_s", 1.25)
    with pytest.raises(Parked, match=r"invalid at 10 %: .* up to 3\.8 s of it are missing") as caught:
        await scene.judge("judge:10")

    assert (caught.value.verdict, caught.value.back) == ("invalid", True)
    assert any("was emptied 3 times" in line for line in caught.value.evidence)


async def test_a_log_that_stands_still_while_the_router_answers_is_not_trusted() -> None:
    scene = a_scene()
    scene.at[10.0] = lambda: setattr(scene, "rate", 0)
    with pytest.raises(Parked, match=r"invalid.*the access log has not grown for"):
        await scene.judge("judge:10")


async def test_a_clock_that_is_set_back_takes_users_back_also_when_nobody_read_meanwhile() -> None:
    scene = a_scene()
    scene.now -= 3600
    with pytest.raises(Parked, match="invalid at 10 %: the machine's clock was set back"):
        await scene.judge("judge:10")


async def test_a_bake_goes_on_when_the_clock_is_set_back() -> None:
    scene = a_scene()
    scene.give(Split.all_to(Slot.GREEN))
    scene.at[30.0] = lambda: setattr(scene, "now", scene.now - 3600)
    start = scene.now
    assert (await baking.bake(scene.world, scene.run, do.Bake(Slot.GREEN, 60.0))).startswith("over; ")
    assert scene.now - start == pytest.approx(60 - 3600, abs=2)
    assert scene.replays() > 15


async def test_a_kill_in_the_middle_loses_nothing_and_counts_nothing_twice() -> None:
    scene = a_scene()
    task = asyncio.ensure_future(scene.judge("judge:10"))
    while scene.now < NOON + 100:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    saved, deadline = sum(scene.session.judge.requests[:2]), scene.session.deadline_s
    assert saved
    await scene.judge("judge:10")

    judged = scene.session.judge
    assert sum(judged.requests[:2]) == sum(1 for _ in scene.lines)
    assert scene.now - NOON == pytest.approx(300, abs=1)
    assert scene.session.deadline_s == deadline
    assert scene.replays() > 1100


@pytest.mark.parametrize("slot", [Slot.GREEN, Slot.BLUE])
async def test_a_container_that_is_restarted_counts_against_its_slot(slot: Slot) -> None:
    scene = a_scene()
    release = "new" if slot is Slot.GREEN else "old"
    before = Container("1", f"shop-{slot}-web-1", f"shop-{slot}", "web", slot=slot, release=release, started_at="a")
    scene.containers = [before]

    def restarted() -> None:
        scene.containers = [msgspec.structs.replace(before, started_at="b", restart_count=1)]

    scene.at[20.0] = restarted
    if slot is Slot.BLUE:
        assert (await scene.judge("judge:10")).startswith("inconclusive: good enough")
        return
    with pytest.raises(Unhealthy, match="stopped and was restarted"):
        await scene.judge("judge:10")
    assert scene.now - NOON < 30


async def asked(scene: Scene, wanted: Wanted, at: float, **more: Any) -> Answer | None:
    """Ask from another terminal while it is judged."""
    found: list[asyncio.Future[Answer | None]] = []
    scene.at[at] = lambda: found.append(asyncio.ensure_future(asking.ask(scene.world, scene.run, wanted, **more)))
    task = asyncio.ensure_future(scene.judged("judge:10"))
    while not found and not task.done():
        await asyncio.sleep(0)
    answer = await found[0]
    await asyncio.gather(task, return_exceptions=True)
    scene.words["result"] = str(task.exception() or task.result())
    return answer


async def test_another_terminal_pauses_it() -> None:
    scene = a_scene()
    answer = await asked(scene, Wanted.PAUSE, 20.0)

    assert answer is not None and answer.done and answer.words == "paused by ann at 10 %"
    assert scene.words["result"].startswith("paused by ann at 10 %") and not scene.words[ask_key(scene.run.id)]


async def test_another_terminal_promotes_what_is_good_enough() -> None:
    scene = a_scene()
    answer = await asked(scene, Wanted.PROMOTE, 100.0)

    assert answer is not None and answer.done and answer.words == "it goes on to 50 %"
    assert scene.now - NOON < 105 and scene.words["result"].startswith("pass: promoted by ann")
    assert [(e.event_type, e.reason) for e in scene.events] == [("promote", "")]
    scene.give(HALF)
    assert scene.session.consent is None
    assert scene.replays() and b'["asked",50,true]' in scene.record


async def test_what_is_not_good_enough_is_refused_without_a_reason() -> None:
    scene = a_scene()
    answer = await asked(scene, Wanted.PROMOTE, 1.0)

    assert answer is not None and not answer.done and "not shown" in answer.words and answer.evidence
    assert not scene.events


async def test_a_person_may_do_without_proof_up_to_the_end() -> None:
    scene = a_scene()
    answer = await asked(scene, Wanted.PROMOTE, 1.0, full=True, reason="it is Friday")
    assert answer is not None and answer.words == "it goes on to all of the traffic"
    scene.give(HALF)
    start = scene.now
    assert (await scene.judge("judge:50")).startswith("inconclusive: promoted by ann, because: it is Friday")
    assert scene.now == start


async def test_a_canary_that_lost_its_share_is_judged_anew() -> None:
    scene = a_scene()
    await scene.sleep(2)
    first = scene.session
    scene.give(Split.all_to(Slot.BLUE))
    assert scene.session.percent == 0
    scene.give(TEN)

    assert scene.session.began > first.began and scene.session.salt != first.salt
    assert scene.session.judge.requests == [0, 0, 0, 0]
    assert scene.replays() and scene.record.count(b'["begin"') == 2


async def test_users_are_taken_back_also_when_the_session_is_damaged() -> None:
    scene = a_scene()
    scene.words[judging.session_key(scene.run.id)] = "{"
    scene.give(Split.all_to(Slot.BLUE))

    assert scene.split == Split.all_to(Slot.BLUE)


async def test_a_bake_ends_in_its_time_and_finds_what_fails_with_all_of_the_traffic() -> None:
    for failing, ends in ((0.0, 600.0), (0.3, 30.0)):
        scene = a_scene()
        await scene.sleep(1)
        scene.give(Split.all_to(Slot.GREEN))
        scene.failing, start = failing, scene.now
        work = baking.bake(scene.world, scene.run, do.Bake(Slot.GREEN, 600.0))
        if not failing:
            assert (await work).startswith("over; 0 of ")
            assert scene.now - start == pytest.approx(ends, abs=1)
            continue
        with pytest.raises(Unhealthy, match="failed with all of the traffic"):
            await work
        assert scene.now - start < ends
        assert scene.replays() and b'["baked","fail"' in scene.record


async def test_a_bake_that_can_not_see_says_so() -> None:
    scene = a_scene(problem="it was cut")
    scene.give(Split.all_to(Slot.GREEN))
    words = await baking.bake(scene.world, scene.run, do.Bake(Slot.GREEN, 60.0))

    assert words.endswith("not all was seen: it was cut")
    assert scene.notes[-1] == "the bake does not see every request: it was cut"


async def test_a_promotion_ends_the_bake_and_a_pause_is_refused() -> None:
    scene = a_scene()
    scene.give(Split.all_to(Slot.GREEN))
    task = asyncio.ensure_future(baking.bake(scene.world, scene.run, do.Bake(Slot.GREEN, 600.0)))
    refused = await asking.ask(scene.world, scene.run, Wanted.PAUSE)
    assert refused is not None and not refused.done and "can't be paused" in refused.words
    accepted = await asking.ask(scene.world, scene.run, Wanted.PROMOTE)

    assert accepted is not None and accepted.done
    assert (await task).startswith("ended early by ann")


def test_what_has_no_shares_can_not_be_paused() -> None:
    scene = a_scene()
    plain = msgspec.structs.replace(scene.run.plan, steps=scene.run.plan.steps[:3])
    scene.run = msgspec.structs.replace(scene.run, plan=plain)
    with pytest.raises(UsageError, match="has no shares of the traffic"):
        asking.under_way(scene.world)


async def test_a_waiting_canary_is_promoted_only_with_proof_or_a_reason() -> None:
    scene = a_scene(rate=0)
    parking = machine.Parking("too few requests", "inconclusive")
    scene.run, _ = machine.advance(scene.run, machine.Park(parking))
    with pytest.raises(GateRefused, match="not shown to be good enough for 50 %"):
        await asking.promote_waiting(scene.world, asyncio.Event(), full=False, reason="")


def test_at_the_end_only_its_record_is_left() -> None:
    scene = a_scene()
    scene.words[answer_key(scene.run.id)] = "x"
    judging.forget(scene.world, scene.run)

    assert [key for key, word in scene.words.items() if word] == [closed_key(scene.run.id)]
    assert parse(scene.world.clock.now()).timestamp() == NOON
