"""Performs effects on the world: one method for each, every one safe to repeat."""

from __future__ import annotations

from nself_deploy.app import baking, judging, lifecycle, measuring, proving, recording, shared, smoke, traffic
from nself_deploy.app.world import World
from nself_deploy.core import effects as do
from nself_deploy.core.machine import Run
from nself_deploy.core.model import Release
from nself_deploy.errors import ConfigError


class Executor:
    """Dispatches an effect to the room where it is done. Returns what to say about it, in words."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def perform(self, effect: do.Effect, run: Run) -> str:
        """Perform one effect; NselfError when it did not take effect."""
        if isinstance(effect, do.Preparing):
            return await self._prepare(effect)
        if isinstance(effect, do.Bringing):
            return await self._bring(effect, run)
        if isinstance(effect, do.Judging):
            return await self._judge(effect, run)
        return await self._end(effect, run)

    async def _prepare(self, effect: do.Preparing) -> str:
        world = self._world
        match effect:
            case do.PrepareNetworks(release):
                return await lifecycle.prepare_networks(world, self._release(release))
            case do.StartShared(services, router):
                return await shared.start_shared(world, services, router)
            case do.InstallRouter(release, slot, initial):
                return await traffic.install_router(world, self._release(release), slot, initial)
            case do.RunJob(release, slot, service, timeout_s):
                return await lifecycle.run_job(world, self._release(release), slot, service, timeout_s)

    async def _bring(self, effect: do.Bringing, run: Run) -> str:
        world = self._world
        match effect:
            case do.StartSlot(release, slot, timeout_s):
                return await lifecycle.start_slot(world, self._release(release), slot, timeout_s)
            case do.ProveHealth(release, slot, timeout_s, min_uptime_s):
                return await proving.prove_slot(world, self._release(release), slot, timeout_s, min_uptime_s)
            case do.ProbeWarm(release, slot):
                await proving.prove_routes(world, self._release(release), slot)
                return "answers through the router"
            case do.MoveTraffic(split):
                await judging.keep_log(world, run, split)
                judging.before_move(world, run, split)
                words = await traffic.move(world, split)
                judging.after_move(world, run, split)
                return words
            case do.WatchLive(release, slot, seconds):
                return await lifecycle.watch_live(world, self._release(release), slot, seconds)
            case do.HandOver():
                return await lifecycle.hand_over(world, effect, self._release)

    async def _judge(self, effect: do.Judging, run: Run) -> str:
        world = self._world
        match effect:
            case do.Smoke(release, slot, probes):
                await measuring.ready(world, run.plan)
                return await smoke.smoke(world, self._release(release), slot, probes)
            case do.Judge():
                return await judging.judge(world, run, effect)
            case do.Bake():
                return await baking.bake(world, run, effect)

    async def _end(self, effect: do.Ending, run: Run) -> str:
        world = self._world
        match effect:
            case do.Drain(slot, grace_s, keep):
                return await traffic.drain(world, slot, grace_s, keep=keep)
            case do.RemoveSlot(slot):
                return await lifecycle.remove_slot(world, slot)
            case do.RetirePlain(services):
                return await lifecycle.retire_plain(world, services)
            case do.KeepWarm(slot, seconds):
                return lifecycle.keep_warm(world, slot, seconds)
            case do.Record():
                return await recording.record(world, effect, run)

    def _release(self, release_id: str) -> Release:
        release = self._world.store.release(release_id)
        if release is None:
            raise ConfigError(
                f"The record of release {release_id} is missing.",
                "Deploy again to make a new release.",
                where=".nself/nself.db",
            )
        return release
