"""The routes of a project: those found in the nginx files and those declared under `x-nself-deploy`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nself_deploy.core.extension import KEY, Extension
from nself_deploy.core.key_places import Locate, nowhere, where
from nself_deploy.core.model import Role, Route
from nself_deploy.core.nginx_names import route_key
from nself_deploy.core.roles import RoleChoice
from nself_deploy.errors import ConfigError


def project_routes(
    nginx_routes: Iterable[Route],
    extension: Extension,
    choices: Mapping[str, RoleChoice],
    locate: Locate = nowhere,
) -> tuple[Route, ...]:
    """All routes by key, each once.

    Raises:
        ConfigError: a route to a service that doesn't exist or has another role than app, or two with one key.
    """
    found: dict[str, Route] = {}
    for route, place in (
        *((route, route.source) for route in nginx_routes),
        *_declared(extension, locate),
    ):
        _check_service(route, place, choices)
        other = found.setdefault(route.key, route)
        if (other.service, other.port, other.protocol) != (route.service, route.port, route.protocol):
            raise ConfigError(
                f"Two routes would have the name {route.key}: {_words(other)} and {_words(route)}.",
                "Rename one of the services, or use one protocol per port.",
                where=place,
            )
    return tuple(found[key] for key in sorted(found))


def _declared(extension: Extension, locate: Locate) -> list[tuple[Route, str]]:
    return [
        (
            Route(route_key(keys.service, keys.port), keys.service, keys.port, keys.protocol, source=KEY),
            where(locate, (KEY, "routes", index, "service")),
        )
        for index, keys in enumerate(extension.project.routes)
    ]


def _check_service(route: Route, place: str, choices: Mapping[str, RoleChoice]) -> None:
    choice = choices.get(route.service)
    if choice is None:
        raise ConfigError(
            f"There is a route to the service {route.service!r}, which does not exist.",
            f"Services: {', '.join(sorted(choices))}.",
            where=place,
        )
    if not 1 <= route.port <= 65535:
        raise ConfigError(f"{route.port} is not a port.", "From 1 to 65535 is possible.", where=place)
    if choice.role is Role.SHARED:
        raise ConfigError(
            f"{route.service} is a shared service ({choice.reason}), and it is also routed.",
            "Remove the route: nginx reaches the one that there is by its name. Or set `x-nself-deploy: {role: app}` "
            "on it, if each version is to have its own containers of it.",
            where=place,
        )
    if choice.role is not Role.APP:
        raise ConfigError(
            f"{route.service} is a {choice.role} ({choice.reason}), and requests can't be routed to it.",
            "Remove the route, or set `x-nself-deploy: {role: app}` on the service.",
            where=place,
        )


def _words(route: Route) -> str:
    return f"{route.service} port {route.port} ({route.protocol})"
