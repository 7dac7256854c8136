"""Playing one history: the commands of a schedule in a simulated world, and what had to hold."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from nself_deploy.adapters.docker_lock import DockerLock
from nself_deploy.app import deploy as use_cases
from nself_deploy.app.locking import is_warm
from nself_deploy.app.pausing import wait_out
from nself_deploy.app.planning import Wanted
from nself_deploy.app.recovery import recover
from nself_deploy.app.result import Result
from nself_deploy.app.standby import wait_and_expire
from nself_deploy.app.way_back import back_at_once
from nself_deploy.app.world import World
from nself_deploy.core.effects import KeepWarm
from nself_deploy.core.machine import Outcome, Run
from nself_deploy.core.model import Slot, Split, Strategy
from nself_deploy.core.plan import Plan
from nself_deploy.core.recovery import Wish
from nself_deploy.core.step_lines import StepLine
from nself_deploy.errors import NselfError
from tests.simulation import beginnings, shop
from tests.simulation.canaries import BAKE_S, CANARY, PAUSED, SimLog
from tests.simulation.ending import at_end, left_over, replays
from tests.simulation.engine import SimCompose, SimEngine, SimProber
from tests.simulation.invariants import Watch
from tests.simulation.locks import SimLock, SimMachine, SimVolumes, watched, watched_here
from tests.simulation.loop import Stuck
from tests.simulation.process import Fault, Killed, Process
from tests.simulation.router import SimRouter, base_tree
from tests.simulation.schedule import Command, Schedule
from tests.simulation.seams import deterministic
from tests.simulation.shocks import restart_all, shock
from tests.simulation.store import SimClock, SimFiles, SimRecords, SimStates, SimStore
from tests.simulation.world import EPOCH, SimWorld

T = TypeVar("T")

PATIENCE_S = 1500.0
"""Virtual seconds that one command may take."""


class Report(msgspec.Struct, frozen=True):
    """How a history went."""

    violations: tuple[str, ...]
    digest: int
    """Of all events in their order: equal histories have equal ones."""
    events: int
    fired: int
    """Faults that happened."""
    seconds: float
    """Virtual time."""
    log: tuple[str, ...] = ()


class History:
    """One history."""

    def __init__(self, schedule: Schedule, *, verbose: bool = False) -> None:
        self.schedule = schedule
        self.world = SimWorld(schedule.salt, schedule.shape)
        self.world.log = [] if verbose else None
        self.watch = Watch(self.world)
        self._setting = 0
        self._settled = False
        """A first deploy has succeeded, or the plain stack serves: from then on users rely on us."""
        self._background: list[asyncio.Task[None]] = []
        self._processes: list[Process] = []

    def play(self, beginning: bytes) -> Report:
        """From the beginning to the last command that is left in peace."""
        world = self.world
        world.restore(beginning)
        try:
            in_virtual_time(world, self._play())
        except Stuck as stuck:
            self.watch.fail(5, str(stuck))
        fired = sum(p.fired for p in self._processes)
        return Report(tuple(self.watch.found), world.digest, world.events, fired, world.now, tuple(world.log or ()))

    async def _play(self) -> None:
        schedule = self.schedule
        self.watch.begin()
        self._settled = schedule.beginning != "fresh"
        if schedule.beginning == "standby" and schedule.shape.standby:
            self._background.append(asyncio.ensure_future(self._expire(schedule.shape.timing.standby_s + 1)))
        for number, command in enumerate(self.schedule.commands):
            await self._command(number, command)
            if self.watch.found:
                return
        await self._finish()

    async def begin(self) -> bytes:
        """The world at the beginning of such a history."""
        beginnings.begin(self.world, self.schedule.beginning)
        self.watch.begin()
        for version in {"live": ("good",), "standby": ("good", "good")}.get(self.schedule.beginning, ()):
            beginnings.push(self.world, version)
            if not await self._run("beginning", "deploy", ()):
                raise AssertionError(f"the beginning {self.schedule.beginning} failed: {self.watch.found}")
        for task in self._background:
            task.cancel()
        return self.world.kept()

    async def _command(self, number: int, command: Command) -> None:
        await asyncio.sleep(command.pause)
        if command.version:
            beginnings.push(self.world, command.version)
        if command.setting:
            self._set(command.setting)
        self.watch.promise = self._settled and self.world.served()
        self.world.note("world", f"--- {command.kind} {command.version} (users served: {self.watch.promise})")
        second = None
        if command.second:
            second = asyncio.ensure_future(self._later(number, command))
        await self._run(f"p{number}", command.kind, command.faults)
        if second is not None:
            await second
        self._nothing_left(command.kind)
        for problem in replays(self.world):
            self.watch.fail(5, problem)

    def _nothing_left(self, kind: str) -> None:
        """After a command that was not cut short, whatever was cut short before: its own slots, and no more."""
        world = self.world
        saved, split = world.disk.saved, world.disk.split
        if world.people_came or split is None or any(not run.ended for run in saved.runs.values()):
            return
        if self._settled and not world.inside:
            for problem in left_over(world, split.base):
                self.watch.fail(5, f"after {kind}: {problem}")

    async def _later(self, number: int, command: Command) -> None:
        await asyncio.sleep(command.second_after)
        await self._run(
            f"q{number}",
            command.second,
            command.second_faults,
            elsewhere=command.elsewhere,
            wait_s=30.0 if command.waits else 0.0,
        )

    def _set(self, setting: int) -> None:
        self._setting = setting
        self.world.project = shop.project(self.world.shape, setting)

    async def _run(
        self, name: str, kind: str, faults: tuple[Fault, ...], *, elsewhere: bool = False, wait_s: float = 0.0
    ) -> bool:
        """One process from its start to its end; whether it ended well."""
        process = Process(self.world, name, faults, shock, elsewhere=elsewhere)
        process.wait_s = wait_s
        self._processes.append(process)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._use_case(process, kind)
        except Killed:
            return False
        except NselfError as error:
            self.world.note(name, f"{type(error).__name__}: {error}")
            self._secret(name, f"{error} {error.evidence}")
        except TimeoutError:
            self.watch.fail(5, f"{kind} ({name}) had no end after {PATIENCE_S:g} s")
        except Exception:  # a traceback that users would see
            self.watch.fail(5, f"{kind} ({name}) broke: {traceback.format_exc(limit=-4)}")
        finally:
            process.end()
        return False

    async def _use_case(self, process: Process, kind: str) -> bool:
        world, timing = self._world(process), self.schedule.shape.timing
        result = await self._at_once(process) if kind == "rollback" else None
        if result is None:
            warm = kind == "rollback" and is_warm(world, "")
            async with watched(world, kind, "local", process.interrupted, wait_s=process.wait_s, warm=warm):
                result = await _CALLS[kind](world, timing, process.interrupted)
        if result is None or result.run is None:
            self.world.note(process.name, "nothing to do")
            return True
        if result.run.waits:
            result = msgspec.structs.replace(result, run=await self._waited(process, world, result.run))
        self.world.note(process.name, f"ended {result.run.outcome} {result.run.failure}")
        self._secret(process.name, f"{result.run.steps} {result.run.failure} {result.plan.changes}")
        done = result.run.outcome is Outcome.DONE
        if done and process.undisturbed and self.world.routing() and not self.world.served():
            self.watch.fail(1, f"{kind} ({process.name}) says that all is well, and users are not served")
        self._settled |= done
        if done:
            self._schedule_expiry(result.plan)
        return done

    async def _waited(self, process: Process, world: World, run: Run) -> Run:
        """The run after its pause, if that has an end; as the command line and the library do it."""

        async def act() -> None:
            async with watched(world, "end of a pause", "local", process.interrupted, wait_s=0.0):
                await recover(world, process.interrupted, Wish.ONWARD)

        self.world.note(process.name, f"waits: {run.parking}")
        return await wait_out(world, run, process.interrupted, act)

    async def _at_once(self, process: Process) -> Result | None:
        """The way back while the previous release is warm, without a question to the engine until users are back."""
        world, timing, stop = self._world(process), self.schedule.shape.timing, process.interrupted
        async with watched_here(world, "rollback", "local", stop, wait_s=process.wait_s) as complete:
            return await back_at_once(world, timing, "local", stop, lambda plan: None, complete)

    def _schedule_expiry(self, plan: Plan) -> None:
        warm = [step.effect for step in plan.steps if isinstance(step.effect, KeepWarm)]
        for effect in warm:
            self._background.append(asyncio.ensure_future(self._expire(effect.seconds + 1)))

    async def _expire(self, seconds: float) -> None:
        process = Process(self.world, f"expiry{len(self._background)}", (), shock)
        try:
            await asyncio.sleep(seconds)
            await wait_and_expire(self._world(process), 0)
        except NselfError as error:
            self.world.note(process.name, f"{type(error).__name__}: {error}")
        except Exception:  # as above
            self.watch.fail(5, f"the standby's end broke: {traceback.format_exc(limit=-4)}")
        finally:
            process.end()

    def _world(self, process: Process) -> World:
        clock = SimClock(process, EPOCH)

        def watcher(line: StepLine) -> None:
            self._secret(process.name, f"{line.name} {line.detail}")

        def progress(line: str) -> None:
            self._secret(process.name, line)

        return World(
            root=Path(shop.ROOT),
            engine=SimEngine(process),
            compose=SimCompose(process),
            router=SimRouter(process),
            prober=SimProber(process),
            store=SimStore(process, clock.now),
            states=SimStates(process),
            files=SimFiles(process),
            lock=SimLock(process),
            clock=clock,
            project=self.world.project,
            tree=base_tree,
            user="ann",
            git=("", False),
            watcher=watcher,
            progress=progress,
            note=progress,
            keep_releases=3,
            request_log=lambda view: SimLog(self.world, view),
            judge_records=SimRecords(process),
            engine_lock=DockerLock(SimVolumes(process), SimMachine(process), "local", sleep=process.pause),
        )

    def _secret(self, name: str, text: str) -> None:
        if shop.SECRET in text:
            self.watch.fail(9, f"{name} told the secret: {text[:200]}")

    async def _finish(self) -> None:
        """All faults off, a person puts right what the remedies ask for, and one more deploy: the end is clean."""
        world = self.world
        world.engine_back, world.refusals, world.disk.full = -1.0, 0, 0
        await asyncio.sleep(1.0)
        restart_all(world)
        world.happened(None, "a person restarts the router, and what stopped")
        beginnings.push(world, "good")
        await asyncio.sleep(3.0)
        self.watch.promise = self._settled and world.served()
        if any(run.waits for run in world.disk.saved.runs.values()):
            await self._run("person", "abort", (), wait_s=150.0)
        for attempt in range(3):
            if world.link_lost and world.disk.split is None:
                self._restore_link()
            if await self._run(f"last{attempt}", "deploy", (), wait_s=150.0):
                break
        else:
            self.watch.fail(5, "a deploy that is left in peace does not succeed")
            return
        for problem in at_end(world):
            self.watch.fail(5, problem)
        await self._wait_for_the_standby()

    def _restore_link(self) -> None:
        slots = self.world.disk.saved.slots
        committed = any(run.committed and not run.ended for run in self.world.disk.saved.runs.values())
        if committed and self.world.random.random() < 0.5:
            return  # the deploy puts it back; other people link what was live before
        live = next((s for s in (Slot.BLUE, Slot.GREEN) if s in slots and slots[s].role == "live"), None)
        if live is not None:
            self._point(Split.all_to(live))

    def _point(self, split: Split) -> None:
        self.world.retarget(lambda: setattr(self.world.disk, "split", split))
        self.world.link_lost = False
        self.world.happened(None, f"a person links {split.name} again")

    async def _wait_for_the_standby(self) -> None:
        """Also the standby goes when its time is over."""
        await asyncio.sleep(self.schedule.shape.timing.standby_s + 8.0)
        for task in self._background:
            await task
        for problem in at_end(self.world):
            self.watch.fail(5, f"{problem} (later)")
        live = self.world.disk.split
        idle = [s for s in (Slot.BLUE, Slot.GREEN) if live and s is not live.base]
        left = [t.name for s in idle for t in self.world.of_slot(s) if not t.by_hand]
        if left and not self.world.wall_offset:
            self.watch.fail(5, f"the standby's time is over, and {left} are still there")


async def _call_deploy(world: World, timing: Any, stop: asyncio.Event) -> Any:
    wanted = Wanted(Strategy.BLUE_GREEN, timing, "local", CANARY)
    return await use_cases.deploy(world, wanted, stop, lambda plan: None)


async def _call_canary(world: World, timing: Any, stop: asyncio.Event) -> Any:
    wanted = Wanted(Strategy.CANARY, msgspec.structs.replace(timing, bake_s=BAKE_S), "local", CANARY)
    return await use_cases.deploy(world, wanted, stop, lambda plan: None)


async def _call_paused(world: World, timing: Any, stop: asyncio.Event) -> Any:
    wanted = Wanted(Strategy.CANARY, msgspec.structs.replace(timing, bake_s=BAKE_S), "local", PAUSED)
    return await use_cases.deploy(world, wanted, stop, lambda plan: None)


async def _call_rollback(world: World, timing: Any, stop: asyncio.Event) -> Any:
    return await use_cases.rollback(world, timing, "local", stop, lambda plan: None)


async def _call_resume(world: World, timing: Any, stop: asyncio.Event) -> Any:
    return await use_cases.resume(world, stop)


async def _call_abort(world: World, timing: Any, stop: asyncio.Event) -> Any:
    return await use_cases.abort(world, stop)


_CALLS = {
    "deploy": _call_deploy,
    "canary": _call_canary,
    "paused": _call_paused,
    "rollback": _call_rollback,
    "resume": _call_resume,
    "abort": _call_abort,
}


def in_virtual_time(world: SimWorld, work: Coroutine[Any, Any, T]) -> T:
    """Do something in a world, with nothing left of it afterwards."""
    with deterministic(world):
        try:
            return world.loop.run_until_complete(work)
        finally:
            for task in asyncio.all_tasks(world.loop):
                task.cancel()
            world.loop.run_until_complete(asyncio.sleep(0))
            world.loop.close()


@cache
def begun(shape: shop.Shape, beginning: str) -> bytes:
    """How such a history begins: the same for all, so it is played once, by our own code as it should be."""
    first = History(Schedule(0, shape, beginning, ()))
    return in_virtual_time(first.world, first.begin())


def played(schedule: Schedule, *, verbose: bool = False) -> Report:
    """Play a schedule."""
    return History(schedule, verbose=verbose).play(begun(schedule.shape, schedule.beginning))
