"""Real nginx to test the router with: Debian 12's on this machine, and a newer one in a container."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from nself_deploy.adapters.docker_engine import DockerEngine
from nself_deploy.adapters.nginx import NginxRouter
from nself_deploy.adapters.nginx_workers import Worker
from nself_deploy.core.model import HostRouter, Protocol, Route, RouterKind, RouterRef, Slot, Split
from nself_deploy.core.nginx_edit import EditPlan, Services, Sources, find_routes, plan_edit
from nself_deploy.core.routing import TreeSpec, Upstream
from tests.real.free_ports import free_port
from tests.real.router_peers import LIMIT_S, Backend, ask, until
from tests.real.things import docker

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "nginx:1.30"
SECRET = "5ec2e7" * 10 + "5ec2"
"""Of a router: clients with the same addresses get the same buckets and numbers in each run."""
PATIENCE = {
    "nginx._ASK_S": LIMIT_S,
    "nginx.LOAD_S": 2 * LIMIT_S,
    "nginx_ask.CONNECT_S": LIMIT_S / 4,
    "nginx_host._TEST_S": 2 * LIMIT_S,
}
"""Limits of the adapter (seconds) while a bench is there: it lives in one process with the services and the clients, so
whatever stops that for a while would be taken for an nginx that doesn't answer."""


