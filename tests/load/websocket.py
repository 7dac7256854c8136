"""A WebSocket client (RFC 6455, text messages) that tells a proper close from a torn connection."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.load.books import Books, moment
from tests.load.connection import open_socket
from tests.load.http1 import Failed, parse_head
from tests.load.mix import LoadMix, Target
from tests.load.records import Attempt, Outcome

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
PROPER_CODES: Final = (1000, 1001)
MAX_MESSAGE: Final = 1 << 20
_CLOSE_WAIT_S: Final = 30.0
_LOOK_UP_S: Final = 0.2  # how often a silent session looks whether the load is to end
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """One masked client frame, as RFC 6455 wants them."""
    size, mask = len(payload), os.urandom(4)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 65536:
        head = bytes([0x80 | opcode, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, 0x80 | 127]) + size.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[index & 3] for index, byte in enumerate(payload))


class MessageParser:
    """Server bytes in, whole messages out: (opcode, payload). Raises `Failed` on what the RFC forbids."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._opcode = 0
        self._parts = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        self._buffer += data
        messages = []
        while (message := self._next()) is not None:
            if message[0]:
                messages.append(message)
        return messages

    @property
    def midway(self) -> bool:
        """True inside a frame or a fragmented message."""
        return bool(self._buffer or self._opcode)

    def _next(self) -> tuple[int, bytes] | None:
        frame = self._frame()
        if frame is None:
            return None
        final, opcode, payload = frame
        if opcode >= CLOSE:
            return opcode, payload
        if (opcode == 0) != (self._opcode != 0):
            raise Failed(Outcome.BAD_BODY, "WebSocket: a fragment out of order")
        self._opcode = self._opcode or opcode
        self._parts += payload
        if len(self._parts) > MAX_MESSAGE:
            raise Failed(Outcome.BAD_BODY, "WebSocket: a message of more than 1 MiB")
        if not final:
            return 0, b""
        message = (self._opcode, self._parts)
        self._opcode, self._parts = 0, b""
        if message[0] == TEXT:
            try:
                message[1].decode()
            except UnicodeDecodeError:
                raise Failed(Outcome.BAD_BODY, "WebSocket: a text message that is not UTF-8") from None
        return message

    def _frame(self) -> tuple[bool, int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        final, opcode, size = bool(buffer[0] & 0x80), buffer[0] & 0x0F, buffer[1] & 0x7F
        if buffer[0] & 0x70 or buffer[1] & 0x80 or opcode not in (0, TEXT, BINARY, CLOSE, PING, PONG):
            raise Failed(Outcome.BAD_BODY, f"WebSocket: bad frame, it begins with {bytes(buffer[:8])!r}")
        if opcode >= CLOSE and (size > 125 or not final):
            raise Failed(Outcome.BAD_BODY, "WebSocket: a control frame that is too long or fragmented")
        start = 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start], "big")
        if size > MAX_MESSAGE:
            raise Failed(Outcome.BAD_BODY, "WebSocket: a frame of more than 1 MiB")
        if len(buffer) < start + size:
            return None
        payload = bytes(buffer[start : start + size])
        del buffer[: start + size]
        return final, opcode, payload


