"""Projects, releases and slot networks for the tests of slots."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from nself_deploy.core.addresses import Addresses, allocate, ip_range_of, wanted_addresses
from nself_deploy.core.model import (
    Activate,
    PinnedImage,
    Project,
    Release,
    Role,
    Route,
    RouterKind,
    RouterRef,
    Service,
    Slot,
    SlotNetwork,
    router_side,
    twin_name,
)
from nself_deploy.core.release import make_release

GOLDEN = Path(__file__).parent / "golden"
NOW = "2026-11-22T21:30:00.123Z"


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as plain data."""
    data: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return data


def image(name: str) -> PinnedImage:
    """An image whose id follows from its name."""
    return PinnedImage(id="sha256:" + hashlib.sha256(name.encode()).hexdigest(), ref=name)


def service(
    name: str,
    config: dict[str, Any] | None = None,
    *,
    role: Role = Role.APP,
    replicas: int = 1,
    networks: tuple[str, ...] = ("default",),
    activate: Activate = Activate.WITH_SLOT,
) -> Service:
    """A service on networks without aliases."""
    full = {"image": f"{name}:1", "networks": dict.fromkeys(networks), **(config or {})}
    return Service(
        name=name,
        role=role,
        reason="the test says so",
        config=full,
        image=full["image"],
        replicas=replicas,
        networks=networks,
        activate=activate,
    )


def project(
    services: Iterable[Service],
    *,
    name: str = "shop",
    routes: tuple[Route, ...] = (),
    **parts: dict[str, dict[str, Any]],
) -> Project:
    """A project of these services; networks that nobody describes get Compose's usual name."""
    by_name = {s.name: s for s in services}
    used = {n for s in by_name.values() for n in s.networks}
    networks = {n: {"name": f"{name}_{n}"} for n in sorted(used)} | parts.get("networks", {})
    return Project(
        name=name,
        root="/srv/shop",
        files=("/srv/shop/compose.yaml",),
        services=by_name,
        networks=networks,
        volumes=parts.get("volumes", {}),
        secrets=parts.get("secrets", {}),
        configs=parts.get("configs", {}),
        router=RouterRef(kind=RouterKind.SERVICE, service="router", networks=("default",)),
        routes=routes,
    )


def release(of: Project, **how: Any) -> Release:
    """Its release, every image named after its service."""
    return make_release(of, {n: image(n) for n in of.services}, now=NOW, **how)


def twins(of: Project, start: int = 0) -> list[SlotNetwork]:
    """Twins of all its networks for both slots, then the networks on which the router meets them."""
    own, router = sorted(of.networks), of.router.networks if of.router else ()
    sides = [(network, bool(of.networks[network].get("internal"))) for network in own]
    wanted = [(slot, *side) for slot in (Slot.BLUE, Slot.GREEN) for side in sides]
    wanted += [(slot, router_side(n), True) for slot in (Slot.BLUE, Slot.GREEN) for n in own if n in router]
    found = []
    for slot, network, internal in wanted:
        subnet = f"10.213.{start + len(found)}.0/24"
        name = twin_name(of.name, slot, network)
        found.append(SlotNetwork(name, slot, network, subnet, ip_range_of(subnet), internal))
    return found


def addresses(of: Release) -> Addresses:
    """Addresses of all its replicas."""
    return allocate({}, wanted_addresses(of))


def rich_project() -> Project:
    """The project of `golden/slot_input.yaml`."""
    model = load_yaml(GOLDEN / "slot_input.yaml")
    roles = {"db": Role.SHARED, "router": Role.ROUTER, "migrate": Role.JOB}
    services = [
        Service(
            name=name,
            role=roles.get(name, Role.APP),
            reason="the test says so",
            config=config,
            image=config["image"],
            replicas=config.get("scale", 1),
            networks=tuple(config.get("networks") or ()),
            activate=Activate.ON_LIVE if name == "scheduler" else Activate.WITH_SLOT,
        )
        for name, config in model["services"].items()
    ]
    parts = {key: model[key] for key in ("networks", "volumes", "secrets", "configs")}
    return project(services, routes=(Route(key="web", service="web", port=8000),), **parts)
