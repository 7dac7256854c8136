"""HTTP streams: one request each, from opening a connection to judging the answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from tests.load.books import Books, moment
from tests.load.connection import Connection, open_socket
from tests.load.http1 import Failed, ResponseParser
from tests.load.mix import Kind, LoadMix, Stream, Target
from tests.load.records import Attempt, Outcome

_FILLER: Final = bytes(range(32, 127)) * 700
_PIECES: Final = 20
_KEPT: Final = 64
_SLOW_READER_BUFFER: Final = 16384


class Pool:
    """Keep-alive connections in rotation, so that each one is idle for a while between two requests.

    When all are busy more are opened, and kept up to a bound: a slow server is not to turn keep-alive load into
    one-shot load.
    """

    def __init__(self, size: int, books: Books, stream: int, connect: Callable[[Pool], Awaitable[Connection]]) -> None:
        self._size = size
        self._books = books
        self._stream = stream
        self._connect = connect
        self._idle: deque[Connection] = deque()
        self._all: set[Connection] = set()

    async def take(self, fresh: bool = False) -> Connection:
        """An idle connection, or a new one when there are fewer than `size` or `fresh` is wanted. Raises `Failed`."""
        while self._idle and not fresh and len(self._all) >= self._size:
            connection = self._idle.popleft()
            if not connection.peer_closed():
                return connection
            self._discard(connection)
        connection = await self._connect(self)
        self._all.add(connection)
        return connection

    def give(self, connection: Connection) -> None:
        """Back after a complete answer that leaves the connection open."""
        if connection.lost or connection.dropped:
            return
        if len(self._all) > max(self._size, _KEPT):
            self._discard(connection)
            return
        self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
            self._books.idle_closes += 1

    def stray(self, connection: Connection, detail: str) -> None:
        attempt = Attempt(self._stream, moment(), local_port=connection.local_port, nth=connection.requests)
        self._books.add_extra(attempt, Outcome.BAD_BODY, detail)

    def close(self) -> None:
        """Close every connection; none is in use any more."""
        self._idle.clear()
        for connection in list(self._all):
            connection.drop()

    def _discard(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection.lost or connection.peer_closed():
            self._books.idle_closes += 1
        connection.drop()


class HttpStream:
    """Sends the requests of one stream; a closed-loop client has one of its own."""

    def __init__(self, index: int, mix: LoadMix, target: Target, books: Books) -> None:
        self.stream = mix.streams[index]
        self.index = index
        self._mix = mix
        self._target = target
        self._books = books
        self._release_header = mix.release_header.lower()
        self._instance_header = mix.instance_header.lower()
        self._serial, self._person = 0, index * self.stream.people // len(mix.streams)
        self._salt = secrets.token_hex(4)
        self._head = _request_head(self.stream, target)
        size = 1 if self.stream.clients else self.stream.connections
        self.pool = Pool(size if self.stream.kind.keeps_alive else 0, books, index, self._open)

    async def run_one(self, due: float = 0.0) -> bool:
        """One request, one row in the books. True if it was answered as it should be."""
        attempt = Attempt(self.index, moment(), due=due)
        if self.stream.people:
            self._person = attempt.person = self._person % self.stream.people + 1
        try:
            await self._request(attempt)
        except Failed as failure:
            self._books.add(attempt, failure.outcome, failure.detail)
            return False
        except asyncio.CancelledError:
            self._books.add(attempt, Outcome.CLIENT_ERROR, "given up by the load client")
            raise
        except Exception as error:
            self._books.add(attempt, Outcome.CLIENT_ERROR, f"bug in the load client: {error!r}")
            return False
        self._books.add(attempt, Outcome.OK)
        return True

    async def _request(self, attempt: Attempt) -> None:
        body = self._body() if self.stream.kind.has_body else b""
        try:
            await self._exchange(attempt, body, fresh=not self.stream.kind.keeps_alive)
        except Failed as failure:
            retry = self._mix.retry_idempotent_on_stale and self.stream.kind is Kind.GET
            if failure.outcome is not Outcome.STALE or not retry:
                raise
            self._books.stale_retries += 1
            await self._exchange(attempt, body, fresh=True)

    async def _exchange(self, attempt: Attempt, body: bytes, fresh: bool) -> None:
        stream, head = self.stream, self._head
        if stream.people:
            head = head.replace(b"{person}", str(attempt.person).encode())
        connection = await self.pool.take(fresh)
        attempt.local_port, attempt.nth = connection.local_port, connection.requests + 1
        connection.read_bytes_per_s = stream.read_bytes_per_s
        parser = ResponseParser()
        left_s = max(0.001, stream.timeout_s - (moment() - attempt.start))
        attempt.sent = moment()
        try:
            if stream.kind is Kind.UPLOAD:
                answered = connection.begin(parser, head, left_s)
                await self._trickle(connection, answered, body)
            else:
                await connection.begin(parser, head + body, left_s)
        finally:
            attempt.end = connection.finished_at
            attempt.received = connection.received
            attempt.status = parser.status
            attempt.release = parser.headers.get(self._release_header, "")
            attempt.instance = parser.headers.get(self._instance_header, "")
            if not connection.finished_at:  # we were cancelled
                connection.drop()
        if parser.closes or not stream.kind.keeps_alive:
            connection.linger()
        else:
            self.pool.give(connection)
        self._judge(parser, body)

    async def _trickle(self, connection: Connection, answered: asyncio.Future[None], body: bytes) -> None:
        size = max(1, -(-len(body) // _PIECES))
        for position in range(0, len(body), size):
            await asyncio.wait({answered}, timeout=self.stream.over_s / _PIECES)
            if answered.done():  # an answer before the end of the request: judged like any other
                break
            connection.write(body[position : position + size])
        await answered

    def _judge(self, parser: ResponseParser, body: bytes) -> None:
        stream = self.stream
        if parser.status != stream.expect_status:
            raise Failed(Outcome.BAD_STATUS, f"{parser.status}, expected {stream.expect_status}: {parser.body[:80]!r}")
        if stream.kind.has_body and stream.check_echo:
            check_echo(parser.body, body)
        if stream.expect_bytes >= 0 and parser.length != stream.expect_bytes:
            raise Failed(Outcome.BAD_BODY, f"{parser.length} bytes of body, expected {stream.expect_bytes}")
        if stream.expect_text and stream.expect_text.encode() not in parser.body:
            raise Failed(Outcome.BAD_BODY, f"body without {stream.expect_text!r}: {parser.body[:80]!r}")

    def _body(self) -> bytes:
        """A body of its own for each request, so that an answer to another one does not pass for its echo."""
        self._serial += 1
        serial = f"{self._salt}-{self._serial}:".encode()
        need = self.stream.body_bytes - len(serial)
        filler = _FILLER if need <= len(_FILLER) else _FILLER * (need // len(_FILLER) + 1)
        return (serial + filler[: max(0, need)])[: self.stream.body_bytes]

    async def _open(self, pool: Pool) -> Connection:
        limits = self._mix.limits
        buffer = _SLOW_READER_BUFFER if self.stream.read_bytes_per_s else 0
        sock = await open_socket(self._target, min(limits.connect_timeout_s, self.stream.timeout_s), buffer)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(sock, pool.lost, pool.stray), sock=sock)
        return connection


def check_echo(answer: bytes, body: bytes) -> None:
    """Raise `Failed` unless the answer is JSON with the `length` (or `bytes`) and `sha256` of what was sent."""
    try:
        seen = json.loads(answer)
        length, digest = seen["length" if "length" in seen else "bytes"], seen["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(Outcome.BAD_BODY, f"no JSON with length and sha256 ({error!r}): {answer[:80]!r}") from None
    if length != len(body) or digest != hashlib.sha256(body).hexdigest():
        raise Failed(Outcome.BAD_BODY, f"sent {len(body)} bytes, the server saw {length} bytes, sha256 {digest}")


def _request_head(stream: Stream, target: Target) -> bytes:
    headers = {"Host": target.host_header, "User-Agent": "nself-load", "Accept": "*/*"}
    if stream.kind.has_body:
        headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(stream.body_bytes)}
    if not stream.kind.keeps_alive:
        headers["Connection"] = "close"
    headers |= stream.headers
    lines = [f"{'POST' if stream.kind.has_body else 'GET'} {stream.path} HTTP/1.1"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode("latin-1")
