"""The router's access log is kept while somebody reads it: a deploy, a standby, or a watch of objectives."""

from __future__ import annotations

from nself_deploy.app.stores import Store
from nself_deploy.app.world import World
from nself_deploy.core.slot_records import standby_slot
from nself_deploy.core.times import seconds_between

SEEN_KEY = "slo-watch-seen"
ALIVE_S = 60.0
"""A watch that was not heard of for so long is gone."""


def watched(store: Store, now: str) -> bool:
    """Whether a watch of objectives runs, by what it said last."""
    seen = store.meta(SEEN_KEY)
    return bool(seen) and abs(seconds_between(seen, now)) < ALIVE_S


async def stop_recording(world: World) -> None:
    """Keep the log no longer, unless a watch reads it."""
    if not watched(world.store, world.clock.now()):
        await world.router.record(on=False)


async def release_log(world: World) -> None:
    """The watch ends: the log is not kept any more, but for a run or a standby."""
    world.store.set_meta(SEEN_KEY, "")
    if world.store.unfinished() is not None or standby_slot(world.store.slots()) is not None:
        return
    await world.router.record(on=False)
    if world.store.unfinished() is not None:
        await world.router.record(on=True)  # it began this very moment
