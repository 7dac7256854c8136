"""What the ports promise, as tests that the simulated and the real adapters pass alike (engine, compose, router)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pytest

from nself_deploy.app.ports import Compose, Engine, Router
from nself_deploy.core.addresses import address_in
from nself_deploy.core.model import (
    LABEL_PROJECT,
    LABEL_RELEASE,
    LABEL_REPLICA,
    LABEL_SERVICE,
    LABEL_SLOT,
    Probe,
    Route,
    Slot,
    SlotNetwork,
    Split,
    slot_project,
    twin_name,
)
from nself_deploy.core.routing import TreeSpec
from nself_deploy.errors import EngineError, ImageError, RouterError

BLUE, GREEN = Split.all_to(Slot.BLUE), Split.all_to(Slot.GREEN)
LONG_S = 60.0
"""Longer than a busy machine takes for an answer."""


class EngineBed(Protocol):
    """An engine with one image, and a directory for Compose files."""

    project: str
    image: str
    """Its id."""
    engine: Engine
    compose: Compose

    def write(self, model: dict[str, Any]) -> str:
        """A Compose file; its path."""


class RouterBed(Protocol):
    """An nginx that runs as its user wrote it, and one service in the blue slot."""

    router: Router
    route: Route

    def spec(self) -> TreeSpec:
        """The files for both slots; nobody answers in green."""

    async def start(self) -> None:
        """Start nginx."""

    async def stop(self) -> None:
        """Stop nginx."""


async def _network(bed: EngineBed, network: str = "default") -> SlotNetwork:
    name = twin_name(bed.project, Slot.BLUE, network)
    return await bed.engine.ensure_network(bed.project, Slot.BLUE, network, name=name, internal=False)


def _model(bed: EngineBed, network: SlotNetwork, *, release: str = "r1", count: int = 1, **more: Any) -> dict[str, Any]:
    """`count` containers in blue that do nothing, with addresses from 9 on."""
    project = slot_project(bed.project, Slot.BLUE)
    services = {
        f"blue-web-{n}": {
            "image": bed.image,
            "pull_policy": "never",
            "container_name": f"{project}-web-{n}",
            "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"],
            "restart": "unless-stopped",
            "labels": {
                LABEL_PROJECT: bed.project,
                LABEL_SLOT: "blue",
                LABEL_SERVICE: "web",
                LABEL_REPLICA: str(n),
                LABEL_RELEASE: release,
            },
            "networks": {"slot.default": {"ipv4_address": address_in(network.subnet, 8 + n)}},
            **more,
        }
        for n in range(1, count + 1)
    }
    return {
        "name": project,
        "services": services,
        "networks": {"slot.default": {"name": network.name, "external": True}},
    }


async def _up(bed: EngineBed, model: dict[str, Any]) -> None:
    await bed.compose.up(model["name"], [bed.write(model)], list(model["services"]))


async def a_network_is_made_once(bed: EngineBed) -> None:
    made = await _network(bed)
    assert await _network(bed) == made
    assert made in await bed.engine.networks(bed.project)
    assert await bed.engine.network_exists(made.name)
    with pytest.raises(EngineError):
        await bed.engine.ensure_network(bed.project, Slot.GREEN, "default", name=made.name, internal=False)
    for _ in range(2):
        await bed.engine.remove_network(made.name)
    assert not await bed.engine.network_exists(made.name)


async def a_slot_starts_once_with_its_addresses(bed: EngineBed) -> None:
    network = await _network(bed)
    model = _model(bed, network, count=2)
    await _up(bed, model)
    found = await bed.engine.containers(compose_project=model["name"])
    assert [(c.name, c.service, c.replica, c.slot, c.release, c.state) for c in found] == [
        (f"{model['name']}-web-1", "web", 1, Slot.BLUE, "r1", "running"),
        (f"{model['name']}-web-2", "web", 2, Slot.BLUE, "r1", "running"),
    ]
    assert [c.addresses[network.name] for c in found] == [address_in(network.subnet, n) for n in (9, 10)]
    assert {c.image_id for c in found} == {bed.image}
    await _up(bed, model)
    assert [c.id for c in await bed.engine.containers(nself_project=bed.project)] == [c.id for c in found]
    with pytest.raises(EngineError):
        await bed.engine.remove_network(network.name)


async def another_configuration_replaces_a_container(bed: EngineBed) -> None:
    network = await _network(bed)
    await _up(bed, _model(bed, network))
    before = await bed.engine.containers(nself_project=bed.project)
    await _up(bed, _model(bed, network, release="r2"))
    after = await bed.engine.containers(nself_project=bed.project)
    assert [c.release for c in after] == ["r2"]
    assert after[0].id != before[0].id and await bed.engine.container(before[0].id) is None


async def containers_stop_start_and_go(bed: EngineBed) -> None:
    model = _model(bed, await _network(bed))
    await _up(bed, model)
    (one,) = await bed.engine.containers(nself_project=bed.project)
    with pytest.raises(EngineError):
        await bed.engine.remove(one.id)
    for _ in range(2):
        await bed.engine.stop(one.id, 2.0)
    stopped = await bed.engine.container(one.name)
    assert stopped is not None and (stopped.id, stopped.state) == (one.id, "exited")
    await _up(bed, model)
    for _ in range(2):
        await bed.engine.start(one.id)
    again = await bed.engine.container(one.id)
    assert again is not None and again.state == "running" and again.started_at != one.started_at
    await bed.engine.stop(one.id, 2.0)
    for _ in range(2):
        await bed.engine.remove(one.id)
    await bed.engine.stop(one.id, 2.0)
    assert await bed.engine.container(one.id) is None
    assert await bed.engine.logs(one.id) == []
    with pytest.raises(EngineError):
        await bed.engine.start(one.id)


async def what_is_missing_is_refused(bed: EngineBed) -> None:
    network = await _network(bed)
    model = _model(bed, network)
    with pytest.raises(EngineError):
        await _up(bed, model | {"networks": {"slot.default": {"name": f"{bed.project}-nowhere", "external": True}}})
    with pytest.raises(EngineError):
        await _up(bed, _model(bed, network, image=f"sha256:{'0' * 64}"))
    assert [c for c in await bed.engine.containers(nself_project=bed.project) if c.state == "running"] == []


async def an_address_belongs_to_one(bed: EngineBed) -> None:
    network = await _network(bed)
    model = _model(bed, network, count=2)
    for service in model["services"].values():
        service["networks"]["slot.default"]["ipv4_address"] = address_in(network.subnet, 9)
    with pytest.raises(EngineError):
        await _up(bed, model)


async def a_volume_is_made_once(bed: EngineBed) -> None:
    config = {"name": f"{bed.project}_data"}
    for _ in range(2):
        await bed.engine.ensure_volume(bed.project, "data", config)
    await bed.engine.ensure_volume(bed.project, "data", config | {"external": True})
    with pytest.raises(EngineError):
        await bed.engine.ensure_volume(bed.project, "other", {"name": f"{bed.project}_other", "external": True})


async def an_image_may_have_names(bed: EngineBed) -> None:
    assert await bed.engine.image(f"nself-contract/{bed.project}:1") is None
    for _ in range(2):
        await bed.engine.tag(bed.image, f"nself-contract/{bed.project}:1")
    found = await bed.engine.image(f"nself-contract/{bed.project}:1")
    assert found is not None and found.id == bed.image
    with pytest.raises(ImageError):
        await bed.engine.tag(f"sha256:{'0' * 64}", f"nself-contract/{bed.project}:2")
    for _ in range(2):
        assert await bed.engine.untag(f"nself-contract/{bed.project}:1")
    assert await bed.engine.image(f"nself-contract/{bed.project}:1") is None
    assert await bed.engine.image(bed.image) is not None, "it has other names"


async def a_container_joins_another_network(bed: EngineBed) -> None:
    await _up(bed, _model(bed, await _network(bed)))
    other = await _network(bed, "back")
    (one,) = await bed.engine.containers(nself_project=bed.project)
    for _ in range(2):
        await bed.engine.connect(other.name, one.id)
    joined = await bed.engine.container(one.id)
    assert joined is not None and joined.addresses[other.name]
    assert joined.started_at == one.started_at
    with pytest.raises(EngineError):
        await bed.engine.connect(f"{bed.project}-nowhere", one.id)


async def a_slot_goes_down(bed: EngineBed) -> None:
    model = _model(bed, await _network(bed), count=2)
    await _up(bed, model)
    for _ in range(2):
        await bed.compose.down(model["name"])
    assert await bed.engine.containers(compose_project=model["name"]) == []


ENGINE_CONTRACTS: tuple[Callable[[EngineBed], Awaitable[None]], ...] = (
    a_network_is_made_once,
    a_slot_starts_once_with_its_addresses,
    another_configuration_replaces_a_container,
    containers_stop_start_and_go,
    what_is_missing_is_refused,
    an_address_belongs_to_one,
    a_volume_is_made_once,
    an_image_may_have_names,
    a_container_joins_another_network,
    a_slot_goes_down,
)


async def nothing_is_loaded_at_first(bed: RouterBed) -> None:
    state = await bed.router.observe()
    assert state.running and state.split is None and state.tree == state.loaded_tree == ""
    with pytest.raises(RouterError):
        await bed.router.in_flight(Slot.BLUE)


async def files_are_installed_once(bed: RouterBed) -> None:
    tree = await bed.router.install(bed.spec())
    state = await bed.router.observe()
    assert tree == state.tree == state.loaded_tree
    assert await bed.router.install(bed.spec()) == tree
    assert bed.router.split() is None


async def a_move_is_confirmed(bed: RouterBed) -> None:
    await bed.router.install(bed.spec())
    for split in (BLUE, GREEN, GREEN, BLUE):
        await bed.router.move(split)
        assert bed.router.split() == split
        await bed.router.confirm(split, LONG_S)
    with pytest.raises(RouterError):
        await bed.router.confirm(GREEN, 0.1)


async def a_probe_says_who_answers(bed: RouterBed) -> None:
    await bed.router.install(bed.spec())
    await bed.router.move(GREEN)
    assert (await bed.router.probe(bed.route, Slot.BLUE, Probe(timeout_s=LONG_S))).ok
    assert not (await bed.router.probe(bed.route, Slot.GREEN, Probe(timeout_s=LONG_S))).ok
    for _ in range(240):
        if await bed.router.in_flight(Slot.BLUE) == 0:  # a second look may count this question, until it is closed
            break
        await asyncio.sleep(0.5)
    else:
        pytest.fail("a request that was answered stays in flight")


async def a_split_survives_nginx(bed: RouterBed) -> None:
    tree = await bed.router.install(bed.spec())
    await bed.router.move(BLUE)
    await bed.stop()
    state = await bed.router.observe()
    assert not state.running and state.loaded_tree == "" and state.tree == tree and state.split == BLUE
    with pytest.raises(RouterError):
        await bed.router.in_flight(Slot.BLUE)
    with pytest.raises(RouterError):
        await bed.router.probe(bed.route, Slot.BLUE, Probe(timeout_s=LONG_S))
    await bed.router.move(GREEN)
    await bed.start()
    await bed.router.confirm(GREEN, LONG_S)
    assert (await bed.router.observe()).loaded_tree == tree


ROUTER_CONTRACTS: tuple[Callable[[RouterBed], Awaitable[None]], ...] = (
    nothing_is_loaded_at_first,
    files_are_installed_once,
    a_move_is_confirmed,
    a_probe_says_who_answers,
    a_split_survives_nginx,
)
