"""One container of a slot, as a Compose service.

It is what the user wrote, with everything that two slots would fight over taken out, and everything that would lead
out of the slot turned back into it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from nself_deploy.core.addresses import AddressKey, address_in
from nself_deploy.core.model import (
    LABEL_PROJECT,
    LABEL_RELEASE,
    LABEL_REPLICA,
    LABEL_ROLE,
    LABEL_SERVICE,
    LABEL_SLOT,
    Activate,
    Release,
    Role,
    Service,
    Slot,
    SlotNetwork,
    router_side,
    slot_project,
)
from nself_deploy.core.release import behaviour
from nself_deploy.errors import ConfigError

_TWIN_KEPT = frozenset({"driver_opts", "gw_priority", "priority"})
"""What a user may say about a service on a network that holds for its twin too (never a fixed address)."""
_MAX_HOSTNAME = 63


@dataclass(frozen=True)
class SlotView:
    """What compiling a slot needs to know."""

    release: Release
    project: str
    slot: Slot
    twins: Mapping[str, SlotNetwork]
    addresses: Mapping[AddressKey, int]
    shared: frozenset[str]

    def original_name(self, network: str) -> str:
        """The engine's name of a Compose network itself."""
        return str(self.release.networks.get(network, {}).get("name") or f"{self.project}_{network}")

    def joins_original(self, network: str) -> bool:
        """Whether containers are on the Compose network itself as well: someone outside the slots is on it."""
        return network in self.shared or bool(self.release.networks.get(network, {}).get("external"))

    def twin(self, network: str) -> SlotNetwork:
        """The slot's twin of a Compose network."""
        if network not in self.twins:
            raise ValueError(f"slot {self.slot} has no twin of network {network!r}")
        return self.twins[network]

    def network_names(self) -> Iterator[tuple[str, str]]:
        """(key in the slot's file, engine's name) of all networks that its containers may join."""
        for network in sorted({n for s in self.release.services.values() for n in s.networks} & set(self.twins)):
            yield f"slot.{network}", self.twins[network].name
            if router_side(network) in self.twins:
                yield f"router.{network}", self.twins[router_side(network)].name
            yield f"plain.{network}", self.original_name(network)

    def meets_router(self, service: Service, network: str) -> bool:
        """Whether the router reaches the service, and there is a network for that."""
        routed = any(route.service == service.name for route in self.release.routes)
        return routed and router_side(network) in self.twins

    def address(self, service: Service, network: str, replica: int, *, router: bool = False) -> str:
        """A replica's fixed address on the twin, or where the router reaches it."""
        key = (network, service.name, replica)
        if key not in self.addresses:
            raise ValueError(f"no address is recorded for {service.name!r} {replica} on network {network!r}")
        return address_in(self.twin(router_side(network) if router else network).subnet, self.addresses[key])

    def asked_first(self, networks: tuple[str, ...]) -> bool:
        """Whether the engine's name server asks the twins of `networks` before the networks themselves.

        Seen with Docker 26.1: internal networks come last, and each kind in the order of its networks' names. A network
        with IPv6 may come before one without.
        """
        joined = [n for n in networks if self.joins_original(n)]
        configs = [(self.original_name(n), self.release.networks.get(n, {})) for n in joined]
        if any(config.get("enable_ipv6") for _, config in configs):
            return False
        others = [(bool(config.get("internal")), name) for name, config in configs]
        twins = [(self.twin(n).internal, self.twin(n).name) for n in networks]
        return not others or max(twins) < min(others)


def key_of(slot: Slot, service: str, replica: int = 1) -> str:
    """The Compose key of one container, e.g. `green-api-1`; unique on any network that both slots are on."""
    return f"{slot.value}-{service}-{replica}"


def keys_of(service: Service, slot: Slot) -> list[str]:
    """Compose keys of all containers of a service in a slot; a job has one."""
    count = 1 if service.role is Role.JOB else service.replicas
    return [key_of(slot, service.name, replica) for replica in range(1, count + 1)]


def container_name(project: str, slot: Slot, service: str, replica: int = 1) -> str:
    """The container's name, e.g. `shop-green-api-1`."""
    return f"{slot_project(project, slot)}-{service}-{replica}"


def slot_service(view: SlotView, service: Service, replica: int) -> dict[str, Any]:
    """The Compose service for one replica.

    Raises:
        ConfigError: it refers to something outside the slot in a way that can't be kept.
    """
    config = deepcopy(behaviour(service.config))
    for key in ("depends_on", "extra_hosts", "hostname", "labels", "links", "volumes_from"):
        config.pop(key, None)
    config["image"] = view.release.images[service.name].id
    config["pull_policy"] = "never"
    config["container_name"] = container_name(view.project, view.slot, service.name, replica)
    config["labels"] = {**_mapping(service.config.get("labels")), **_labels(view, service, replica)}
    depends_on = dict(_depends_on(view, service))
    if depends_on:
        config["depends_on"] = depends_on
    volumes_from = [_volumes_from(view, service, replica, entry) for entry in service.config.get("volumes_from") or ()]
    if volumes_from:
        config["volumes_from"] = volumes_from
    for key in ("network_mode", "pid", "ipc"):
        if str(config.get(key, "")).startswith("service:"):
            target = str(config[key]).removeprefix("service:")
            config[key] = "service:" + _inside(view, service, replica, target, key)
    hosts = _user_hosts(service)
    if not service.config.get("network_mode"):
        config["networks"] = _networks(view, service, replica)
        hosts += _pins(view, service, {entry.split("=")[0].split(":")[0] for entry in hosts})
    if hosts:
        config["extra_hosts"] = hosts
    hostname = f"{view.slot.value}-{replica}-{service.config.get('hostname', '')}"
    if service.config.get("hostname") and len(hostname) <= _MAX_HOSTNAME:
        config["hostname"] = hostname
    return config


