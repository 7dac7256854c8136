"""Our HTTP server on real sockets: what is too large, too slow, too many, or no HTTP at all."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nself_deploy.adapters import web_server
from nself_deploy.adapters.web_server import Address, WebServer, address_of, tls_context
from nself_deploy.core.web import Answer, Asked, Problem
from nself_deploy.errors import ConfigError, InfrastructureError, UsageError
from tests.unit.patience import patient

HERE = Address("127.0.0.1", 0)
HEAD = b"POST /echo HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer abc\r\n"


class Site:
    """A server that says what it was asked, and who is told of bugs."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.bugs: list[Exception] = []
        self.go_on = asyncio.Event()
        self.server = WebServer(self._answer, {"/echo": 1000}, self._bug)
        self.address = HERE

    async def _answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        if asked.path == "/bug":
            raise RuntimeError("secret words")
        if asked.path == "/wait":
            await self.go_on.wait()
        return Answer(200, Problem(asked.body.decode()))

    def _bug(self, error: Exception) -> Problem:
        self.bugs.append(error)
        return Problem("a bug")

    async def says(self, *pieces: bytes, tls: ssl.SSLContext | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of what is answered to these bytes; the connection has to be closed behind it."""
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port, ssl=tls)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        raw = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        return int(first.split()[1]) if first else 0, dict(line.split(": ", 1) for line in lines), body


@asynccontextmanager
async def a_site(tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    site = Site()
    site.address = await site.server.start(HERE, tls)
    try:
        yield site
    finally:
        site.go_on.set()
        await site.server.stop()


@patient
async def test_what_is_asked_arrives_and_one_connection_is_one_request() -> None:
    async with a_site() as site:
        request = HEAD + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        status, headers, body = await site.says(request, request)

        assert (status, json.loads(body)) == (200, {"what": "{}", "remedy": ""})
        assert headers["Connection"] == "close" and headers["Cache-Control"] == "no-store"
        (asked,) = site.asked
        assert (asked.method, asked.path, asked.source, asked.body) == ("POST", "/echo", "127.0.0.1", b"{}")
        assert asked.authorization == ("Bearer abc",) and asked.content_type == "application/json"


@patient
async def test_a_body_in_chunks_is_bounded_as_well() -> None:
    async with a_site() as site:
        chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        small, large = b"2\r\n{}\r\n0\r\n\r\n", b"%x\r\n" % 1001 + b"x" * 1001 + b"\r\n0\r\n\r\n"

        assert (await site.says(chunked, small))[0] == 200
        assert (await site.says(chunked, large))[0] == 413
        assert (await site.says(HEAD + b"Content-Length: 1001\r\n\r\n"))[0] == 413
        assert (await site.says(b"POST /other HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\n\r\nx"))[0] == 200
        assert [asked.body for asked in site.asked] == [b"{}", b""]


@pytest.mark.parametrize(
    "words",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: here\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: here\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: here\r\nA b: c\r\n\r\n",
    ],
)
@patient
async def test_what_is_no_http_or_has_too_large_a_head_gets_json(
    words: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    async with a_site() as site:
        status, headers, body = await site.says(words)

        assert status == 400 and set(json.loads(body)) == {"what", "remedy"}
        assert headers["Content-Type"].startswith("application/json") and not site.asked
    assert capfd.readouterr() == ("", "")


@patient
async def test_who_says_nothing_or_only_half_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "HEAD_S", 0.2)
    monkeypatch.setattr(web_server, "BODY_S", 0.2)
    async with a_site() as site:
        assert (await site.says())[0] == 0
        assert (await site.says(b"GET / HTTP/1.1\r\nHost: h"))[0] == 0
        status, _, body = await site.says(HEAD + b"Content-Length: 10\r\n\r\nhalf")
        assert status == 408 and "was not sent within" in json.loads(body)["what"]


@patient
async def test_an_answer_may_take_longer_than_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "HEAD_S", 0.1)
    async with a_site() as site:
        waiting = asyncio.ensure_future(site.says(b"GET /wait HTTP/1.1\r\nHost: here\r\n\r\n"))
        while not site.asked:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        site.go_on.set()

        assert (await waiting)[0] == 200


@patient
async def test_connections_beyond_the_limit_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "CONNECTIONS", 3)
    async with a_site() as site:
        waiting = [asyncio.ensure_future(site.says(b"GET /wait HTTP/1.1\r\nHost: here\r\n\r\n")) for _ in range(3)]
        while len(site.asked) < 3:
            await asyncio.sleep(0.01)
        status, headers, body = await site.says()
        site.go_on.set()

        assert (status, headers["Retry-After"]) == (503, "2") and "too many" in json.loads(body)["what"]
        assert [answer[0] for answer in await asyncio.gather(*waiting)] == [200] * 3
        assert (await site.says(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"))[0] == 200


@patient
async def test_a_bug_is_told_here_and_not_there() -> None:
    async with a_site() as site:
        status, _, body = await site.says(b"GET /bug HTTP/1.1\r\nHost: here\r\n\r\n")

        assert status == 500 and b"secret" not in body and len(site.bugs) == 1


@patient
async def test_an_answer_that_is_under_way_is_sent_before_it_stops() -> None:
    async with a_site() as site:
        waiting = asyncio.ensure_future(site.says(b"GET /wait HTTP/1.1\r\nHost: here\r\n\r\n"))
        while not site.asked:
            await asyncio.sleep(0.01)
        site.server.stop_listening()
        with pytest.raises(OSError, match="refused|Connect"):
            await site.says()
        site.go_on.set()
        await site.server.stop()

        assert (await waiting)[0] == 200


def a_certificate(place: Path) -> tuple[str, str]:
    """A certificate of its own for 127.0.0.1, and its key."""
    cert, key = str(place / "cert.pem"), str(place / "key.pem")
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", cert, "-keyout", key]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    return cert, key


@patient
async def test_https(tmp_path: Path) -> None:
    cert, key = a_certificate(tmp_path)
    async with a_site(tls_context(cert, key)) as site:
        trust = ssl.create_default_context(cafile=cert)

        assert (await site.says(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", tls=trust))[0] == 200
    with pytest.raises(ConfigError, match="no certificate with its key"):
        tls_context(key, cert)


@patient
async def test_a_port_that_is_taken() -> None:
    async with a_site() as site:
        with pytest.raises(InfrastructureError, match="in use"):
            await WebServer(site._answer, {}, site._bug).start(site.address)


def test_addresses() -> None:
    assert str(address_of("[::1]:80")) == "[::1]:80" and str(address_of("localhost:0")) == "127.0.0.1:0"
    assert address_of("127.9.9.9:1").is_loopback and not address_of("0.0.0.0:1").is_loopback
    for text in ("", ":80", "host:80", "127.0.0.1", "127.0.0.1:-1", "127.0.0.1:x", "::1:80:", "[::1]"):
        with pytest.raises(UsageError, match="no address to listen on"):
            address_of(text)
