"""One look at everything for `doctor`: what the journal, the engine, the router and the disk say. Reads only.

What can't be asked or read is a fact as well: the rest is looked at all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from nself_deploy.app.lifecycle import plain_containers
from nself_deploy.app.log_keeping import watched
from nself_deploy.app.world import World
from nself_deploy.core.doctor_around import missing_networks
from nself_deploy.core.doctor_facts import SLOTS, DiskFacts, Facts, LockFacts, RouterFacts, StateFacts, Trouble
from nself_deploy.core.lock_rules import LockOwner
from nself_deploy.core.model import Role, Slot, slot_project
from nself_deploy.core.override import override_model
from nself_deploy.core.state import RollbackState
from nself_deploy.errors import NselfError

T = TypeVar("T")


class Leftovers(Protocol):
    """What is left below `.nself`; paths are relative to the project."""

    def temp_files(self) -> tuple[str, ...]:
        """Half-written files of writers that died."""

    def release_dirs(self) -> dict[str, bool]:
        """Release id -> whether nothing is in its directory but what we write."""

    def slot_files(self) -> tuple[tuple[str, Slot], ...]:
        """Release and slot of each compiled Compose file."""

    def traceback(self) -> str:
        """Where a traceback was kept, empty when none was."""

    def last_owner(self) -> str:
        """Who is written into the lock's file, in words; empty when nobody is."""

    def override(self, model: dict[str, object]) -> tuple[str, bool]:
        """The generated override where it isn't this model, and whether it is missing; an empty path when it is."""

    def remove(self, path: str) -> None:
        """Remove a leftover; refuses what is none."""


def trouble_of(error: NselfError) -> Trouble:
    """An error as a fact."""
    return Trouble(error.what, error.remedy, error.where)


async def look(world: World, leftovers: Leftovers, standby_s: float, journal: Trouble | None, *, ours: bool) -> Facts:
    """The facts.

    Args:
        standby_s: for how long something is kept warm.
        journal: why the journal can't be read; None when it can.
        ours: whether we hold the lock ourselves, so that nobody else is at work.
    """
    facts = Facts(
        project=world.project.name,
        now=world.clock.now(),
        apps={s.name: s.activate for s in world.project.with_role(Role.APP)},
        standby_s=standby_s,
        journal=journal,
        locks=() if ours else _locks(world, leftovers),
    )
    try:
        facts = _journal(world, facts)
    except NselfError as error:
        facts = msgspec.structs.replace(facts, journal=trouble_of(error))
    try:
        facts = msgspec.structs.replace(facts, split=world.router.split())
    except NselfError as error:
        facts = msgspec.structs.replace(facts, link=trouble_of(error))
    facts = msgspec.structs.replace(facts, states=_states(world, facts))
    try:
        facts = await _engine(world, facts)
        locks = () if ours else await _engine_locks(world)
        facts = msgspec.structs.replace(facts, locks=(*facts.locks, *locks))
    except NselfError as error:
        facts = msgspec.structs.replace(facts, engine=trouble_of(error))
    facts = _disk(world, leftovers, facts)
    return facts if facts.journal is not None else _releases(world, facts)


def _locks(world: World, leftovers: Leftovers) -> tuple[LockFacts, ...]:
    """The lock here."""
    owner = world.lock.owner()
    if owner is None:
        return (LockFacts(".nself/lock", leftovers.last_owner()),)
    return (LockFacts(".nself/lock", _words(owner), held=True),)


def _words(owner: LockOwner) -> str:
    return f"{owner.user} on {owner.host} (process {owner.pid}), {owner.purpose!r} since {owner.since}"


async def _engine_locks(world: World) -> tuple[LockFacts, ...]:
    """The lock on the engine, which other machines and directories share."""
    lock, where = world.engine_lock, "the lock on the engine"
    if lock is None:
        return ()
    owner = await lock.owner()
    dead = tuple(LockFacts(where, f"{_words(one)} ({reason})") for one, reason in await lock.dead())
    return dead if owner is None else (LockFacts(where, _words(owner), held=True), *dead)


