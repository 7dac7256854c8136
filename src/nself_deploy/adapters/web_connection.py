"""Connections to our HTTP server: a limit for their number and for their first words, JSON also for what is no HTTP.

Imported with aiohttp, when a server starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec
from aiohttp import web

from nself_deploy.core.web import JSON, Problem

_MALFORMED = Problem(
    "This is no HTTP request, or its head is too large.", "Send HTTP/1.1, with fewer or shorter headers."
)


class Connection(web.RequestHandler):
    """A connection that has to say what it wants soon."""

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, head_s: float, **options: Any) -> None:
        super().__init__(server, loop=loop, **options)
        self._head_s = head_s
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was accepted."""
        super().connection_made(transport)
        self._late = asyncio.get_running_loop().call_later(self._head_s, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        self.began()
        super().connection_lost(exc)

    def began(self) -> None:
        """The head of its request is there."""
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the library's signature
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - as above
        message: str | None = None,  # noqa: ARG002 - as above
    ) -> web.StreamResponse:
        """Answer what could not be read; nothing of it is repeated or logged."""
        self.began()
        reply = web.Response(status=status, body=msgspec.json.encode(_MALFORMED) + b"\n", content_type=JSON)
        reply.force_close()
        return reply


class TurnedAway(asyncio.Protocol):
    """A connection that is one too many: it is told so, and closed."""

    def __init__(self, words: bytes) -> None:
        self._words = words

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was accepted."""
        found = cast("asyncio.Transport", transport)
        found.write(self._words)
        found.close()


def connections(
    server: web.Server, limit: int, head_s: float, full: bytes, **options: Any
) -> Callable[[], asyncio.Protocol]:
    """What makes a protocol for each connection."""
    loop = asyncio.get_running_loop()

    def make() -> asyncio.Protocol:
        if len(server.connections) >= limit:
            return TurnedAway(full)
        return Connection(server, loop, head_s, **options)

    return make