class Bench(abc.ABC):
    """A project's directory and an nginx in front of it."""

    kind = ""
    version: tuple[int, ...] = ()
    nginx_conf = ""
    seen = ""
    """Our directory as nginx sees it."""

    def __init__(self, project: str = "shop") -> None:
        self.project = project
        self.base = Path(tempfile.mkdtemp(prefix="nself-router-"))
        self.base.chmod(0o755)
        self.directory = self.base / ".nself" / "router"
        self.directory.mkdir(parents=True)
        self.conf = self.base / "nginx.conf"
        self.router: NginxRouter
        self.address = ("", 0)
        self.services = Services({})
        self._limits = pytest.MonkeyPatch()
        for name, seconds in PATIENCE.items():
            self._limits.setattr(f"nself_deploy.adapters.{name}", seconds)

    @abc.abstractmethod
    def http(self, body: str, main: str = "") -> str:
        """A whole main file around the content of `http {}`."""

    def sources(self) -> Sources:
        return Sources(self.nginx_conf, {self.nginx_conf: self.conf.read_text()}, {self.nginx_conf: "nginx.conf"})

    def edit(self, *, cookie: bool = False) -> EditPlan:
        """What init does: change the user's file."""
        plan = plan_edit(self.sources(), self.services, self.project, self.seen, self.version, cookie=cookie)
        for change in plan.edits:
            self.conf.write_text(change.new)
        again = plan_edit(self.sources(), self.services, self.project, self.seen, self.version, cookie=cookie)
        assert not again.edits
        return plan

    def routes(self) -> tuple[Route, ...]:
        found = find_routes(self.sources(), self.services, self.project, self.seen)
        assert not found.problems
        return found.routes

    def spec(self, servers: dict[Slot, Iterable[str]], routes: Iterable[Route] | None = None, **words: str) -> TreeSpec:
        """All routes with the same servers."""
        base = self.router.base_spec(**words)  # type: ignore[arg-type]
        made = tuple(Upstream(r, {s: tuple(a) for s, a in servers.items()}) for r in (routes or self.routes()))
        return TreeSpec(
            base.project,
            made,
            base.directory,
            base.log_directory,
            base.probe_listen,
            base.secret,
            base.sticky,
            default_access_log=base.default_access_log,
        )

    @abc.abstractmethod
    def app(self, backend: Backend) -> str:
        """How the user's static file names a service."""

    @abc.abstractmethod
    def know(self, *backends: Backend) -> None:
        """These backends are app services by their names."""

    async def to(self, split: Split) -> None:
        """Move, and wait until nginx was seen to follow."""
        await self.router.move(split)
        await self.router.confirm(split, LIMIT_S)

    async def is_in_flight(self, slot: Slot, number: int) -> bool:
        """Whether so much is said to be in flight. nginx counts a request until it has written its line of
        the log (after the answer), and an earlier question just so: this is for `until`."""
        return await self.router.in_flight(slot) == number

    @abc.abstractmethod
    async def start(self) -> None:
        """Start this nginx, and wait until it answers."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """Stop it, and wait until it is gone."""

    async def workers(self) -> tuple[Worker, ...]:
        """Its worker processes."""
        control = self.router._control
        assert await control.find()
        return await control.workers()

    @abc.abstractmethod
    def signal(self, worker: int, name: str) -> None:
        """Send it a signal ("STOP", "CONT")."""

    async def close(self) -> None:
        await self.stop()
        self.forget()

    def forget(self) -> None:
        """Its files, and the limits."""
        self._limits.undo()
        shutil.rmtree(self.base, ignore_errors=True)


class HostBench(Bench):
    """Debian 12's nginx as a program of this machine."""

    kind = "host"
    version = (1, 22, 1)

    def __init__(self, project: str = "shop") -> None:
        super().__init__(project)
        self.bin = subprocess.run(
            [str(ROOT / "tools" / "part"), "nginx-1.22"], capture_output=True, text=True, timeout=300, check=True
        ).stdout.strip()
        self.nginx_conf = str(self.conf)
        self.seen = str(self.directory)
        self.address = ("127.0.0.1", free_port())
        self.host = "127.0.0.1"
        host = HostRouter(str(self.conf), self.bin, str(self.base))
        self.ref = RouterRef(RouterKind.HOST, host=host, probe_port=free_port())
        self.router = NginxRouter(self.directory, self.ref, project)
        self._process: subprocess.Popen[bytes] | None = None

    def http(self, body: str, main: str = "") -> str:
        temps = "".join(
            f"    {kind}_temp_path {self.base}/{kind}_temp;\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return (
            f"worker_processes 2;\nerror_log {self.base}/error.log info;\npid {self.base}/nginx.pid;\n{main}"
            f"events {{ worker_connections 4096; }}\n\nhttp {{\n    access_log {self.base}/user.log;\n{temps}{body}}}\n"
        )

    @property
    def listen(self) -> str:
        return f"127.0.0.1:{self.address[1]}"

    def app(self, backend: Backend) -> str:
        return backend.address

    def know(self, *backends: Backend) -> None:
        self.services = Services({}, {}, {b.port: (b.name, b.port) for b in backends})

    async def start(self) -> None:
        self._process = await asyncio.to_thread(
            subprocess.Popen,
            [
                self.bin,
                "-c",
                str(self.conf),
                "-p",
                str(self.base),
                "-e",
                str(self.base / "error.log"),
                "-g",
                "daemon off;",
            ],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        await until(self._answers, "nginx answers")

    async def stop(self) -> None:
        if self._process is None:
            return
        pid_file = self.base / "nginx.pid"
        if pid_file.exists():
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(pid_file.read_text()), signal.SIGTERM)
        else:
            self._process.terminate()
        await asyncio.to_thread(self._process.wait, 2 * LIMIT_S)
        self._process = None

    def signal(self, worker: int, name: str) -> None:
        os.kill(worker, signal.Signals[f"SIG{name}"])

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.base / "error.log").read_text()[-2000:]
        try:
            await ask(self.address, "/")
        except (OSError, asyncio.IncompleteReadError):
            return False
        return True