def _journal(world: World, facts: Facts) -> Facts:
    runs = world.store.history(5)
    facts = msgspec.structs.replace(
        facts,
        slots=world.store.slots(),
        unfinished=world.store.unfinished(),
        last=next((run for run in runs if run.ended), None),
        addresses=world.store.addresses(),
    )
    return _releases(world, facts)


def _releases(world: World, facts: Facts) -> Facts:
    """The records of all releases that something names."""
    wanted = {record.release for record in facts.slots.values()} | {c.release for c in facts.containers}
    wanted |= {facts.last.plan.previous_release} if facts.last else set()
    wanted |= {facts.unfinished.plan.release} if facts.unfinished else set()
    wanted |= set(facts.disk.release_dirs)
    found = {name: world.store.release(name) for name in sorted(wanted - set(facts.releases)) if name}
    known = {name: release for name, release in found.items() if release is not None}
    return msgspec.structs.replace(facts, releases=facts.releases | known)


def _states(world: World, facts: Facts) -> StateFacts:
    unreadable: list[Trouble] = []

    def read(load: Callable[[], T]) -> T | None:
        try:
            return load()
        except NselfError as error:
            unreadable.append(trouble_of(error))
            return None

    deploy, blue_green = read(world.states.load_deploy), read(world.states.load_blue_green)
    rollback: dict[str, RollbackState] = {}
    target = facts.last.plan.target if facts.last else ""
    for name in sorted(world.project.services) if target else ():
        found = read(lambda name=name: world.states.load_rollback(target, name))  # type: ignore[misc]
        if found is not None:
            rollback[name] = found
    return StateFacts(tuple(unreadable), deploy, blue_green, rollback)


async def _engine(world: World, facts: Facts) -> Facts:
    """Containers and networks, then the router, which is asked through the engine."""
    engine, name = world.engine, world.project.name
    found = {c.id: c for c in await engine.containers(nself_project=name)}
    for slot in SLOTS:
        found |= {c.id: c for c in await engine.containers(compose_project=slot_project(name, slot))}
    networks = await engine.networks(name)
    facts = msgspec.structs.replace(
        facts,
        containers=tuple(sorted(found.values(), key=lambda c: c.name)),
        plain=tuple(await plain_containers(world)),
        networks=tuple(networks),
        members={n.name: await engine.attached(n.name) for n in networks},
        router=await _router(world),
    )
    facts = _releases(world, facts) if facts.journal is None else facts
    foreign = [n for n in missing_networks(facts) if await engine.network_exists(n)]
    return msgspec.structs.replace(facts, foreign_networks=tuple(foreign))


async def _router(world: World) -> RouterFacts:
    ref = world.project.router
    about = RouterFacts(service=ref.service if ref else "", networks=ref.networks if ref and ref.service else ())
    try:
        state = await world.router.observe()
        refused = await world.router.refused() if state.running else None
        container = await world.engine.container(state.container_id) if state.container_id else None
    except NselfError as error:
        return msgspec.structs.replace(about, trouble=trouble_of(error))
    return msgspec.structs.replace(
        about,
        running=state.running,
        mounted=state.mounted,
        tree=state.tree,
        loaded_tree=state.loaded_tree,
        recording=state.recording and not watched(world.store, world.clock.now()),
        refused=trouble_of(refused) if refused else None,
        attached=tuple(container.addresses) if container else (),
    )


def _disk(world: World, leftovers: Leftovers, facts: Facts) -> Facts:
    override, missing = "", False
    if facts.engine is None and facts.recorded_live:
        override, missing = leftovers.override(override_model(world.project, facts.networks, retired=True))
    disk = DiskFacts(
        leftovers.temp_files(),
        leftovers.release_dirs(),
        leftovers.slot_files(),
        leftovers.traceback(),
        override,
        missing,
    )
    return msgspec.structs.replace(facts, disk=disk)
