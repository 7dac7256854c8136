"""The real engine, Compose and nginx keep the promises that the simulated ones keep."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from nself_deploy.adapters.compose import DockerCompose
from nself_deploy.core.model import Route, Slot
from nself_deploy.core.routing import TreeSpec
from tests.real.router_parts import KINDS, Bench, simple, slots
from tests.real.router_peers import Backend
from tests.real.things import BUSYBOX, Things, docker, engine_at
from tests.simulation.port_contracts import ENGINE_CONTRACTS, ROUTER_CONTRACTS, EngineBed, RouterBed

pytestmark = pytest.mark.real


class RealBed:
    """The engine that the docker command uses, with a directory for Compose files."""

    def __init__(self, engine: Any, things: Things, directory: Path) -> None:
        self.engine, self.compose = engine, DockerCompose()
        self.project = things.name
        self.image = docker("image", "inspect", "-f", "{{.Id}}", BUSYBOX)
        self._directory = directory

    def write(self, model: dict[str, Any]) -> str:
        path = self._directory / "compose.yaml"
        with path.open("w") as stream:
            YAML(typ="safe", pure=True).dump(model, stream)
        return str(path)


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[RealBed]:
    things = Things()
    try:
        async with engine_at() as engine:
            yield RealBed(engine, things, tmp_path)
    finally:
        things.clean()
        docker("image", "rm", f"nself-contract/{things.name}:1", check=False)


@pytest.mark.parametrize("promise", ENGINE_CONTRACTS, ids=lambda promise: promise.__name__)
async def test_the_engine_keeps_the_promise(promise: Callable[[EngineBed], Awaitable[None]], bed: RealBed) -> None:
    await promise(bed)


class RealRouterBed:
    """An nginx with one backend in the blue slot, and nobody in green."""

    def __init__(self, bench: Bench, blue: Backend, nobody: str) -> None:
        self.router = bench.router
        self.route: Route = bench.routes()[0]
        self._bench, self._servers = bench, {Slot.BLUE: (blue.address,), Slot.GREEN: (nobody,)}

    def spec(self) -> TreeSpec:
        return self._bench.spec({slot: list(servers) for slot, servers in self._servers.items()})

    async def start(self) -> None:
        await self._bench.start()

    async def stop(self) -> None:
        await self._bench.stop()


@pytest.mark.parametrize("promise", ROUTER_CONTRACTS, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("kind", ["host", "container"])
async def test_nginx_keeps_the_promise(promise: Callable[[RouterBed], Awaitable[None]], kind: str) -> None:
    bench: Bench = KINDS[kind](f"nst{secrets.token_hex(4)}")
    try:
        async with slots(bench) as (blue, green, plain):
            simple(bench, plain)
            await bench.start()
            bench.edit()
            await green.stop()
            await promise(RealRouterBed(bench, blue, green.address))
    finally:
        await bench.close()
