"""Building the router: the user's nginx files, the routes in them, and the adapter that moves traffic."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nself_deploy.adapters.nginx import NginxRouter
from nself_deploy.adapters.nginx_files import NginxFiles
from nself_deploy.adapters.project_files import added_router
from nself_deploy.app.ports import Engine
from nself_deploy.core.extension import ProjectKeys
from nself_deploy.core.extension_reader import unescape
from nself_deploy.core.model import (
    ROUTER_DIR_IN_CONTAINER,
    ROUTER_PROBE_PORT,
    HostRouter,
    Project,
    Role,
    RouterKind,
    RouterRef,
)
from nself_deploy.core.nginx_edit import FoundRoutes, Services, Sources, find_routes
from nself_deploy.core.nginx_ports import check_probe_port
from nself_deploy.core.nginx_split import gives_cookie
from nself_deploy.core.project import build_project, services_of
from nself_deploy.core.roles import Roles, infer_roles
from nself_deploy.core.router_role import router_config_mounts
from nself_deploy.core.routing import Override, TreeSpec
from nself_deploy.core.settings import Settings
from nself_deploy.errors import ConfigError, NselfError
from nself_deploy.wiring.reading import Read

ROUTER_DIR = ".nself/router"
DEFAULT_LOG = "/var/log/nginx/access.log"


@dataclass
class NginxSide:
    """The user's nginx files of a project."""

    files: NginxFiles
    sources: Sources
    services: Services
    directory: str
    """Ours, as nginx sees it."""
    roles: Roles


@dataclass
class Routed:
    """A project with its router."""

    project: Project
    router: NginxRouter
    tree: Callable[[], Awaitable[TreeSpec]]


def nginx_side(source: Read) -> NginxSide | None:
    """The nginx files of the project's router; None when it has no router.

    Raises:
        ConfigError: roles that can't be, or a file that can't be read.
    """
    configs = services_of(source.model, source.locate)
    roles = infer_roles(configs, source.extension, source.locate)
    root = source.found.root
    files, keys = NginxFiles(root), source.extension.project.router
    on_host = keys is not None and keys.host is not None
    services = services_for_nginx(source, roles, on_host=on_host)
    if keys is not None and keys.host is not None:
        host = HostRouter(keys.host.config, keys.host.bin, keys.host.prefix, keys.host.pid_file)
        return NginxSide(files, files.of_host(host), services, str(Path(root, ROUTER_DIR)), roles)
    added = added_router(root, os.environ)
    config = added[1] if added else configs.get(roles.router)
    if config is None:
        return None
    mounts = router_config_mounts(unescape(dict(config)))
    if added:
        mounts = {target: os.path.normpath(os.path.join(root, path)) for target, path in mounts.items()}
    return NginxSide(files, files.of_container(mounts), services, ROUTER_DIR_IN_CONTAINER, roles)


def services_for_nginx(source: Read, roles: Roles, *, on_host: bool) -> Services:
    """Host names that nginx may use -> service, and for an nginx of the machine itself the published ports."""
    apps: dict[str, str] = {}
    others: dict[str, str] = {}
    published: dict[int, tuple[str, int]] = {}
    for name, config in services_of(source.model, source.locate).items():
        is_app = roles.choices[name].role is Role.APP
        aliases = [a for how in (config.get("networks") or {}).values() for a in (how or {}).get("aliases") or ()]
        for host in (name, *aliases, *([config["container_name"]] if config.get("container_name") else [])):
            (apps if is_app else others).setdefault(str(host), name)
        if is_app and on_host:
            published |= {
                int(port["published"]): (name, int(port["target"]))
                for port in config.get("ports") or ()
                if str(port.get("published") or "").isdigit()
            }
    return Services(apps, others, published)


async def open_router(source: Read, engine: Any, settings: Settings) -> Routed:
    """The project with the routes of its nginx files, and its router.

    Raises:
        ConfigError: there is no router, or `init` has still something to do.
    """
    side = nginx_side(source)
    if side is None:
        raise ConfigError(
            "The project has no nginx in front.",
            "Run nself deploy init, which adds one.",
            where=source.locate(()),
        )
    name = str(source.model.get("name") or "")
    cookie = gives_cookie(settings.sticky)
    found = find_routes(side.sources, side.services, name, side.directory, cookie=cookie)
    _refuse(found)
    project = build_project(
        source.model,
        root=source.found.root,
        files=source.found.files,
        extension=source.extension,
        roles=side.roles,
        nginx_routes=found.routes,
        added=added_router(source.found.root, os.environ),
        env=os.environ,
        locate=source.locate,
    )
    router = project.router
    assert router is not None
    check_probe_port(side.sources, router.probe_port or (ROUTER_PROBE_PORT if router.service else 0))
    project = msgspec.structs.replace(project, warnings=(*project.warnings, *found.warnings))
    return _routed(project, engine, settings, found, override_of(source.extension.project))


def _routed(project: Project, engine: Any, settings: Settings, found: FoundRoutes, override: Override | None) -> Routed:
    assert project.router is not None
    get: Callable[[], Engine] = engine.get
    router = NginxRouter(Path(project.root, ROUTER_DIR), project.router, project.name, get)
    service = project.services.get(project.router.service)
    shares_host = service is not None and service.config.get("network_mode") == "host"

    async def tree() -> TreeSpec:
        log = await _default_log(router) if found.needs_default_access_log else ""
        spec = router.base_spec(sticky=settings.sticky, default_access_log=log)
        spec = msgspec.structs.replace(spec, shield_answers=found.shield_answers, override=override)
        if not shares_host:
            return spec
        port = spec.probe_listen.rpartition(":")[2]
        return msgspec.structs.replace(spec, probe_listen=f"127.0.0.1:{port}")

    return Routed(project, router, tree)


def override_of(keys: ProjectKeys) -> Override | None:
    """How testers choose a slot, if the project lets them."""
    wish = keys.override
    return Override(wish.word, wish.header, wish.cookie) if wish else None


async def _default_log(router: NginxRouter) -> str:
    """The access log that nginx was compiled with; the usual one while it can't be asked."""
    try:
        return (await router.build_paths())[1] or DEFAULT_LOG
    except NselfError:
        return DEFAULT_LOG


async def nginx_version(source: Read, side: NginxSide, engine: Any) -> tuple[int, ...]:
    """The version of the project's nginx, empty while it can't be asked."""
    keys = source.extension.project.router
    if keys is not None and keys.host is not None:
        host = HostRouter(keys.host.config, keys.host.bin, keys.host.prefix, keys.host.pid_file)
        ref = RouterRef(RouterKind.HOST, host=host, probe_port=keys.probe_port or 1)
    else:
        ref = RouterRef(RouterKind.SERVICE, side.roles.router)
    router = NginxRouter(Path(source.found.root, ROUTER_DIR), ref, str(source.model.get("name") or ""), engine.get)
    try:
        return (await router.build_paths())[0]
    except NselfError:
        return ()


def _refuse(found: FoundRoutes) -> None:
    """The first problem, with the others as evidence."""
    if not found.problems:
        return
    first, *others = found.problems
    raise ConfigError(
        first.what, first.remedy, where=first.where, evidence=tuple(f"also {problem}" for problem in others)
    )
