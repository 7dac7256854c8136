"""The end of a standby: when its time is over and nothing else happened, it is stopped and removed."""

from __future__ import annotations

import asyncio

from nself_deploy.app import lifecycle, traffic
from nself_deploy.app.inspect import expired_standby
from nself_deploy.app.locking import EXPIRY, held
from nself_deploy.app.log_keeping import stop_recording
from nself_deploy.app.stores import Store
from nself_deploy.app.world import World
from nself_deploy.core.model import Slot
from nself_deploy.core.slot_records import SlotRecord, SlotRole, standby_slot
from nself_deploy.errors import Locked

Standby = tuple[Slot, SlotRecord]
"""A slot, and what was recorded of it when it became the standby."""


def recorded(store: Store) -> Standby | None:
    """The standby as it is recorded now."""
    slots = store.slots()
    slot = standby_slot(slots)
    return None if slot is None else (slot, slots[slot])


async def expire(world: World, waited_for: Standby | None = None) -> str:
    """Remove a standby whose time is over. The caller holds the lock.

    Args:
        world: the project.
        waited_for: the standby whose time somebody has waited, whatever the wall clock says now: people set it.

    Returns what was done, empty when there was nothing to do.
    """
    if world.store.unfinished() is not None:
        return ""
    if standby_slot(world.store.slots()) is None:
        await stop_recording(world)
    split = world.router.split()
    slot = expired_standby(world.store, split, world.clock.now())
    if slot is None and waited_for is not None and waited_for == recorded(world.store):
        slot = None if split is not None and split.percent_of(waited_for[0]) > 0 else waited_for[0]
    if slot is None:
        return ""
    words = await lifecycle.remove_slot(world, slot)
    await stop_recording(world)
    world.store.set_slots({slot: SlotRecord("", SlotRole.EMPTY, world.clock.now())})
    if (split := world.router.split()) is not None:
        traffic.save_split(world, split)
    return f"standby {slot}: {words}"


async def wait_and_expire(
    world: World, seconds: float, target: str = "local", waited_for: Standby | None = None
) -> str:
    """Wait, then expire under the lock; a lock that somebody holds means that they decide about the standby."""
    await world.clock.sleep(seconds)
    try:
        async with held(world, EXPIRY, target, asyncio.Event()):
            return await expire(world, waited_for)
    except Locked:
        return ""
