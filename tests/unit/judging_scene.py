"""A world in memory with users, for a canary that is judged, and its clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from nself_deploy.app import judging
from nself_deploy.app.pausing import parking_of
from nself_deploy.app.ports import LogView
from nself_deploy.app.world import World
from nself_deploy.core import effects as do
from nself_deploy.core import machine
from nself_deploy.core.canary import Session
from nself_deploy.core.evidence import Request
from nself_deploy.core.log_position import LogPosition, LogRead
from nself_deploy.core.machine import Run
from nself_deploy.core.model import Container, Slot, Split
from nself_deploy.core.nginx_flags import LADDER
from nself_deploy.core.replay import replayed
from nself_deploy.core.state import format_time
from nself_deploy.errors import Parked
from tests.unit.plans import a_project, a_release
from tests.unit.test_machine_canary import a_plan, at_step

TEN, HALF = Split(Slot.BLUE, Slot.GREEN, 10), Split(Slot.BLUE, Slot.GREEN, 50)
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()


@dataclass
class Scene:
    """A world whose time passes only in sleep, with users who send so many requests per second."""

    run: Run
    rate: int = 60
    failing: float = 0.0
    hangs: bool = False
    """Whether the candidate answers nothing."""
    hung: int = 0
    """How many requests wait for it."""
    split: Split = field(default_factory=lambda: Split.all_to(Slot.BLUE))
    now: float = NOON
    words: dict[str, str] = field(default_factory=dict)
    recording: list[bool] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    problem: str = ""
    lost_s: float = 0.0
    """The log is emptied now, and lacks so much."""
    notes: list[str] = field(default_factory=list)
    lines: list[tuple[float, Request]] = field(default_factory=list)
    at: dict[float, Callable[[], None]] = field(default_factory=dict)
    """What happens, so many seconds after noon."""
    record: bytes = b""
    owner: str | None = "somebody"
    """Who has the lock."""

    async def sleep(self, seconds: float) -> None:
        for _ in range(round(seconds * self.rate)):
            self.now += 1 / self.rate
            share = self.split.percent_of(Slot.GREEN) / 100
            n = len(self.lines) + self.hung
            client = (n * 2654435761) % (1 << 32)
            candidate = (n * 7919) % 100 < share * 100
            failed = candidate and n % 100 < self.failing * 100
            seconds = 0.01 if self.hangs else None
            if candidate and self.hangs:
                self.hung += 1
            else:
                self.lines.append((self.now, Request(0.0, client, candidate, failed, share, seconds=seconds)))
        if not self.rate:
            self.now += seconds
        for moment in sorted(self.at):
            if self.now - NOON >= moment:
                self.at.pop(moment)()
        await asyncio.sleep(0)

    def log(self, view: LogView) -> Any:
        def read(position: LogPosition) -> LogRead:
            found = self.lines[position.offset :]
            requests = tuple(msgspec.structs.replace(r, at=max(0.0, t - view.began)) for t, r in found)
            size = len(self.lines)
            cuts, lost_s = (1, self.lost_s) if self.lost_s else (0, 0.0)
            self.lost_s = 0.0
            return LogRead(requests, LogPosition(1, size), size=size, problem=self.problem, cuts=cuts, lost_s=lost_s)

        return SimpleNamespace(end=lambda: LogPosition(1, len(self.lines)), read=read)

    async def keep_log(self, *, on: bool) -> None:
        self.recording.append(on)

    def written(self, run_id: str, at: int, data: bytes) -> int:
        self.record = self.record[:at] + data
        return at + len(data)

    async def found(self, compose_project: str = "", **_: Any) -> list[Container]:
        return [c for c in self.containers if c.project == compose_project]

    async def in_flight(self, slot: Slot) -> int:
        return max((rung for rung in LADDER if rung <= self.hung), default=0) if slot is Slot.GREEN else 0

    async def router(self) -> Any:
        return SimpleNamespace(mounted=True, running=True, loaded_tree="tree")

    @property
    def world(self) -> World:
        releases = {"new": a_release(), "old": a_release("old")}
        store = SimpleNamespace(
            transaction=contextlib.nullcontext,
            meta=lambda key: self.words.get(key, ""),
            set_meta=self.words.__setitem__,
            release=releases.get,
            run=lambda _: self.run,
            unfinished=lambda: self.run,
            add_event=self.events.append,
            record=lambda run, kind, step, detail: 1,
        )
        world = SimpleNamespace(
            store=store,
            project=a_project(),
            clock=SimpleNamespace(
                now=lambda: format_time(datetime.fromtimestamp(self.now, UTC)),
                monotonic=lambda: self.now,
                sleep=self.sleep,
            ),
            router=SimpleNamespace(
                split=lambda: self.split, record=self.keep_log, observe=self.router, in_flight=self.in_flight
            ),
            engine=SimpleNamespace(containers=self.found),
            request_log=self.log,
            metrics=None,
            objectives=(),
            judge_records=SimpleNamespace(
                write=self.written, read=lambda _: self.record, keep=lambda _: None, runs=tuple
            ),
            progress=lambda text: None,
            watcher=lambda line: None,
            note=self.notes.append,
            user="ann",
            boot="one",
            lock=SimpleNamespace(owner=lambda: self.owner),
        )
        return cast("World", world)

    def give(self, split: Split) -> None:
        judging.before_move(self.world, self.run, split)
        self.split = split
        judging.after_move(self.world, self.run, split)

    async def judge(self, key: str) -> str:
        step = next(s for s in self.run.plan.steps if s.key == key)
        assert isinstance(step.effect, do.Judge)
        return await judging.judge(self.world, self.run, step.effect)

    async def judged(self, key: str) -> str:
        """The same, with what a pause comes to."""
        try:
            return await self.judge(key)
        except Parked as error:
            self.run, _ = machine.advance(self.run, machine.Park(parking_of(error)))
            raise

    @property
    def session(self) -> Session:
        found = judging.load(self.world, self.run)
        assert found is not None
        return found

    def replays(self) -> int:
        """How many decisions come out of the record as they were made; all of them."""
        judging.forget(self.world, self.run)
        found = replayed(self.record)
        assert found.difference is None and found.whole, found
        return found.decisions


def a_scene(key: str = "judge:10", **more: Any) -> Scene:
    scene = Scene(at_step(a_plan(), key), **more)
    scene.give(TEN)
    return scene
