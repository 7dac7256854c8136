"""Questions to the router's probe server: a small HTTP/1.1 client over asyncio streams (quick to import)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import msgspec

CONNECT_S = 2.0
_HEAD_LIMIT = 1 << 16
_BODY_LIMIT = 1 << 16


class Unanswered(Exception):
    """No HTTP answer: refused, timed out, or not HTTP. Never leaves the adapter."""


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: str
    seconds: float


class Conversation:
    """Questions over one connection, which is made at the first one and again after the server closed it."""

    def __init__(self, address: str) -> None:
        """Args: address: `ip:port`."""
        host, _, port = address.rpartition(":")
        self.address = address
        self._host = host.strip("[]")
        self._port = int(port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                return  # the other side was faster

    async def get(self, path: str, headers: Mapping[str, str] | None = None, timeout_s: float = 5.0) -> Answer:
        """GET a path.

        Raises:
            Unanswered: no answer within `timeout_s`.
        """
        start = time.monotonic()
        fresh = self._streams is None
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await self._exchange(path, headers or {}, start)
                except (ConnectionError, asyncio.IncompleteReadError):
                    if fresh:
                        raise
                    await self.close()
                    return await self._exchange(path, headers or {}, start)
        except TimeoutError as error:
            await self.close()
            raise Unanswered(f"no answer from {self.address} within {timeout_s:g} s") from error
        except asyncio.IncompleteReadError as error:
            await self.close()
            raise Unanswered(f"{self.address} closed the connection without an answer") from error
        except (OSError, ValueError, asyncio.LimitOverrunError) as error:
            await self.close()
            raise Unanswered(f"{self.address}: {error}") from error

    async def _exchange(self, path: str, headers: Mapping[str, str], start: float) -> Answer:
        if self._streams is None:
            async with asyncio.timeout(CONNECT_S):
                self._streams = await asyncio.open_connection(self._host, self._port, limit=_HEAD_LIMIT)
        reader, writer = self._streams
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {self.address}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        request = "\r\n".join(lines)
        if "\n" in request.replace("\r\n", ""):
            raise ValueError("a line break in the request")
        writer.write(f"{request}\r\n\r\n".encode())
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, _, rest = head[0].partition(" ")
        status = int(rest[:3])
        found = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:]) if name
        }
        length = found.get("content-length", "")
        known = length.isdigit() and int(length) <= _BODY_LIMIT
        body = (await reader.readexactly(int(length))).decode("utf-8", "replace") if known else ""
        if not known or version != "HTTP/1.1" or found.get("connection", "").lower() == "close":
            await self.close()
        return Answer(status, found, body, time.monotonic() - start)


async def ask(address: str, path: str, headers: Mapping[str, str] | None = None, timeout_s: float = 5.0) -> Answer:
    """One question over a connection of its own.

    Raises:
        Unanswered: no answer within `timeout_s`.
    """
    async with Conversation(address) as conversation:
        return await conversation.get(path, headers, timeout_s)
