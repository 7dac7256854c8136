"""A project out of its resolved Compose model. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from nself_deploy.core import service_facts as facts
from nself_deploy.core.extension import KEY, Extension, ProbeKeys, ServiceKeys
from nself_deploy.core.extension_reader import unescape
from nself_deploy.core.key_places import Locate, nowhere, where
from nself_deploy.core.model import (
    Activate,
    HostRouter,
    Probe,
    Project,
    Role,
    Route,
    RouterKind,
    RouterRef,
    Service,
)
from nself_deploy.core.roles import RoleChoice, Roles, infer_roles
from nself_deploy.core.routes import project_routes
from nself_deploy.core.service_facts import Config
from nself_deploy.core.settings import service_timeouts
from nself_deploy.errors import ConfigError

WARNINGS_KEY = "x-nself-warnings"
"""Where a resolved model carries Compose's own warnings (a list of sentences)."""

MAX_SERVICES = 200
MAX_REPLICAS = 100
_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")

AddedRouter = tuple[str, Mapping[str, Any]]
"""Name and Compose mapping of the nginx service that `init` added."""


def build_project(
    model: Mapping[str, Any],
    *,
    root: str,
    files: Sequence[str],
    extension: Extension,
    roles: Roles | None = None,
    nginx_routes: Iterable[Route] = (),
    added: AddedRouter | None = None,
    env: Mapping[str, str] | None = None,
    locate: Locate = nowhere,
) -> Project:
    """The project of a resolved model.

    Args:
        model: what `docker compose config` says about the user's files, without our override.
        extension: what `read_extension` found in it.
        roles: what `infer_roles` found; None to find it here.
        nginx_routes: routes found in the router's nginx files, to any service.
        env: for `HEALTHCHECK_TIMEOUT_<SERVICE>`.

    Raises:
        ConfigError: the name, a size, a role, a route or a key can't work; `where` names the place.
        UsageError: a variable of `env` doesn't parse.
    """
    configs = services_of(model, locate)
    name = _checked_name(model)
    if roles is None:
        roles = infer_roles(configs, extension, locate)
    routes = project_routes(nginx_routes, extension, roles.choices, locate)
    timeouts = service_timeouts(env or {}, configs)
    services = {
        key: _service(key, config, roles.choices[key], extension.of(key), timeouts.get(key))
        for key, config in sorted(configs.items())
    }
    if added:
        services[added[0]] = _service(*added, RoleChoice(Role.ROUTER, "added by `init`"), ServiceKeys(), None)
    routed = {route.service for route in routes}
    _check_keys(services, extension, routed, locate)
    router = _router(services, extension, roles, routed, added, locate)
    return Project(
        name=name,
        root=root,
        files=tuple(files),
        services=services,
        networks=_section(model, "networks"),
        volumes=_section(model, "volumes"),
        secrets=_section(model, "secrets"),
        configs=_section(model, "configs"),
        router=router,
        routes=routes,
        warnings=(*map(str, model.get(WARNINGS_KEY) or ()), *roles.warnings, *_warnings(services)),
    )


def services_of(model: Mapping[str, Any], locate: Locate = nowhere) -> dict[str, Config]:
    """The services of a resolved model.

    Raises:
        ConfigError: there are none, or more than can be meant.
    """
    services = model.get("services") or {}
    if not services:
        raise ConfigError(
            "The project has no services.", "Add one, or activate a profile.", where=where(locate, ("services",))
        )
    if len(services) > MAX_SERVICES:
        raise ConfigError(f"The project has {len(services)} services; at most {MAX_SERVICES} are possible.")
    for name, config in services.items():
        if facts.replicas(config) > MAX_REPLICAS:
            raise ConfigError(
                f"{name} has {facts.replicas(config)} replicas; at most {MAX_REPLICAS} are possible on one engine.",
                where=where(locate, ("services", name)),
            )
    return dict(services)


def _checked_name(model: Mapping[str, Any]) -> str:
    name = str(model.get("name") or "")
    if not _PROJECT_NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} can't be the name of a Compose project.",
            "Use lowercase letters, digits, - and _, with a letter or digit first: `name:` in the Compose file.",
        )
    return name


