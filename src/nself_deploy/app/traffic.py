"""Where requests go: the router's files, moves and draining."""

from __future__ import annotations

import msgspec

from nself_deploy.app import proving
from nself_deploy.app.lifecycle import at_once, plain_containers
from nself_deploy.app.moving import move, save_split
from nself_deploy.app.world import World
from nself_deploy.core.model import LABEL_PROJECT, Container, Release, Slot, Split, slot_project
from nself_deploy.core.nginx_tree import compile_tree, fingerprint
from nself_deploy.core.routing import TreeSpec, Upstream
from nself_deploy.core.slots import upstreams
from nself_deploy.errors import InfrastructureError, RouterError

DRAIN_POLL_S = 0.05
QUIET_S = 0.25
"""For so long nothing must be in flight: a worker that stood still decides about a request before it counts it."""
WARM_AGAIN_S = 60.0
PLAIN_SERVERS = "plain-servers"

__all__ = ["drain", "install_router", "move", "save_split"]


async def install_router(world: World, release: Release, slot: Slot, initial: Split) -> str:
    """nginx runs with the routes of both slots; the split is what it was, or `initial` when there is none yet.

    When somebody restarts the router meanwhile, it is done with the one that is back.
    """
    end = world.clock.monotonic() + proving.ROUTER_BACK_S
    while True:
        seen = await _router_lives(world)
        try:
            return await _install(world, release, slot, initial)
        except InfrastructureError:
            if await _router_lives(world) == seen or world.clock.monotonic() > end:
                raise
        await world.clock.sleep(proving.POLL_S)


async def _router_lives(world: World) -> list[tuple[str, str, str]]:
    """Which router containers there are, since when, and how they are."""
    router = world.project.router
    found = await plain_containers(world, {router.service}) if router and router.service else []
    return sorted((c.id, c.started_at, c.state) for c in found)


async def _install(world: World, release: Release, slot: Slot, initial: Split) -> str:
    current = world.router.split() or initial
    if current.base is Slot.PLAIN:
        await _remember_plain(world, release)
    before = await world.router.observe()
    spec = await _spec(world, release, slot, _plain_servers(world))
    if current.base is not Slot.PLAIN and fingerprint(compile_tree(spec)) != before.loaded_tree:
        spec = await _spec(world, release, slot, {})
    if world.router.split() is None:
        await world.router.move(initial)  # before the files: with them nginx goes by the link
    tree = await world.router.install(spec)
    await world.router.record(on=True)
    if not before.running:
        return "files written; nginx reads them when it starts"
    return "unchanged" if tree == before.loaded_tree else "checked with nginx -t and loaded"


async def _spec(world: World, release: Release, slot: Slot, plain: dict[str, list[str]]) -> TreeSpec:
    """The candidate's routes with the addresses of both slots; the other slot keeps what its own release has."""
    if world.project.router is None:
        raise RouterError("The project has no router.", "Run nself deploy init.")
    record = world.store.slots().get(slot.other)
    other = world.store.release(record.release) if record and record.release else None
    services = {**(other.services if other else {}), **release.services}
    routes = {r.key: r for r in ((*other.routes, *release.routes) if other else release.routes)}
    found = upstreams(
        routes.values(),
        services,
        world.project.router,
        await world.engine.networks(world.project.name),
        world.store.addresses(),
        replicas={(slot.other, s.name): s.replicas for s in other.services.values()} if other else None,
    )
    return msgspec.structs.replace(await world.tree(), upstreams=tuple(_with_plain(u, plain) for u in found))


def _with_plain(upstream: Upstream, plain: dict[str, list[str]]) -> Upstream:
    servers = plain.get(upstream.route.key)
    if servers is None:
        return upstream
    return Upstream(upstream.route, {**upstream.servers, Slot.PLAIN: tuple(servers)})


def _plain_servers(world: World) -> dict[str, list[str]]:
    text = world.store.meta(PLAIN_SERVERS)
    return msgspec.json.decode(text, type=dict[str, list[str]]) if text else {}


async def _remember_plain(world: World, release: Release) -> None:
    """Where the plain stack's containers answer now."""
    services = {r.service for r in release.routes}
    found = sorted(await plain_containers(world, services), key=lambda c: c.name)
    router = world.project.router
    usable = [world.project.networks.get(n, {}).get("name", n) for n in router.networks] if router else []
    servers: dict[str, list[str]] = {}
    for route in release.routes:
        for container in found:
            address = _address(container, usable if router and router.service else None)
            if container.service == route.service and container.state == "running" and address:
                servers.setdefault(route.key, []).append(f"{address}:{route.port}")
        if route.key not in servers:
            servers[route.key] = []
    world.store.set_meta(PLAIN_SERVERS, msgspec.json.encode(servers).decode())


def _address(container: Container, usable: list[str] | None) -> str:
    return next((a for n, a in sorted(container.addresses.items()) if a and (usable is None or n in usable)), "")


async def drain(world: World, slot: Slot, grace_s: float, *, keep: bool) -> str:
    """Wait until nothing is in flight to the slot, at most `grace_s`; then close what lingers, properly."""
    start = world.clock.monotonic()
    left = await _in_flight(world, slot)
    busy = start
    while (now := world.clock.monotonic()) - start < grace_s:
        busy = now if left else busy
        if now - busy >= QUIET_S:
            return f"nothing in flight after {now - start:.1f} s"
        if left:
            world.progress(f"{left} or more in flight, at most {grace_s:g} s")
        await world.clock.sleep(DRAIN_POLL_S)
        left = await _in_flight(world, slot)
    if not left:
        return f"nothing in flight after {grace_s:g} s"
    if not keep:
        return f"{left} or more still in flight after {grace_s:g} s: closed with their containers"
    await _close_lingering(world, slot)
    return f"{left} or more still in flight after {grace_s:g} s: closed, by restarting their containers"


async def _in_flight(world: World, slot: Slot) -> int:
    """Requests in flight to the slot; none when the router does not run, for then nobody is connected through it.

    1 while it runs and does not answer (it is being restarted): nobody can say that nothing is in flight.
    """
    try:
        count = await world.router.in_flight(slot)
        return count + (await world.router.old_workers() if slot is Slot.PLAIN else 0)
    except RouterError:
        return 1 if (await world.router.observe()).running else 0


async def _close_lingering(world: World, slot: Slot) -> None:
    """Stop and start the routed containers of a slot that stays warm: SIGTERM lets them say goodbye.

    Waits until they are healthy again (bounded), so that the standby is warm when the deploy ends.
    """
    found = await world.engine.containers(compose_project=slot_project(world.project.name, slot))
    routed = [
        c for c in found if c.service in world.project.routed and c.labels.get(LABEL_PROJECT) == world.project.name
    ]
    await at_once(_restart(world, c) for c in routed)
    start = world.clock.monotonic()
    while world.clock.monotonic() - start < WARM_AGAIN_S:
        now = [await world.engine.container(c.id) for c in routed]
        if all(c is not None and c.state == "running" and c.health in ("", "healthy") for c in now):
            return
        await world.clock.sleep(proving.POLL_S)


async def _restart(world: World, container: Container) -> None:
    service = world.project.services.get(container.service)
    await world.engine.stop(container.id, service.stop_grace_s if service else 10.0)
    await world.engine.start(container.id)
