"""Requests straight at a candidate, before any user."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from nself_deploy.app import smoke
from nself_deploy.app.ports import ProbeAnswer
from nself_deploy.app.world import World
from nself_deploy.core.model import Container, Probe, Slot, twin_name
from nself_deploy.errors import Unhealthy
from tests.unit.plans import a_project, a_release


def world(asked: list[tuple[str, int]], failing: int = 0) -> World:
    """Two containers of web in green; of the requests, this one fails (1: the first)."""
    project = a_project()
    twin = twin_name(project.name, Slot.GREEN, "default")
    found = [
        Container(
            str(n), f"web-{n}", "shop-green", "web", slot=Slot.GREEN, release="new", addresses={twin: f"10.1.1.{n}"}
        )
        for n in (1, 2)
    ]

    async def containers(**_: Any) -> list[Container]:
        return found

    async def logs(_id: str, _lines: int) -> list[str]:
        return ["it broke"]

    async def get(address: str, port: int, _probe: Probe) -> ProbeAnswer:
        asked.append((address, port))
        ok = len(asked) != failing
        return ProbeAnswer(ok, 200 if ok else 500, "GET / answered 500", 0.01)

    engine = SimpleNamespace(containers=containers, logs=logs)
    return cast("World", SimpleNamespace(project=project, engine=engine, prober=SimpleNamespace(get=get)))


def release() -> Any:
    made = a_release()
    web = msgspec.structs.replace(made.services["web"], networks=("default",))
    return msgspec.structs.replace(made, services={**made.services, "web": web})


async def test_every_container_is_asked_over_and_over() -> None:
    asked: list[tuple[str, int]] = []
    words = await smoke.smoke(world(asked), release(), Slot.GREEN, 20)

    assert words == "20 requests answered well, the slowest in 10 ms"
    assert {place: asked.count(place) for place in asked} == {("10.1.1.1", 8000): 10, ("10.1.1.2", 8000): 10}


async def test_one_bad_answer_is_enough() -> None:
    asked: list[tuple[str, int]] = []
    with pytest.raises(Unhealthy, match="web in green does not answer as it should") as caught:
        await smoke.smoke(world(asked, failing=7), release(), Slot.GREEN, 20)

    assert len(asked) == 8
    assert any("it broke" in line for line in caught.value.evidence)
