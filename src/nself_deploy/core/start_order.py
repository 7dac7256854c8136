"""In which order the services of a slot start, and what each of them waits for."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nself_deploy.core.model import Service
from nself_deploy.core.service_facts import dependencies

HEALTHY = "service_healthy"


class Stage(msgspec.Struct, frozen=True):
    """Services that start together."""

    services: tuple[str, ...]
    healthy_first: tuple[str, ...]
    """Services of earlier stages that must be healthy by then."""


def stages(services: Iterable[Service]) -> tuple[Stage, ...]:
    """The services in the order that their `depends_on` asks for; dependencies on any others are not looked at.

    Services in a circle, which Compose refuses, are in the last stage.
    """
    left = {s.name: s for s in services}
    needs = {name: _needs(service, left.keys()) for name, service in left.items()}
    result: list[Stage] = []
    while left:
        ready = [n for n in sorted(left) if not needs[n].keys() & left.keys()] or sorted(left)
        healthy = {d for n in ready for d, how in needs[n].items() if how == HEALTHY and d not in left}
        result.append(Stage(tuple(ready), tuple(sorted(healthy))))
        for name in ready:
            del left[name]
    return tuple(result)


def _needs(service: Service, known: Iterable[str]) -> dict[str, str]:
    config = service.config
    joined = [str(config.get(key) or "").removeprefix("service:") for key in ("network_mode", "pid", "ipc")]
    joined += [str(entry).split(":", 1)[0] for entry in config.get("volumes_from") or ()]
    names = set(known) - {service.name}
    needs = dict.fromkeys(joined, "service_started") | dependencies(config)
    return {name: how for name, how in needs.items() if name in names}
