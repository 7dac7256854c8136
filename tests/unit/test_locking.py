"""Both locks together: who waits keeps nobody out, take-overs are told once, and a lost lock ends all effects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from nself_deploy.app import locking
from nself_deploy.app.locking import EXPIRY, held
from nself_deploy.app.world import World, nothing
from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.lock_rules import LockOwner, Patience, refusal
from nself_deploy.core.step_lines import StepLine
from nself_deploy.errors import EngineError, Interrupted, Locked, NselfError
from tests.unit.clocks import Clock

OTHER = LockOwner("bob", "elsewhere", 7, "boot", "deploy (local)", "noon", started="1")


@dataclass
class Lock:
    """Either lock: refuses as long as it is told to."""

    refusals: list[NselfError] = field(default_factory=list)
    previous: LockOwner | None = None
    log: list[str] = field(default_factory=list)
    is_held: bool = False

    def acquire(self, purpose: str) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.log.append("taken")
        self.is_held = True

    def release(self) -> None:
        if self.is_held:
            self.log.append("given back")
        self.is_held = False

    def owner(self) -> LockOwner | None:
        return OTHER


@dataclass
class OnEngine:
    """The same, on the engine."""

    lock: Lock = field(default_factory=Lock)
    patience: Patience = field(default_factory=Patience)
    taken_over: tuple[tuple[LockOwner, str], ...] = ()
    beats: int = 0
    lost: Locked | None = None
    away: bool = False

    async def acquire(self, purpose: str) -> None:
        self.lock.acquire(purpose)

    async def beat(self) -> None:
        self.beats += 1
        if self.away:
            raise EngineError("away.")
        if self.lost:
            raise self.lost

    async def confirm(self) -> None:
        if self.away:
            raise EngineError("away.")

    async def release(self) -> None:
        if self.away:
            raise EngineError("away.")
        self.lock.release()

    async def owner(self) -> LockOwner | None:
        return OTHER


@dataclass
class Place:
    """A world with locks, and what people and the audit trail were told."""

    here: Lock = field(default_factory=Lock)
    engine: OnEngine = field(default_factory=OnEngine)
    clock: Clock = field(default_factory=Clock)
    notes: list[str] = field(default_factory=list)
    steps: list[StepLine] = field(default_factory=list)
    events: list[AuditEvent] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    still_ours: Callable[[], Awaitable[None]] = nothing

    @property
    def lock(self) -> Lock:
        return self.here

    @property
    def engine_lock(self) -> OnEngine:
        return self.engine

    @property
    def store(self) -> Any:
        return self

    def add_event(self, event: AuditEvent) -> None:
        self.events.append(event)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def watcher(self, line: StepLine) -> None:
        self.steps.append(line)

    def held(self, **how: Any) -> Any:
        return held(cast("World", self), "deploy (local)", "local", self.stop, **how)


def busy(purpose: str = "deploy (local)") -> Locked:
    return refusal(OTHER if purpose == OTHER.purpose else LockOwner("bob", "x", 7, "", purpose, ""), "local", "there")


async def test_both_are_taken_and_given_back() -> None:
    place = Place()
    async with place.held():
        assert place.here.is_held and place.engine.lock.is_held
    assert place.here.log == place.engine.lock.log == ["taken", "given back"]
    assert not place.notes and not place.events


async def test_refused_on_the_engine_keeps_nobody_out_here() -> None:
    place = Place()
    place.engine.lock.refusals = [busy()]
    with pytest.raises(Locked, match="bob on elsewhere"):
        async with place.held():
            pass
    assert place.here.log == ["taken", "given back"]


async def test_waiting_ends_when_it_is_free() -> None:
    place = Place()
    place.here.refusals = [busy()] * 3
    place.engine.lock.refusals = [busy()] * 3
    async with place.held(wait_s=60):
        pass
    assert place.here.log == ["taken", "given back"] * 4
    assert [n.partition(":")[0] for n in place.notes] == ["waiting up to 1m"]
    assert [s.status for s in place.steps] == ["running", "done"]


async def test_waiting_ends_with_its_time() -> None:
    place = Place()
    place.engine.lock.refusals = [busy()] * 1000
    with pytest.raises(Locked, match=r"Waited for 1m\."):
        async with place.held(wait_s=60):
            pass
    assert 60 <= place.clock.seconds < 61


async def test_the_end_of_a_standby_is_waited_for_in_any_case_and_not_for_ever() -> None:
    place = Place()
    place.here.refusals = [busy(EXPIRY)] * 100
    async with place.held():
        pass
    assert not place.notes
    place.here.refusals = [busy(EXPIRY)] * 1000
    with pytest.raises(Locked):
        async with place.held():
            pass


async def test_a_person_may_give_up_waiting() -> None:
    place = Place()
    place.engine.lock.refusals = [busy()] * 1_000_000
    place.stop.set()
    with pytest.raises(Interrupted):
        async with place.held(wait_s=1e9):
            pass
    assert not place.here.is_held


async def test_one_death_is_told_once() -> None:
    place = Place()
    place.here.previous = OTHER
    place.engine.taken_over = ((OTHER, "no heartbeat"), (LockOwner("eve", "y", 8, "", "rollback", "noon"), "gone"))
    async with place.held():
        pass
    assert [n.partition(" (")[0] for n in place.notes] == [
        "the lock was taken over from bob on elsewhere",
        "the lock was taken over from eve on y",
    ]
    assert [(e.event_type, e.metadata["owner"]) for e in place.events] == [
        ("lock-take-over", "bob on elsewhere (process 7)"),
        ("lock-take-over", "eve on y (process 8)"),
    ]


@pytest.mark.parametrize("warm", [False, True])
async def test_without_an_engine_only_a_warm_way_back_goes_on(warm: bool) -> None:
    place = Place()
    place.engine.lock.refusals = [EngineError("the engine is away.")]
    async with AsyncExitStack() as stack:
        if not warm:
            stack.enter_context(pytest.raises(EngineError))
        async with place.held(warm=warm):
            assert warm and place.here.is_held
    assert not place.here.is_held
    assert [n.startswith("going on without the lock on the engine") for n in place.notes] == [True] * warm


async def test_an_engine_that_hangs_does_not_hold_up_a_warm_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    monkeypatch.setattr(locking, "AWAY_S", 0.01)
    monkeypatch.setattr(place.engine, "acquire", lambda purpose: asyncio.sleep(60))
    async with place.held(warm=True):
        pass
    assert "did not answer within" in place.notes[0]


async def test_after_the_lock_was_lost_no_effect_is_allowed() -> None:
    place = Place()
    async with place.held():
        await place.still_ours()
        place.engine.away = True
        await place.still_ours()
        while place.engine.beats < 3:
            await asyncio.sleep(0)
        place.engine.away, place.engine.lost = False, busy()
        await place.stop.wait()
        for _ in range(2):
            with pytest.raises(Locked):
                await place.still_ours()
    assert [n.partition(":")[0] for n in place.notes] == ["stopping"]
    assert not place.here.is_held


async def test_a_lock_that_can_not_be_given_back_is_said() -> None:
    place = Place()
    async with place.held():
        place.engine.away = True
    assert "finds that we are gone" in place.notes[0] and not place.here.is_held
