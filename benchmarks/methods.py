"""Ways to switch traffic from one release to another, each with a router of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Protocol

from benchmarks import configs
from benchmarks.sites import IMAGE, Site, address_of, docker
from nself_deploy.adapters.nginx_store import RouterStore
from nself_deploy.core.model import ROUTER_DIR_IN_CONTAINER, ROUTER_LOG_IN_CONTAINER, Slot, Split


class Method(Protocol):
    """A running router and the way to switch it; it begins with blue."""

    name: str
    address: str
    pause_s: float
    """Pause between two switches."""
    round_s: float

    def switch(self, to: Slot) -> None:
        """Send everything to this slot; returns when nothing is left to be done by the one who switches."""

    def close(self) -> None:
        """End what was started beside containers."""


def our_router(
    site: Site, role: str, servers: dict[Slot, str], conf: str, sticky: str = "client"
) -> tuple[str, RouterStore]:
    """A router with our files; its address, and the directory as the host sees it."""
    store = RouterStore(site.root / role)
    store.prepare()
    version = store.write_tree(configs.our_files(servers, store.secret(), sticky))
    store.point(Split.all_to(Slot.BLUE))
    store.point_tree(version)
    mounts = {
        store.directory: f"{ROUTER_DIR_IN_CONTAINER}:ro",
        store.directory / "log": ROUTER_LOG_IN_CONTAINER,
    }
    return site.nginx(role, conf, site.cpus.server, mounts), store


class Rename:
    """Ours: flag files that nginx looks at per request, one rename of the link."""

    name = "rename (nself-deploy)"
    pause_s = 0.3
    round_s = 6.0

    def __init__(self, site: Site, servers: dict[Slot, str]) -> None:
        self.address, self._store = our_router(site, "rename", servers, configs.ours())

    def switch(self, to: Slot) -> None:
        """One rename."""
        self._store.point(Split.all_to(to))

    def close(self) -> None:
        """Nothing to end."""


class Reload:
    """The shares rewritten, and nginx told to read its files again."""

    pause_s = 0.3
    round_s = 6.0

    def __init__(self, site: Site, servers: dict[Slot, str], min_timeout: str = "") -> None:
        self.name = f"reload, keepalive_min_timeout {min_timeout}" if min_timeout else "reload"
        role = f"reload{min_timeout}"
        directory = site.root / f"{role}-shares"
        directory.mkdir()
        self._shares = directory / "shares.conf"
        self._write(Slot.BLUE)
        mounts = {directory: f"{Path(configs.SHARES).parent}:ro"}
        self.address = site.nginx(role, configs.reloaded(servers, min_timeout), site.cpus.server, mounts)
        # One shell for the whole run: starting a process in a container takes longer than the reload.
        self._shell = subprocess.Popen(
            ["docker", "exec", "-i", site.container(role), "sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    def switch(self, to: Slot) -> None:
        """Write the file beside, rename it, send HUP to nginx's master."""
        self._write(to)
        assert self._shell.stdin
        self._shell.stdin.write("kill -HUP 1\n")
        self._shell.stdin.flush()

    def close(self) -> None:
        """End the shell."""
        assert self._shell.stdin
        self._shell.stdin.close()
        self._shell.wait(10)

    def _write(self, slot: Slot) -> None:
        draft = self._shares.with_suffix(".new")
        draft.write_text(configs.shares(slot), encoding="utf-8")
        os.replace(draft, self._shares)


_COMPOSE = """\
services:
  router:
    image: {image}
    cpuset: "{cpu}"
    volumes: ["./router.conf:/etc/nginx/nginx.conf:ro"]
  web:
    image: {image}
    cpuset: "{cpu}"
    command: ["nginx", "-g", "daemon off;", "-c", "/conf/${{RELEASE}}.conf"]
    volumes: ["./conf:/conf:ro"]
"""


class InPlace:
    """`docker compose up -d` with a new version of the service: the container is stopped and made again."""

    name = "docker compose up -d"
    pause_s = 1.5
    round_s = 9.0

    def __init__(self, site: Site) -> None:
        self._name = site.name
        self._root = site.root / "compose"
        (self._root / "conf").mkdir(parents=True)
        for slot in (Slot.BLUE, Slot.GREEN):
            (self._root / "conf" / f"{slot}.conf").write_text(configs.backend(slot), encoding="utf-8")
        (self._root / "router.conf").write_text(configs.named("web"), encoding="utf-8")
        text = _COMPOSE.format(image=IMAGE, cpu=site.cpus.server)
        (self._root / "compose.yaml").write_text(text, encoding="utf-8")
        self.switch(Slot.BLUE)
        self.address = address_of(f"{self._name}-router-1")
        site.wait_ready(self.address, "router-1")

    def switch(self, to: Slot) -> None:
        """What a person types after a new version was built."""
        docker("compose", "-p", self._name, "up", "-d", env={"RELEASE": to.value}, cwd=self._root)

    def close(self) -> None:
        """Containers go with the site."""
