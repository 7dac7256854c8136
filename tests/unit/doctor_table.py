"""Things that may happen to a project, what doctor finds then, and what it would do about it."""

from __future__ import annotations

from collections.abc import Callable

from nself_deploy.core import effects as do
from nself_deploy.core import findings as fix
from nself_deploy.core.doctor_facts import Facts, LockFacts, Trouble
from nself_deploy.core.findings import Severity
from nself_deploy.core.machine import Parking, Phase
from nself_deploy.core.model import LABEL_PROJECT, Container, Slot, Split
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from nself_deploy.core.state import BlueGreenState, parse_time
from tests.unit.doctor_scene import (
    ADDRESSES,
    ENDED,
    NETWORKS,
    NEW,
    NOW,
    OLD,
    a_run,
    change,
    container,
    containers_of,
    each,
    record,
    well,
    without,
)

Change = Callable[[Facts], Facts]


def is_service(slot: Slot, service: str) -> Callable[[Container], bool]:
    return lambda c: c.slot is slot and c.service == service


def all_in(slot: Slot) -> list[str]:
    return [c.id for c in well().containers if c.slot is slot]


def add(*more: Container) -> Change:
    return lambda f: change(f, containers=(*f.containers, *more))


def no_standby(facts: Facts) -> Facts:
    """Green is live, blue is empty, and everything knows it."""
    empty = SlotRecord("", SlotRole.EMPTY, ENDED)
    facts = without(change(facts, slots=facts.slots | {Slot.BLUE: empty}), *all_in(Slot.BLUE))
    blue_green = BlueGreenState(Slot.GREEN, "", NEW.id, 0, parse_time(ENDED))
    return change(
        facts, router=change(facts.router, recording=False), states=change(facts.states, blue_green=blue_green)
    )


def ids(*names: str, release: str = NEW.id) -> tuple[str, ...]:
    return tuple(f"id-shop-{name}-{release}" for name in names)


