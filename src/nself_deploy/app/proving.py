"""Proving that a slot is healthy: look at its containers and ask its services until they are believed or time is up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import msgspec

from nself_deploy.app.answers import ProbeAnswer
from nself_deploy.app.world import World
from nself_deploy.core.health import Judgement, Proof, judge, remember
from nself_deploy.core.model import (
    Activate,
    Container,
    Probe,
    Protocol,
    Release,
    Route,
    Service,
    Slot,
    router_side,
    slot_project,
    twin_name,
)
from nself_deploy.errors import NselfError, RouterError, Unhealthy

POLL_S = 0.2
ROUTER_BACK_S = 20.0
"""How long a router that is being restarted by somebody is waited for."""
ROUTE_PROBES = 3
"""Requests sent to each route of a candidate, through the router, before users reach it."""


class Look(msgspec.Struct, frozen=True):
    """One look at one container."""

    container: Container
    service: Service
    judgement: Judgement
    answer: ProbeAnswer | None


async def slot_containers(world: World, release: Release, slot: Slot, names: Iterable[str]) -> list[Container]:
    """The containers of these services of the release in this slot."""
    wanted = set(names)
    found = await world.engine.containers(compose_project=slot_project(world.project.name, slot))
    return [c for c in found if c.service in wanted and c.release == release.id and c.slot is slot]


async def prove_slot(
    world: World, release: Release, slot: Slot, timeout_s: float, min_uptime_s: float, *, on_live: bool = False
) -> str:
    """Wait until every container of the slot is healthy for long enough, then until every route answers.

    Returns what was seen, in words. Raises Unhealthy with the evidence otherwise.
    """
    services = [s for s in release.apps() if (s.activate is Activate.ON_LIVE) == on_live]
    start = world.clock.monotonic()
    await await_healthy(world, release, slot, services, timeout_s, min_uptime_s, {})
    if not on_live:
        await prove_routes(world, release, slot)
    expected = sum(s.replicas for s in services)
    return f"{expected} container{'s' if expected != 1 else ''} healthy after {world.clock.monotonic() - start:.1f} s"


async def await_healthy(
    world: World,
    release: Release,
    slot: Slot,
    services: Iterable[Service],
    timeout_s: float,
    min_uptime_s: float,
    proofs: dict[str, Proof],
) -> None:
    """Wait until all containers of these services are healthy, and have been so for `min_uptime_s`.

    `proofs` (container id -> what is known) is kept up to date; what was healthy in it may not stop any more.
    Raises Unhealthy with the evidence.
    """
    named = {s.name: s for s in services}
    expected = sum(s.replicas for s in named.values())
    start = world.clock.monotonic()
    while True:
        containers = await slot_containers(world, release, slot, named)
        answers = await _answers(world, release, containers, named)
        looks = [_look(world, c, named[c.service], answers.get(c.id), proofs, min_uptime_s) for c in containers]
        waited = world.clock.monotonic() - start
        for look in looks:
            _check_network(world, slot, look.container, look.service)
        missing = expected - len(containers)
        if not missing and all(look.judgement.proven for look in looks):
            return
        broken = [look for look in looks if look.judgement.broken]
        late = [look for look in looks if not look.judgement.healthy and waited >= _limit(look.service, timeout_s)]
        if broken or late:
            raise await _unhealthy(world, slot, (broken or late)[0], waited)
        if missing and waited >= timeout_s:
            what = f"{missing} of {expected} containers of {slot} do not exist"
            raise Unhealthy(f"{what} after {waited:.0f} s.", "Somebody or something removed them; deploy again.")
        world.progress("; ".join(f"{k.service.name}: {k.judgement.reason}" for k in looks if not k.judgement.proven))
        await world.clock.sleep(POLL_S)


async def check_networks(world: World, release: Release, slot: Slot) -> None:
    """The slot's routed containers are on their networks; Unhealthy otherwise. See `_check_network`."""
    for container in await slot_containers(world, release, slot, {r.service for r in release.routes}):
        _check_network(world, slot, container, release.services[container.service])


def _check_network(world: World, slot: Slot, container: Container, service: Service) -> None:
    """A container that runs is on all of its slot's networks.

    Once somebody removed one, requests to its address would leave this machine, and whoever has it there may answer.
    """
    if container.state != "running" or service.config.get("network_mode"):
        return
    router = world.project.router.networks if world.project.router and world.project.router.service else ()
    sides = list(service.networks)
    if service.name in world.project.routed:
        sides += [router_side(n) for n in service.networks if n in router]
    names = [twin_name(world.project.name, slot, side) for side in sides]
    lost = [name for name in names if name not in container.addresses]
    if lost:
        raise Unhealthy(
            f"{service.name} in {slot} is not on its network {lost[0]} any more.",
            "Somebody removed or disconnected it; deploy again, which makes it anew.",
        )