def _service(name: str, config: Config, choice: RoleChoice, keys: ServiceKeys, timeout_s: float | None) -> Service:
    return Service(
        name=name,
        role=choice.role,
        reason=choice.reason,
        config=dict(config),
        image=unescape(str(config.get("image") or "")),
        builds="build" in config,
        replicas=1 if choice.role is Role.JOB else facts.replicas(config),
        networks=facts.networks(config),
        depends_on=tuple(facts.dependencies(config)),
        has_healthcheck=facts.has_healthcheck(config),
        stop_grace_s=facts.stop_grace_s(config),
        activate=keys.activate or Activate.WITH_SLOT,
        probe=_probe(keys.probe) if keys.probe else None,
        health_timeout_s=timeout_s or (float(keys.health_timeout) if keys.health_timeout else None),
        pull_policy=str(config.get("pull_policy") or ""),
    )


def _probe(keys: ProbeKeys) -> Probe:
    probe = Probe(keys.path, keys.host, keys.statuses)
    return msgspec.structs.replace(probe, timeout_s=float(keys.timeout)) if keys.timeout else probe


def _check_keys(services: Mapping[str, Service], extension: Extension, routed: set[str], locate: Locate) -> None:
    """A key that would do nothing is a misunderstanding, so it is an error."""
    for name, keys in sorted(extension.services.items()):
        service = services[name]
        wrong = {
            "activate": keys.activate is not None and service.role is not Role.APP,
            "probe": keys.probe is not None and name not in routed,
            "health_timeout": keys.health_timeout is not None and service.role is not Role.APP,
        }
        why = {
            "probe": f"{name} has no route, so there is no port to probe",
        }
        for key in (key for key, is_wrong in wrong.items() if is_wrong):
            text = why.get(key, f"{name} is {service.role} ({service.reason}), and `{key}` is for app services")
            at = where(locate, ("services", name, KEY, key))
            raise ConfigError(f"{text}.", f"Remove `{key}`, or change the role.", where=at)
        if keys.activate is Activate.ON_LIVE and name in routed:
            raise ConfigError(
                f"{name} is routed, so it has to be healthy before its slot goes live.",
                "Remove `activate: on-live`, or the route.",
                where=where(locate, ("services", name, KEY, "activate")),
            )
    for name in sorted(routed):
        if services[name].replicas == 0:
            raise ConfigError(
                f"{name} is routed and has 0 replicas.", "Set at least one.", where=where(locate, ("services", name))
            )


def _router(
    services: Mapping[str, Service],
    extension: Extension,
    roles: Roles,
    routed: set[str],
    added: AddedRouter | None,
    locate: Locate,
) -> RouterRef | None:
    keys = extension.project.router
    port = keys.probe_port if keys else 0
    reachable = tuple(sorted({network for name in routed for network in services[name].networks}))
    if keys and keys.host:
        host = HostRouter(keys.host.config, keys.host.bin, keys.host.prefix, keys.host.pid_file)
        return RouterRef(RouterKind.HOST, host=host, probe_port=port, networks=reachable)
    if added:
        return RouterRef(RouterKind.ADDED, added[0], probe_port=port, networks=reachable)
    if not roles.router:
        return None
    router = services[roles.router]
    everywhere = str(router.config.get("network_mode") or "") == "host"
    networks = reachable if everywhere else tuple(n for n in router.networks if n in reachable)
    for index, wanted in enumerate(keys.networks if keys else ()):
        if wanted not in networks:
            raise ConfigError(
                f"{router.name} reaches no routed service over the network {wanted!r}.",
                f"Networks that they share: {', '.join(networks) or 'none'}.",
                where=where(locate, (KEY, "router", "networks", index)),
            )
    networks = tuple(n for n in networks if n in keys.networks) if keys and keys.networks else networks
    for name in sorted(routed):
        if not set(networks) & set(services[name].networks):
            raise ConfigError(
                f"The router {router.name} and {name} have no network in common, so requests can't get there.",
                "Put both on one network under `networks:`.",
                where=where(locate, ("services", name)),
            )
    return RouterRef(RouterKind.SERVICE, router.name, probe_port=port, networks=networks)


def _section(model: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    return {name: dict(config or {}) for name, config in (model.get(key) or {}).items()}


def _warnings(services: Mapping[str, Service]) -> list[str]:
    found = []
    for name, service in services.items():
        if service.role is not Role.APP:
            continue
        ports = facts.published_ports(service.config)
        if ports:
            found.append(f"{name}: host port {', '.join(ports)} is not published in slots; users come by the router")
        if service.replicas == 0:
            found.append(f"{name}: has 0 replicas, so no version of it runs")
        for network, how in (service.config.get("networks") or {}).items():
            if how and how.get("ipv4_address"):
                found.append(f"{name}: its fixed address on {network} is not kept in slots, which have their own")
    return found
