"""Slot networks on the real engine: made once by whoever comes first, and only what is ours is touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from nself_deploy.adapters.docker_engine import DockerEngine
from nself_deploy.core.model import LABEL_NETWORK, Slot, twin_name
from nself_deploy.errors import EngineError
from tests.real.things import POOL, Things, docker, engine_at

pytestmark = pytest.mark.real


@pytest.fixture
def things() -> Iterator[Things]:
    made = Things()
    yield made
    made.clean()


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    async with engine_at() as made:
        yield made


async def test_slot_networks(engine: DockerEngine, things: Things) -> None:
    name = twin_name(things.name, Slot.GREEN, "default")
    made = await engine.ensure_network(things.name, Slot.GREEN, "default", name=name, internal=False)
    again = await engine.ensure_network(things.name, Slot.GREEN, "default", name=name, internal=False)
    inner = await engine.ensure_network(
        things.name, Slot.BLUE, "back", internal=True, name=twin_name(things.name, Slot.BLUE, "back")
    )

    assert made == again
    assert (made.slot, made.network, made.internal, inner.internal) == (Slot.GREEN, "default", False, True)
    assert made.subnet != inner.subnet
    assert made.subnet.startswith("10.214.")
    assert await engine.networks(things.name) == [inner, made]
    assert docker("network", "inspect", "-f", f'{{{{index .Labels "{LABEL_NETWORK}"}}}}', name) == "default"
    assert await engine.network_exists(name)
    assert not await engine.network_exists(name[:-1])
    for _ in range(2):
        await engine.remove_network(name)
    assert not await engine.network_exists(name)


async def test_many_at_once_make_one_network_each(things: Things) -> None:
    """Several processes (here: engines) ask for the same four networks at the same time."""
    engines = [DockerEngine(pool=POOL) for _ in range(4)]
    names = [twin_name(things.name, slot, n) for slot in (Slot.BLUE, Slot.GREEN) for n in ("back", "default")]
    try:
        found = await asyncio.gather(
            *(
                e.ensure_network(
                    things.name,
                    Slot.BLUE if "-blue-" in n else Slot.GREEN,
                    n.rpartition("-")[2],
                    name=n,
                    internal=False,
                )
                for e in engines
                for n in names
            )
        )
        assert [n.name for n in await engines[0].networks(things.name)] == names
    finally:
        await asyncio.gather(*(e.close() for e in engines))

    assert {n.name for n in found} == set(names)
    assert len(set(found)) == len(names) == len({n.subnet for n in found})


async def test_a_taken_subnet_is_passed_over_and_a_full_pool_is_an_error(things: Things) -> None:
    things.network("theirs", "--subnet", "10.214.64.0/25")
    async with engine_at(pool="10.214.64.0/23") as small:
        made = await small.ensure_network(things.name, Slot.BLUE, "a", name=f"{things.name}-a", internal=False)
        assert made.subnet == "10.214.65.0/24"
        with pytest.raises(EngineError, match=r"no subnet of 10.214.64.0/23 is free.*network prune"):
            await small.ensure_network(things.name, Slot.BLUE, "b", name=f"{things.name}-b", internal=False)


async def test_a_network_that_is_not_ours_is_left_alone(engine: DockerEngine, things: Things) -> None:
    theirs = things.network("theirs", "--subnet", "10.214.66.0/24")

    with pytest.raises(EngineError, match="not the slot network it should be"):
        await engine.ensure_network(things.name, Slot.BLUE, "default", name=theirs, internal=False)
    with pytest.raises(EngineError, match="not made by nself-deploy"):
        await engine.remove_network(theirs)
    assert await engine.network_exists(theirs)


async def test_a_network_with_other_settings_is_made_anew_unless_used(engine: DockerEngine, things: Things) -> None:
    name = f"{things.name}-a"
    await engine.ensure_network(things.name, Slot.BLUE, "a", name=name, internal=False)
    inner = await engine.ensure_network(things.name, Slot.BLUE, "a", name=name, internal=True)
    things.sleeper("user", "--network", name)

    assert inner.internal
    with pytest.raises(EngineError, match="other settings"):
        await engine.ensure_network(things.name, Slot.BLUE, "a", name=name, internal=False)
    with pytest.raises(EngineError, match="active endpoints"):
        await engine.remove_network(name)


async def test_connecting(engine: DockerEngine, things: Things) -> None:
    made = things.sleeper()
    name = f"{things.name}-a"
    network = await engine.ensure_network(things.name, Slot.BLUE, "a", name=name, internal=False)

    await asyncio.gather(*(engine.connect(name, made, ["known-as"]) for _ in range(3)))
    await engine.connect(name, made)
    found = await engine.container(made)
    assert found is not None
    assert found.addresses[name].rpartition(".")[0] == network.subnet.rpartition(".")[0]
    assert int(found.addresses[name].rpartition(".")[2]) >= 128
    assert "known-as" in docker("inspect", "-f", f'{{{{(index .NetworkSettings.Networks "{name}").Aliases}}}}', made)
    with pytest.raises(EngineError, match="No such container"):
        await engine.connect(name, "nst-nobody")
    with pytest.raises(EngineError, match="not found"):
        await engine.connect(f"{name}-nothing", made)
