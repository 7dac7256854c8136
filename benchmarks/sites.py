"""Containers for one benchmark run: a network, backends, routers; made and removed with the docker command."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IMAGE = "nginx:1.30-alpine"
_RUN_S = 120.0
_READY_S = 20.0


class BenchmarkError(Exception):
    """What went wrong, and what to do."""


@dataclass(frozen=True)
class Cpus:
    """Which processor does what, so that the sides don't take time from each other."""

    client: int
    """The load generators, and in the throughput runs the backend too."""
    server: int
    """The router; in the switching runs the backends too."""

    @classmethod
    def of_this_machine(cls) -> Cpus:
        """The first two processors that this process may use; the same one twice where there is only one."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[min(1, len(usable) - 1)])


@contextlib.contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """What is started in this block runs on one processor."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


@dataclass
class Site:
    """One run's containers; everything has the run's own name in front and is removed by `remove`."""

    cpus: Cpus
    name: str = field(default_factory=lambda: f"nsbench{secrets.token_hex(4)}")
    root: Path = field(init=False)

    def __post_init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.root.chmod(0o755)
        try:
            docker("network", "create", self.name)
        except BaseException:
            shutil.rmtree(self.root)
            raise

    def nginx(self, role: str, conf: str, cpu: int, mounts: Mapping[Path, str] | None = None) -> str:
        """Start an nginx with this configuration on one processor; its address."""
        path = self.root / f"{role}.conf"
        path.write_text(conf, encoding="utf-8")
        volumes = [f"{path}:/etc/nginx/nginx.conf:ro", *(f"{a}:{b}" for a, b in (mounts or {}).items())]
        words = [word for volume in volumes for word in ("-v", volume)]
        own = ("--name", self.container(role), "--network", self.name, "--cpuset-cpus", str(cpu))
        docker("run", "-d", *own, *words, IMAGE)
        address = address_of(self.container(role))
        self.wait_ready(address, role)
        return address

    def container(self, role: str) -> str:
        """The full name of a container."""
        return f"{self.name}-{role}"

    def wait_ready(self, address: str, role: str) -> None:
        """Wait until port 80 answers.

        Raises:
            BenchmarkError: it doesn't; with the container's last lines.
        """
        until = time.monotonic() + _READY_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, _ = get(address)
                if status < 300:
                    return
            time.sleep(0.05)
        log = docker("logs", "--tail", "10", self.container(role), merge=True)
        raise BenchmarkError(f"{role} at {address} does not answer within {_READY_S:g} s:\n{log}")

    def remove(self) -> None:
        """Take everything of this run away, whatever state it is in."""
        labelled = f"label=com.docker.compose.project={self.name}"
        for what in (f"name=^/?{self.name}", labelled):
            if found := docker("ps", "-aq", "--filter", what).split():
                docker("rm", "-fv", *found)
        if networks := docker("network", "ls", "-q", "--filter", f"name={self.name}").split():
            docker("network", "rm", *networks)
        shutil.rmtree(self.root)


@contextlib.contextmanager
def site(cpus: Cpus) -> Iterator[Site]:
    """A site that is removed at the end."""
    made = Site(cpus)
    try:
        yield made
    finally:
        made.remove()


def docker(*words: str, merge: bool = False, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """What a docker command prints.

    Raises:
        BenchmarkError: it failed, or there is no docker.
    """
    errors = subprocess.STDOUT if merge else subprocess.PIPE
    try:
        done = subprocess.run(
            ["docker", *words], stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, text=True,
            timeout=_RUN_S, check=False, env={**os.environ, **(env or {})}, cwd=cwd,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise BenchmarkError("there is no docker command here: start this with `make bench`.") from error
    if done.returncode:
        raise BenchmarkError(f"docker {' '.join(words)} failed: {done.stderr or done.stdout}")
    return done.stdout.strip()


def address_of(container: str) -> str:
    """The container's address on its only network."""
    networks: dict[str, Any] = json.loads(docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", container))
    [network] = networks.values()
    return str(network["IPAddress"])


def get(address: str) -> tuple[int, dict[str, str]]:
    """One GET on a connection of its own: status, headers (lower case)."""
    connection = http.client.HTTPConnection(address, 80, timeout=2)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
