"""Pauses that end by themselves: by which clock, who acts then, and that nothing is promoted earlier or unproved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.app import judging, pausing, recovery
from nself_deploy.app.asking import ask
from nself_deploy.app.pausing import Paused, wait_out
from nself_deploy.app.recovery import recover
from nself_deploy.core import machine
from nself_deploy.core.asking import Wanted
from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.canary_settings import canary_of
from nself_deploy.core.evidence import Request
from nself_deploy.core.extension_reader import read_extension
from nself_deploy.core.machine import Outcome, Phase, Run
from nself_deploy.core.metrics import Condition, Metric, Reading
from nself_deploy.core.metrics_judge import MetricsJudge
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.moments import Moment
from nself_deploy.core.pauses import Expiry, Limit, Then, ended_words
from nself_deploy.core.plan import Timing
from nself_deploy.core.plan_canary import Stage, plan_canary
from nself_deploy.core.recorder import Recorder
from nself_deploy.core.recovery import Standing, Wish, decide
from nself_deploy.core.settings import resolve_settings
from nself_deploy.core.times import plus_seconds
from nself_deploy.errors import ConfigError, EngineError, Locked, NselfError, Parked, UsageError
from tests.unit.judging_scene import HALF, Scene, a_scene
from tests.unit.plans import a_canary, a_project, a_release
from tests.unit.test_machine_canary import FACTS, a_plan, at_step, parked_at

NOON = "2026-11-27T12:00:00Z"


def at(wall_s: float, steady: float, boot: str = "one") -> Moment:
    return Moment(plus_seconds(NOON, wall_s), boot, steady)


def begun(then: Then, seconds: float = 1800.0) -> Expiry:
    return Expiry(Limit(seconds, then), at(0, 5000.0))


@pytest.mark.parametrize("then", Then)
@pytest.mark.parametrize("wall_s", [-86400.0, 0.0, 86400.0 * 30])
def test_a_wall_clock_that_is_set_changes_nothing_while_the_machine_runs(then: Then, wall_s: float) -> None:
    expiry = begun(then)

    assert expiry.left_s(at(wall_s, 5000.0)) == 1800.0
    assert expiry.left_s(at(wall_s, 6799.0)) == 1.0 and not expiry.over(at(wall_s, 6799.0))
    assert expiry.over(at(wall_s, 6800.0))


@pytest.mark.parametrize("then", [Then.RESUME, Then.PROMOTE])
def test_after_another_boot_going_on_waits_until_it_is_certain(then: Then) -> None:
    expiry = begun(then)

    assert expiry.left_s(at(86400.0, 60.0, "two")) == 1740.0  # however far the wall clock was set
    assert expiry.over(at(86400.0, 1800.0, "two"))
    assert not expiry.over(at(1000.0, 9000.0, "two"))
    assert not expiry.over(at(-5.0, 9000.0, "two"))


def test_after_another_boot_taking_back_goes_by_the_wall_clock() -> None:
    assert begun(Then.ABORT).over(at(1800.0, 60.0, "two"))
    assert not begun(Then.ABORT).over(at(1799.0, 60.0, ""))


@given(st.floats(1.0, 1e6), st.floats(0.0, 1e6), st.integers(-(10**7), 10**7), st.booleans())
def test_nothing_goes_on_earlier_than_asked(seconds: float, really: float, set_by: int, same_boot: bool) -> None:
    """Whatever the clock is set to: the machine has run, or been down and run, for `really` seconds."""
    expiry = Expiry(Limit(seconds, Then.PROMOTE), Moment(NOON, "one", 100.0))
    steady = 100.0 + really if same_boot else really
    now = Moment(plus_seconds(NOON, really + set_by), "one" if same_boot else "two", steady)

    if really < seconds - 1.0:
        assert not expiry.over(now)


def test_words_say_until_when_and_what_then() -> None:
    expiry = begun(Then.RESUME)

    assert expiry.words(at(60.0, 5060.0)) == "until about 2026-11-27T12:30:00Z (in 29m), then: resume"
    assert "is over: the next command that changes things will resume it" in expiry.words(at(0.0, 9000.0))
    assert ended_words(expiry) == "its pause of 30m is over, and nobody decided: resume"
    assert msgspec.json.decode(msgspec.json.encode(expiry), type=Expiry) == expiry


def paused_run(then: Then | None, *, back: bool = False) -> Run:
    run = parked_at("judge:10", back=back)
    assert run.parking is not None
    expiry = None if then is None else begun(then)
    return msgspec.structs.replace(run, parking=msgspec.structs.replace(run.parking, expiry=expiry))


@pytest.mark.parametrize(
    ("then", "healthy", "finish"),
    [
        (Then.ABORT, True, False),
        (Then.RESUME, True, True),
        (Then.PROMOTE, True, True),
        (Then.PROMOTE, False, False),
    ],
)
def test_the_next_command_does_what_was_to_be_done(then: Then, healthy: bool, finish: bool) -> None:
    run, split = paused_run(then), Split(Slot.BLUE, Slot.GREEN, 10)
    waits = decide(run, Standing(split, healthy), Wish.ONWARD)
    over = decide(run, Standing(split, healthy, begun(then)), Wish.ONWARD)

    assert waits.waits is healthy
    assert (over.finish, over.waits) == (finish, False)
    assert decide(run, Standing(split, True, begun(then)), Wish.ABORT).finish is False
    assert decide(run, Standing(split, True, begun(then)), Wish.RESUME).finish is True


def test_a_candidate_that_nobody_decided_about_is_refused_and_why_is_said() -> None:
    run, effects = machine.advance(paused_run(Then.ABORT), machine.Resumed(finish=False, why="its pause is over"))
    while effects:
        run, effects = machine.advance(run, machine.Done())

    assert run.outcome is Outcome.FAILED and run.rolled_back
    assert run.failure is not None and run.failure.message == "its pause is over" and run.failure.exit_status == 5


def planned(limit: Limit, **more: Any) -> Scene:
    scene = a_scene(**more)
    canary = msgspec.structs.replace(a_canary(), pause=limit, stages=(Stage(10, 5.0, True), Stage(50, 5.0), Stage(100)))
    plan = plan_canary(a_project(), a_release(), FACTS, Timing(bake_s=0.0), "local", canary)
    scene.run = msgspec.structs.replace(at_step(plan, "judge:10"), id=scene.run.id)
    return scene


async def test_a_planned_pause_is_made_once_after_the_shares_time() -> None:
    scene = planned(Limit(600.0, Then.RESUME))
    with pytest.raises(Paused, match="paused at 10 %, as planned") as caught:
        await scene.judge("judge:10")

    assert scene.session.judge.now == pytest.approx(5.0, abs=1.0)
    assert caught.value.expiry is not None and caught.value.expiry.limit == Limit(600.0, Then.RESUME)
    assert scene.recording == [True, False]
    scene.run, _ = machine.advance(scene.run, machine.Park(pausing.parking_of(caught.value)))
    scene.run, _ = machine.advance(scene.run, machine.Resumed(finish=True))
    while (step := scene.run.current()) is not None and step.key != "judge:10":
        scene.run, _ = machine.advance(scene.run, machine.Done())
    await scene.judge("judge:10")  # resumed: it goes on when it is shown to be good enough
    scene.give(HALF)
    assert (await scene.judge("judge:50")).startswith("pass")


async def test_a_planned_pause_without_an_end_waits_for_a_person() -> None:
    with pytest.raises(Paused) as caught:
        await planned(Limit(0.0)).judge("judge:10")

    assert caught.value.expiry is None and caught.value.exit_status == 7


async def test_a_candidate_that_fails_is_taken_back_before_its_pause() -> None:
    scene = planned(Limit(600.0), failing=1.0)
    with pytest.raises(Exception, match="The candidate failed at 10 %"):
        await scene.judge("judge:10")


async def test_a_pause_that_is_asked_for_ends_when_it_was_asked_to() -> None:
    scene = a_scene()
    asked: list[Any] = []
    limit = Limit(60.0, Then.PROMOTE)

    def pause() -> None:
        asked.append(asyncio.ensure_future(ask(scene.world, scene.run, Wanted.PAUSE, limit=limit)))

    scene.at[3.0] = pause
    with pytest.raises(Paused, match="paused by ann at 10 %") as caught:
        await scene.judged("judge:10")

    assert caught.value.expiry is not None and caught.value.expiry.limit == limit
    assert (await asked[0]).done


@pytest.mark.parametrize(("seconds", "promoted"), [(1.0, False), (60.0, True)])
async def test_at_the_end_only_what_is_proved_is_promoted(seconds: float, promoted: bool) -> None:
    scene = planned(Limit(600.0, Then.PROMOTE))
    scene.run = msgspec.structs.replace(
        scene.run, phase=Phase.PARKED, parking=machine.Parking("paused", expiry=begun(Then.PROMOTE))
    )
    session = scene.session
    for n in range(round(30 * seconds)):
        session.judge.request(request_at(n / 30, n))
    judging.save(scene.world, scene.run, Recorder(session))
    judging.promote_if_proved(scene.world, scene.run)

    assert (scene.session.consent is not None) is promoted
    assert [event.metadata["by"] for event in scene.events] == (["the end of its pause"] if promoted else [])


async def test_a_metric_that_was_good_before_a_long_pause_is_no_proof_at_its_end() -> None:
    scene = planned(Limit(600.0, Then.PROMOTE))
    scene.run = msgspec.structs.replace(
        scene.run, phase=Phase.PARKED, parking=machine.Parking("paused", expiry=begun(Then.PROMOTE))
    )
    metric = Metric("errors", "up", Condition(below=1.0), successes=1)
    session = scene.session
    session.metrics = MetricsJudge.begin((metric,))
    for n in range(1800):
        session.judge.request(request_at(n / 30, n))
    session.metrics.measured("errors", 60.0, Reading.of(0.0))
    judging.save(scene.world, scene.run, Recorder(session))
    assert scene.session.metrics_pass

    scene.now += 600.0
    judging.promote_if_proved(scene.world, scene.run)
    assert scene.session.consent is None and not scene.events


def request_at(at_s: float, number: int) -> Request:
    """A good one; a tenth of them go to the candidate."""
    return Request(at_s, (number * 2654435761) % (1 << 32), candidate=number % 10 == 0, failed=False, share=0.1)


class Waiting:
    """A run that waits, seen by a command that stays; time passes only in sleep."""

    def __init__(self, run: Run, *changes: Callable[[Waiting], None]) -> None:
        self.run, self.now, self.acted = run, 5000.0, list[float]()
        self.owner: str | None = None
        self.told: list[AuditEvent] = []
        self.changes = {5000.0 + 10 * (n + 1): change for n, change in enumerate(changes)}

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        for moment in [m for m in self.changes if m <= self.now]:
            self.changes.pop(moment)(self)
        await asyncio.sleep(0)

    @property
    def world(self) -> Any:
        return SimpleNamespace(
            boot="one",
            clock=SimpleNamespace(now=lambda: NOON, monotonic=lambda: self.now, sleep=self.sleep),
            store=SimpleNamespace(
                run=lambda _: self.run, record=self.record, add_event=self.told.append, transaction=nullcontext
            ),
            lock=SimpleNamespace(owner=lambda: self.owner),
            progress=lambda text: None,
            watcher=lambda line: None,
            user="ann",
        )

    def record(self, run: Run, _kind: str, _step: str, _detail: str) -> int:
        self.run = run
        return 1

    async def act(self) -> None:
        self.acted.append(self.now)
        self.run = ended(self.run)

    async def wait(self, act: Any = None, interrupted: asyncio.Event | None = None) -> Run:
        return await wait_out(self.world, self.run, interrupted or asyncio.Event(), act or self.act)


def ended(run: Run) -> Run:
    return msgspec.structs.replace(run, phase=Phase.ENDED, outcome=Outcome.DONE, parking=None)


async def test_a_command_that_stays_acts_when_the_pause_is_over_and_not_before() -> None:
    waiting = Waiting(paused_run(Then.RESUME))
    run = await waiting.wait()

    assert run.ended and waiting.acted == [6800.0]


async def test_it_follows_what_another_command_does() -> None:
    def taken(waiting: Waiting) -> None:
        waiting.owner, waiting.run = "somebody", at_step(a_plan(), "judge:50")

    def over(waiting: Waiting) -> None:
        waiting.run = ended(waiting.run)

    waiting = Waiting(paused_run(Then.RESUME), taken, over)

    assert (await waiting.wait()).ended and not waiting.acted


async def test_a_run_that_ends_between_two_looks_is_seen_to_its_end() -> None:
    """Its process writes down the end, then gives the lock back: a look in between must not take it for dead."""

    def taken(waiting: Waiting) -> None:
        waiting.run = at_step(a_plan(), "judge:50")

    waiting = Waiting(paused_run(Then.RESUME), taken)

    def owner() -> None:
        waiting.run = ended(waiting.run)

    world = waiting.world
    world.lock = SimpleNamespace(owner=owner)

    assert (await wait_out(world, waiting.run, asyncio.Event(), waiting.act)).ended and not waiting.acted


async def test_it_leaves_a_run_whose_next_process_died_to_the_next_command() -> None:
    def died(waiting: Waiting) -> None:
        waiting.run = at_step(a_plan(), "judge:50")

    assert not (await Waiting(paused_run(Then.RESUME), died).wait()).ended


async def test_ctrl_c_leaves_it_parked() -> None:
    stop = asyncio.Event()
    run = await Waiting(paused_run(Then.RESUME), lambda _: stop.set()).wait(interrupted=stop)

    assert run.phase is Phase.PARKED


async def test_a_pause_that_is_given_no_end_any_more_ends_the_waiting() -> None:
    def forever(waiting: Waiting) -> None:
        waiting.run = paused_run(None)

    assert (await Waiting(paused_run(Then.RESUME), forever).wait()).parking is not None


@pytest.mark.parametrize("error", [Locked("somebody else"), EngineError("it is being restarted")])
async def test_when_the_lock_or_the_engine_can_not_be_had_at_the_end_it_tries_again(error: NselfError) -> None:
    waiting = Waiting(paused_run(Then.RESUME))
    tries: list[float] = []

    async def act() -> None:
        tries.append(waiting.now)
        if len(tries) < 3:
            raise error
        await waiting.act()

    assert (await waiting.wait(act)).ended and tries == [6800.0, 6801.0, 6802.0]


def keys_of(**keys: object) -> Any:
    return read_extension({"x-nself-deploy": keys}).project


def test_pauses_are_written_behind_shares_and_their_end_in_the_project() -> None:
    keys = keys_of(steps="10:1m,25:pause,50:2m:pause,100", pause_expiry="2h", pause_then="resume")
    canary = canary_of(resolve_settings({"strategy": "canary"}, {}, keys), keys.analysis)

    assert canary.stages == (Stage(10, 60.0), Stage(25, 60.0, True), Stage(50, 120.0, True), Stage(100))
    assert canary.pause == Limit(7200.0, Then.RESUME)
    flagged = resolve_settings({"pause_expiry_s": "0", "pause_then": "abort"}, {}, keys)
    assert canary_of(flagged, None).pause == Limit(0.0, Then.ABORT)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"steps": "10,100:pause"}, "nothing to pause for"),
        ({"steps": "10:pause:1m,100"}, "is not a duration"),
        ({"pause_then": "wait"}, "'wait' is not what can be done after a pause"),
        ({"pause_expiry_s": "8d"}, "out of range: 0s to 7d"),
    ],
)
def test_pauses_that_can_not_be_are_refused(flags: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        canary_of(resolve_settings({"strategy": "canary", **flags}, {}), None)
    with pytest.raises(ConfigError):
        keys_of(pause_then="wait")


async def test_the_next_deploy_leaves_a_pause_alone_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(paused_run(Then.ABORT))
    world = waiting.world
    world.store.unfinished = lambda: waiting.run

    async def standing(_world: Any, run: Run) -> Standing:
        return Standing(Split(Slot.BLUE, Slot.GREEN, 10), True, pausing.due(_world, run))

    monkeypatch.setattr(recovery, "standing", standing)
    with pytest.raises(Parked, match="is parked"):
        await recover(world, asyncio.Event(), Wish.ONWARD)

    assert waiting.run.phase is Phase.PARKED
