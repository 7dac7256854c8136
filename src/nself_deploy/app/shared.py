"""Shared services and the router: started where they don't run, and waited for. What runs is never touched."""

from __future__ import annotations

from nself_deploy.app import proving
from nself_deploy.app.lifecycle import plain_containers
from nself_deploy.app.world import World
from nself_deploy.core.model import ROUTER_DIR_IN_CONTAINER, Container, Role, Service
from nself_deploy.core.nginx_words import refusal, refused
from nself_deploy.errors import InfrastructureError, RouterError

SHARED_S = 120.0
"""How long a shared service may take to become healthy."""
ROUTER_S = 20.0
"""How long nginx may take from its start to its first answer."""


async def start_shared(world: World, services: tuple[str, ...], router: str) -> str:
    """Start what isn't running, in order, and wait until it is healthy; nothing that runs is touched.

    Raises:
        RouterFilesRefused: nginx did not start with its files.
        InfrastructureError: something was not started, ended, or did not become healthy.
    """
    started = []
    for name in (*services, *([router] if router else [])):
        if await _runs(world, name):
            continue
        world.progress(f"starting {name}")
        files = (*world.project.files, *world.files.override_files())
        if name == router:
            await _remove_unmounted(world, router)
        # With its dependencies (those that have no plain containers any more count none): without them Compose would
        # note another configuration, and make the service anew at the next plain `docker compose up`.
        await world.compose.up(world.project.name, files, [name], root=str(world.root), deps=True, recreate=False)
        service = world.project.services[name]
        await (_await_router(world, service) if service.role is Role.ROUTER else _await_healthy(world, service))
        started.append(name)
    return f"started {', '.join(started)}" if started else "all running"


async def _remove_unmounted(world: World, router: str) -> None:
    """A stopped router from before our mounts would not start with its new files."""
    for container in await plain_containers(world, {router}):
        if container.state != "running" and ROUTER_DIR_IN_CONTAINER not in container.mounts:
            await world.engine.stop(container.id, 10.0)  # it may be one that starts again and again
            await world.engine.remove(container.id)


async def _runs(world: World, service: str) -> bool:
    found = await plain_containers(world, {service})
    return bool(found) and all(c.state == "running" and c.health in ("", "healthy") for c in found)


async def _await_healthy(world: World, service: Service) -> None:
    start = world.clock.monotonic()
    while not await _runs(world, service.name):
        found = await plain_containers(world, {service.name})
        ended = [c for c in found if c.state in ("exited", "dead")]
        if ended:
            raise InfrastructureError(
                f"The {service.role} service {service.name} ended with exit code {ended[0].exit_code}.",
                "Mend it first: the new version can't be proved without it.",
                evidence=tuple(await proving.last_lines(world, ended[0])),
            )
        if world.clock.monotonic() - start > SHARED_S:
            raise InfrastructureError(
                f"The {service.role} service {service.name} did not become healthy within {SHARED_S:g} s.",
                "Mend it first: the new version can't be proved without it.",
                evidence=tuple([line for c in found for line in await proving.last_lines(world, c)]),
            )
        await world.clock.sleep(proving.POLL_S)


async def _await_router(world: World, service: Service) -> None:
    """Until nginx answers with our files: a container that was started may be one that is about to give up."""
    start = world.clock.monotonic()
    while True:
        if await _answers(world):
            return
        for container in await plain_containers(world, {service.name}):
            if container.state in ("exited", "dead", "restarting"):
                raise await _why_it_ended(world, container)
        if world.clock.monotonic() - start > ROUTER_S:
            raise RouterError(
                f"The router {service.name} was started, but nginx does not answer our probes after {ROUTER_S:g} s.",
                "Run nself deploy init, which shows what its files lack; else look at its log.",
                evidence=tuple(
                    [
                        line
                        for container in await plain_containers(world, {service.name})
                        for line in await proving.last_lines(world, container)
                    ]
                ),
            )
        await world.clock.sleep(proving.POLL_S)


async def _answers(world: World) -> bool:
    try:
        state = await world.router.observe()
    except InfrastructureError:
        return False  # it ended while it was asked (an engine that is gone is said by the next question)
    return state.running and bool(state.loaded_tree)


async def _why_it_ended(world: World, container: Container) -> InfrastructureError:
    words = "\n".join(await world.engine.logs(container.id, 10))
    if refused(words):
        return refusal(words, container.mounts)
    return RouterError(
        f"The router {container.service} ended with exit code {container.exit_code}.",
        "Look at the end of its log above, and mend what it says.",
        evidence=tuple(await proving.last_lines(world, container)),
    )
