"""The prober says what it saw, whatever the other side does; every answer here comes over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator

import pytest

from nself_deploy.adapters.probe import HttpProber
from nself_deploy.app.ports import ProbeAnswer
from nself_deploy.core.model import Probe
from tests.unit.patience import patient

pytestmark = pytest.mark.real
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Server:
    """Answers every connection on loopback with the same bytes."""

    def __init__(self, *pieces: bytes, hold: bool = False, reset: bool = False) -> None:
        self.pieces = pieces
        self.hold = hold
        self.reset = reset
        self.asked = b""
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked = await reader.readuntil(b"\r\n\r\n")
        if self.reset:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return
        with contextlib.suppress(ConnectionError):
            for piece in self.pieces:
                writer.write(piece)
                await writer.drain()
            if self.hold:
                await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    listener = await asyncio.start_server(server, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield server


async def ask(server: Server, probe: Probe | None = None) -> ProbeAnswer:
    async with serving(server):
        answer = await HttpProber().get("127.0.0.1", server.port, probe or Probe(timeout_s=30.0))
    prefix = f"GET http://127.0.0.1:{server.port}/"
    assert answer.detail.startswith(prefix)
    return answer


async def test_a_good_answer() -> None:
    server = Server(OK)
    answer = await ask(server, Probe(path="/health?x=1", host="shop.example"))

    assert (answer.ok, answer.status) == (True, 200)
    assert answer.detail.endswith(
        f"/health?x=1 (Host: shop.example) answered 200 in {answer.seconds * 1000:.0f} ms: hi"
    )
    assert server.asked.startswith(b"GET /health?x=1 HTTP/1.1\r\nHost: shop.example\r\n")
    assert b"\r\nConnection: close\r\n" in server.asked
    assert 0 < answer.seconds < 30


async def test_without_a_host_the_address_is_asked_for() -> None:
    server = Server(OK)
    await ask(server)

    assert f"Host: 127.0.0.1:{server.port}\r\n".encode() in server.asked


@pytest.mark.parametrize("status", [200, 302, 404, 499, 500, 503])
async def test_which_statuses_are_healthy(status: int) -> None:
    answer = await ask(Server(b"HTTP/1.0 %d Words\r\n\r\nthe database\x1b[31m is\n\nnot there" % status))

    assert (answer.ok, answer.status) == (status < 500, status)
    assert answer.detail.endswith("ms: the database [31m is not there")


async def test_the_body_is_shown_from_its_beginning() -> None:
    """Chunked or in one piece; a body that never ends holds nobody up."""
    chunked = b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"
    endless = Server(b"HTTP/1.1 500 No\r\n\r\n" + b"x" * 100_000, hold=True)

    assert (await ask(Server(chunked))).detail.endswith("ms: hello world")
    began = time.monotonic()
    answer = await ask(endless, Probe(timeout_s=60.0))
    assert answer.detail.endswith("ms: " + "x" * 200)
    assert time.monotonic() - began < 30


@patient
async def test_a_status_counts_even_if_the_body_never_comes() -> None:
    answer = await ask(Server(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", hold=True), Probe(timeout_s=1.0))

    assert answer.ok


async def test_interim_answers_are_passed_over() -> None:
    assert (await ask(Server(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", OK))).status == 200
    assert (await ask(Server(b"HTTP/1.1 100 Continue\r\n\r\n", OK))).status == 200


SILENT: dict[str, tuple[Server, str]] = {
    "silence": (Server(hold=True), "did not answer within 1 s"),
    "half a status line": (Server(b"HTTP/1.1 20", hold=True), "did not answer within 1 s"),
    "hang-up": (Server(), "closed the connection without an answer"),
    "reset": (Server(reset=True), "closed the connection without an answer"),
    "cut off": (Server(b"HTTP/1.1 200 OK\r\nContent-Le"), "closed the connection without an answer"),
    "ssh": (Server(b"SSH-2.0-OpenSSH_9\r\n"), "answered something that is not HTTP: 'SSH-2.0-OpenSSH_9'"),
    "tls": (Server(b"\x15\x03\x01\x00\x02\x02\x46"), "answered something that is not HTTP: 'F'"),
    "endless line": (Server(b"x" * 200_000), "answered something that is not HTTP: '" + "x" * 200 + "'"),
    "endless head": (Server(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000, hold=True), "more than 64 KiB"),
}


@pytest.mark.parametrize(("server", "words"), SILENT.values(), ids=SILENT)
async def test_no_answer(server: Server, words: str) -> None:
    answer = await ask(server, Probe(timeout_s=1.0) if "1 s" in words else None)

    assert (answer.ok, answer.status) == (False, 0)
    assert words in answer.detail


async def test_nobody_is_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = await HttpProber().get("127.0.0.1", unused.getsockname()[1], Probe(timeout_s=60))
    odd = await HttpProber().get("no such address", 80, Probe(timeout_s=60))

    assert refused.detail.endswith("refused the connection: nothing listens on this port")
    assert "could not be reached: " in odd.detail
    assert not refused.ok
    assert not odd.ok


async def test_nothing_can_be_smuggled_into_the_request() -> None:
    server = Server(OK)
    await ask(server, Probe(path="/a b\r\nX-Bad: 1", host="a\r\nX-Bad: 2"))

    assert server.asked.startswith(b"GET /a%20b%0D%0AX-Bad:%201 HTTP/1.1\r\nHost: a X-Bad: 2\r\n")
