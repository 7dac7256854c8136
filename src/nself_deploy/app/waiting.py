"""Who deploys a canary that is paused for some time stays until that is over, and does what is to be done then."""

from __future__ import annotations

import asyncio

import msgspec

from nself_deploy.app.locking import held
from nself_deploy.app.pausing import moment, wait_out
from nself_deploy.app.recovery import recover
from nself_deploy.app.result import Result
from nself_deploy.app.world import World
from nself_deploy.core.recovery import Wish


async def waited(world: World, result: Result, target: str, interrupted: asyncio.Event) -> Result:
    """The result as it is after the pause, if there is one that ends. The caller does not hold the lock any more.

    Ctrl-C leaves the canary as it is: parked, with that end.
    """
    run = result.run
    if run is None or run.parking is None or run.parking.expiry is None:
        return result
    words = run.parking.expiry.words(moment(world))
    world.note(f"{run.parking.reason}; {words}. Any terminal may decide earlier; Ctrl-C leaves it parked.")

    async def act() -> None:
        async with held(world, "end of a pause", target, interrupted):
            await recover(world, interrupted, Wish.ONWARD)

    return msgspec.structs.replace(result, run=await wait_out(world, run, interrupted, act))
