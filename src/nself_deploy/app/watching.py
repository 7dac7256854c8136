"""What a canary and a bake are watched by: the access log, the containers, and whether both can be trusted."""

from __future__ import annotations

import asyncio

from nself_deploy.app.lifecycle import plain_containers
from nself_deploy.app.ports import RequestLog
from nself_deploy.app.world import World
from nself_deploy.core.canary import Session, cut_problem
from nself_deploy.core.evidence import Incident, Trouble
from nself_deploy.core.machine import Run
from nself_deploy.core.model import Activate, Container, Slot, slot_project
from nself_deploy.core.recorder import Recorder
from nself_deploy.core.times import parse
from nself_deploy.errors import NselfError

CONTAINERS_S = 1.0
"""How often containers are looked at."""
PATIENCE_S = 2.0
"""How long the engine may take to tell of them: the log is more important."""
QUIET_S = 30.0
_QUIET_GAPS = 100.0
_KNOWN_LINES = 100


def unix_now(world: World) -> float:
    """Seconds since 1970."""
    return parse(world.clock.now()).timestamp()


def catch_up(log: RequestLog, recorder: Recorder) -> tuple[int, str]:
    """Feed the session with all that was added to the log: how many requests, and why it can't be trusted."""
    count, session = 0, recorder.session
    while True:
        read = log.read(session.position)
        recorder.feed(read.requests)
        count += len(read.requests)
        session.skipped += read.skipped
        session.cuts += read.cuts
        session.lost_s += read.lost_s
        onward = read.position != session.position
        session.position = read.position
        problem = read.problem or (cut_problem(session) if read.cuts else "")
        if problem or not onward or read.position.offset >= read.size:
            return count, problem


class Containers:
    """The containers of both slots: what breaks down is told once. `known` is kept with what is known."""

    def __init__(self, world: World, run: Run, known: dict[str, str]) -> None:
        self._world, self._run, self._known = world, run, known
        self._looked = float("-inf")
        self._ill: set[str] = set()

    async def incidents(self, at: float) -> list[Incident]:
        """What happened since the last look; none while the engine can't be asked."""
        now = self._world.clock.monotonic()
        if now - self._looked < CONTAINERS_S:
            return []
        self._looked = now
        found: list[Incident] = []
        plan = self._run.plan
        for slot, release in ((plan.candidate, plan.release), (plan.live, plan.previous_release)):
            if slot is None:
                continue
            try:
                async with asyncio.timeout(PATIENCE_S):
                    containers = await self._of(slot, release)
            except (NselfError, TimeoutError):
                continue  # an engine that is away says nothing about the candidate
            found += [incident for c in containers if (incident := self._look(c, at, slot is plan.candidate))]
        return found

    async def _of(self, slot: Slot, release_id: str) -> list[Container]:
        release = self._world.store.release(release_id)
        if release is None or slot is Slot.PLAIN:
            return await plain_containers(self._world) if slot is Slot.PLAIN else []
        names = {s.name for s in release.apps() if s.activate is Activate.WITH_SLOT}
        all_found = await self._world.engine.containers(compose_project=slot_project(self._world.project.name, slot))
        return [c for c in all_found if c.service in names and c.release == release_id]

    def _look(self, container: Container, at: float, candidate: bool) -> Incident | None:
        life = f"{container.started_at} {container.restart_count} {container.state == 'running'}"
        before = self._known.get(container.id)
        self._known[container.id] = life
        if before is not None and before != life:
            killed = container.oom_killed
            trouble = Trouble.OUT_OF_MEMORY if killed else Trouble.RESTARTED
            return Incident(at, candidate, trouble, container.name)
        if container.health != "unhealthy":
            self._ill.discard(container.id)
        elif container.id not in self._ill:
            self._ill.add(container.id)
            return Incident(at, candidate, Trouble.UNHEALTHY, container.name)
        return None


class Waiting:
    """Whether the candidate lets its requests wait; asked only while it answers none."""

    def __init__(self, world: World, session: Session) -> None:
        self._world, self._session = world, session

    async def incidents(self, at: float) -> list[Incident]:
        """What is seen now; nothing while the router can't be asked."""
        session = self._session
        if not session.silence.due(at):
            return []
        try:
            async with asyncio.timeout(PATIENCE_S):
                in_flight = await self._world.router.in_flight(session.candidate)
        except (NselfError, TimeoutError):
            return []
        latency = session.judge.latency
        slowest_s = latency.cuts[-1] if latency is not None and latency.cuts else 0.0
        found = session.silence.waiting(at, in_flight, session.percent / 100, slowest_s)
        return [found] if found is not None else []


class LogGuard:
    """Whether the log goes on to be written."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._start = self._grown = world.clock.monotonic()
        self._lines = 0

    async def problem(self, lines: int) -> str:
        """Why it is not to be trusted, after a look that found so many new lines; empty when it is."""
        now = self._world.clock.monotonic()
        if lines:
            self._lines, self._grown = self._lines + lines, now
            return ""
        if self._lines < _KNOWN_LINES:
            return ""
        quiet, gap = now - self._grown, (self._grown - self._start) / self._lines
        if quiet < max(QUIET_S, _QUIET_GAPS * gap):
            return ""
        state = await self._world.router.observe()
        if not (state.running and state.loaded_tree):
            self._grown = now  # a router that is away answers nobody; that is no fault of the log
            return ""
        return f"the access log has not grown for {quiet:.0f} s, though the router answers"
