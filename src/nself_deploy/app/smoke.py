"""Requests straight at a candidate's containers, before any user reaches it: what fails always costs no user."""

from __future__ import annotations

import asyncio

from nself_deploy.app.answers import ProbeAnswer
from nself_deploy.app.proving import last_lines, slot_containers
from nself_deploy.app.world import World
from nself_deploy.core.model import Container, Probe, Protocol, Release, Route, Service, Slot, twin_name
from nself_deploy.errors import Unhealthy

AT_ONCE = 4


async def smoke(world: World, release: Release, slot: Slot, probes: int) -> str:
    """Send each routed service `probes` requests, spread over its containers; what was seen, in words.

    Raises:
        Unhealthy: one of them was not answered as it should be.
    """
    routes = {r.service: r for r in release.routes if r.protocol is Protocol.HTTP and r.service in release.services}
    sent, slowest = 0, 0.0
    for name, route in sorted(routes.items()):
        service = release.services[name]
        places = await _places(world, release, slot, service)
        for start in range(0, probes if places else 0, AT_ONCE):
            count = min(AT_ONCE, probes - start)
            some = [places[(start + n) % len(places)] for n in range(count)]
            answers = await asyncio.gather(*(_ask(world, place, route, service) for place in some))
            for (container, _), answer in zip(some, answers, strict=True):
                if not answer.ok:
                    raise await _refused(world, container, service, slot, answer)
            sent, slowest = sent + count, max(slowest, *(answer.seconds for answer in answers))
    return (
        f"{sent} requests answered well, the slowest in {slowest * 1000:.0f} ms" if sent else "nothing to ask over HTTP"
    )


async def _places(world: World, release: Release, slot: Slot, service: Service) -> list[tuple[Container, str]]:
    """The service's containers with their addresses on the slot's networks."""
    twins = [twin_name(world.project.name, slot, network) for network in service.networks]
    found = []
    for container in await slot_containers(world, release, slot, [service.name]):
        address = next((container.addresses[twin] for twin in twins if container.addresses.get(twin)), "")
        if address:
            found.append((container, address))
    return found


async def _ask(world: World, place: tuple[Container, str], route: Route, service: Service) -> ProbeAnswer:
    return await world.prober.get(place[1], route.port, service.probe or Probe())


async def _refused(world: World, container: Container, service: Service, slot: Slot, answer: ProbeAnswer) -> Unhealthy:
    return Unhealthy(
        f"{service.name} in {slot} does not answer as it should: {answer.detail}",
        f"Mend it, or say which path and statuses prove it under x-nself-deploy.probe of {service.name}.",
        evidence=(f"probe: {answer.detail}", *await last_lines(world, container)),
    )
