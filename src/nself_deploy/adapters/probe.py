"""HTTP probes straight at a container: one GET on a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from urllib.parse import quote

from nself_deploy.app.answers import ProbeAnswer
from nself_deploy.core.model import Probe

FINAL = 200
"""The first status that is an answer and no interim one."""
MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024
MAX_DETAIL = 200
BODY_S = 0.5
"""How long the rest of an answer is waited for once its status is known."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r?$")
_PATH_SAFE = "/%?&=:@!$'()*+,;~-._[]"


class HttpProber:
    """Probes over plain sockets."""

    async def get(self, address: str, port: int, probe: Probe) -> ProbeAnswer:
        """GET http://address:port/path; what the network does is in the answer, never an exception."""
        path = quote(probe.path if probe.path.startswith("/") else f"/{probe.path}", safe=_PATH_SAFE)
        host = _plain(probe.host) or f"{address}:{port}"
        url = f"GET http://{address}:{port}{path}" + (f" (Host: {host})" if probe.host else "")
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: nself-deploy-probe\r\nAccept: */*\r\n"
            "Connection: close\r\n\r\n"
        ).encode()
        began = time.monotonic()
        status, words = 0, ""
        try:
            status, words = await _ask(address, port, request, probe.timeout_s)
        except TimeoutError:
            words = f"did not answer within {probe.timeout_s:g} s"
        except ConnectionRefusedError:
            words = "refused the connection: nothing listens on this port"
        except asyncio.LimitOverrunError:
            words = "answered with more than 64 KiB before its body"
        except (ConnectionError, asyncio.IncompleteReadError):
            words = "closed the connection without an answer"
        except OSError as error:
            words = f"could not be reached: {error.strerror or error}"
        seconds = time.monotonic() - began
        if status:
            words = f"answered {status} in {seconds * 1000:.0f} ms" + (f": {words}" if words else "")
        low, high = probe.statuses
        return ProbeAnswer(ok=low <= status <= high, status=status, detail=f"{url} {words}", seconds=seconds)


async def _ask(address: str, port: int, request: bytes, timeout_s: float) -> tuple[int, str]:
    """Status and the beginning of the body; status 0 and words for what is no HTTP."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    async with asyncio.timeout_at(deadline):
        reader, writer = await asyncio.open_connection(address, port, limit=MAX_HEAD)
    try:
        async with asyncio.timeout_at(deadline):
            writer.write(request)
            await writer.drain()
            status, head = await _answer(reader)
        # The time is for the answer; what its body says is for people, and doesn't change what the answer is.
        return (status, _plain(await _body(reader, head.lower()))[:MAX_DETAIL]) if status else (0, head.decode())
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):  # What was wrong with the connection has been said already.
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and header lines; status 0 and words for what is no HTTP. Interim answers (1xx) are passed over."""
    while True:
        line = await _first_line(reader)
        match = _STATUS.match(line)
        if match is None:
            said = _plain(line.decode("latin-1"))[:MAX_DETAIL]
            return 0, f"answered something that is not HTTP: {said!r}".encode()
        head = await _head(reader)
        if int(match[1]) >= FINAL:
            return int(match[1]), head


async def _first_line(reader: asyncio.StreamReader) -> bytes:
    """The first line without its end; whatever came when the peer stops in the middle of it."""
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            raise
        return error.partial
    except asyncio.LimitOverrunError:
        return await reader.read(MAX_DETAIL)
    return line.removesuffix(b"\n")


async def _head(reader: asyncio.StreamReader) -> bytes:
    """The header lines without the empty one at their end."""
    head = b""
    while (line := await reader.readuntil(b"\n")) not in (b"\r\n", b"\n"):
        head += line
        if len(head) > MAX_HEAD:
            raise asyncio.LimitOverrunError("too many header lines", len(head))
    return head


async def _body(reader: asyncio.StreamReader, head: bytes) -> str:
    """The beginning of the body as text, as far as it comes soon."""
    kept = bytearray()
    length = re.search(rb"(?m)^content-length: *(\d{1,15})", head)
    wanted = min(MAX_BODY, int(length[1])) if length else MAX_BODY
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(BODY_S):
            while len(kept) < wanted and (piece := await reader.read(wanted - len(kept))):
                kept += piece
    if b"transfer-encoding: chunked" in head:
        kept = bytearray(re.sub(rb"(?:^|\r\n)[0-9a-fA-F]{1,8}[^\r\n]*\r\n", b"", bytes(kept)))
    return kept.decode("utf-8", errors="replace")


def _plain(text: str) -> str:
    """Printable text on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
