"""Containers coming and going: networks, shared services, jobs, slots, single services, the plain stack's end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from nself_deploy.app import proving
from nself_deploy.app.world import World
from nself_deploy.core.addresses import allocate, wanted_addresses
from nself_deploy.core.effects import HandOver
from nself_deploy.core.health import Proof
from nself_deploy.core.model import (
    LABEL_PROJECT,
    Activate,
    Container,
    Release,
    Role,
    Service,
    Slot,
    SlotNetwork,
    router_side,
    slot_project,
    twin_name,
)
from nself_deploy.core.override import override_model
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from nself_deploy.core.slots import compile_slot, keys_of
from nself_deploy.core.start_order import stages
from nself_deploy.core.times import plus_seconds
from nself_deploy.errors import DeployFailed, EngineError

SLOTS = (Slot.BLUE, Slot.GREEN)


async def prepare_networks(world: World, release: Release) -> str:
    """Both slots' networks exist, addresses are remembered, the override is written, the router is attached."""
    project = world.project
    wanted = sorted({n for s in release.services.values() for n in s.networks})
    router = project.router.networks if project.router and project.router.service else ()
    made: list[SlotNetwork] = []
    for slot in SLOTS:
        for network in wanted:
            internal = bool(project.networks.get(network, {}).get("internal"))
            sides = {network: internal, **({router_side(network): True} if network in router else {})}
            for side, closed in sides.items():
                name = twin_name(project.name, slot, side)
                made.append(await world.engine.ensure_network(project.name, slot, side, name=name, internal=closed))
    for volume, config in sorted(release.volumes.items()):
        await world.engine.ensure_volume(project.name, volume, config)
    known = world.store.addresses()
    addresses = allocate(known, wanted_addresses(release))
    if addresses != known:
        world.store.save_addresses(addresses)
    await write_override(world, retired=not await _plain_is_live(world))
    await _attach_router(world, made)
    return f"{len(made)} networks"


async def _plain_is_live(world: World) -> bool:
    """Whether users are (still) served by containers that plain Compose started."""
    split = world.router.split()
    if split is not None:
        return split.base is Slot.PLAIN
    apps = {s.name for s in world.project.with_role(Role.APP)}
    return any(c.state == "running" for c in await plain_containers(world, apps))


async def write_override(world: World, *, retired: bool) -> None:
    """What plain Compose has to know about us, in the file that it picks up."""
    networks = tuple(await world.engine.networks(world.project.name))
    world.files.write_override(override_model(world.project, networks, retired))


async def _attach_router(world: World, networks: list[SlotNetwork]) -> None:
    """A router container that was created without our override is attached to the slots at run time."""
    router = world.project.router
    if router is None or not router.service:
        return
    sides = {router_side(network) for network in router.networks}
    for container in await plain_containers(world, {router.service}):
        for network in networks:
            if network.network in sides and network.name not in container.addresses:
                await world.engine.connect(network.name, container.id)


async def plain_containers(world: World, services: set[str] | None = None) -> list[Container]:
    """Containers of the project's own Compose project (not of a slot)."""
    found = await world.engine.containers(compose_project=world.project.name)
    return [c for c in found if LABEL_PROJECT not in c.labels and (services is None or c.service in services)]


async def compile_to_slot(world: World, release: Release, slot: Slot) -> str:
    """Write the release's own Compose file for this slot; its path.

    Raises:
        EngineError: somebody removed one of the slot's networks.
    """
    networks = [n for n in await world.engine.networks(world.project.name) if n.slot is slot]
    missing = {n for s in release.services.values() for n in s.networks} - {n.network for n in networks}
    if missing:
        names = ", ".join(twin_name(world.project.name, slot, n) for n in sorted(missing))
        raise EngineError(f"A network of the {slot} slot is gone: {names}.", "Deploy again: it is made anew.")
    shared = {n for s in world.project.services.values() if s.role is not Role.APP for n in s.networks}
    model = compile_slot(release, world.project.name, slot, networks, world.store.addresses(), shared)
    return world.files.write_slot(release.id, slot, model)


async def run_job(world: World, release: Release, slot: Slot, service: str, timeout_s: float) -> str:
    """Run a job to its end, once: one that ended well for this release already is not run again."""
    done = f"job-done:{release.id}:{service}"
    if world.store.meta(done):
        return "ran already for this release"
    project = slot_project(world.project.name, slot)
    path = await compile_to_slot(world, release, slot)
    job = await _job(world, project, release, service)
    if job is None:
        await world.compose.up(project, [path], keys_of(release.services[service], slot))
    start = world.clock.monotonic()
    while True:
        job = await _job(world, project, release, service)
        if job is not None and job.state in ("exited", "dead"):
            break
        if world.clock.monotonic() - start > timeout_s:
            raise DeployFailed(
                f"The job {service} did not end within {timeout_s:g} s.",
                "See why it hangs, or allow it more time.",
                evidence=tuple(await proving.last_lines(world, job)) if job else (),
            )
        await world.clock.sleep(proving.POLL_S)
    if job.exit_code != 0:
        raise DeployFailed(
            f"The job {service} ended with exit code {job.exit_code}.",
            "Mend it; nothing was changed for users.",
            evidence=tuple(await proving.last_lines(world, job)),
        )
    world.store.set_meta(done, world.clock.now())
    return f"exit code 0 after {world.clock.monotonic() - start:.1f} s"


async def _job(world: World, project: str, release: Release, service: str) -> Container | None:
    found = await world.engine.containers(compose_project=project)
    mine = [c for c in found if c.service == service and c.release == release.id]
    return mine[0] if mine and mine[0].state != "created" else None