async def prove_routes(world: World, release: Release, slot: Slot, *, patience_s: float = ROUTER_BACK_S) -> None:
    """Send a few requests over each route to the slot, through nginx itself; Unhealthy when one is refused.

    A router that somebody restarts is waited for at most `patience_s`, then RouterError. The engine is asked only when
    nginx does not answer where it did last.
    """
    for route in http_routes(release):
        service = release.services[route.service]
        for _ in range(ROUTE_PROBES):
            answer = await _probe(world, route, slot, service.probe or Probe(), patience_s)
            if not answer.ok:
                raise await _refused(world, slot, release, route, answer)


async def _probe(world: World, route: Route, slot: Slot, probe: Probe, patience_s: float) -> ProbeAnswer:
    """One answer through the router; asked again when it was the router that went away meanwhile."""
    try:
        answer = await world.router.probe(route, slot, probe)
    except RouterError:
        answer = ProbeAnswer(False)
    if answer.status:
        return answer
    await _await_router(world, patience_s)
    return await world.router.probe(route, slot, probe)


async def _await_router(world: World, patience_s: float) -> None:
    start = world.clock.monotonic()
    while True:
        state = await world.router.observe()
        if state.running and state.loaded_tree:
            return
        if world.clock.monotonic() - start >= patience_s:
            what = "does not answer our probes" if state.running else "is not running"
            raise RouterError(f"The router {what}, so nothing can be proved through it.", "Start it, then try again.")
        await world.clock.sleep(POLL_S)


def http_routes(release: Release) -> list[Route]:
    """The routes that can be asked with a GET."""
    return [
        r for r in release.routes if r.protocol in (Protocol.HTTP, Protocol.HTTPS) and r.service in release.services
    ]


def _look(
    world: World,
    container: Container,
    service: Service,
    answer: ProbeAnswer | None,
    proofs: dict[str, Proof],
    min_uptime_s: float,
) -> Look:
    proof, now = proofs.get(container.id, Proof()), world.clock.monotonic()
    judgement = judge(container, service, answer.ok if answer else None, proof, now=now, min_uptime_s=min_uptime_s)
    proofs[container.id] = remember(container, judgement, proof, now)
    return Look(container, service, judgement, answer)


async def _answers(
    world: World, release: Release, containers: Iterable[Container], named: Mapping[str, Service]
) -> dict[str, ProbeAnswer]:
    """Container id -> its answer, of those whose own healthcheck doesn't say it already. All are asked at once."""
    routes = {r.service: r for r in reversed(http_routes(release))}
    asked = [
        c for c in containers if c.service in routes and c.state == "running" and not named[c.service].has_healthcheck
    ]
    if not asked:
        return {}
    found = await asyncio.gather(*(_ask(world, c, named[c.service], routes[c.service]) for c in asked))
    return {c.id: answer for c, answer in zip(asked, found, strict=True)}


async def _ask(world: World, container: Container, service: Service, route: Route) -> ProbeAnswer:
    """The HTTP probe straight at the container."""
    twins = [twin_name(world.project.name, container.slot, n) for n in service.networks]
    address = next((container.addresses[n] for n in twins if container.addresses.get(n)), "")
    if not address:
        return ProbeAnswer(False, detail="it has no address on the slot's network yet")
    return await world.prober.get(address, route.port, service.probe or Probe())


def _limit(service: Service, timeout_s: float) -> float:
    return timeout_s if service.health_timeout_s is None else service.health_timeout_s


async def _unhealthy(world: World, slot: Slot, look: Look, waited: float) -> Unhealthy:
    evidence = []
    if look.answer is not None:
        evidence.append(f"probe: {look.answer.detail}")
    evidence += [f"healthcheck: {line}" for line in look.container.health_log[-2:]]
    evidence += await last_lines(world, look.container)
    more_time = "" if look.judgement.broken else ", or allow it more time with --health-timeout"
    return Unhealthy(
        f"{look.service.name} in {slot} is not healthy after {waited:.0f} s: {look.judgement.reason}.",
        f"Mend the image or its configuration (the end of its log is above){more_time}.",
        evidence=tuple(evidence),
    )


async def _refused(world: World, slot: Slot, release: Release, route: Route, answer: ProbeAnswer) -> Unhealthy:
    evidence = [f"probe: {answer.detail}"]
    for container in await slot_containers(world, release, slot, [route.service]):
        evidence += await last_lines(world, container)
    return Unhealthy(
        f"{route.service} in {slot} does not answer as it should through the router: {answer.detail}",
        f"Mend it, or say which path and statuses prove it under x-nself-deploy.probe of {route.service}.",
        evidence=tuple(evidence),
    )


async def last_lines(world: World, container: Container, lines: int = 10) -> list[str]:
    """The end of a container's log, each line with its name; what hinders it is said in place of it."""
    try:
        found = await world.engine.logs(container.id, lines)
    except NselfError as error:
        return [f"{container.name}: its log can't be read: {error.what}"]
    return [f"{container.name} | {line}" for line in found] or [f"{container.name}: its log is empty"]
