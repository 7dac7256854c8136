"""What is there: slots, containers, router, and what was under way. Reads only."""

from __future__ import annotations

from nself_deploy.app.lifecycle import plain_containers
from nself_deploy.app.proving import check_networks, prove_routes
from nself_deploy.app.world import World
from nself_deploy.core.model import LABEL_PROJECT, Activate, Container, Release, Role, Slot, slot_project
from nself_deploy.core.plan import Facts
from nself_deploy.core.slot_records import SlotRole, standby_slot
from nself_deploy.errors import ConfigError, NselfError, StateFileError

GENTLE_RELOAD = (1, 27, 4)
"""The first nginx with `keepalive_min_timeout`."""


async def observe(world: World) -> Facts:
    """The facts that a plan depends on.

    Raises:
        EngineError: the engine can't be asked.
        ConfigError: a container stands in our place that isn't ours.
        StateFileError: the link that says where traffic goes is gone, and something is live.
    """
    split, slots = world.router.split(), world.store.slots()
    check_link(world)
    in_slots = {slot: await _slot_containers(world, slot) for slot in (Slot.BLUE, Slot.GREEN)}
    plain = await plain_containers(world)
    apps = {s.name for s in world.project.with_role(Role.APP)}
    running_plain = tuple(sorted({c.service for c in plain if c.service in apps and c.state == "running"}))
    stopped_plain = tuple(sorted({c.service for c in plain if c.service in apps} - set(running_plain)))
    live = split.base if split is not None else (Slot.PLAIN if running_plain else None)
    if live in in_slots and not in_slots[live] and not (live in slots and slots[live].release):
        live = Slot.PLAIN if running_plain else None
    standby = standby_slot(slots)
    state = await world.router.observe()
    return Facts(
        live=live,
        live_release=slots[live].release if live in slots else "",
        live_healthy=live is not None and _healthy(world, live, in_slots.get(live, [])),
        standby=standby,
        standby_release=slots[standby].release if standby else "",
        standby_warm=standby is not None and await _warm(world, standby, slots[standby].release),
        occupied=tuple(slot for slot, found in in_slots.items() if found),
        plain_apps=running_plain if live is Slot.PLAIN else stopped_plain if live is None else (),
        stopped_shared=_stopped_shared(world, plain),
        router_running=state.running,
        warnings=(*_strays(world, running_plain, live), *_old_nginx(state.version)),
    )


def check_link(world: World) -> None:
    """The link that says where traffic goes is there if a slot is live.

    Without it a project looks like a new one, and the slot that serves users like one to clear.

    Raises:
        StateFileError: it is gone.
    """
    if world.router.split() is not None:
        return
    link, says = ".nself/router/current", "is gone, and it says where requests go"
    run = world.store.unfinished()
    if run is not None and run.committed:
        what = f"{says}: {run.plan.candidate} had got all of them when the {run.plan.kind} {run.id} was interrupted."
        raise StateFileError(what, "nself deploy resume puts it back.", where=link)
    slots = world.store.slots()
    live = next((s for s in (Slot.BLUE, Slot.GREEN) if s in slots and slots[s].role is SlotRole.LIVE), None)
    if live is not None:
        raise StateFileError(
            f"{says}: {live} was live when it was last written down.",
            f"Put it back: ln -sfn splits/{live} {link}, then run the same command again.",
            where=link,
        )


async def _slot_containers(world: World, slot: Slot) -> list[Container]:
    name = slot_project(world.project.name, slot)
    found = await world.engine.containers(compose_project=name)
    for container in found:
        if container.labels.get(LABEL_PROJECT) != world.project.name:
            raise ConfigError(
                f"The container {container.name} belongs to a Compose project {name} that is not ours.",
                f"Rename one of the two projects: nself deploy keeps the {slot} slot of {world.project.name} there.",
                where=world.project.files[0] if world.project.files else "",
            )
    return found


def _healthy(world: World, live: Slot, found: list[Container]) -> bool:
    record = world.store.slots().get(live)
    release = world.store.release(record.release) if record else None
    if release is None:
        return False
    expected = sum(s.replicas for s in release.apps())
    running = [c for c in found if _is_up(c, release) and c.service in release.services]
    return len([c for c in running if release.services[c.service].role is Role.APP]) >= expected


async def all_healthy(world: World, slot: Slot, release: Release) -> bool:
    """Whether every container that starts with the slot is there, of this release, and healthy."""
    found = await _slot_containers(world, slot)
    return all(
        len([c for c in found if c.service == service.name and _is_up(c, release)]) >= service.replicas
        for service in release.apps()
        if service.activate is Activate.WITH_SLOT
    )


def _is_up(container: Container, release: Release) -> bool:
    return container.release == release.id and container.state == "running" and container.health in ("", "healthy")


async def _warm(world: World, slot: Slot, release_id: str) -> bool:
    release = world.store.release(release_id)
    if release is None:
        return False
    try:
        await check_networks(world, release, slot)
        await prove_routes(world, release, slot, patience_s=0)
    except NselfError:
        return False  # Not warm; the plan then starts it again.
    return True


def _stopped_shared(world: World, plain: list[Container]) -> tuple[str, ...]:
    """Shared services that don't run, dependencies first."""
    up = {c.service for c in plain if c.state == "running" and c.health in ("", "healthy")}
    down = {s.name: s for s in world.project.with_role(Role.SHARED) if s.name not in up}
    order: list[str] = []

    def visit(name: str) -> None:
        if name in down and name not in order:
            for needed in down[name].depends_on:
                visit(needed)
            if name not in order:
                order.append(name)

    for name in down:
        visit(name)
    return tuple(order)


def _old_nginx(version: tuple[int, ...]) -> tuple[str, ...]:
    if not version or version >= GENTLE_RELOAD:
        return ()
    return (
        (
            f"nginx {'.'.join(map(str, version))}: a reload (needed only when routes or replicas change) closes idle "
            "keep-alive connections, and a POST on the wire at that moment is lost; nginx 1.27.4 with "
            "keepalive_min_timeout does not"
        ),
    )


def _strays(world: World, running_plain: tuple[str, ...], live: Slot | None) -> tuple[str, ...]:
    if live in (None, Slot.PLAIN) or not running_plain:
        return ()
    singles = [n for n in running_plain if world.project.services[n].activate is Activate.ON_LIVE]
    twice = f" {', '.join(singles)} must run only once: stop them now." if singles else ""
    return (
        (
            f"plain containers of {', '.join(running_plain)} run beside the live slot (started by hand?); they get no "
            f"traffic and can be removed with docker compose rm -sf {' '.join(running_plain)}.{twice}"
        ),
    )