@dataclass(slots=True)
class _Session:
    """One open WebSocket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    parser: MessageParser
    attempt: Attempt
    heard_at: float
    next_echo_at: float
    waiting: dict[bytes, float]  # own messages by the time by which they must be back


class WebSocketClient:
    """Keeps one WebSocket open: counts what comes, sends messages and wants them back, reconnects after a close."""

    def __init__(self, index: int, mix: LoadMix, target: Target, books: Books) -> None:
        self.stream = mix.streams[index]
        self.index = index
        self._mix = mix
        self._target = target
        self._books = books
        self._closed_at = 0.0
        self._serial = 0

    async def run_one(self, stopping: Callable[[], bool]) -> bool:
        """One session from handshake to close: a row for the handshake and one more if it ends badly."""
        attempt = Attempt(self.index, moment())
        try:
            session = await self._open(attempt)
        except Failed as failure:
            self._books.add(attempt, failure.outcome, failure.detail)
            return False
        except BaseException as error:
            self._books.add(attempt, Outcome.CLIENT_ERROR, f"WebSocket handshake: {error!r}")
            raise
        self._opened(attempt)
        try:
            await self._talk(session, stopping)
        except Failed as failure:
            self._ended_badly(session, failure)
            return False
        except BaseException as error:
            self._ended_badly(session, Failed(Outcome.CLIENT_ERROR, f"WebSocket session: {error!r}"))
            raise
        finally:
            self._closed_at = moment()
            session.writer.close()
        return True

    def _opened(self, attempt: Attempt) -> None:
        attempt.end = moment()
        self._books.add(attempt, Outcome.OK)
        stats = self._books.websocket
        stats.opened += 1
        if self._closed_at:
            stats.longest_reconnect_ms = max(stats.longest_reconnect_ms, (attempt.end - self._closed_at) * 1000)

    def _ended_badly(self, session: _Session, failure: Failed) -> None:
        self._books.websocket.abnormal += 1
        opened = session.attempt
        attempt = Attempt(self.index, opened.start, sent=opened.sent, end=moment(), received=opened.received)
        attempt.local_port, attempt.nth = opened.local_port, 1
        self._books.add_extra(attempt, failure.outcome, failure.detail)

    async def _open(self, attempt: Attempt) -> _Session:
        limits = self._mix.limits
        sock = await open_socket(self._target, min(limits.connect_timeout_s, self.stream.timeout_s))
        attempt.local_port, attempt.nth = sock.getsockname()[1], 1
        reader, writer = await asyncio.open_connection(sock=sock)
        key = base64.b64encode(os.urandom(16))
        try:
            attempt.sent = moment()
            writer.write(self._handshake(key.decode()))
            async with asyncio.timeout(max(0.001, self.stream.timeout_s - (attempt.sent - attempt.start))):
                head = await reader.readuntil(b"\r\n\r\n")
            attempt.received = len(head)
            self._check_handshake(attempt, head[:-4], key)
        except TimeoutError:
            writer.transport.abort()
            raise Failed(Outcome.TIMEOUT, "WebSocket: no answer to the handshake in time") from None
        except asyncio.IncompleteReadError as error:
            writer.transport.abort()
            outcome = Outcome.TRUNCATED if error.partial else Outcome.RESET
            raise Failed(outcome, f"WebSocket: closed after {len(error.partial)} bytes of the handshake") from None
        except asyncio.LimitOverrunError:
            writer.transport.abort()
            raise Failed(Outcome.BAD_BODY, "WebSocket: a head of more than 64 KiB") from None
        except OSError as error:
            writer.transport.abort()
            raise Failed(Outcome.RESET, f"WebSocket handshake: {error}") from error
        except BaseException:
            writer.transport.abort()
            raise
        now = moment()
        return _Session(reader, writer, MessageParser(), attempt, now, now + self.stream.echo_every_s, {})

    def _handshake(self, key: str) -> bytes:
        headers = {
            "Host": self._target.host_header, "User-Agent": "nself-load", "Connection": "Upgrade",
            "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key, **self.stream.headers,
        }  # fmt: skip
        lines = [f"GET {self.stream.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def _check_handshake(self, attempt: Attempt, head: bytes, key: bytes) -> None:
        status, headers = parse_head(head)
        attempt.status = status
        attempt.release = headers.get(self._mix.release_header.lower(), "")
        attempt.instance = headers.get(self._mix.instance_header.lower(), "")
        if status != 101:
            raise Failed(Outcome.BAD_STATUS, f"WebSocket handshake: {status}, expected 101")
        tokens = [token.strip().lower() for token in headers.get("connection", "").split(",")]
        accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
        if headers.get("upgrade", "").lower() != "websocket" or "upgrade" not in tokens:
            raise Failed(Outcome.BAD_BODY, "WebSocket handshake: 101 without the Upgrade headers")
        if headers.get("sec-websocket-accept") != accept:
            raise Failed(Outcome.BAD_BODY, "WebSocket handshake: Sec-WebSocket-Accept is wrong")

    async def _talk(self, session: _Session, stopping: Callable[[], bool]) -> None:
        while not stopping():
            now = moment()
            self._send_echo(session, now)
            late = self._late(session, now)
            data = await self._read(session, self._next_look(session, now))
            if data and await self._messages(session, data):
                return
            if late and self._late(session, now):  # it was looked for once more: this client may have stood still
                raise Failed(Outcome.TIMEOUT, late)
        await self._close(session)

    def _send_echo(self, session: _Session, now: float) -> None:
        if self.stream.echo_every_s <= 0 or now < session.next_echo_at:
            return
        self._serial += 1
        token = f"echo {session.attempt.local_port}-{self._serial}-{os.urandom(4).hex()}".encode()
        session.waiting[token] = now + self.stream.timeout_s
        session.next_echo_at = now + self.stream.echo_every_s
        session.writer.write(encode_frame(TEXT, token))

    def _next_look(self, session: _Session, now: float) -> float:
        echo_at = session.next_echo_at if self.stream.echo_every_s > 0 else now + _LOOK_UP_S
        return min(echo_at, now + _LOOK_UP_S)

    def _late(self, session: _Session, now: float) -> str:
        """What should have come before now, in words; empty if nothing should have."""
        if now - session.heard_at > self.stream.tick_timeout_s:
            return f"WebSocket: silent for {self.stream.tick_timeout_s} s"
        if session.waiting and next(iter(session.waiting.values())) < now:
            return f"WebSocket: no echo within {self.stream.timeout_s} s"
        return ""

    async def _read(self, session: _Session, until: float) -> bytes:
        """Bytes, or b"" when there were none until then. Raises `Failed` when the connection ended."""
        try:
            async with asyncio.timeout_at(until):
                data = await session.reader.read(65536)
        except TimeoutError:
            return b""
        except OSError as error:
            raise Failed(Outcome.WEBSOCKET_ABNORMAL, f"no close frame, but {error!r}") from error
        if not data:
            where = "in the middle of a message" if session.parser.midway else "between two messages"
            raise Failed(Outcome.WEBSOCKET_ABNORMAL, f"TCP connection closed without a close frame, {where}")
        session.attempt.received += len(data)
        return data

    async def _messages(self, session: _Session, data: bytes) -> bool:
        """Handle what came; True after a proper close by the server."""
        stats = self._books.websocket
        session.heard_at = moment()
        for opcode, payload in session.parser.feed(data):
            if opcode == CLOSE:
                check_close(payload)
                session.writer.write(encode_frame(CLOSE, payload[:2]))
                stats.proper_closes += 1
                stats.unanswered += len(session.waiting)
                return True
            if opcode == PING:
                session.writer.write(encode_frame(PONG, payload))
            elif opcode in (TEXT, BINARY):
                echoed = [token for token in session.waiting if token in payload]
                for token in echoed:
                    del session.waiting[token]
                stats.echoes += len(echoed)
                stats.ticks += not echoed
        return False

    async def _close(self, session: _Session) -> None:
        """The client's own closing handshake: the server must answer with a proper close frame."""
        session.writer.write(encode_frame(CLOSE, (1000).to_bytes(2, "big")))
        until = moment() + _CLOSE_WAIT_S
        while moment() < until:
            data = await self._read(session, until)
            for payload in (payload for opcode, payload in session.parser.feed(data) if opcode == CLOSE):
                check_close(payload)
                self._books.websocket.ended_by_client += 1
                return
        raise Failed(Outcome.WEBSOCKET_ABNORMAL, f"no close frame within {_CLOSE_WAIT_S} s of ours")


def check_close(payload: bytes) -> None:
    """Raise `Failed` unless a server's close frame says 1000 (normal) or 1001 (going away)."""
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 0
    if code not in PROPER_CODES:
        raise Failed(Outcome.WEBSOCKET_ABNORMAL, f"close frame {code or 'without a code'}: {payload[2:][:80]!r}")
