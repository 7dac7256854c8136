"""A release in a slot: its own Compose model, the names in it, and the addresses that the router sends requests to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from nself_deploy.core.addresses import AddressKey, address_in
from nself_deploy.core.model import (
    Activate,
    Release,
    Role,
    Route,
    RouterKind,
    RouterRef,
    Service,
    Slot,
    SlotNetwork,
    router_side,
    slot_project,
)
from nself_deploy.core.release import volume_names
from nself_deploy.core.routing import Upstream
from nself_deploy.core.slot_service import SlotView, keys_of, slot_service
from nself_deploy.errors import ConfigError

__all__ = ["app_keys", "compile_slot", "job_keys", "keys_of", "on_live_keys", "upstreams"]


def compile_slot(
    release: Release,
    project: str,
    slot: Slot,
    networks: Iterable[SlotNetwork],
    addresses: Mapping[AddressKey, int],
    shared_networks: Collection[str],
) -> dict[str, Any]:
    """The Compose model of `release` in `slot`: one service per container, nothing that another slot has too.

    Networks, named volumes and images are only referred to; they must exist. Jobs and `on-live` services are in it
    and are started by their keys, never by a plain `up`.

    Args:
        release: its services, images, networks and volumes.
        project: the project's name.
        slot: blue or green.
        networks: twins of all networks that the release's services use, and those for the router (other slots' are
            ignored).
        addresses: the fixed host number of every replica (see `addresses.wanted_addresses`).
        shared_networks: Compose networks on which services outside the slots are found under their own names.

    Raises:
        ConfigError: a service refers to something outside the slot in a way that can't be kept.
    """
    view = SlotView(
        release,
        project,
        slot,
        {n.network: n for n in networks if n.slot is slot},
        addresses,
        frozenset(shared_networks),
    )
    services = {
        key: slot_service(view, service, replica)
        for _, service in sorted(release.services.items())
        for replica, key in enumerate(keys_of(service, slot), 1)
    }
    model: dict[str, Any] = {"name": slot_project(project, slot), "services": services}
    used_networks = {n for s in services.values() for n in s.get("networks") or ()}
    used_volumes = {v for s in services.values() for v in volume_names(s)}
    parts: dict[str, dict[str, Any]] = {
        "networks": {k: {"name": name, "external": True} for k, name in view.network_names() if k in used_networks},
        "volumes": {
            k: {"name": c.get("name") or f"{project}_{k}", "external": True}
            for k, c in sorted(release.volumes.items())
            if k in used_volumes
        },
        "secrets": dict(sorted(release.secrets.items())),
        "configs": dict(sorted(release.configs.items())),
    }
    return model | {key: part for key, part in parts.items() if part}


def app_keys(release: Release, slot: Slot) -> list[str]:
    """Compose keys of what starts with the slot."""
    return [k for s in release.apps() if s.activate is Activate.WITH_SLOT for k in keys_of(s, slot)]


def on_live_keys(release: Release, slot: Slot) -> list[str]:
    """Compose keys of what starts only once the slot is live."""
    return [k for s in release.apps() if s.activate is Activate.ON_LIVE for k in keys_of(s, slot)]


def job_keys(release: Release, slot: Slot) -> list[str]:
    """Compose keys of the jobs."""
    return [k for s in release.jobs() for k in keys_of(s, slot)]


def upstreams(
    routes: Iterable[Route],
    services: Mapping[str, Service],
    router: RouterRef,
    networks: Iterable[SlotNetwork],
    addresses: Mapping[AddressKey, int],
    *,
    replicas: Mapping[tuple[Slot, str], int] | None = None,
    plain: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Upstream, ...]:
    """Every route with the fixed addresses of its service in each slot, in the order of the routes' keys.

    The addresses are the same whether the containers exist or not, so that starting a slot changes no nginx file.

    Args:
        routes: what the router sends where.
        services: the routed services, by name.
        router: the router, with the networks that it is on.
        networks: both slots' networks.
        addresses: the fixed host number of every replica.
        replicas: (slot, service) -> number of replicas, where a slot's release has another number than `services`.
        plain: service -> addresses of its containers in a plain stack, while one is adopted.

    Raises:
        ConfigError: a route's service isn't an app service, or the router can't reach it over any network.
    """
    twins = {(n.slot, n.network): n for n in networks}
    counts = replicas or {}
    result = []
    for route in sorted(routes, key=lambda r: r.key):
        service = services.get(route.service)
        if service is None or service.role is not Role.APP:
            raise ConfigError(
                f"route {route.key!r} goes to {route.service!r}, which is not an app service.",
                "Route to an app service, or remove the route.",
                where=route.source,
            )
        network = _route_network(route, service, router)
        servers: dict[Slot, tuple[str, ...]] = {}
        for slot in (Slot.BLUE, Slot.GREEN):
            twin = twins.get((slot, network if router.kind is RouterKind.HOST else router_side(network)))
            if twin is not None:
                servers[slot] = tuple(
                    f"{address_in(twin.subnet, addresses[network, service.name, replica])}:{route.port}"
                    for replica in range(1, counts.get((slot, service.name), service.replicas) + 1)
                )
        if plain and plain.get(service.name):
            servers[Slot.PLAIN] = tuple(f"{address}:{route.port}" for address in plain[service.name])
        result.append(Upstream(route=route, servers=servers))
    return tuple(result)


def _route_network(route: Route, service: Service, router: RouterRef) -> str:
    """The Compose network over which the router reaches the service: the first one that both are on."""
    mode = service.config.get("network_mode")
    if mode:
        raise ConfigError(
            f"service {service.name!r} has network_mode {mode!r}, so two versions of it can't run side by side.",
            "Remove network_mode, or keep one copy of it with x-nself-deploy: {role: shared} and no route to it.",
            where=f"services.{service.name}.network_mode",
        )
    for network in service.networks:
        if router.kind is RouterKind.HOST or network in router.networks:
            return network
    raise ConfigError(
        f"the router {router.service!r} and service {service.name!r} have no network in common (route {route.key!r}).",
        "Put both on one network under `networks:`.",
        where=f"services.{service.name}.networks",
    )
