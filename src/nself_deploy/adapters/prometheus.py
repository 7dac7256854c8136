"""Prometheus, or another program with its HTTP API: instant queries, one connection each, with bounds.

A password or token is read anew for each query (it may be replaced at any time), from a file that nobody else may read.
It is sent to the configured address only: redirects are not followed, and no proxy of the environment is used.
"""

from __future__ import annotations

import asyncio
import base64
import os
import stat
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nself_deploy.adapters.prometheus_read import plain, read_answer, veiled
from nself_deploy.core.metrics import Outcome, Prometheus, Reading
from nself_deploy.errors import ConfigError

if TYPE_CHECKING:
    import ssl

    import aiohttp

MAX_ANSWER = 1024 * 1024
MAX_SECRET = 16 * 1024
_PIECE = 64 * 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class PrometheusMetrics:
    """Queries to one Prometheus. Files are relative to `root`, the project's directory."""

    def __init__(self, keys: Prometheus, root: str) -> None:
        self._keys = keys
        self._root = root
        self._url = keys.url.rstrip("/") + "/api/v1/query"

    def check(self) -> None:
        """Read its certificates, password or token.

        Raises:
            ConfigError: one of them can't be read, or could be read by others.
        """
        self._authorization()
        self._trust()

    async def ask(self, query: str, at: float | None = None) -> Reading:
        """The number that a query gives now, or gave at that time (unix time).

        It never raises for what the network or the other side does.
        """
        try:
            header, secret = self._authorization()
            trust = self._trust()
        except ConfigError as error:
            return Reading.error(str(error))
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "nself-deploy"}
        if header:
            headers["Authorization"] = header
        form = {"query": query, "timeout": f"{max(1, round(self._keys.timeout_s * 1000))}ms"}
        if at is not None:
            form["time"] = f"{at:.3f}"
        reading = await self._query(form, headers, trust)
        if reading.outcome not in (Outcome.ERROR, Outcome.WRONG):
            return reading
        detail = veiled(reading.detail, (header.partition(" ")[2], secret))  # should the other side have repeated them
        return Reading(reading.outcome, None, f"{self._keys.url}: {detail}")

    async def _query(self, form: dict[str, str], headers: dict[str, str], trust: ssl.SSLContext | bool) -> Reading:
        import aiohttp

        limit = self._keys.timeout_s
        try:
            async with (
                asyncio.timeout(limit),
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(force_close=True, ssl=trust),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                ) as session,
                session.post(self._url, data=form, headers=headers, allow_redirects=False) as answer,
            ):
                return await _read(answer)
        except TimeoutError:
            return Reading.error(f"did not answer within {limit:g} s")
        except aiohttp.ClientConnectorCertificateError as error:
            return Reading.error(f"its certificate is not trusted: {plain(str(error.certificate_error))}")
        except aiohttp.ClientConnectorError as error:
            return Reading.error(f"can't be reached: {plain(error.strerror or str(error.os_error))}")
        except aiohttp.ClientPayloadError:
            return Reading.error("closed the connection in the middle of an answer")
        except aiohttp.ServerDisconnectedError:
            return Reading.error("closed the connection without an answer")
        except aiohttp.ClientResponseError as error:
            return Reading.error(f"answered something that is not HTTP: {plain(error.message)}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Reading.error(f"can't be asked: {plain(str(error)) or type(error).__name__}")

    def _authorization(self) -> tuple[str, str]:
        """The header's value and the secret in it, both empty without one."""
        keys = self._keys
        if keys.token_file:
            token = read_secret(os.path.join(self._root, keys.token_file))
            return f"Bearer {token}", token
        if keys.username:
            password = read_secret(os.path.join(self._root, keys.password_file))
            pair = base64.b64encode(f"{keys.username}:{password}".encode()).decode()
            return f"Basic {pair}", password
        return "", ""

    def _trust(self) -> ssl.SSLContext | bool:
        """What certificates are checked against."""
        if urlsplit(self._keys.url).scheme != "https":
            return True
        import ssl

        path = os.path.join(self._root, self._keys.ca_file) if self._keys.ca_file else None
        try:
            return ssl.create_default_context(cafile=path)
        except (OSError, ValueError) as error:
            words = "has no certificate in PEM form" if isinstance(error, ssl.SSLError) else f"{error}"
            raise ConfigError(f"{path}: {words}.", "Give `ca_file` a readable file of certificates.") from None


async def _read(answer: aiohttp.ClientResponse) -> Reading:
    if 300 <= answer.status < 400:
        target = plain(answer.headers.get("Location", "nowhere"))
        return Reading.error(
            f"answered {answer.status}, a redirect to {target}: redirects are not followed; write the right address"
        )
    body = bytearray()
    while piece := await answer.content.read(_PIECE):
        body += piece
        if len(body) > MAX_ANSWER:
            return Reading.error(
                f"the answer is larger than {MAX_ANSWER // 1024} KiB, and one number is wanted: aggregate the query, "
                "e.g. with sum(…)"
            )
    return read_answer(answer.status, bytes(body))


def read_secret(path: str) -> str:
    """The one line of a file that only its owner may read.

    Raises:
        ConfigError: it can't be read, others may read it, or there is something else in it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(f"It can't be read: {error.strerror}.", "Put the secret there.", where=path) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError("It is not a file.", "Put the secret into a file.", where=path)
        if found.st_mode & _OTHERS:
            mode = stat.S_IMODE(found.st_mode)
            raise ConfigError(f"Others may read it (mode {mode:04o}).", f"chmod 600 {path}", where=path)
        raw = os.read(descriptor, MAX_SECRET + 1)
    except OSError as error:
        raise ConfigError(f"It can't be read: {error.strerror}.", "Put the secret there.", where=path) from None
    finally:
        os.close(descriptor)
    text = raw.decode("utf-8", errors="replace").removesuffix("\n").removesuffix("\r")
    if len(raw) > MAX_SECRET or not text or not text.isascii() or not text.isprintable():
        raise ConfigError("There is no password or token in it.", "Write it in one line, in ASCII.", where=path)
    return text
