"""The two ends of a request through a router: a client that sends raw bytes, a service that says what it received."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

LIMIT_S = 120.0


async def until(condition: Callable[[], Awaitable[bool]], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait for a condition, with a bound. Once it held it is not asked again: a question may change the next answer."""
    end = time.monotonic() + limit_s
    while not await condition():
        assert time.monotonic() < end, f"not within {limit_s:g} s: {what}"
        await asyncio.sleep(0.02)


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


_held: list[int] = []


def hold(address: str) -> None:
    """Let nobody else listen there when its server has gone, for as long as this process lives: who asks is refused."""
    host, _, port = address.rpartition(":")
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, int(port)))
        _held.append(held.detach())


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
        self._server = await asyncio.start_server(self._serve, host, 0, backlog=512, reuse_port=True)
        self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"
        return self

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def release(self) -> None:
        self._go.set()

    async def stop(self) -> None:
        if self._server is not None:
            hold(self.address)
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
