"""How a run ended, written down: slots, state files, the record that a later rollback reads."""

from __future__ import annotations

import msgspec

from nself_deploy.app.judging import forget
from nself_deploy.app.log_keeping import stop_recording
from nself_deploy.app.traffic import save_split
from nself_deploy.app.world import World
from nself_deploy.core.effects import Record
from nself_deploy.core.machine import Phase, Run
from nself_deploy.core.model import Slot, Split, Strategy
from nself_deploy.core.plan import Kind
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from nself_deploy.core.state import BLUE_GREEN_STATE_FILE, RollbackState, StrategyState, parse_time
from nself_deploy.core.times import plus_seconds


async def record(world: World, effect: Record, run: Run) -> str:
    """Slots first (the truth), then the files for other programs."""
    now = world.clock.now()
    world.store.set_slots(_slots(effect, now))
    success = run.phase is Phase.FORWARD
    if effect.live is not None:
        split = world.router.split()
        if split is None:
            split = Split.all_to(effect.live)
            if effect.live is not Slot.PLAIN:  # somebody removed the link meanwhile; we know where it pointed
                await world.router.move(split)
        save_split(world, split)
    _stamp(world, run, now, success=success)
    world.states.save_deploy(
        StrategyState(
            strategy=run.plan.strategy,
            target=run.plan.target,
            started_at=parse_time(run.started_at),
            completed_at=parse_time(now),
            success=success,
            canary_percent=100 if success and run.plan.strategy is Strategy.CANARY else 0,
            rolled_back=run.rolled_back,
            error="" if success or run.failure is None else run.failure.message,
            blue_green_state_file=BLUE_GREEN_STATE_FILE,
        )
    )
    if success:
        _save_rollback_records(world, run, now)
    forget(world, run)
    if effect.standby is None:
        await stop_recording(world)
    return f"{effect.live or 'nothing'} is live" + (f", {effect.standby} is warm" if effect.standby else "")


def _slots(effect: Record, now: str) -> dict[Slot, SlotRecord]:
    slots = {slot: SlotRecord("", SlotRole.EMPTY, now) for slot in Slot}
    if effect.live is not None:
        slots[effect.live] = SlotRecord(effect.live_release, SlotRole.LIVE, now)
    if effect.standby is not None:
        until = plus_seconds(now, effect.standby_s) if effect.standby_s else now
        slots[effect.standby] = SlotRecord(effect.standby_release, SlotRole.STANDBY, now, until)
    return slots


def _stamp(world: World, run: Run, now: str, *, success: bool) -> None:
    """`last_deploy` and `last_rollback` of the blue-green file."""
    state = world.states.load_blue_green()
    rolled = run.plan.kind is Kind.ROLLBACK or run.rolled_back
    world.states.save_blue_green(
        msgspec.structs.replace(
            state,
            last_deploy=parse_time(now) if success and run.plan.kind is Kind.DEPLOY else state.last_deploy,
            last_rollback=parse_time(now) if rolled else state.last_rollback,
        )
    )


def _save_rollback_records(world: World, run: Run, now: str) -> None:
    """What each service ran before."""
    prior = world.store.release(run.plan.previous_release) if run.plan.previous_release else None
    if prior is None:
        return
    for name, image in sorted(prior.images.items()):
        state = RollbackState(prior_tag=image.ref, prior_hash=image.digest or image.id, updated_at=parse_time(now))
        world.states.save_rollback(run.plan.target, name, state)
