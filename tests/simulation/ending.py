"""What must hold at the end, when a last command was left in peace and has succeeded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from nself_deploy.app.replaying import again
from nself_deploy.app.stores import Store
from nself_deploy.core.audit import ABORT
from nself_deploy.core.model import Slot
from nself_deploy.core.plan import Kind
from nself_deploy.core.slot_records import SlotRole
from tests.simulation import shop
from tests.simulation.world import SimWorld

SLOTS = (Slot.BLUE, Slot.GREEN)


def at_end(world: SimWorld) -> list[str]:
    """All that is wrong."""
    split = world.disk.split
    if split is None or split.candidate is not None:
        return [f"the split is {split}"]
    found = [*left_over(world, split.base), *_records(world), *_states(world, split.base)]
    return found if world.served() else ["users are not served", *found]


def _there(world: SimWorld, slot: Slot) -> list[str]:
    """The releases in a slot, apart from what people put there."""
    return sorted({t.release for t in world.of_slot(slot) if not t.by_hand})


def replays(world: SimWorld) -> list[str]:
    """Whatever befell a canary, all that was decided comes out of its record again."""
    saved, found = world.disk.saved, []
    store = cast("Store", SimpleNamespace(meta=lambda key: saved.meta.get(key, "")))
    for run_id, data in world.disk.records.items():
        known = (data, saved.runs[run_id], [value for key, value in saved.meta.items() if run_id in key])
        if world.replayed.get(run_id) == known:
            continue  # it did, from the very same
        world.replayed[run_id] = known
        result = again(store, saved.runs[run_id], data)
        if not result.identical or (result.whole and not result.decisions):
            found.append(f"the record of {run_id} does not replay: {result}")
    return found


def left_over(world: SimWorld, live: Slot) -> list[str]:
    """One live slot, at most one standby, nothing else."""
    found = []
    for slot in SLOTS:
        record = world.disk.saved.slots.get(slot)
        role = record.role if record else SlotRole.EMPTY
        there = _there(world, slot)
        if slot is live and (role is not SlotRole.LIVE or record is None or there != [record.release]):
            found.append(f"{slot} is live with {there}, and its record says {record}")
        if slot is not live and role is SlotRole.STANDBY and record and not set(there) <= {record.release}:
            found.append(f"{slot} is the standby with {there}, and its record says {record}")
        if slot is not live and role is not SlotRole.STANDBY and there:
            found.append(f"{there} is left in {slot}, whose record says {role}")
    left = [t.name for t in world.of_slot(Slot.PLAIN) if t.state == "running" and not t.by_hand]
    if live is not Slot.PLAIN and left:
        found.append(f"plain containers are left: {left}")
    return found


def _records(world: SimWorld) -> list[str]:
    """No lock, no run without an end, and each run once in the audit trail."""
    found = []
    saved = world.disk.saved
    if world.flocks or world.generations:
        found.append(f"a lock is left: {[p.name for p in world.flocks.values()]} {list(world.generations.values())}")
    if open_ := [run.id for run in saved.runs.values() if not run.ended]:
        found.append(f"runs without an end: {open_}")
    events = saved.events.values()
    ends = sorted(str(e.metadata["run"]) for e in events if e.event_type in set(Kind))
    aborts = sorted(str(e.metadata["run"]) for e in events if e.event_type == ABORT)
    if ends != sorted(saved.runs):
        found.append(f"runs {sorted(saved.runs)} have the audit records {ends}")
    if aborts != sorted(run.id for run in saved.runs.values() if run.aborted_by):
        found.append(f"the audit trail has aborts of {aborts}")
    return found


def _states(world: SimWorld, live: Slot) -> list[str]:
    """The files for other programs say what is so."""
    found = []
    disk = world.disk
    last = next(reversed(disk.saved.runs.values()), None)
    now, deploy = disk.blue_green, disk.deploy
    if last is None or now is None or deploy is None:
        return [f"state files are missing: {now}, {deploy}"]
    if now.active is not live or now.canary_percent:
        found.append(f"bluegreen/state.json says {now}, and {live} is live")
    if deploy.success != (last.outcome == "done"):
        found.append(f"deploy.json says {deploy}, and the last run ended {last.outcome}")
    for slot, version in ((Slot.BLUE, now.blue_version), (Slot.GREEN, now.green_version)):
        if slot is live and version not in _there(world, slot):
            found.append(f"bluegreen/state.json says {version!r} is in {slot}, and there is {_there(world, slot)}")
    for (_, service), state in disk.rollback.items():
        if state.prior_hash.rpartition("@")[2] not in world.images.values():
            found.append(f"rollback-state of {service} names {state.prior_hash}, which is nowhere")
    if shop.SECRET in f"{disk.deploy} {disk.blue_green} {disk.rollback}":
        found.append("a state file has the secret")
    return found