class ContainerBench(Bench):
    """A newer nginx in a container, with our directory mounted (or not)."""

    kind = "container"
    version = (1, 30, 6)
    nginx_conf = "/etc/nginx/nginx.conf"
    seen = "/var/lib/nself/router"
    mounted = True

    def __init__(self, project: str = "shop") -> None:
        super().__init__(project)
        self.name = f"nst{secrets.token_hex(4)}"
        self.host = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
        self.ref = RouterRef(RouterKind.SERVICE, service="router")
        self.engine = DockerEngine()
        self.asked = 0
        self.router = NginxRouter(self.directory, self.ref, self.name, self._engine)
        self.project = self.name
        self.listen = "80"
        self._hosts: list[str] = []

    def _engine(self) -> DockerEngine:
        self.asked += 1
        return self.engine

    def http(self, body: str, main: str = "") -> str:
        return (
            f"user nginx;\nworker_processes 2;\nerror_log /dev/stderr info;\npid /run/nginx.pid;\n{main}"
            f"events {{ worker_connections 4096; }}\n\nhttp {{\n    access_log off;\n"
            f"    keepalive_min_timeout 60s;\n{body}}}\n"
        )

    def app(self, backend: Backend) -> str:
        return f"{backend.name}:{backend.port}"

    def know(self, *backends: Backend) -> None:
        self.services = Services({b.name: b.name for b in backends})
        self._hosts = [word for b in backends for word in ("--add-host", f"{b.name}:{self.host}")]

    async def start(self) -> None:
        if docker("ps", "-aq", "--filter", f"name=^{self.name}$"):
            docker("start", self.name)
        else:
            (self.directory / "log").mkdir(exist_ok=True)
            mounts = ["-v", f"{self.directory}:{self.seen}:ro", "-v", f"{self.directory}/log:/var/log/nself"]
            labels = [
                "--label",
                f"com.docker.compose.project={self.name}",
                "--label",
                "com.docker.compose.service=router",
            ]
            docker(
                "run",
                "-d",
                "--name",
                self.name,
                *labels,
                *(mounts if self.mounted else ()),
                *self._hosts,
                "-v",
                f"{self.conf}:/etc/nginx/nginx.conf:ro",
                IMAGE,
            )
        ip = docker("inspect", self.name, "--format", "{{.NetworkSettings.Networks.bridge.IPAddress}}")
        self.address = (ip, 80)
        await until(self._answers, "nginx answers")

    async def stop(self) -> None:
        docker("kill", self.name, check=False)
        docker("wait", self.name, check=False)

    def signal(self, worker: int, name: str) -> None:
        docker("exec", self.name, "kill", f"-{name}", str(worker))

    async def close(self) -> None:
        docker("rm", "-f", "-v", self.name, check=False)
        await self.engine.close()
        self.forget()

    async def _answers(self) -> bool:
        state = docker("inspect", self.name, "--format", "{{.State.Running}}")
        assert state == "true", docker("logs", self.name, check=False)
        try:
            await ask(self.address, "/")
        except (OSError, asyncio.IncompleteReadError):
            return False
        return True


class CopiedBench(ContainerBench):
    """A container that was started before `init`: it does not see our directory."""

    kind = "copied"
    mounted = False


KINDS = {"host": HostBench, "container": ContainerBench, "copied": CopiedBench}


@contextlib.asynccontextmanager
async def slots(bench: Bench) -> AsyncIterator[tuple[Backend, Backend, Backend]]:
    """Backends for blue, green and plain."""
    made = [await Backend(name).start(bench.host) for name in ("blue", "green", "plain")]  # type: ignore[attr-defined]
    try:
        yield made[0], made[1], made[2]
    finally:
        for backend in made:
            await backend.stop()


def simple(bench: Bench, backend: Backend) -> None:
    """The smallest user file: one server, everything goes to one service."""
    bench.know(backend)
    bench.conf.write_text(
        bench.http(f"""    server {{
        listen {bench.listen};
        location / {{
            proxy_pass http://{bench.app(backend)};
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $http_connection;
            proxy_http_version 1.1;
        }}
    }}
""")
    )  # type: ignore[attr-defined]


def web_route(backend: Backend) -> Route:
    """The route of a backend."""
    return Route(f"{backend.name}_{backend.port}", backend.name, backend.port, Protocol.HTTP)