def _labels(view: SlotView, service: Service, replica: int) -> dict[str, str]:
    return {
        LABEL_PROJECT: view.project,
        LABEL_SLOT: view.slot.value,
        LABEL_SERVICE: service.name,
        LABEL_REPLICA: str(replica),
        LABEL_RELEASE: view.release.id,
        LABEL_ROLE: service.role.value,
    }


def _networks(view: SlotView, service: Service, replica: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for network in service.networks:
        attached: dict[str, Any] = {k: v for k, v in _attachment(service, network).items() if k in _TWIN_KEPT}
        if service.role is Role.APP:
            attached["aliases"] = _names(service, network)
            attached["ipv4_address"] = view.address(service, network, replica)
        view.twin(network)
        result[f"slot.{network}"] = attached or None
        if service.role is Role.APP and view.meets_router(service, network):
            result[f"router.{network}"] = {"ipv4_address": view.address(service, network, replica, router=True)}
        if view.joins_original(network):
            result[f"plain.{network}"] = None
    return result


def _attachment(service: Service, network: str) -> dict[str, Any]:
    attached = service.config.get("networks")
    return (attached.get(network) or {}) if isinstance(attached, dict) else {}


def _names(service: Service, network: str) -> list[str]:
    """All names by which others find the service on a network, its own first."""
    own = [service.config.get("container_name"), service.config.get("hostname")]
    others = {str(name) for name in (*own, *(_attachment(service, network).get("aliases") or ())) if name}
    return [service.name, *sorted(others - {service.name})]


def _pins(view: SlotView, service: Service, known: set[str]) -> list[str]:
    """`name=address` for the slot's own app services, so that no name server is asked for them.

    Services with several replicas are left to the engine's name server, which knows which of them run, as long as
    it asks the slot's network first.
    """
    found: dict[str, list[str]] = {}
    for target in view.release.apps():
        seen: set[str] = set()
        for network in (n for n in service.networks if n in target.networks and not target.config.get("network_mode")):
            addresses = [view.address(target, network, r) for r in range(1, target.replicas + 1)]
            for name in _names(target, network):
                if name not in seen:
                    seen.add(name)
                    found.setdefault(name, []).extend(addresses)
    pin_all = not view.asked_first(service.networks)
    pins = [
        f"{name}={a}"
        for name, addresses in sorted(found.items())
        if name not in known
        for a in addresses
        if pin_all or len(addresses) == 1
    ]
    for link in service.config.get("links") or ():
        target_name, _, alias = str(link).partition(":")
        if alias and alias != target_name and alias not in known:
            pins += [f"{alias}={a}" for a in _linked(service, target_name, alias, found) if f"{alias}={a}" not in pins]
    return pins


def _linked(service: Service, target: str, alias: str, found: Mapping[str, list[str]]) -> list[str]:
    if target not in found:
        raise ConfigError(
            f"service {service.name!r} links to {target!r} as {alias!r}; {target!r} is not in the slot, so its link "
            "can't be kept.",
            f"Give {target!r} the network alias {alias!r} instead.",
            where=f"services.{service.name}.links",
        )
    return found[target]


def _user_hosts(service: Service) -> list[str]:
    hosts = service.config.get("extra_hosts") or []
    if isinstance(hosts, dict):
        return [f"{name}={a}" for name, value in hosts.items() for a in (value if isinstance(value, list) else [value])]
    return [str(entry) for entry in hosts]


def _depends_on(view: SlotView, service: Service) -> Iterator[tuple[str, dict[str, Any]]]:
    """Dependencies on services of the same role in the slot; all others run before the slot is started."""
    wanted = service.config.get("depends_on") or {}
    if not isinstance(wanted, dict):
        wanted = {name: {"condition": "service_started", "required": True} for name in wanted}
    for name, how in sorted(wanted.items()):
        target = view.release.services.get(name)
        if target is None or target.role is not service.role:
            continue
        if target.activate is Activate.ON_LIVE and service.activate is not Activate.ON_LIVE:
            continue
        for key in keys_of(target, view.slot):
            yield key, dict(how)


def _volumes_from(view: SlotView, service: Service, replica: int, entry: str) -> str:
    if entry.startswith("container:"):
        return entry
    target, _, mode = entry.partition(":")
    key = _inside(view, service, replica, target, "volumes_from")
    return f"{key}:{mode}" if mode else key


def _inside(view: SlotView, service: Service, replica: int, target: str, key: str) -> str:
    """The Compose key of the container that belongs to this one: the same replica where there is one."""
    other = view.release.services.get(target)
    if other is None:
        raise ConfigError(
            f"service {service.name!r} uses {key} of {target!r}, which is not an app service: its containers live "
            "outside the slots.",
            f"Give both the same role under x-nself-deploy, or remove {key}.",
            where=f"services.{service.name}.{key}",
        )
    keys = keys_of(other, view.slot)
    return keys[replica - 1] if replica <= len(keys) else keys[0]


def _mapping(labels: Any) -> dict[str, str]:
    if isinstance(labels, dict):
        return {str(k): "" if v is None else str(v) for k, v in labels.items()}
    return dict(str(entry).partition("=")[::2] for entry in labels or ())
