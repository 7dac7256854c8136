"""What plain Compose has to know about us: the model of the override file that we generate. Pure.

People go on typing `docker compose up -d`, `restart`, `logs`. The override keeps the router on the slots' networks
and keeps plain copies of what runs in the slots from being started.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

from nself_deploy.core.model import (
    ROUTER_DIR_IN_CONTAINER,
    ROUTER_LOG_IN_CONTAINER,
    Project,
    Role,
    RouterKind,
    Service,
    SlotNetwork,
    router_side,
)


def override_model(project: Project, slot_networks: Iterable[SlotNetwork], retired: bool) -> dict[str, Any]:
    """The Compose model that is laid over the user's own files.

    Args:
        slot_networks: the slots' networks; those that the router doesn't use are ignored.
        retired: the plain app containers are replaced by a slot, so plain Compose shall start none of them.
    """
    services: dict[str, Any] = {}
    twins: dict[str, str] = {}
    router = project.services.get(project.router.service) if project.router else None
    if project.router and router and project.router.kind is not RouterKind.HOST:
        keys = {router_side(name): name for name in project.router.networks}
        wanted = [network for network in slot_networks if network.network in keys]
        if not router.config.get("network_mode"):
            twins = {f"nself-{n.slot}-{keys[n.network]}": n.name for n in sorted(wanted, key=lambda n: n.name)}
        services[router.name] = _router(project, router, twins)
    if retired:
        for service in (*project.with_role(Role.APP), *project.with_role(Role.JOB)):
            services[service.name] = _none_of(service)
    model: dict[str, Any] = {"services": services}
    if twins:
        model["networks"] = {key: {"external": True, "name": name} for key, name in twins.items()}
    return model


def _router(project: Project, router: Service, twins: Mapping[str, str]) -> dict[str, Any]:
    """Its part of the override: all of it when `init` added the service, else only what is ours."""
    added = project.router is not None and project.router.kind is RouterKind.ADDED
    config = dict(router.config) if added else {}
    ours = _mounts(project)
    kept = [v for v in config.get("volumes") or () if v.get("target") not in (m["target"] for m in ours)]
    config["volumes"] = [*kept, *ours]
    if twins:
        # Naming one network makes Compose forget the default one, so all of its own are named again.
        own = {name: how for name, how in _own_networks(router, added) if not name.startswith("nself-")}
        config["networks"] = own | dict.fromkeys(twins)
    return config


def _own_networks(router: Service, added: bool) -> list[tuple[str, Any]]:
    configured = router.config.get("networks") or {"default": None}
    return [(name, how if added else None) for name, how in configured.items()]


def _mounts(project: Project) -> list[dict[str, Any]]:
    here = posixpath.relpath(project.root, posixpath.dirname(project.files[0])) if project.files else "."
    base = f"./{posixpath.normpath(posixpath.join(here, '.nself/router'))}".replace("./../", "../")
    return [
        {"type": "bind", "source": base, "target": ROUTER_DIR_IN_CONTAINER, "read_only": True},
        {"type": "bind", "source": f"{base}/log", "target": ROUTER_LOG_IN_CONTAINER},
    ]


def _none_of(service: Service) -> dict[str, Any]:
    """Zero containers, in the words that the base file uses: Compose refuses two words that disagree."""
    deploy = service.config.get("deploy") or {}
    result: dict[str, Any] = {}
    if "scale" in service.config:
        result["scale"] = 0
    if "scale" not in service.config or "replicas" in deploy:
        result["deploy"] = {"replicas": 0}
    if deploy.get("mode") == "global":
        result["deploy"] = {"mode": "replicated", "replicas": 0}
    return result
