"""An nginx in a container of the project, reached through the container engine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nself_deploy.adapters.nginx_control import Build, parse_build
from nself_deploy.adapters.nginx_workers import Worker, parse_workers
from nself_deploy.core.model import ROUTER_DIR_IN_CONTAINER, Container
from nself_deploy.errors import ConfigError, RouterError

if TYPE_CHECKING:
    from nself_deploy.app.ports import Engine

_PROCESSES = (
    'for d in /proc/[0-9]*; do read -r s <"$d/stat" && printf "%s => " "$s" && tr "\\000" " " <"$d/cmdline"; echo; done'
    " 2>/dev/null"
)
_RELINK = (
    'cd "$1" && { [ ! -d "$4" ] || [ -e "$3" ] || mv -T "$4" "$3"; } && rm -rf "$4"'
    ' && ln -sfn "$3" ".$2.next" && mv -T ".$2.next" "$2"'
)
_LOG_LINES = 5


class ContainerControl:
    """nginx as the main process of a service's container."""

    def __init__(self, engine: Callable[[], Engine], project: str, service: str, directory: Path, port: int) -> None:
        """Nothing is asked yet.

        Args:
        engine: makes or returns the engine; called only when something has to be asked.
        project: the Compose project.
        directory: our directory on this machine.
        port: of the probe server.
        """
        self._engine = engine
        self._project = project
        self._service = service
        self._directory = directory
        self._port = port
        self._found: Container | None = None
        self._builds: dict[str, Build] = {}

    @property
    def mounted(self) -> bool:
        """Whether our directory is mounted where nginx reads."""
        source = self.mounts.get(ROUTER_DIR_IN_CONTAINER, "")
        return not self._found or (bool(source) and Path(source).resolve() == self._directory.resolve())

    @property
    def mounts(self) -> dict[str, str]:
        """Of its container."""
        return self._found.mounts if self._found else {}

    @property
    def container_id(self) -> str:
        """The container's id, empty when there is none."""
        return self._found.id if self._found else ""

    async def find(self) -> bool:
        """Look for the router's container; whether it runs.

        Raises:
            ConfigError: it runs, and reads the files of another directory.
        """
        found = await self._engine().containers(compose_project=self._project)
        own = [c for c in found if c.service == self._service]
        own.sort(key=lambda c: (c.state != "running", c.replica, c.name))
        self._found = own[0] if own else None
        running = self._found is not None and self._found.state == "running"
        if running and not self.mounted and ROUTER_DIR_IN_CONTAINER in self.mounts:
            other = Path(self.mounts[ROUTER_DIR_IN_CONTAINER])
            raise ConfigError(
                f"The running router of {self._project} reads {other}, so requests can't be moved from here.",
                f"Deploy from {other.parent.parent}. If this is that directory under a new name, start the router anew "
                f"with docker compose up -d --force-recreate {self._service}.",
                where=str(self._directory),
            )
        return running

    def addresses(self) -> list[str]:
        """Where its probe server may answer."""
        if self._found is None:
            return []
        found = [address for _, address in sorted(self._found.addresses.items()) if address]
        return [f"{address}:{self._port}" for address in found or ["127.0.0.1"]]  # none: it uses the machine's network

    async def build(self) -> Build:
        """Version and compiled-in paths."""
        image = self._found.image_id if self._found else ""
        if image not in self._builds:
            status, words = await self._exec(["nginx", "-V"])
            if status:
                raise RouterError(f"nginx -V failed in {self._name}: {words}", "Is this service an nginx?")
            self._builds[image] = parse_build(words)
        return self._builds[image]

    async def check(self) -> tuple[bool, str]:
        """`nginx -t` in the container."""
        status, words = await self._exec(["nginx", "-t", "-q", *await self._arguments()])
        return status == 0, words

    async def reload(self) -> None:
        """`nginx -s reload` in the container."""
        status, words = await self._exec(["nginx", "-s", "reload", *await self._arguments()])
        if status:
            raise RouterError(f"nginx -s reload failed in {self._name}: {words}", "Restart the router's container.")

    async def workers(self) -> tuple[Worker, ...]:
        """Its worker processes; none when it doesn't run."""
        status, words = await self._exec(["sh", "-c", _PROCESSES])
        if status:
            raise RouterError(
                f"the processes of {self._name} can't be listed: {words}", "Restart the router's container."
            )
        lines = (line.partition(" => ") for line in words.splitlines())
        return parse_workers((stat, title) for stat, _, title in lines)

    async def reopen(self) -> None:
        """`nginx -s reopen` in the container."""
        status, words = await self._exec(["nginx", "-s", "reopen", *await self._arguments()])
        if status:
            raise RouterError(f"nginx -s reopen failed: {words}", "Look at the container's log.")

    async def remove_copy(self, name: str) -> None:
        """Take a file away in the container."""
        if self._found is None or self.mounted or self._found.state != "running":
            return
        status, words = await self._exec(["rm", "-f", f"{ROUTER_DIR_IN_CONTAINER}/{name}"])
        if status:
            raise RouterError(f"{name} can't be removed in {self._name}: {words}", "Restart the router's container.")

    async def copy_files(self, files: dict[str, bytes], links: dict[str, str]) -> None:
        """Put copies into the container; while it runs, each link changes by one rename.

        Names are relative to our directory, or absolute.
        A directory that a link points to is first written as `<directory>.new` and appears whole, unless it is there.
        """
        if self._found is None or self.mounted:
            return
        running = self._found.state == "running"
        base = ROUTER_DIR_IN_CONTAINER
        engine = self._engine()
        drafts = {target: f"{target}.new" for target in links.values()} if running else {}
        placed = {
            _draft(name, drafts) if name.startswith("/") else f"{base}/{_draft(name, drafts)}": data
            for name, data in files.items()
        }
        await engine.put_files(
            self._found.id, placed, None if running else {f"{base}/{k}": v for k, v in links.items()}
        )
        for name, target in links.items() if running else ():
            status, words = await self._exec(["sh", "-c", _RELINK, "nself", base, name, target, drafts[target]])
            if status:
                raise RouterError(
                    f"{name} can't be changed in {self._name}: {words}", "Restart the router's container."
                )

    async def owner(self) -> int | None:
        """User id of nginx's master where it isn't root."""
        status, words = await self._exec(["id", "-u"])
        uid = words.strip()
        return int(uid) if status == 0 and uid.isdigit() and uid != "0" else None

    async def last_words(self) -> tuple[str, ...]:
        """The end of the container's log."""
        if self._found is None:
            return ()
        return tuple(f"{self._name} | {line}" for line in await self._engine().logs(self._found.id, _LOG_LINES))

    @property
    def _name(self) -> str:
        return self._found.name if self._found else self._service

    async def _arguments(self) -> list[str]:
        """`-c` and `-p` of the running master: its process title repeats them."""
        status, words = await self._exec(["cat", "/proc/1/cmdline"])
        title = words.replace("\0", " ").strip()
        if status or "nginx: master process" not in title:
            return []
        import shlex

        given = shlex.split(title.partition("master process")[2].replace("'", " "))
        pairs = itertools.pairwise(given)
        return [word for name, value in pairs if name in ("-c", "-p") for word in (name, value)]

    async def _exec(self, argv: Sequence[str]) -> tuple[int, str]:
        if self._found is None:
            raise RouterError(
                f"there is no container of {self._service}.", f"Start it: docker compose up -d {self._service}."
            )
        status, words = await self._engine().exec(self._found.id, list(argv))
        return status, words.strip()


def _draft(name: str, drafts: dict[str, str]) -> str:
    for target, draft in drafts.items():
        if name.startswith(f"{target}/"):
            return draft + name.removeprefix(target)
    return name
