"""What the mapping of one service in a resolved Compose model says, in words of ours. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from nself_deploy.core.durations import parse_duration

Config = Mapping[str, Any]
"""A service's mapping in the resolved model."""

DEFAULT_GRACE_S = 10.0
"""Compose's own `stop_grace_period`."""


class Mount(msgspec.Struct, frozen=True):
    """One entry of `volumes`."""

    kind: str
    """bind, volume, tmpfs, cluster, npipe."""
    source: str
    """Host path or volume name; empty for an anonymous volume."""
    target: str
    read_only: bool = False


def mounts(config: Config) -> tuple[Mount, ...]:
    """Its volumes and bind mounts."""
    found = []
    for entry in config.get("volumes") or ():
        if isinstance(entry, Mapping):
            kind, source = str(entry.get("type", "volume")), str(entry.get("source") or "")
            found.append(Mount(kind, source, str(entry.get("target", "")), bool(entry.get("read_only"))))
    return tuple(found)


def image_parts(image: str) -> tuple[str, ...]:
    """The path of an image's name without registry, tag and digest: `registry.example/acme/web:2` is `acme`, `web`."""
    path = image.split("@", 1)[0].lower().split("/")
    if len(path) > 1 and (re.search(r"[.:]", path[0]) or path[0] == "localhost"):
        path = path[1:]
    path[-1] = path[-1].split(":", 1)[0]
    return tuple(path)


def replicas(config: Config) -> int:
    """How many containers of it Compose starts."""
    deploy: Config = config.get("deploy") or {}
    wanted = deploy["replicas"] if "replicas" in deploy else config.get("scale")
    return 1 if wanted is None else int(str(wanted))


def dependencies(config: Config) -> dict[str, str]:
    """The services that it waits for, each with its condition."""
    wanted = config.get("depends_on") or {}
    if not isinstance(wanted, Mapping):
        return dict.fromkeys(wanted, "service_started")
    return {name: str((how or {}).get("condition", "service_started")) for name, how in wanted.items()}


def published_ports(config: Config) -> tuple[str, ...]:
    """The host ports that it publishes (a port or a range each; `?` when the engine chooses)."""
    return tuple(str(port.get("published") or "?") for port in config.get("ports") or () if isinstance(port, Mapping))


def container_ports(config: Config) -> frozenset[int]:
    """The ports that it is declared to listen on: `ports` and `expose`."""
    found = {str(port.get("target")) for port in config.get("ports") or () if isinstance(port, Mapping)}
    found |= {str(port).split("/", 1)[0] for port in config.get("expose") or ()}
    return frozenset(int(port) for port in found if port.isdigit())


def networks(config: Config) -> tuple[str, ...]:
    """The Compose networks that it is on; none with a `network_mode`."""
    return () if config.get("network_mode") else tuple(config.get("networks") or ())


def has_healthcheck(config: Config) -> bool:
    """Whether the Compose file gives it a healthcheck (its image may have one besides)."""
    check = config.get("healthcheck") or {}
    test = check.get("test") or []
    return bool(test) and not check.get("disable") and test not in ("NONE", ["NONE"])


def stop_grace_s(config: Config) -> float:
    """Seconds between SIGTERM and SIGKILL."""
    wanted = config.get("stop_grace_period")
    return DEFAULT_GRACE_S if wanted is None else parse_duration(wanted)


def restarts(config: Config) -> str:
    """`no`, `on-failure` or `always`: what the engine does when it exits."""
    policy = (config.get("deploy") or {}).get("restart_policy")
    if isinstance(policy, Mapping):
        condition = str(policy.get("condition", "any"))
        return {"none": "no", "any": "always"}.get(condition, condition)
    wanted = str(config.get("restart") or "no").split(":", 1)[0]
    return "always" if wanted == "unless-stopped" else wanted


def link_aliases(config: Config) -> dict[str, str]:
    """Other names that `links` gives to services: alias -> service."""
    pairs = (str(link).split(":", 1) for link in config.get("links") or ())
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2 and pair[0] != pair[1]}
