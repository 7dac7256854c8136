"""The way back while the previous release is warm: users first, everything else after them.

Until users are back nothing is asked but our own files and nginx: no container engine, no Compose file. The intent of
every step is on record before it is begun, as in any run; what needs more than that begins with the rest of the world.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from nself_deploy.app import migrating, moving, proving
from nself_deploy.app.result import Confirm, Result
from nself_deploy.app.runner import carry_out
from nself_deploy.app.states import check_states
from nself_deploy.app.world import World
from nself_deploy.core.effects import Effect, MoveTraffic, ProbeWarm
from nself_deploy.core.machine import Run
from nself_deploy.core.model import Release, Slot, Split
from nself_deploy.core.plan import NO_CAUSE, Cause, Facts, Timing, plan_rollback
from nself_deploy.core.slot_records import live_slot, standby_slot
from nself_deploy.errors import ConfigError, NselfError

FRESH_S = 1.0
"""For so long the standby counts as proved: only a person who thinks about the plan takes longer."""

Complete = Callable[[], Awaitable[None]]
"""Opens the rest of the world, and takes the lock on the engine; raises NselfError when it can't."""


async def back_at_once(
    world: World,
    timing: Timing,
    target: str,
    interrupted: asyncio.Event,
    confirm: Confirm,
    complete: Complete,
    *,
    to: str = "",
    cause: Cause = NO_CAUSE,
    force_migration: bool = False,
) -> Result | None:
    """Back to the standby, or None (and nothing done) when that is not the way: it is not warm, or not asked for.

    The caller holds the lock of the directory. What can't be done after users are back leaves the run to the next
    command (`Run.left`).

    Raises:
        StateFileError: a state file can't be understood.
        GateRefused: that release can't live with a migration since, and nobody accepted that.
        NselfError: before anything was changed.
    """
    found = _standby(world, to)
    if found is None:
        return None
    facts, release = found
    check_states(world, target)
    assert facts.standby is not None
    if not await _answers(world, release, facts.standby):
        return None
    proved = world.clock.monotonic()
    plan = msgspec.structs.replace(plan_rollback(world.project, release, facts, timing, target), cause=cause)
    plan = migrating.passed_back(world.store, plan, release, force=force_migration)
    confirm(plan)
    return Result(plan, await carry_out(world, plan, interrupted, _UsersFirst(world, complete, proved).perform))


def _standby(world: World, to: str) -> tuple[Facts, Release] | None:
    """What a plan depends on, by our records alone; None when they don't say that the release is warm."""
    store, split = world.store, world.router.split()
    if world.lock.noted is not None or store.unfinished() is not None:
        return None  # somebody may be at work, or was: the engine has to be asked
    slots = store.slots()
    live, standby = live_slot(slots), standby_slot(slots)
    if live in (None, Slot.PLAIN) or standby is None or split != Split.all_to(live):
        return None
    release = store.release(slots[standby].release)
    if release is None or to not in ("", release.id) or release.id == slots[live].release:
        return None
    facts = Facts(
        live=live,
        live_release=slots[live].release,
        standby=standby,
        standby_release=release.id,
        standby_warm=True,
        occupied=(Slot.BLUE, Slot.GREEN),
        router_running=True,
    )
    return facts, release


async def _answers(world: World, release: Release, slot: Slot) -> bool:
    """Whether the release answers in this slot over each of its routes."""
    if not proving.http_routes(release):
        return False
    try:
        await proving.prove_routes(world, release, slot, patience_s=0)
    except NselfError:
        return False
    return True


class _UsersFirst:
    """Performs effects; the first one that needs more than files and nginx opens the rest of the world."""

    def __init__(self, world: World, complete: Complete, proved: float) -> None:
        self._world = world
        self._complete = complete
        self._proved = proved
        self._whole = False

    async def perform(self, effect: Effect, run: Run) -> str:
        """Perform one effect; NselfError when it did not take effect."""
        if not self._whole and isinstance(effect, ProbeWarm | MoveTraffic):
            fresh = self._world.clock.monotonic() - self._proved <= FRESH_S
            return await first_effects(self._world, effect, run, fresh=fresh)
        if not self._whole:
            await self._complete()
            self._whole = True
        from nself_deploy.app.executor import Executor  # all that a run may need: users don't wait for it

        return await Executor(self._world).perform(effect, run)


async def first_effects(world: World, effect: ProbeWarm | MoveTraffic, run: Run, *, fresh: bool) -> str:
    """What needs neither the engine nor the Compose file; NselfError when it did not take effect.

    `fresh`: the standby was proved just now.
    """
    if isinstance(effect, MoveTraffic):
        return await moving.move(world, effect.split)
    release = world.store.release(run.plan.release)
    if release is None:
        raise ConfigError(f"The record of release {run.plan.release} is missing.", where=".nself/nself.db")
    if not fresh:
        await proving.prove_routes(world, release, effect.slot, patience_s=0)
    return "answers through the router"
