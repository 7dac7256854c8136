"""Taking a plain stack over without a gap: what `init` does after it changed the user's nginx files."""

from __future__ import annotations

from nself_deploy.app import lifecycle, releases, traffic
from nself_deploy.app.world import World
from nself_deploy.core.model import Slot, Split


async def adopt_running(world: World) -> str:
    """Attach a running router to the slots' networks and load the changed files; users stay on the plain stack.

    Returns what was done, in words. The caller holds the lock.

    Raises:
        NselfError: nginx refused the files, or the engine something; traffic is where it was.
    """
    state = await world.router.observe()
    if not state.running:
        return "the router is not running: nself deploy starts it"
    if world.router.split() is None:
        release = await releases.adopt(world)
        if release is None:
            return "the stack runs only in part: nself deploy brings it up"
        initial = Split.all_to(Slot.PLAIN)
    else:
        split, slots = world.router.split(), world.store.slots()
        live = split.base if split else Slot.PLAIN
        found = world.store.release(slots[live].release) if live in slots else await releases.adopt(world)
        if found is None:
            return "nothing is live: nself deploy brings it up"
        release, initial = found, Split.all_to(live)
    await lifecycle.prepare_networks(world, release)
    words = await traffic.install_router(world, release, Slot.BLUE, initial)
    return f"nginx: {words}; users are still served by the same containers"
