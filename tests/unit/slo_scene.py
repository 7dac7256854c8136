"""A project whose users leave lines in a real access log and whose deploys are in a real journal; time is given."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from nself_deploy.adapters.access_log import AccessLog
from nself_deploy.adapters.journal import Journal
from nself_deploy.app.ports import LogView, RequestLog
from nself_deploy.app.world import World
from nself_deploy.core import machine
from nself_deploy.core.effects import MoveTraffic, Record
from nself_deploy.core.log_clock import Tick
from nself_deploy.core.log_line import Rules
from nself_deploy.core.machine import Run, advance, new_run
from nself_deploy.core.model import Container, PinnedImage, Release, Route, Slot, Split
from nself_deploy.core.plan import Facts, Kind, Plan, Timing, plan_blue_green
from nself_deploy.core.slot_records import SlotRecord, SlotRole, live_slot
from nself_deploy.core.state import format_time
from tests.unit.plans import a_project, a_release

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
ROUTES = (Route("web_8000", "web", 8000), Route("api_9000", "api", 9000))


@dataclass
class SloScene:
    """Its time passes only in `serve` and `sleep`."""

    root: Path
    now: float = NOON
    steady: float = 0.0
    rate: float = 20.0
    wrong: dict[str, float] = field(default_factory=dict)
    """Release -> the part of its answers that are 500."""
    slow_s: float = 0.01
    split: Split | None = None
    recording: bool = True
    notes: list[str] = field(default_factory=list)
    owner: str | None = None
    at: dict[float, Callable[[], None]] = field(default_factory=dict)
    """What happens, so many seconds after noon."""
    dice: random.Random = field(default_factory=lambda: random.Random(5))

    def __post_init__(self) -> None:
        (self.root / "log").mkdir(parents=True, exist_ok=True)
        self.path = self.root / "log" / "access.log"
        self.path.touch()
        self.journal = Journal.open(self.root, now=self.text)
        self.world = self._world()

    def text(self) -> str:
        return format_time(datetime.fromtimestamp(self.now, UTC))

    def passes(self, seconds: float) -> None:
        """Time passes, and nobody asks."""
        self.now, self.steady = self.now + seconds, self.steady + seconds

    def serve(self, seconds: float, *, path: str = "web_8000") -> None:
        """Users ask, so long."""
        assert self.split is not None
        slot = self.split.base
        release = self.journal.slots()[slot].release
        unfinished = self.journal.unfinished()
        if unfinished is not None and unfinished.plan.candidate is slot:
            release = unfinished.plan.release
        lines, count = [], round(seconds * self.rate)
        for _ in range(count):
            self.passes(1 / self.rate)
            bad = self.dice.random() < self.wrong.get(release, 0.0)
            lines.append(self._line(slot.value, path, "500" if bad else "200"))
        if not count:
            self.passes(seconds)
        with self.path.open("a") as log:
            log.writelines(lines)

    def _line(self, slot: str, route: str, status: str) -> str:
        took = f"{self.slow_s:.3f}"
        values = {
            "time": round(self.now, 3), "slot": slot, "route": route, "bucket": f"{self.dice.randrange(100):02d}",
            "client": f"{self.dice.randrange(10**6):06d}", "method": "GET", "status": status,
            "request_time": self.slow_s, "upstream_addr": "10.213.0.2:8000", "upstream_status": status,
            "upstream_connect_time": "0.001", "upstream_header_time": took, "upstream_response_time": took,
            "bytes_sent": 345, "request_id": "0" * 32,
        }  # fmt: skip
        return json.dumps(values) + "\n"

    async def sleep(self, seconds: float) -> None:
        for moment in sorted(self.at):
            if self.now - NOON >= moment:
                self.at.pop(moment)()
        self.serve(seconds)
        await asyncio.sleep(0)

    def releases(self, name: str, **images: str) -> Release:
        """A release of web and api; another word for an image makes another version of that service."""
        made = a_release(name)
        pinned = {s: PinnedImage(f"sha256:{images.get(s, 'same')}", f"{s}:1") for s in made.services}
        made = msgspec.structs.replace(made, images=pinned, routes=ROUTES)
        self.journal.save_release(made)
        return made

    def deploy(self, name: str, *, fails_at: str = "", halt: str = "", kind: Kind = Kind.DEPLOY, **images: str) -> Run:
        """A run to its end, or until the step `halt` is under way."""
        release, slots = self.releases(name, **images), self.journal.slots()
        live = live_slot(slots)
        facts = Facts(live=live, live_release=slots[live].release if live else "", router_running=True)
        project = msgspec.structs.replace(a_project(), routes=ROUTES)
        plan = plan_blue_green(project, release, facts, Timing(bake_s=600.0 if halt == "bake" else 0.0), "local")
        return self.perform(msgspec.structs.replace(plan, kind=kind), fails_at, halt)

    def perform(self, plan: Plan, fails_at: str = "", halt: str = "") -> Run:
        run = new_run(f"run-{len(self.journal.history(100))}", plan, self.text())
        self.journal.begin(run)
        run, effects = advance(run, machine.Begin())
        while effects:
            (effect,), step = effects, run.current()
            key = step.key if step else ""
            if key == halt:
                return run
            self.journal.record(run, "intent", key, msgspec.json.encode(effect).decode())
            self.passes(0.05)
            failed = key == fails_at
            if isinstance(effect, MoveTraffic) and not failed:
                self.split = effect.split
            if isinstance(effect, Record) and effect.live is not None:
                empty = {slot: SlotRecord("", SlotRole.EMPTY, self.text()) for slot in (Slot.BLUE, Slot.GREEN)}
                self.journal.set_slots(
                    empty | {effect.live: SlotRecord(effect.live_release, SlotRole.LIVE, self.text())}
                )
            self.passes(0.05)
            failure = machine.Failed(machine.Failure("it broke"))
            run, effects = advance(run, failure if failed else machine.Done(0.1))
            self.journal.record(run, "outcome", key, "")
        return run

    def log(self, view: LogView) -> RequestLog:
        rules = Rules(view.candidate, view.moves, view.began, view.salt)
        return AccessLog(self.root / "log", lambda: rules, lambda: Tick(self.now, self.steady))

    async def no_containers(self, **_: object) -> list[Container]:
        return []

    def written(self, _run: str, at: int, data: bytes) -> int:
        return at + len(data)

    async def keep_log(self, *, on: bool) -> None:
        self.recording = on

    def _world(self) -> World:
        clock = SimpleNamespace(now=self.text, monotonic=lambda: self.steady, sleep=self.sleep)
        found: Any = SimpleNamespace(
            root=self.root,
            store=self.journal,
            project=msgspec.structs.replace(a_project(), routes=ROUTES),
            clock=clock,
            router=SimpleNamespace(split=lambda: self.split, record=self.keep_log),
            request_log=self.log,
            lock=SimpleNamespace(owner=lambda: self.owner),
            note=self.notes.append,
            progress=lambda text: None,
            watcher=lambda line: None,
            user="ann",
            host="one",
            objectives=(),
            engine=SimpleNamespace(containers=self.no_containers),
            judge_records=SimpleNamespace(
                write=self.written, read=lambda _: None, runs=lambda: (), keep=lambda _: None
            ),
        )
        return cast("World", found)