TABLE: dict[str, tuple[Change, str, Severity, fix.Fix | None]] = {
    "a run that nobody works on": (
        lambda f: change(f, unfinished=a_run(None)),
        "run-interrupted", Severity.ERROR, fix.Recover(),
    ),
    "a canary that waits for a person": (
        lambda f: change(f, unfinished=change(a_run(None), phase=Phase.PARKED, parking=Parking("too few requests"))),
        "run-parked", Severity.WARNING, None,
    ),
    "the link is gone": (
        lambda f: change(f, split=None),
        "link-lost", Severity.ERROR, do.MoveTraffic(Split.all_to(Slot.GREEN)),
    ),
    "the link points nowhere": (
        lambda f: change(f, split=None, link=Trouble("points at 'x'.", "ln", ".nself/router/current")),
        "link-lost", Severity.ERROR, do.MoveTraffic(Split.all_to(Slot.GREEN)),
    ),
    "the link is gone, and the live slot is not whole": (
        lambda f: change(each(f, is_service(Slot.GREEN, "api"), state="exited"), split=None),
        "link-lost", Severity.ERROR, None,
    ),
    "the link was moved by hand": (
        lambda f: change(f, split=Split.all_to(Slot.BLUE)),
        "records-wrong", Severity.ERROR,
        fix.CorrectSlots({
            Slot.BLUE: SlotRecord(OLD.id, SlotRole.LIVE, NOW),
            Slot.GREEN: SlotRecord(NEW.id, SlotRole.STANDBY, NOW, "2026-11-22T22:10:00Z"),
        }),
    ),
    "the link was moved to an empty slot": (
        lambda f: change(no_standby(f), split=Split.all_to(Slot.BLUE)),
        "records-wrong", Severity.ERROR, None,
    ),
    "the link was moved to the plain stack": (
        lambda f: change(f, split=Split.all_to(Slot.PLAIN)),
        "records-wrong", Severity.ERROR, None,
    ),
    "the live release is not on record": (
        lambda f: change(no_standby(f), releases={}, disk=change(f.disk, release_dirs={})),
        "release-unknown", Severity.ERROR, None,
    ),
    "a live container is gone": (
        lambda f: without(f, *ids("green-web-2")),
        "live-missing", Severity.ERROR, None,
    ),
    "a live container was stopped": (
        lambda f: each(f, is_service(Slot.GREEN, "web"), state="exited"),
        "live-stopped", Severity.ERROR, fix.StartContainers(Slot.GREEN, ids("green-web-1", "green-web-2")),
    ),
    "a single service does not run at all": (
        lambda f: each(f, is_service(Slot.GREEN, "worker"), state="exited"),
        "live-stopped", Severity.ERROR, fix.StartContainers(Slot.GREEN, ids("green-worker-1")),
    ),
    "a live container is unhealthy": (
        lambda f: each(f, is_service(Slot.GREEN, "api"), health="unhealthy"),
        "live-unhealthy", Severity.ERROR, None,
    ),
    "a live container has just been started": (
        lambda f: each(f, is_service(Slot.GREEN, "api"), health="starting"),
        "live-starting", Severity.NOTE, None,
    ),
    "a live container is paused": (
        lambda f: each(f, is_service(Slot.GREEN, "api"), state="paused"),
        "live-unhealthy", Severity.ERROR, None,
    ),
    "a leftover candidate": (
        lambda f: record(f, Slot.BLUE, role=SlotRole.CANDIDATE, until=""),
        "slot-leftover", Severity.WARNING, fix.ClearSlot(Slot.BLUE, tuple(all_in(Slot.BLUE))),
    ),
    "a candidate of which nothing was started": (
        lambda f: record(no_standby(f), Slot.BLUE, role=SlotRole.CANDIDATE),
        "slot-leftover", Severity.WARNING, fix.ClearSlot(Slot.BLUE, ()),
    ),
    "containers in an empty slot": (
        lambda f: add(*containers_of(NEW, Slot.BLUE, live=False))(no_standby(f)),
        "slot-leftover", Severity.WARNING,
        fix.ClearSlot(Slot.BLUE, ids("blue-api-1", "blue-web-1", "blue-web-2")),
    ),
    "an expired standby": (
        lambda f: record(f, Slot.BLUE, until="2026-11-22T21:59:00Z"),
        "standby-expired", Severity.WARNING, fix.ClearSlot(Slot.BLUE, tuple(all_in(Slot.BLUE))),
    ),
    "a standby whose containers are gone": (
        lambda f: without(f, *all_in(Slot.BLUE)),
        "standby-gone", Severity.WARNING, fix.ClearSlot(Slot.BLUE, ()),
    ),
    "a standby of which a part is gone": (
        lambda f: without(f, *ids("blue-api-1", release=OLD.id)),
        "standby-gone", Severity.WARNING, fix.ClearSlot(Slot.BLUE, ids("blue-web-1", "blue-web-2", release=OLD.id)),
    ),
    "a standby that was stopped": (
        lambda f: each(f, is_service(Slot.BLUE, "api"), state="exited"),
        "standby-stopped", Severity.WARNING, fix.StartContainers(Slot.BLUE, ids("blue-api-1", release=OLD.id)),
    ),
    "a single service in the standby": (
        add(container(OLD, Slot.BLUE, "worker")),
        "single-twice", Severity.ERROR, fix.RemoveContainers(Slot.BLUE, ids("blue-worker-1", release=OLD.id)),
    ),
    "a container by hand with our labels": (
        add(Container(id="x", name="x", project="", service="web", labels={LABEL_PROJECT: "shop"})),
        "container-by-hand", Severity.WARNING, None,
    ),
    "a container of a release that nobody knows": (
        add(container(OLD, Slot.BLUE, "worker", release="20200101T000000-00000000")),
        "container-by-hand", Severity.WARNING, None,
    ),
    "a container with another name": (
        add(container(OLD, Slot.BLUE, "worker", name="worker")),
        "container-by-hand", Severity.WARNING, None,
    ),
    "a container that the release has not": (
        add(container(OLD, Slot.BLUE, "other")),
        "container-by-hand", Severity.WARNING, None,
    ),
    "somebody else in our Compose project": (
        add(Container(id="x", name="x", project="shop-blue", service="web")),
        "container-foreign", Severity.ERROR, None,
    ),
    "a plain container beside the live slot": (
        lambda f: change(f, plain=(Container(id="p", name="shop-web-1", project="shop", service="web"),)),
        "container-stray", Severity.WARNING, None,
    ),
    "a plain single service beside the live slot": (
        lambda f: change(f, plain=(Container(id="p", name="shop-worker-1", project="shop", service="worker"),)),
        "single-twice", Severity.ERROR, None,
    ),
    "a network was removed": (
        lambda f: change(f, networks=NETWORKS[1:]),
        "network-missing", Severity.WARNING, do.PrepareNetworks(NEW.id),
    ),
    "a network is somebody else's": (
        lambda f: change(f, networks=NETWORKS[1:], foreign_networks=(NETWORKS[0].name,)),
        "network-foreign", Severity.ERROR, None,
    ),
    "the router was disconnected": (
        lambda f: change(f, router=change(f.router, attached=())),
        "router-detached", Severity.ERROR, do.PrepareNetworks(NEW.id),
    ),
    "a live container was disconnected": (
        lambda f: each(f, is_service(Slot.GREEN, "api"), addresses={}),
        "container-detached", Severity.ERROR, None,
    ),
    "a stranger has a reserved address": (
        lambda f: change(f, members={NETWORKS[0].name: {"stranger": f"10.213.0.{min(ADDRESSES.values())}"}}),
        "address-taken", Severity.ERROR, None,
    ),
    "the router is down": (
        lambda f: change(f, router=change(f.router, running=False)),
        "router-down", Severity.ERROR, None,
    ),
    "the router does not answer": (
        lambda f: change(f, router=change(f.router, loaded_tree="")),
        "router-silent", Severity.ERROR, None,
    ),
    "the router has other files": (
        lambda f: change(f, router=change(f.router, loaded_tree="u")),
        "router-stale", Severity.WARNING, do.InstallRouter(NEW.id, Slot.GREEN, Split.all_to(Slot.GREEN)),
    ),
    "the router refuses its files": (
        lambda f: change(f, router=change(f.router, refused=Trouble("no", "mend", "a.conf:1"))),
        "router-refuses", Severity.ERROR, None,
    ),
    "the router can't be asked": (
        lambda f: change(f, router=change(f.router, trouble=Trouble("no"))),
        "router-unknown", Severity.ERROR, None,
    ),
    "the router gets copies": (
        lambda f: change(f, router=change(f.router, mounted=False)),
        "router-copies", Severity.NOTE, None,
    ),
    "the log is left on": (
        lambda f: change(no_standby(f), router=f.router),
        "recording-left", Severity.WARNING, fix.StopRecording(),
    ),
    "the split of this moment is stale": (
        lambda f: change(f, states=change(f.states, blue_green=BlueGreenState(Slot.BLUE, OLD.id))),
        "state-stale", Severity.WARNING, fix.WriteStates((".nself/bluegreen/state.json",)),
    ),
    "the outcome is stale": (
        lambda f: change(f, states=change(f.states, deploy=change(well().states.deploy, success=False))),
        "state-stale", Severity.WARNING, fix.WriteStates((".nself/state/deploy.json",)),
    ),
    "a state file can't be read": (
        lambda f: change(f, states=change(f.states, blue_green=None, unreadable=(Trouble("is empty.", "look", "f"),))),
        "state-unreadable", Severity.ERROR, None,
    ),
    "the override is missing": (
        lambda f: change(f, disk=change(f.disk, override="o.yml", override_missing=True)),
        "override-missing", Severity.WARNING, fix.WriteOverride(),
    ),
    "the override was edited": (
        lambda f: change(f, disk=change(f.disk, override="o.yml")),
        "override-stale", Severity.WARNING, fix.WriteOverride(),
    ),
    "a compiled file is missing": (
        lambda f: change(f, disk=change(f.disk, slot_files=((NEW.id, Slot.GREEN),))),
        "slot-file-missing", Severity.WARNING, fix.WriteSlotFile(OLD.id, Slot.BLUE),
    ),
    "half-written files": (
        lambda f: change(f, disk=change(f.disk, temp_files=("a", "b"))),
        "files-temporary", Severity.WARNING, fix.RemoveFiles(("a", "b")),
    ),
    "a directory of no release": (
        lambda f: change(f, disk=change(f.disk, release_dirs={"20200101T000000-00000000": True})),
        "release-orphaned", Severity.WARNING, fix.RemoveFiles((".nself/releases/20200101T000000-00000000",)),
    ),
    "a directory of no release with other files": (
        lambda f: change(f, disk=change(f.disk, release_dirs={"mine": False})),
        "release-orphaned", Severity.WARNING, None,
    ),
    "a traceback": (
        lambda f: change(f, disk=change(f.disk, traceback=".nself/traceback.txt")),
        "traceback", Severity.NOTE, None,
    ),
    "a dead owner of the lock": (
        lambda f: change(f, locks=(LockFacts(".nself/lock", "me (process 1)"),)),
        "lock-left", Severity.NOTE, fix.ForgetOwner(),
    ),
    "the journal can't be read": (
        lambda f: change(f, journal=Trouble("is damaged", "restore"), slots={}, releases={}, last=None, addresses={}),
        "journal-unreadable", Severity.ERROR, None,
    ),
    "the engine can't be asked": (
        lambda f: change(f, engine=Trouble("gone", "start it"), containers=(), networks=()),
        "engine-unreachable", Severity.ERROR, None,
    ),
    "somebody is at work": (
        lambda f: change(f, unfinished=a_run(None), locks=(LockFacts(".nself/lock", "me", held=True),)),
        "run-under-way", Severity.NOTE, None,
    ),
}  # fmt: skip
