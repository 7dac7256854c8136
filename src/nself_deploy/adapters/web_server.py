"""A small HTTP server: one request a connection, everything bounded (head, body, time, connections).

What a request means is not known here. Nothing of its headers is logged or kept.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from nself_deploy.core.web import JSON, Answer, Asked, Problem, problem, too_large
from nself_deploy.errors import ConfigError, InfrastructureError, UsageError

if TYPE_CHECKING:
    from aiohttp import web

CONNECTIONS = 64
"""At a time; more are turned away with 503."""
HEAD_S, BODY_S = 10.0, 20.0
"""Limits for sending the head of a request, and its body."""
LINE_BYTES, HEADER_BYTES = 4096, 8190
"""Limits of the request's first line, and of one header."""
CLOSING_S = 5.0
_BACKLOG = 128
_PIECE = 64 * 1024
_FULL = problem(503, "There are too many connections.", "Try again in a moment.", {"Retry-After": "2"})
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "nself-deploy"}

Handle = Callable[[Asked], Awaitable[Answer]]


class Address(msgspec.Struct, frozen=True):
    """Where it listens."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(text: str) -> Address:
    """The address that `HOST:PORT` names: an IP address, `localhost`, or `[::1]:PORT`.

    Raises:
        UsageError: it is none.
    """
    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        found = Address(str(ipaddress.ip_address(host)), int(port) if port.isdecimal() else -1)
    except ValueError:
        found = Address("", -1)
    if not 0 <= found.port <= 65535:
        remedy = "Write an IP address and a port, such as 127.0.0.1:9470 or [::1]:9470; port 0 lets the system choose."
        raise UsageError(f"{text!r} is no address to listen on.", remedy, where="--listen")
    return found


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """What TLS is spoken with: a file with the certificate and those above it, and one with its key, in PEM form.

    Raises:
        ConfigError: they can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # The library would ask on the terminal for the password of a key that has one.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ValueError) as error:
        words = "no certificate with its key, in PEM form and without a password"
        what = f"These files are {words}" if isinstance(error, ssl.SSLError) else f"They can't be read: {error}"
        remedy = "Give --tls-cert the certificate and --tls-key its key."
        raise ConfigError(f"{what}.", remedy, where=f"{certificate}, {key}") from None
    return context


class WebServer:
    """Listens from `start` to `stop`."""

    def __init__(self, handle: Handle, limits: Mapping[str, int], bug: Callable[[Exception], Problem]) -> None:
        """Answer requests with `handle`.

        Args:
            handle: gives the answer.
            limits: by path, how many bytes a body may have; none is read elsewhere.
            bug: is told of an exception that nobody expected; gives the document for the client.
        """
        self._handle, self._limits, self._bug = handle, limits, bug
        self._listening: asyncio.Server | None = None
        self._server: web.Server | None = None

    async def start(self, address: Address, tls: ssl.SSLContext | None = None) -> Address:
        """Listen; the address with the port that was chosen.

        Raises:
            InfrastructureError: it can't listen there.
        """
        from aiohttp import web

        from nself_deploy.adapters.web_connection import connections

        silent = logging.getLogger("nself_deploy.web")
        silent.propagate = False
        if not silent.handlers:
            silent.addHandler(logging.NullHandler())
        self._server = web.Server(self._answer)
        factory = connections(
            self._server, CONNECTIONS, HEAD_S, raw(_FULL), access_log=None, logger=silent, auto_decompress=False,
            max_line_size=LINE_BYTES, max_field_size=HEADER_BYTES, lingering_time=2.0,
        )  # fmt: skip
        try:
            self._listening = await asyncio.get_running_loop().create_server(
                factory,
                address.host,
                address.port,
                backlog=_BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=HEAD_S if tls is not None else None,
                ssl_shutdown_timeout=CLOSING_S if tls is not None else None,
            )
        except OSError as error:
            raise _cannot_listen(address, error) from None
        name = self._listening.sockets[0].getsockname()
        return Address(address.host, int(name[1]))

    def stop_listening(self) -> None:
        """Take no new connections; those that are there go on."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    async def stop(self) -> None:
        """Let the answers that are under way be sent, for a few seconds, and close everything."""
        self.stop_listening()
        if self._server is not None:
            await self._server.shutdown(CLOSING_S)
            self._server = None

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        from aiohttp import web

        request.protocol.began()  # type: ignore[attr-defined]  # our own kind of connection
        try:
            answer = await self._handled(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets one answer; the traceback is kept
            answer = Answer(500, self._bug(error))
        body = msgspec.json.encode(answer.document) + b"\n"
        reply = web.Response(status=answer.status, body=body, content_type=JSON, headers={**_HEADERS, **answer.headers})
        reply.force_close()
        return reply

    async def _handled(self, request: web.BaseRequest) -> Answer:
        path = request.path
        try:
            async with asyncio.timeout(BODY_S):
                body = await _body(request, self._limits[path]) if path in self._limits else b""
        except TimeoutError:
            return problem(408, f"The body was not sent within {BODY_S:g} s.", "Send it at once.")
        if body is None:
            return too_large(self._limits[path])
        asked = Asked(
            method=request.method,
            path=path,
            source=request.remote or "-",
            query=dict(request.query),
            authorization=tuple(request.headers.getall("Authorization", ())),
            content_type=request.headers.get("Content-Type", ""),
            content_encoding=request.headers.get("Content-Encoding", ""),
            body=body,
        )
        return await self._handle(asked)


async def _body(request: web.BaseRequest, limit: int) -> bytes | None:
    """The body; None when there is more than the limit."""
    if (request.content_length or 0) > limit:
        return None
    body = bytearray()
    while piece := await request.content.read(_PIECE):
        body += piece
        if len(body) > limit:
            return None
    return bytes(body)


def raw(answer: Answer) -> bytes:
    """An answer as it goes over the wire, for a connection that is closed behind it."""
    body = msgspec.json.encode(answer.document) + b"\n"
    headers = {"Content-Type": JSON, "Content-Length": str(len(body)), "Connection": "close", **_HEADERS}
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in {**headers, **answer.headers}.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def _cannot_listen(address: Address, error: OSError) -> InfrastructureError:
    remedies = {
        errno.EADDRINUSE: "Another program listens there, or this one does already: choose another port with --listen.",
        errno.EACCES: "Choose a port from 1024 on with --listen.",
        errno.EADDRNOTAVAIL: "This machine has no such address: choose one of its own with --listen.",
    }
    remedy = remedies.get(error.errno or 0, "Choose another address with --listen.")
    words = (error.strerror or str(error)).partition("]")[2].strip() or error.strerror or str(error)
    return InfrastructureError(f"It can't listen on {address}: {words}.", remedy)


__all__ = ["Address", "WebServer", "address_of", "tls_context"]
