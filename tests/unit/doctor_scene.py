"""A project as `doctor` sees it when all is well, what may happen to it, and what each repair does to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from nself_deploy.core import effects as do
from nself_deploy.core import findings as fix
from nself_deploy.core import machine
from nself_deploy.core.addresses import address_in, allocate, ip_range_of, wanted_addresses
from nself_deploy.core.doctor_around import missing_networks
from nself_deploy.core.doctor_facts import SLOTS, DiskFacts, Facts, LockFacts, RouterFacts, StateFacts
from nself_deploy.core.doctor_states import expected
from nself_deploy.core.machine import Run
from nself_deploy.core.model import (
    LABEL_PROJECT,
    Activate,
    Container,
    Release,
    Role,
    Slot,
    SlotNetwork,
    Split,
    Strategy,
    router_side,
    slot_project,
    twin_name,
)
from nself_deploy.core.plan import Kind, Plan, Step
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from nself_deploy.core.slot_service import container_name, key_of
from nself_deploy.core.state import BlueGreenState, RollbackState, StrategyState, parse_time
from tests.unit.plans import a_release

NOW = "2026-11-22T22:00:00.000Z"
BEGAN = "2026-11-22T21:50:00.000Z"
ENDED = "2026-11-22T21:51:00.000Z"
LATER = "2026-11-22T22:10:00Z"
OLD, NEW = a_release("20261122T210000-0000000a", single=True), a_release("20261122T214500-0000000b", single=True)
NETWORKS = tuple(
    SlotNetwork(
        twin_name("shop", slot, side), slot, side, f"10.213.{n}.0/24", ip_range_of(f"10.213.{n}.0/24"), internal=n > 1
    )
    for n, (side, slot) in enumerate((s, slot) for s in ("default", router_side("default")) for slot in SLOTS)
)
ADDRESSES = allocate({}, wanted_addresses(NEW))


def change(value: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(value, **changes)


def container(of: Release, slot: Slot, service: str, replica: int = 1, **changes: Any) -> Container:
    """One of our containers, running at its addresses."""
    twins = {n.name: n for n in NETWORKS if n.slot is slot}
    host = ADDRESSES.get(("default", service, replica), 200)
    name = container_name("shop", slot, service, replica)
    labels = {LABEL_PROJECT: "shop", "com.docker.compose.service": key_of(slot, service, replica)}
    made = Container(
        id=f"id-{name}-{of.id}",
        name=name,
        project=slot_project("shop", slot),
        service=service,
        replica=replica,
        slot=slot,
        release=of.id,
        addresses={n: address_in(twin.subnet, host) for n, twin in twins.items()},
        labels=labels,
    )
    return change(made, **changes)


def containers_of(release: Release, slot: Slot, *, live: bool) -> list[Container]:
    return [
        container(release, slot, service.name, replica)
        for service in release.apps()
        if live or service.activate is not Activate.ON_LIVE
        for replica in range(1, service.replicas + 1)
    ]


def a_run(outcome: machine.Outcome | None = machine.Outcome.DONE) -> Run:
    """The deploy that brought `NEW` live, ended or at its first step."""
    step = Step("vacate", "Remove leftover green", do.RemoveSlot(Slot.GREEN))
    plan = Plan(
        Kind.DEPLOY, Strategy.BLUE_GREEN, "local", "shop", NEW.id, OLD.id, Slot.BLUE, Slot.GREEN, (step,)
    )  # fmt: skip
    run, _ = machine.advance(machine.new_run("run", plan, BEGAN), machine.Begin())
    return run if outcome is None else change(run, phase=machine.Phase.ENDED, outcome=outcome)


def well() -> Facts:
    """`NEW` is live in green, `OLD` is warm in blue."""
    found = [*containers_of(NEW, Slot.GREEN, live=True), *containers_of(OLD, Slot.BLUE, live=False)]
    return Facts(
        project="shop",
        now=NOW,
        apps={s.name: s.activate for s in NEW.services.values() if s.role is Role.APP},
        slots={
            Slot.GREEN: SlotRecord(NEW.id, SlotRole.LIVE, ENDED),
            Slot.BLUE: SlotRecord(OLD.id, SlotRole.STANDBY, ENDED, LATER),
            Slot.PLAIN: SlotRecord("", SlotRole.EMPTY, ENDED),
        },
        releases={OLD.id: OLD, NEW.id: NEW},
        last=a_run(),
        addresses=ADDRESSES,
        locks=(LockFacts(".nself/lock"),),
        split=Split.all_to(Slot.GREEN),
        router=RouterFacts(
            service="router",
            networks=("default",),
            running=True,
            tree="t",
            loaded_tree="t",
            recording=True,
            attached=tuple(n.name for n in NETWORKS if "router" in n.name),
        ),
        containers=tuple(found),
        networks=NETWORKS,
        states=states(),
        disk=DiskFacts(
            release_dirs={OLD.id: True, NEW.id: True}, slot_files=((OLD.id, Slot.BLUE), (NEW.id, Slot.GREEN))
        ),
    )


def states() -> StateFacts:
    at = parse_time(ENDED)
    return StateFacts(
        deploy=StrategyState(
            schema_version=1,
            strategy=Strategy.BLUE_GREEN,
            target="local",
            started_at=parse_time(BEGAN),
            completed_at=at,
            success=True,
            blue_green_state_file=".nself/bluegreen/state.json",
        ),
        blue_green=BlueGreenState(Slot.GREEN, OLD.id, NEW.id, 0, at),
        rollback={name: RollbackState(image.ref, image.digest or image.id, at) for name, image in OLD.images.items()},
    )


def without(facts: Facts, *ids: str) -> Facts:
    return change(facts, containers=tuple(c for c in facts.containers if c.id not in ids))


def each(facts: Facts, matches: Callable[[Container], bool], **changes: Any) -> Facts:
    """Change all containers that match."""
    return change(facts, containers=tuple(change(c, **changes) if matches(c) else c for c in facts.containers))


def record(facts: Facts, slot: Slot, **changes: Any) -> Facts:
    known = facts.slots.get(slot, SlotRecord("", SlotRole.EMPTY, ENDED))
    return change(facts, slots=facts.slots | {slot: change(known, **changes)})


def repaired(facts: Facts, what: fix.Fix) -> Facts:
    """The facts after a repair, in a world where repairs work."""
    match what:
        case fix.Recover():
            return change(facts, unfinished=None)
        case fix.CorrectSlots(slots):
            return change(facts, slots=facts.slots | slots)
        case fix.StartContainers(_, ids):
            return each(facts, lambda c: c.id in ids, state="running", health="")
        case fix.ClearSlot(slot, ids):
            return without(record(facts, slot, release="", role=SlotRole.EMPTY, until=""), *ids)
        case fix.RemoveContainers(_, ids):
            return without(facts, *ids)
        case _:
            return _effect(facts, what)


def _effect(facts: Facts, what: fix.Fix) -> Facts:
    match what:
        case do.MoveTraffic(split):
            return change(facts, split=split, link=None)
        case do.PrepareNetworks():
            return _prepared(facts)
        case do.InstallRouter():
            return change(facts, router=change(facts.router, loaded_tree=facts.router.tree))
        case _:
            return _written(facts, what)


def _prepared(facts: Facts) -> Facts:
    there = {n.name for n in facts.networks}
    made = [n for n in NETWORKS if n.name in missing_networks(facts) and n.name not in there]
    networks = tuple(sorted((*facts.networks, *made), key=lambda n: n.name))
    attached = tuple(n.name for n in networks if "router" in n.name)
    return change(facts, networks=networks, router=change(facts.router, attached=attached))


def _written(facts: Facts, what: fix.Fix) -> Facts:
    disk = facts.disk
    match what:
        case fix.WriteOverride():
            return change(facts, disk=change(disk, override="", override_missing=False))
        case fix.WriteSlotFile(release, slot):
            return change(facts, disk=change(disk, slot_files=(*disk.slot_files, (release, slot))))
        case fix.StopRecording():
            return change(facts, router=change(facts.router, recording=False))
        case fix.WriteStates(files):
            right, old = expected(facts), facts.states
            new = change(
                old,
                blue_green=right.blue_green if any("bluegreen" in f for f in files) else old.blue_green,
                deploy=right.deploy if any("deploy.json" in f for f in files) else old.deploy,
                rollback=old.rollback | right.rollback,
            )
            return change(facts, states=new)
        case fix.ForgetOwner():
            return change(facts, locks=tuple(lock for lock in facts.locks if lock.held))
        case fix.RemoveFiles(paths):
            dirs = {name: clean for name, clean in disk.release_dirs.items() if f".nself/releases/{name}" not in paths}
            temps = tuple(t for t in disk.temp_files if t not in paths)
            return change(facts, disk=change(disk, temp_files=temps, release_dirs=dirs))
    raise AssertionError(what)
