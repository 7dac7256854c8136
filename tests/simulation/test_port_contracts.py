"""The simulated engine and nginx keep the promises that the real ones keep (tests/real/test_port_contracts.py)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from nself_deploy.core.model import Role, Route, Slot
from nself_deploy.core.routing import TreeSpec, Upstream
from tests.simulation import shop
from tests.simulation.engine import SimCompose, SimEngine, make_plain
from tests.simulation.history import in_virtual_time
from tests.simulation.port_contracts import ENGINE_CONTRACTS, ROUTER_CONTRACTS, EngineBed, RouterBed
from tests.simulation.process import Process
from tests.simulation.router import BASE, SimRouter
from tests.simulation.shocks import shock
from tests.simulation.things import Thing
from tests.simulation.world import PEOPLE, SimWorld


class SimBed:
    """A simulated engine with a router, and one service in the blue slot."""

    def __init__(self) -> None:
        self.world = SimWorld(0, shop.Shape(checked=False))
        process = Process(self.world, "contract", (), shock)
        self.project, self.image = shop.NAME, "sha256:web"
        self.world.images.update({"web:1": self.image, self.image: self.image})
        self.engine, self.compose, self.router = SimEngine(process), SimCompose(process), SimRouter(process)
        self.route = Route("web_8000", "web", 8000)
        self.world.make_net(shop.ORIGINAL, {}, internal=False)

    def write(self, model: dict[str, Any]) -> str:
        self.world.disk.files[shop.FILE] = model
        return shop.FILE

    def with_router(self) -> SimBed:
        for service in self.world.project.with_role(Role.ROUTER):
            self.world.start(make_plain(self.world, service, 1), PEOPLE)
        self.world.make_net("slot", {}, internal=False)
        web = Thing("web", self.world.number(), "shop-blue", "web", slot=Slot.BLUE, addresses={"slot": "10.0.0.9"})
        self.world.start(self.world.add(web), PEOPLE)
        self.world.loop.now = 10.0
        return self

    def spec(self) -> TreeSpec:
        servers: dict[Slot, tuple[str, ...]] = {Slot.BLUE: ("10.0.0.9:8000",), Slot.GREEN: ("10.0.0.10:8000",)}
        return msgspec.structs.replace(BASE, upstreams=(Upstream(self.route, servers),))

    async def start(self) -> None:
        router = self.world.router()
        assert router is not None
        self.world.start(router, PEOPLE)
        self.world.loop.now += 1.0

    async def stop(self) -> None:
        router = self.world.router()
        assert router is not None
        self.world.stop(router, PEOPLE)


@pytest.mark.parametrize("promise", ENGINE_CONTRACTS, ids=lambda promise: promise.__name__)
def test_the_simulated_engine_keeps_the_promise(promise: Callable[[EngineBed], Awaitable[None]]) -> None:
    bed = SimBed()

    in_virtual_time(bed.world, promise(bed))  # type: ignore[arg-type]


@pytest.mark.parametrize("promise", ROUTER_CONTRACTS, ids=lambda promise: promise.__name__)
def test_the_simulated_nginx_keeps_the_promise(promise: Callable[[RouterBed], Awaitable[None]]) -> None:
    bed = SimBed().with_router()

    in_virtual_time(bed.world, promise(bed))  # type: ignore[arg-type]
