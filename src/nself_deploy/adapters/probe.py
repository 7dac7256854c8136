"""HTTP probes straight at a container: one GET on a connection of its own."""

from __future__ import annotations

import asyncio
import re
import time
from urllib.parse import quote

from nself_deploy.app.ports import ProbeAnswer
from nself_deploy.core.model import Probe

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
            async with asyncio.timeout(probe.timeout_s):
                status, words = await _ask(address, port, request)
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


async def _ask(address: str, port: int, request: bytes) -> tuple[int, str]:
    """Status and the beginning of the body; status 0 and words for what is no HTTP."""
    reader, writer = await asyncio.open_connection(address, port, limit=MAX_HEAD)
    try:
        writer.write(request)
        await writer.drain()
        while True:
            line = await _first_line(reader)
            match = _STATUS.match(line)
            if match is None:
                return 0, f"answered something that is not HTTP: {_plain(line.decode('latin-1'))[:MAX_DETAIL]!r}"
            head = await reader.readuntil(b"\r\n\r\n") if not line.endswith(b"\n\r\n") else b""
            status = int(match[1])
            if status >= 200:
                return status, _plain(await _body(reader, head.lower()))[:MAX_DETAIL]
    finally:
        writer.transport.abort()


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


async def _body(reader: asyncio.StreamReader, head: bytes) -> str:
    """The beginning of the body as text, as far as it comes soon."""
    kept = bytearray()
    length = re.search(rb"\ncontent-length: *(\d{1,15})\r", b"\n" + head)
    wanted = min(MAX_BODY, int(length[1])) if length else MAX_BODY
    try:
        async with asyncio.timeout(BODY_S):
            while len(kept) < wanted and (piece := await reader.read(wanted - len(kept))):
                kept += piece
    except (TimeoutError, ConnectionError):
        pass  # The status is what counts; the body is for people.
    if b"transfer-encoding: chunked" in head:
        kept = bytearray(re.sub(rb"(?:^|\r\n)[0-9a-fA-F]{1,8}[^\r\n]*\r\n", b"", bytes(kept)))
    return kept.decode("utf-8", errors="replace")


def _plain(text: str) -> str:
    """Printable text on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
