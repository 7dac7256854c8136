"""A small HTTP/1.1 and WebSocket server on loopback that misbehaves on purpose, and counts how often it did.

The path says how: `/ok`, `/echo`, `/reset`, … and `/every/N/NAME` misbehaves as NAME on every Nth request and is fine
otherwise. It is what the load client is measured against: each misdeed must show up there exactly once.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TICK_S: Final = 0.02


class Peer:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.requests = 0
        self.method, self.path, self.headers, self.body = "", "", {}, b""  # type: ignore[var-annotated]

    async def head(self) -> bool:
        """Read a request's head; False at the end of the connection."""
        try:
            raw = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        first, *lines = raw.decode().rstrip().split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.requests += 1
        return True

    async def read_body(self) -> None:
        self.body = await self.reader.readexactly(int(self.headers.get("content-length", "0")))

    def reset(self) -> None:
        """Close with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class BadServer:
    """`async with BadServer() as server:`; `server.did[...]` counts misdeeds, `server.release` may be changed."""

    def __init__(self, release: str = "v1") -> None:
        self.release = release
        self.did: Counter[str] = Counter()
        self.agents: Counter[str] = Counter()
        self.requests = 0
        self.connections = 0
        self.websockets: set[Peer] = set()
        self._peers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in list(self._peers):
            task.cancel()
        await asyncio.gather(*self._peers, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._peers.add(task)
        self.connections += 1
        try:
            await self._serve(Peer(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        except asyncio.CancelledError:
            return
        finally:
            self._peers.discard(task)
            writer.close()

    async def _serve(self, peer: Peer) -> None:
        while await peer.head():
            self.requests += 1
            self.agents[peer.headers.get("user-agent", "")] += 1
            name = urlsplit(peer.path).path[1:]
            if name.startswith("every/"):
                _, count, bad = name.split("/", 2)
                name = bad if self.requests % int(count) == 0 else ("echo" if peer.method == "POST" else "ok")
            early = EARLY.get(name)
            if not early:
                await peer.read_body()
            action = early or ACTIONS[name.split("/")[0].split("?")[0]]
            if not await action(self, peer) or peer.headers.get("connection", "").lower() == "close":
                return

    def answer(self, body: bytes, status: int = 200, more: str = "") -> bytes:
        return (
            f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\nX-Shop-Release: {self.release}\r\n"
            f"X-Shop-Instance: {self.release}-1\r\n{more}\r\n"
        ).encode() + body


Action = Callable[[BadServer, Peer], Awaitable[bool]]  # False: close the connection
ACTIONS: dict[str, Action] = {}
EARLY: dict[str, Action] = {}  # those that do not read the body first


def action(table: dict[str, Action], name: str) -> Callable[[Action], Action]:
    def register(function: Action) -> Action:
        table[name] = function
        return function

    return register


def sends(name: str, raw: Callable[[BadServer], bytes], *, keep: bool = False, bad: bool = True) -> None:
    """An action that sends these bytes, and closes unless `keep`."""

    async def send(server: BadServer, peer: Peer) -> bool:
        server.did[name] += bad
        peer.writer.write(raw(server))
        return keep

    ACTIONS[name] = send


sends("ok", lambda s: s.answer(b"hello"), keep=True, bad=False)
sends("closing", lambda s: s.answer(b"hello", more="Connection: close\r\n"), bad=False)
sends("unlike", lambda s: s.answer(b"{}"), keep=True)
sends("wrong-echo", lambda s: s.answer(json.dumps({"length": 2048, "sha256": "0" * 64}).encode()), keep=True)
sends("unavailable", lambda s: s.answer(b"sorry", 503), keep=True)
sends("truncate", lambda s: s.answer(b"x" * 100)[:-60])
sends("truncate-head", lambda s: s.answer(b"hello")[:30])
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n3\r\nyou\r\n"
sends("chunked", lambda s: _CHUNKED + b"0\r\nX-Trailer: 1\r\n\r\n", keep=True, bad=False)
sends("truncate-chunked", lambda s: _CHUNKED)
sends("garbage", lambda s: b"HELLO THERE\r\n\r\n", keep=True)
sends("extra", lambda s: s.answer(b"hello") + b"more", keep=True)
sends("no-length", lambda s: b"HTTP/1.1 200 OK\r\n\r\nhello")
sends("close", lambda s: b"")


@action(ACTIONS, "echo")
async def _echo(server: BadServer, peer: Peer) -> bool:
    seen = {"length": len(peer.body), "sha256": hashlib.sha256(peer.body).hexdigest()}
    peer.writer.write(server.answer(json.dumps(seen).encode()))
    return True


@action(ACTIONS, "reset")
async def _reset(server: BadServer, peer: Peer) -> bool:
    server.did["reset"] += 1
    peer.reset()
    return False


@action(ACTIONS, "reset-midway")
async def _reset_midway(server: BadServer, peer: Peer) -> bool:
    server.did["reset-midway"] += 1
    peer.writer.write(server.answer(b"x" * 100)[:-60])
    await asyncio.sleep(_TICK_S)  # the first half is to arrive before the reset
    peer.reset()
    return False


@action(ACTIONS, "close-reused")
async def _close_reused(server: BadServer, peer: Peer) -> bool:
    if peer.requests > 1:
        server.did["close-reused"] += 1
        return False
    peer.writer.write(server.answer(b"hello"))
    return True


@action(ACTIONS, "close-idle")
async def _close_idle(server: BadServer, peer: Peer) -> bool:
    peer.writer.write(server.answer(b"hello"))
    await asyncio.sleep(_TICK_S)
    server.did["close-idle"] += 1
    return False


@action(ACTIONS, "stray")
async def _stray(server: BadServer, peer: Peer) -> bool:
    peer.writer.write(server.answer(b"hello"))
    await asyncio.sleep(_TICK_S)
    server.did["stray"] += 1
    peer.writer.write(b"and another thing")
    return True


@action(ACTIONS, "hang")
async def _hang(server: BadServer, peer: Peer) -> bool:
    server.did["hang"] += 1
    await peer.reader.read()
    return False


@action(ACTIONS, "slow")
async def _slow(server: BadServer, peer: Peer) -> bool:
    await asyncio.sleep(float(parse_qs(urlsplit(peer.path).query)["seconds"][0]))
    peer.writer.write(server.answer(b"slow"))
    return True


@action(ACTIONS, "download")
async def _download(server: BadServer, peer: Peer) -> bool:
    piece = 1024 * int(parse_qs(urlsplit(peer.path).query).get("kb", ["10"])[0]) // 10
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Shop-Release: {server.release}\r\n\r\n"
    peer.writer.write(head.encode())
    for _ in range(10):
        peer.writer.write(f"{piece:x}\r\n".encode() + b"d" * piece + b"\r\n")
        await peer.writer.drain()
        await asyncio.sleep(_TICK_S / 10)
    peer.writer.write(b"0\r\n\r\n")
    return True


@action(EARLY, "too-large")
async def _too_large(server: BadServer, peer: Peer) -> bool:
    server.did["too-large"] += 1
    peer.writer.write(server.answer(b"too large", 413, "Connection: close\r\n"))
    await peer.reader.read()
    return False


def frame(opcode: int, payload: bytes) -> bytes:
    """A server's frame of at most 125 bytes."""
    return bytes([0x80 | opcode, len(payload)]) + payload


