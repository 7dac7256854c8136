"""Answers that no Prometheus gives, but proxies, wrong addresses and broken networks do; each over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nself_deploy.adapters.prometheus import MAX_ANSWER, PrometheusMetrics
from nself_deploy.core.metrics import Outcome, Prometheus, Reading
from tests.unit.patience import patient

pytestmark = pytest.mark.real

ONE = b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"7"]}]}}'


def http(body: bytes, status: bytes = b"200 OK", head: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), head, body)


class Wire:
    """Answers every connection with the same bytes, and keeps what it was asked."""

    def __init__(self, answer: bytes, *, hold: bool = False) -> None:
        self.answer, self.hold = answer, hold
        self.asked: list[bytes] = []
        self.answering: set[asyncio.Task[None]] = set()
        self.port = 0

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.answering.add(asyncio.ensure_future(self._answer(reader, writer)))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        self.asked.append(head + await reader.readexactly(length))
        with contextlib.suppress(ConnectionError):
            writer.write(self.answer)
            await writer.drain()
            if self.hold:
                await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def serving(wire: Wire) -> AsyncIterator[Wire]:
    listener = await asyncio.start_server(wire, "127.0.0.1", 0)
    wire.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield wire
    async with asyncio.timeout(10):
        await asyncio.gather(*wire.answering)  # each ends when the client has closed its connection


async def ask(wire: Wire, query: str = "up", token: Path | None = None) -> Reading:
    async with serving(wire):
        keys = Prometheus(
            f"http://127.0.0.1:{wire.port}/prefix/",
            token_file=str(token or ""),
            timeout=0.5,  # type: ignore[arg-type]
        )
        return await PrometheusMetrics(keys, "/").ask(query)


ANSWERS: dict[str, tuple[Wire, str]] = {
    "warning": (
        Wire(http(ONE[:-1] + b',"warnings":["one store did not answer"]}')),
        "answered with a warning: one store did not answer",
    ),
    "redirect": (
        Wire(http(b"", b"302 Found", b"Location: https://login.example/\r\n")),
        "a redirect to https://login.example/: redirects are not followed",
    ),
    "page": (Wire(http(b"<html>\n<h1>Log in</h1>")), "something that is not Prometheus' JSON: <html> <h1>Log in</h1>"),
    "bytes": (Wire(http(b"\xff\xfe\x00")), "something that is not Prometheus' JSON"),
    "other JSON": (Wire(http(b"[1, 2]")), "something that is not Prometheus' JSON: [1, 2]"),
    "server's fault": (Wire(http(b"oops", b"500 Internal Server Error")), "answered 500: oops"),
    "good body, bad status": (Wire(http(ONE, b"503 Service Unavailable")), "answered 503: success"),
    "silence": (Wire(b"", hold=True), "did not answer within 0.5 s"),
    "hang-up": (Wire(b""), "closed the connection without an answer"),
    "half": (Wire(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + ONE), "in the middle of an answer"),
    "stuck": (Wire(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + ONE, hold=True), "did not answer within 0.5 s"),
    "endless": (Wire(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (MAX_ANSWER + 1), hold=True), "larger than 1024 KiB"),
    "packed": (Wire(http(b"\x1f\x8b\x08", head=b"Content-Encoding: gzip\r\n")), "not Prometheus' JSON"),
    "no HTTP": (Wire(b"SSH-2.0-OpenSSH_9\r\n"), "something that is not HTTP"),
}


@pytest.mark.parametrize(("wire", "words"), ANSWERS.values(), ids=ANSWERS)
@patient
async def test_what_is_no_measurement_says_why(wire: Wire, words: str) -> None:
    reading = await ask(wire)

    assert (reading.outcome, reading.value) == (Outcome.ERROR, None)
    assert reading.detail.startswith(f"http://127.0.0.1:{wire.port}/prefix/: ")
    assert words in reading.detail
    assert len(wire.asked) == 1


@patient
async def test_how_it_is_asked(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cr3t-token\n")
    token.chmod(0o600)
    wire = Wire(http(ONE))

    assert await ask(wire, 'a{b="c d&e"}', token) == Reading.of(7.0)
    head, _, body = wire.asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /prefix/api/v1/query HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer s3cr3t-token\r\n" in head
    assert body == b"query=a%7Bb%3D%22c+d%26e%22%7D&timeout=500ms"


@patient
async def test_a_secret_that_is_repeated_is_not_shown(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cr3t-token")
    token.chmod(0o600)

    reading = await ask(Wire(http(b"no such token: s3cr3t-token", b"403 Forbidden")), token=token)
    assert reading.detail.endswith("answered 403: no such token: ***")


async def test_nobody_is_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        refused = await PrometheusMetrics(Prometheus(f"http://127.0.0.1:{port}"), "/").ask("up")

    assert "can't be reached: " in refused.detail
    assert (refused.outcome, refused.value) == (Outcome.ERROR, None)
