"""Doing what `doctor --fix` found: each repair safe to repeat, harmless when it is cut short, and about ours only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from nself_deploy.app import lifecycle, recovery, traffic
from nself_deploy.app.checkup import Leftovers, look
from nself_deploy.app.log_keeping import stop_recording
from nself_deploy.app.proving import POLL_S
from nself_deploy.app.world import World
from nself_deploy.core import effects as do
from nself_deploy.core import findings as fix
from nself_deploy.core.doctor_ours import healthy
from nself_deploy.core.doctor_states import expected
from nself_deploy.core.machine import Run
from nself_deploy.core.model import Container, Release, Slot
from nself_deploy.core.plan import Timing
from nself_deploy.core.recovery import Wish
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from nself_deploy.core.state import BLUE_GREEN_STATE_FILE, DEPLOY_STATE_FILE, ROLLBACK_STATE_DIR
from nself_deploy.errors import ConfigError, DeployFailed, EngineError


class Repairs:
    """Does one repair at a time. The caller holds the lock, and looked just before."""

    def __init__(self, world: World, leftovers: Leftovers, timing: Timing, interrupted: asyncio.Event) -> None:
        self._world = world
        self._leftovers = leftovers
        self._timing = timing
        self._interrupted = interrupted
        self.recovered: Run | None = None
        """The interrupted run that was put right."""

    async def perform(self, what: fix.Fix) -> str:
        """Do it; what was done, in words.

        Raises:
            NselfError: it did not work; what was done of it does no harm.
        """
        match what:
            case fix.Recover():
                return await self._recover()
            case fix.StartContainers(slot, ids):
                return await self._start(slot, ids)
            case fix.ClearSlot(slot, ids):
                return await self._clear(slot, ids)
            case fix.RemoveContainers(_, ids):
                return await self._remove(ids)
            case do.MoveTraffic() | do.PrepareNetworks() | do.InstallRouter():
                return await self._effect(what)
            case _:
                return await self._write(what)

    async def _recover(self) -> str:
        found = await recovery.recover(self._world, self._interrupted, Wish.ONWARD)
        self.recovered = found.run if found else None
        return found.decision.words if found else "it was put right meanwhile"

    async def _effect(self, effect: do.MoveTraffic | do.PrepareNetworks | do.InstallRouter) -> str:
        world = self._world
        match effect:
            case do.MoveTraffic(split):
                return await traffic.move(world, split)
            case do.PrepareNetworks(release):
                return await lifecycle.prepare_networks(world, self._release(release))
            case do.InstallRouter(release, slot, initial):
                return await traffic.install_router(world, self._release(release), slot, initial)

    async def _write(self, what: fix.Fix) -> str:
        world = self._world
        match what:
            case fix.CorrectSlots(slots):
                world.store.set_slots(slots)
                return "recorded"
            case fix.WriteOverride():
                await lifecycle.write_override(world, retired=True)
            case fix.WriteSlotFile(release, slot):
                await lifecycle.compile_to_slot(world, self._release(release), slot)
            case fix.StopRecording():
                await stop_recording(world)
                return "stopped"
            case fix.WriteStates(files):
                await self._states(files)
            case fix.ForgetOwner():
                return "taken over"  # with our own lock
            case fix.RemoveFiles(paths):
                for path in paths:
                    self._leftovers.remove(path)
                return "removed"
            case _:
                raise AssertionError(what)
        return "written anew"

    async def _start(self, slot: Slot, ids: tuple[str, ...]) -> str:
        """Start them, and wait until they are healthy."""
        world = self._world
        for container in ids:
            await world.engine.start(container)
        start = world.clock.monotonic()
        while True:
            found = [c for c in [await world.engine.container(i) for i in ids] if c is not None]
            if found and all(healthy(c) for c in found):
                return f"{len(found)} started in {slot}"
            if world.clock.monotonic() - start > self._timing.health_timeout_s:
                waited = f"within {self._timing.health_timeout_s:g} s"
                bad = ", ".join(c.name for c in found if not healthy(c)) or "what was started"
                raise DeployFailed(f"{bad} did not become healthy {waited}.", f"See why: docker logs {bad}")
            await world.clock.sleep(POLL_S)

    async def _clear(self, slot: Slot, ids: tuple[str, ...]) -> str:
        """Wait for what is in flight to the slot, remove our containers there, record it as empty."""
        world = self._world
        split = world.router.split()
        if split is not None and split.percent_of(slot):
            raise EngineError(f"Requests go to {slot} now.", "Look again: nself deploy doctor")
        if ids:
            await traffic.drain(world, slot, self._timing.drain_s, keep=False)
        words = await self._remove(ids)
        record = world.store.slots().get(slot)
        if record is not None and record.role is SlotRole.STANDBY:
            await stop_recording(world)
        if record is not None and record.role is not SlotRole.EMPTY:
            world.store.set_slots({slot: SlotRecord("", SlotRole.EMPTY, world.clock.now())})
        return words if ids else "recorded as empty"

    async def _remove(self, ids: tuple[str, ...]) -> str:
        found = [c for c in [await self._world.engine.container(i) for i in ids] if c is not None]
        await asyncio.gather(*(self._stop_and_remove(c) for c in found))
        return f"{', '.join(c.name for c in found)} removed"

    async def _stop_and_remove(self, container: Container) -> None:
        release = self._world.store.release(container.release)
        service = release.services.get(container.service) if release else None
        await self._world.engine.stop(container.id, service.stop_grace_s if service else 10.0)
        await self._world.engine.remove(container.id)

    async def _states(self, files: Iterable[str]) -> None:
        """Write the files as the journal and the link have it now."""
        world = self._world
        facts = await look(world, self._leftovers, self._timing.standby_s, None, ours=True)
        right, target = expected(facts), facts.last.plan.target if facts.last else ""
        if BLUE_GREEN_STATE_FILE in files and right.blue_green is not None:
            world.states.save_blue_green(right.blue_green)
        if DEPLOY_STATE_FILE in files and right.deploy is not None:
            world.states.save_deploy(right.deploy)
        for name, state in right.rollback.items():
            if f"{ROLLBACK_STATE_DIR}/{target}/{name}.json" in files:
                world.states.save_rollback(target, name, state)

    def _release(self, release_id: str) -> Release:
        release = self._world.store.release(release_id)
        if release is None:
            raise ConfigError(
                f"The record of release {release_id} is missing.", "Deploy again.", where=".nself/nself.db"
            )
        return release