async def start_slot(world: World, release: Release, slot: Slot, timeout_s: float) -> str:
    """Create and start the slot's containers, in the order of `depends_on`.

    Raises:
        Unhealthy: a service that another one waits for was not healthy within `timeout_s`.
        DeployFailed: a container could not be started.
    """
    services = [s for s in release.apps() if s.activate is Activate.WITH_SLOT]
    return await _start(world, release, slot, services, timeout_s)


async def _start(world: World, release: Release, slot: Slot, services: list[Service], timeout_s: float) -> str:
    """Start services stage by stage.

    Compose could do it at once, but would wait for healthchecks by rules of its own, that know no `--health-timeout`.
    """
    path = await compile_to_slot(world, release, slot)
    named = {s.name: s for s in services}
    for stage in stages(services):
        first = [named[n] for n in stage.healthy_first]
        if first:
            world.progress(f"waiting for {', '.join(stage.healthy_first)}")
            await proving.await_healthy(world, release, slot, first, timeout_s, 0.0, {})
        await _up(world, release, slot, path, [named[n] for n in stage.services])
    count = sum(s.replicas for s in services)
    return f"{count} container{'s' if count != 1 else ''}"


async def _up(world: World, release: Release, slot: Slot, path: str, services: list[Service]) -> None:
    """`up` with the reason when the containers themselves are at fault rather than the engine."""
    project, names = slot_project(world.project.name, slot), {s.name for s in services}
    keys = [key for service in services for key in keys_of(service, slot)]
    try:
        await world.compose.up(project, [path], keys, timeout_s=300.0, progress=world.progress)
    except EngineError as error:
        await world.engine.info()  # raises when the engine itself is gone
        evidence = list(error.evidence)
        for container in await world.engine.containers(compose_project=project):
            if container.service in names and container.release == release.id and container.state != "running":
                evidence += await proving.last_lines(world, container)
        raise DeployFailed(error.what, error.remedy, evidence=tuple(evidence)) from error


async def watch_live(world: World, release: Release, slot: Slot, seconds: float) -> str:
    """Look at the slot again and again with the traffic on; Unhealthy as soon as a container stops or starts anew.

    The last look begins when the time is over: what broke while one took long is seen by the next one.
    """
    services = [s for s in release.apps() if s.activate is Activate.WITH_SLOT]
    proofs: dict[str, Proof] = {}
    start, looks = world.clock.monotonic(), 0
    while True:
        over = world.clock.monotonic() - start >= seconds
        await proving.await_healthy(world, release, slot, services, seconds, 0.0, proofs)
        await proving.prove_routes(world, release, slot)
        looks += 1
        if over:
            return f"healthy for {seconds:g} s under traffic ({looks} looks)"
        await world.clock.sleep(proving.POLL_S)


async def hand_over(world: World, effect: HandOver, release_of: Callable[[str], Release]) -> str:
    """Stop the single services in one slot, then start them in the other: at no time do two run."""
    # A plain stack that ran only in part has no release.
    after, before = (release_of(r) if r else None for r in (effect.start_release, effect.stop_release))
    names = {s.name for r in (after, before) if r for s in r.apps() if s.activate is Activate.ON_LIVE}
    old = await _singles(world, effect.stop, names)
    await at_once(_stop_and_remove(world, c, keep=effect.stop is Slot.PLAIN) for c in old)
    if effect.start is Slot.PLAIN:
        for container in await plain_containers(world, names):
            await world.engine.start(container.id)
        return f"{', '.join(sorted(names))} run in the plain stack again"
    services = [s for s in (after.apps() if after else ()) if s.activate is Activate.ON_LIVE]
    if after and services:
        await _start(world, after, effect.start, services, 30.0)
        await proving.prove_slot(world, after, effect.start, 30.0, 1.0, on_live=True)
    return f"{', '.join(sorted(names))} run in {effect.start}"


async def _singles(world: World, slot: Slot, names: set[str]) -> list[Container]:
    if slot is Slot.PLAIN:
        return await plain_containers(world, names)
    found = await world.engine.containers(compose_project=slot_project(world.project.name, slot))
    return [c for c in found if c.service in names]


async def at_once(work: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Do all of it, and wait until all of it has ended, also when one fails: nothing goes on behind our back."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def _stop_and_remove(world: World, container: Container, *, keep: bool = False) -> None:
    service = world.project.services.get(container.service)
    await world.engine.stop(container.id, service.stop_grace_s if service else 10.0)
    if not keep:
        await world.engine.remove(container.id)


async def remove_slot(world: World, slot: Slot) -> str:
    """Stop every container of the slot gracefully, all at once, and remove them."""
    found = await world.engine.containers(compose_project=slot_project(world.project.name, slot))
    ours = [c for c in found if c.labels.get(LABEL_PROJECT) == world.project.name]
    await at_once(_stop_and_remove(world, c) for c in ours)
    return f"{len(ours)} container{'s' if len(ours) != 1 else ''} removed" if ours else "was empty"


async def retire_plain(world: World, services: tuple[str, ...]) -> str:
    """Tell plain Compose not to start the app services again, then stop and remove their plain containers."""
    await write_override(world, retired=True)
    names = set(services) | {s.name for role in (Role.APP, Role.JOB) for s in world.project.with_role(role)}
    found = await plain_containers(world, names)
    await at_once(_stop_and_remove(world, c) for c in found)
    return f"{len(found)} containers removed; docker compose up leaves them to nself deploy from now on"


def keep_warm(world: World, slot: Slot, seconds: float) -> str:
    """The slot is the standby for a while."""
    until = plus_seconds(world.clock.now(), seconds)
    record = world.store.slots().get(slot)
    if record is not None:
        world.store.set_slots({slot: SlotRecord(record.release, SlotRole.STANDBY, world.clock.now(), until)})
    return f"until {until}"