async def _messages(peer: Peer, echo: bool) -> int:
    """Echo the client's messages until it sends a close frame (8) or its connection ends (0)."""
    while True:
        try:
            opcode = (await peer.reader.readexactly(1))[0] & 0x0F
            size = (await peer.reader.readexactly(1))[0] & 0x7F
            mask, payload = await peer.reader.readexactly(4), await peer.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0
        text = bytes(byte ^ mask[index & 3] for index, byte in enumerate(payload))
        if opcode == 8:
            return 8
        if opcode == 1 and echo:
            peer.writer.write(frame(1, text))


async def _ticks(peer: Peer, count: int) -> None:
    number = 0
    while number < count or count < 0:
        peer.writer.write(frame(1, f"tick {number}".encode()) + frame(9, b"ping"))
        number += 1
        await asyncio.sleep(_TICK_S)


@action(ACTIONS, "ws")
async def _websocket(server: BadServer, peer: Peer) -> bool:
    query = {name: values[0] for name, values in parse_qs(urlsplit(peer.path).query).items()}
    end, count = query.get("end", ""), int(query.get("ticks", "-1"))
    key = peer.headers["sec-websocket-key"].encode()
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
    if end == "wrong-accept":
        server.did[end] += 1
        accept = "x" + accept[1:]
    peer.writer.write(
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\nX-Shop-Release: {server.release}\r\n\r\n".encode()
    )
    server.websockets.add(peer)
    messages = asyncio.create_task(_messages(peer, echo=end != "no-echo"))
    ticks = asyncio.create_task(_ticks(peer, 0 if end == "silent" else count))
    try:
        await asyncio.wait(
            {messages} if count < 0 or end == "silent" else {messages, ticks}, return_when="FIRST_COMPLETED"
        )
        if messages.done():
            if messages.result() == 8 and end != "deaf":
                peer.writer.write(frame(8, (1011 if end == "rude" else 1000).to_bytes(2, "big")))
            return False
        server.did[end] += 1
        if end == "reset":
            peer.reset()
        elif end == "bad-frame":
            peer.writer.write(b"\xff\xff\xff")
            await messages
        elif end == "half-frame":
            peer.writer.write(b"\x81\x20half")
        elif end.isdigit():
            peer.writer.write(frame(8, int(end).to_bytes(2, "big") + b"bye"))
            await messages
        return False
    finally:
        server.websockets.discard(peer)
        messages.cancel()
        ticks.cancel()


class BadServerThread:
    """The same server in a thread, for tests that drive a `LoadProcess`: `with BadServerThread() as server:`."""

    def __init__(self) -> None:
        self.server = BadServer()
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    async def _main(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with self.server:
            self._up.set()
            await self._end.wait()

    def __enter__(self) -> BadServer:
        self._thread.start()
        assert self._up.wait(60), "the test server did not start"
        return self.server

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
