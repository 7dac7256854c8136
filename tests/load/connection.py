"""One TCP connection and what its end means for the request on it. Nothing is retried here."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

from tests.load.http1 import Failed, Garbage, ResponseParser
from tests.load.mix import Target
from tests.load.records import Outcome

LINGER_S: Final = 1.0


class Connection(asyncio.Protocol):
    """One TCP connection, one request at a time. `on_lost(self)` is called once when it is gone; `on_stray(self, text)`
    when bytes come that no request is waiting for."""

    def __init__(
        self, sock: socket.socket, on_lost: Callable[[Connection], None], on_stray: Callable[[Connection, str], None]
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.sock = sock
        self.local_port: int = sock.getsockname()[1]
        self.requests = 0
        self.received = 0
        self.finished_at = 0.0
        self.lost = False
        self.dropped = False  # by us
        self.read_bytes_per_s = 0
        self.answered: asyncio.Future[None] = self.loop.create_future()
        self.answered.set_result(None)
        self._parser: ResponseParser | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._on_lost = on_lost
        self._on_stray = on_stray

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            if not self.dropped:
                self.drop()
                self._on_stray(self, f"{len(data)} bytes that no request waits for: {data[:60]!r}")
            return
        self.received += len(data)
        try:
            done = self._parser.feed(data)
        except Garbage as garbage:
            self._finish(garbage)
            self.drop()
            return
        if done:
            self._finish(None)
        elif self.read_bytes_per_s and self._transport:
            self._transport.pause_reading()
            self.loop.call_later(len(data) / self.read_bytes_per_s, self._resume)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._parser is not None:
            self._finish(self._cut(exc))
        self._on_lost(self)

    # What a stream calls.

    def begin(self, parser: ResponseParser, request: bytes, timeout_s: float) -> asyncio.Future[None]:
        """Send a request (or its first part). The future ends with None once the answer is complete, or `Failed`."""
        self._parser = parser
        self.requests += 1
        self.received = 0
        self.finished_at = 0.0
        self.answered = self.loop.create_future()
        self._timer = self.loop.call_later(timeout_s, self._expire)
        self.write(request)
        return self.answered

    def write(self, data: bytes) -> None:
        """More of the request; ignored once the connection is lost (the future says so)."""
        if self._transport and not self.lost:
            self._transport.write(data)

    def peer_closed(self) -> bool:
        """True if the end of the connection is already in our kernel: a careful client does not send on such a one."""
        if self.lost or self.dropped:
            return True
        try:
            return self.sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def drop(self) -> None:
        """Close at once."""
        self.dropped = True
        if self._transport and not self.lost:
            self._transport.abort() if self._parser else self._transport.close()

    def linger(self) -> None:
        """Let the server close first, as it announced; close ourselves if it does not."""
        if not self.lost:
            self.loop.call_later(LINGER_S, self.drop)

    def _resume(self) -> None:
        if self._transport and not self.lost and not self._transport.is_closing():
            self._transport.resume_reading()

    def _expire(self) -> None:
        self._finish(Failed(Outcome.TIMEOUT, f"no complete answer in time, {self.received} bytes received"))
        self.dropped = True
        if self._transport:
            self._transport.abort()

    def _finish(self, failure: Failed | None) -> None:
        self.finished_at = self.loop.time()
        self._parser = None
        if self._timer:
            self._timer.cancel()
        if not self.answered.done():
            self.answered.set_exception(failure) if failure else self.answered.set_result(None)

    def _cut(self, exc: Exception | None) -> Failed:
        how = f"{type(exc).__name__}: {exc}" if exc else "closed"
        if not self.received and self.requests > 1:
            return Failed(Outcome.STALE, f"{how} without an answer, request {self.requests} of its connection")
        if exc:
            return Failed(Outcome.RESET, f"{how} after {self.received} bytes")
        if not self.received:
            return Failed(Outcome.RESET, "closed without an answer")
        return Failed(Outcome.TRUNCATED, f"closed in the middle of the answer, after {self.received} bytes")


def connect_failure(error: OSError) -> Failed:
    """What a failed connect means: the other side's refusal, or trouble of our own (ports, file descriptors)."""
    if error.errno in (errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
        return Failed(Outcome.CLIENT_ERROR, f"the load client cannot connect: {error}")
    if error.errno == errno.ECONNRESET:
        return Failed(Outcome.RESET, f"while connecting: {error}")
    if error.errno == errno.ETIMEDOUT:
        return Failed(Outcome.TIMEOUT, f"while connecting: {error}")
    return Failed(Outcome.REFUSED, f"{error}")


async def open_socket(target: Target, timeout_s: float, receive_buffer: int = 0) -> socket.socket:
    """A connected, non-blocking socket. Raises `Failed`."""
    family = socket.AF_INET6 if ":" in target.ip else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise connect_failure(error) from error
    sock.setblocking(False)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().sock_connect(sock, (target.ip, target.port))
    except TimeoutError:
        sock.close()
        raise Failed(Outcome.TIMEOUT, f"no connection within {timeout_s} s") from None
    except OSError as error:
        sock.close()
        raise connect_failure(error) from error
    except BaseException:
        sock.close()
        raise
    return sock
