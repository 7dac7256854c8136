"""Moving requests from one slot to another: what a way back waits for, so this room is light to import."""

from __future__ import annotations

from nself_deploy.app import proving
from nself_deploy.app.world import World
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.state import BlueGreenState
from nself_deploy.errors import RouterError


async def move(world: World, split: Split) -> str:
    """One rename, then ask through the router until it is so; a router that is down finds the split when it returns."""
    start = world.clock.monotonic()
    await world.router.move(split)
    moved = world.clock.monotonic()
    save_split(world, split)
    while True:
        try:
            await world.router.confirm(split)
        except RouterError:
            state = await world.router.observe()
            if world.clock.monotonic() - start > proving.ROUTER_BACK_S:
                if not state.running:
                    return "set; the router is not running and will find it when it starts"
                raise
            await world.clock.sleep(proving.POLL_S)
            continue
        confirmed = world.clock.monotonic()
        return f"moved in {(moved - start) * 1000:.0f} ms, confirmed after {(confirmed - start) * 1000:.0f} ms"


def save_split(world: World, split: Split) -> None:
    """Keep `.nself/bluegreen/state.json` true at this moment."""
    old = world.states.load_blue_green()
    live = split.candidate if split.percent == 100 and split.candidate else split.base
    slots = world.store.slots()
    world.states.save_blue_green(
        BlueGreenState(
            active=live,
            blue_version=slots[Slot.BLUE].release if Slot.BLUE in slots else "",
            green_version=slots[Slot.GREEN].release if Slot.GREEN in slots else "",
            canary_percent=split.percent,
            last_deploy=old.last_deploy,
            last_rollback=old.last_rollback,
        )
    )
