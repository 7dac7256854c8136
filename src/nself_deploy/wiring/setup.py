"""`init`: what has to change in a project before its first deploy, and changing it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

from nself_deploy import wiring
from nself_deploy.adapters.durable_files import ensure_dir, ensure_nself_dir, write_atomic
from nself_deploy.adapters.nginx_files import NginxFiles
from nself_deploy.adapters.project_files import plan_override, write_override
from nself_deploy.core import added_router as added
from nself_deploy.core.model import ROUTER_DIR_IN_CONTAINER, Role
from nself_deploy.core.nginx_edit import EditPlan, Services, Sources, plan_edit
from nself_deploy.core.nginx_split import gives_cookie
from nself_deploy.core.project import services_of
from nself_deploy.core.roles import Roles, infer_roles
from nself_deploy.errors import ConfigError, RouterError
from nself_deploy.wiring.reading import Read, read
from nself_deploy.wiring.router import NginxSide, nginx_side, nginx_version, services_for_nginx

_MAIN = "/etc/nginx/nginx.conf"


@dataclass
class Setup:
    """What `init` would do."""

    root: Path
    edit: EditPlan
    override: str
    """Where the generated override goes."""
    notes: list[str]
    files: NginxFiles | None
    service: dict[str, object] = field(default_factory=dict)
    """The nginx service that is added, empty when the project has one."""

    @property
    def nothing(self) -> bool:
        """Whether everything is as it has to be."""
        return not self.edit.edits and not self.service


async def prepare(directory: str) -> Setup:
    """Look at the project and work out the change; nothing is written.

    Raises:
        ConfigError: the project can't be read, or has no nginx and no way to tell what it should serve.
    """
    source = await read(directory, {})
    name, root = str(source.model.get("name") or ""), Path(source.found.root)
    override = plan_override(root, os.environ)
    notes = [override.advice] if override.advice else []
    if override.env_line:
        notes.append(f".env gets the line {override.env_line}, so that plain docker compose reads the generated file")
    side = nginx_side(source)
    if side is None:
        return _added(source, name, root, override.path, notes)
    engine = wiring.LazyEngine(source.settings.subnet_pool)
    try:
        version = await nginx_version(source, side, engine)
    finally:
        await engine.close()
    cookie = gives_cookie(source.settings.sticky)
    edit = plan_edit(side.sources, side.services, name, side.directory, version, cookie=cookie)
    if not edit.routes and not edit.problems and not source.extension.project.routes:
        raise _nothing_routed(source, side)
    return Setup(root, edit, override.path, notes, side.files)


def _nothing_routed(source: Read, side: NginxSide) -> ConfigError:
    """Why there is nothing that could be switched."""
    apps = sorted(name for name, choice in side.roles.choices.items() if choice.role is Role.APP)
    if not side.sources.files:
        router = side.roles.router or "nginx"
        return ConfigError(
            f"No nginx file of {router} is mounted from this machine, so none can be changed.",
            "Mount its files, e.g. `volumes: ['./nginx:/etc/nginx/conf.d:ro']`.",
            where=source.locate(("services", router)),
        )
    return ConfigError(
        f"No request is sent to an app service ({', '.join(apps)}): no line names one.",
        f"Add a location with `proxy_pass http://{apps[0]}:PORT;`." if apps else "",
        where=", ".join(sorted(side.sources.shown.values())),
    )


def _added(source: Read, name: str, root: Path, override: str, notes: list[str]) -> Setup:
    """A router for a project without one: a plain configuration, changed in the same way as a user's own."""
    configs = services_of(source.model, source.locate)
    roles: Roles = infer_roles(configs, source.extension, source.locate)
    published = added.published_by({n: c for n, c in configs.items() if roles.choices[n].role is Role.APP})
    routes = added.choose_routes(source.extension.project.routes, published)
    if (root / added.CONF_FILE).exists():
        raise ConfigError(
            "There is such a file already, but no nginx service that uses it.",
            "Add the nginx service to the Compose file, or move the file away.",
            where=str(root / added.CONF_FILE),
        )
    sources = Sources(_MAIN, {_MAIN: added.router_conf(routes)}, {_MAIN: added.CONF_FILE})
    services: Services = services_for_nginx(source, roles, on_host=False)
    edit = plan_edit(sources, services, name, ROUTER_DIR_IN_CONTAINER)
    service = added.router_service(published)
    ports = ", ".join(p.published for p in published) or "8080"
    notes.append(
        f"an nginx service `router` ({added.IMAGE}) is added in the generated file; it gets the host port {ports}"
    )
    if published:
        notes.append("a plain stack that runs now holds that port: docker compose down first, then nself deploy")
    return Setup(root, edit, override, notes, None, service)


async def apply(setup: Setup) -> str:
    """Change the files (the old ones are kept under `.nself/init/`), then take a running stack over.

    Returns what was done, in words.

    Raises:
        RouterError: nginx refused the new files; the old ones are back.
    """
    ensure_nself_dir(setup.root)
    write_atomic(setup.root / ".nself/.gitignore", b"*\n", 0o644)
    if setup.service:
        new = setup.edit.edits[0].new
        write_atomic(setup.root / added.CONF_FILE, new.encode(), 0o644)
        write_override(setup.root, {"services": {"router": setup.service}}, os.environ)
        return "next: nself deploy"
    _keep_old(setup)
    assert setup.files is not None
    for edit in setup.edit.edits:
        setup.files.write(edit.path, edit.new)
    try:
        async with wiring.open_world(str(setup.root), {}, write=True) as opened:
            from nself_deploy.app.locking import held
            from nself_deploy.app.setup import adopt_running

            async with held(opened.world, "init", opened.settings.target, asyncio.Event()):
                return await adopt_running(opened.world)
    except (RouterError, ConfigError):
        for edit in setup.edit.edits:
            setup.files.write(edit.path, edit.old)
        raise


def _keep_old(setup: Setup) -> None:
    directory = setup.root / ".nself/init"
    ensure_dir(directory)
    for edit in setup.edit.edits:
        name = edit.shown.strip("/").replace("/", "__")
        write_atomic(directory / name, edit.old.encode("utf-8", "surrogateescape"), 0o600)
