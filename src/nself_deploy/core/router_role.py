"""Which service is the nginx that users' requests come through. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from nself_deploy.core.extension import KEY, Extension
from nself_deploy.core.key_places import Locate, nowhere, where
from nself_deploy.core.model import Role
from nself_deploy.core.service_facts import Config, image_parts, mounts, published_ports
from nself_deploy.errors import ConfigError

_NGINX = frozenset({"nginx", "openresty", "angie", "freenginx", "tengine"})
_NOT_A_ROUTER = frozenset({"exporter", "manager", "amplify"})
CONFIG_DIRECTORIES = (
    "/etc/nginx",
    "/etc/angie",
    "/etc/openresty",
    "/usr/local/openresty/nginx/conf",
    "/opt/bitnami/nginx/conf",
)
"""Where nginx images keep their configuration."""


class FoundRouter(msgspec.Struct, frozen=True):
    """The router service and why it is the one."""

    service: str
    reason: str


def find_router(services: Mapping[str, Config], extension: Extension, locate: Locate = nowhere) -> FoundRouter | None:
    """The router among the services; None when there is none, or when it is an nginx of the host.

    Raises:
        ConfigError: two services are or look like the router, or the declared one isn't there.
    """
    declared = _declared(services, extension, locate)
    if declared:
        return declared
    if extension.project.router and extension.project.router.host:
        return None
    found = {}
    for name, config in sorted(services.items()):
        reason = "" if extension.of(name).role else _why_router(name, config)
        if reason:
            found[name] = reason
    if len(found) > 1:
        raise ConfigError(
            f"Two services look like the router: {' and '.join(f'{n} ({r})' for n, r in list(found.items())[:2])}.",
            "Set `x-nself-deploy: {role: router}` on the one that users come through.",
            where=where(locate, ("services", list(found)[1])),
        )
    return next((FoundRouter(name, reason) for name, reason in found.items()), None)


def _declared(services: Mapping[str, Config], extension: Extension, locate: Locate) -> FoundRouter | None:
    by_role = [name for name in sorted(services) if extension.of(name).role is Role.ROUTER]
    keys = extension.project.router
    named = keys.service if keys else ""
    at = where(locate, (KEY, "router", "service"))
    if named and named not in services:
        raise ConfigError(
            f"The router {named!r} is not a service of this project.",
            f"Services: {', '.join(sorted(services))}.",
            where=at,
        )
    if named and extension.of(named).role not in (None, Role.ROUTER):
        raise ConfigError(
            f"{named} is declared as the router and as {extension.of(named).role}.", "Keep one of the two.", where=at
        )
    routers = sorted({*by_role, *([named] if named else [])})
    if len(routers) > 1:
        raise ConfigError(
            f"Two services are declared as the router: {' and '.join(routers)}.",
            "Keep the one that users' requests come through.",
            where=where(locate, ("services", by_role[-1], KEY, "role")),
        )
    if routers and keys and keys.host:
        raise ConfigError(
            f"{routers[0]} is declared as the router, and so is an nginx of the host.",
            "Keep the one that users' requests come through.",
            where=where(locate, (KEY, "router", "host")),
        )
    return FoundRouter(routers[0], "set by x-nself-deploy") if routers else None


def _why_router(name: str, config: Config) -> str:
    """The evidence that it is the router; empty when there isn't enough."""
    image = str(config.get("image") or "")
    signs = []
    nginx = bool(image) and _is_nginx(image_parts(image)[-1])
    if nginx:
        signs.append(f"image {image}")
    elif "build" in config and _is_nginx(name):
        signs.append("built under that name")
    configured = any(mount.target.startswith(CONFIG_DIRECTORIES) for mount in mounts(config))
    if configured:
        signs.append("nginx's configuration mounted")
    ports = published_ports(config)
    if ports:
        signs.append(f"publishes {', '.join(ports)}")
    elif config.get("network_mode") == "host":
        signs.append("on the host's network")
    return ", ".join(signs) if len(signs) > 1 and (nginx or configured or _is_nginx(name)) else ""


def _is_nginx(name: str) -> bool:
    words = frozenset(re.split(r"[-_.]", name.lower()))
    return bool(words & _NGINX) and not words & _NOT_A_ROUTER


def router_config_mounts(config: Config) -> dict[str, str]:
    """Where the router's configuration is on the host: container path -> host path, of its bind mounts."""
    return {
        mount.target.rstrip("/"): mount.source
        for mount in mounts(config)
        if mount.kind == "bind" and mount.target.startswith(CONFIG_DIRECTORIES)
    }
