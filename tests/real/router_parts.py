"""Real nginx to test the router with: Debian 12's on this machine, and a newer one in a container."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from nself_deploy.adapters.docker_engine import DockerEngine
from nself_deploy.adapters.nginx import NginxRouter
from nself_deploy.core.model import HostRouter, Protocol, Route, RouterKind, RouterRef, Slot
from nself_deploy.core.nginx_edit import EditPlan, Services, Sources, find_routes, plan_edit
from nself_deploy.core.routing import TreeSpec, Upstream
from tests.real.things import docker

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "nginx:1.30"
LIMIT_S = 20.0


async def until(condition: Callable[[], Awaitable[bool]], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait for a condition, with a bound."""
    async with asyncio.timeout(limit_s):
        while not await condition():
            await asyncio.sleep(0.02)
    assert await condition(), what


@dataclass
class Reply:
    """What a client saw."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("latin-1")


class Client:
    """One raw HTTP/1.1 connection: bytes go out as they are given."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        self._streams = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._streams
        self._streams[1].close()
        with contextlib.suppress(OSError):
            await self._streams[1].wait_closed()

    async def send(self, data: bytes) -> None:
        assert self._streams
        self._streams[1].write(data)
        await self._streams[1].drain()

    async def reply(self) -> Reply:
        assert self._streams
        reader = self._streams[0]
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        body = b""
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readexactly(2)
        return Reply(int(head[0].split(" ")[1]), headers, body)

    async def ask(self, target: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> Reply:
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{k.replace('_', '-')}: {v}" for k, v in {"Host": "shop.example", **headers}.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return await self.reply()


async def ask(address: tuple[str, int], target: str = "/", **words: str) -> Reply:
    """One request on a connection of its own."""
    async with asyncio.timeout(LIMIT_S), Client(address) as client:
        return await client.ask(target, **words)


@dataclass
class Backend:
    """A service that says its name and what it was asked. `/hold` waits, `/ws` becomes a WebSocket-like stream."""

    name: str
    address: str = ""
    served: int = 0
    heads: list[bytes] = field(default_factory=list)
    held: int = 0
    status: int = 200
    location: str = ""
    cut: bool = False
    _go: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, host: str) -> Backend:
        self._server = await asyncio.start_server(self._serve, host, 0, backlog=512)
        self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"
        return self

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def release(self) -> None:
        self._go.set()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._go.set()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if length:
            await reader.readexactly(int(length[1]))
        path = head.split(b" ")[1]
        if path.startswith(b"/ws"):
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
            while data := await reader.read(1000):
                writer.write(self.name.encode() + b":" + data)
            return False
        if path.startswith(b"/hold"):
            self.held += 1
            await self._go.wait()
            self.held -= 1
        self.served += 1
        body = self.name.encode() + b"\n" + head
        extra = f"Location: {self.location}\r\n" if self.location else ""
        keep = b"HTTP/1.1" in head.split(b"\r\n")[0] and b"close" not in head.lower()
        writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body)
        await writer.drain()
        return keep


class Bench:
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

    def http(self, body: str, main: str = "") -> str:
        """A whole main file around the content of `http {}`."""
        raise NotImplementedError

    def sources(self) -> Sources:
        return Sources(self.nginx_conf, {self.nginx_conf: self.conf.read_text()}, {self.nginx_conf: "nginx.conf"})

    def edit(self) -> EditPlan:
        """What init does: change the user's file."""
        plan = plan_edit(self.sources(), self.services, self.project, self.seen, self.version)
        for change in plan.edits:
            self.conf.write_text(change.new)
        assert not plan_edit(self.sources(), self.services, self.project, self.seen, self.version).edits
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

    def app(self, backend: Backend) -> str:
        """How the user's static file names a service."""
        raise NotImplementedError

    def know(self, *backends: Backend) -> None:
        """These backends are app services by their names."""
        raise NotImplementedError

    async def start(self) -> None:
        raise NotImplementedError

    async def stop(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        await self.stop()
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
        self.address = ("127.0.0.1", _free_port())
        self.host = "127.0.0.1"
        self.ref = RouterRef(RouterKind.HOST, host=HostRouter(str(self.conf), self.bin, str(self.base)))
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
        await asyncio.to_thread(self._process.wait, 20)
        self._process = None

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
            f"    keepalive_min_timeout 2s;\n{body}}}\n"
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

    async def close(self) -> None:
        docker("rm", "-f", "-v", self.name, check=False)
        await self.engine.close()
        shutil.rmtree(self.base, ignore_errors=True)

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


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
