"""A webhook for events of the audit trail: one POST each, in order, signed; no redirect and no proxy is followed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from nself_deploy.adapters.key_file import read_key_file
from nself_deploy.core.audit import Record
from nself_deploy.core.audit_rows import body
from nself_deploy.errors import ConfigError, InfrastructureError, NselfError

if TYPE_CHECKING:
    import ssl

    import aiohttp

TIMEOUT_S = 10.0
IDEMPOTENCY_KEY = "Idempotency-Key"
SIGNATURE = "X-Nself-Signature"

_REASON_CHARS = 200


class WebhookSink:
    """One receiver."""

    at_once = 1

    def __init__(self, url: str, secret_file: str, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._secret_file = secret_file
        self._timeout_s = timeout_s
        self._to = shown(url)
        self._session: aiohttp.ClientSession | None = None

    async def deliver(self, records: Sequence[Record]) -> None:
        """Send events; when it returns, the receiver has answered each with 2xx.

        Raises:
            NselfError: it was not reached, did not answer in time, or answered something else.
        """
        secret = read_secret(self._secret_file) if self._secret_file else b""
        for record in records:
            data = body(record)
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "nself-deploy",
                IDEMPOTENCY_KEY: quote(record.id, safe=""),
            }
            if secret:
                headers[SIGNATURE] = f"sha256={hmac.new(secret, data, hashlib.sha256).hexdigest()}"
            await self._post(data, headers)

    async def close(self) -> None:
        """Let go of the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, data: bytes, headers: dict[str, str]) -> None:
        import aiohttp

        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._opened().post(self._url, data=data, headers=headers, allow_redirects=False) as answer,
            ):
                status, place = answer.status, answer.headers.get("Location", "")
        except TimeoutError:
            raise self._error(f"did not answer within {self._timeout_s:g} s.") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise self._error(f"its certificate is not trusted: {_plain(str(error.certificate_error))}.") from None
        except aiohttp.ClientConnectorError as error:
            reason = error.strerror or str(error.os_error)
            raise self._error(f"can't be reached: {_plain(reason)}.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The message of some of these repeats the address, which may hold a secret.
            raise self._error(f"can't be asked: {type(error).__name__}.") from None
        if 300 <= status < 400:
            what = f"answered {status}, a redirect to {shown(place) or 'nowhere'}: redirects are not followed."
            raise ConfigError(what, "Give the right address to nself deploy audit init --webhook.", where=self._to)
        if not 200 <= status < 300:
            raise self._error(f"answered {status}.")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=1, ssl=_trust(self._url)),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=2**12,  # an answer's body is not read, however long it is
            )
        return self._session

    def _error(self, what: str) -> NselfError:
        return InfrastructureError(what, "Events wait until it answers with 2xx.", where=self._to)


def check_url(url: str) -> None:
    """Refuse what no event may be sent to.

    Raises:
        ConfigError: it is no http or https address, or has a user name or password in it.
    """
    where = "--webhook"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ConfigError("It is no address.", "Write https://host/path.", where=where) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise ConfigError("It is no http or https address.", "Write https://host/path.", where=where)
    if parts.username is not None or parts.password is not None:
        what = "A user name or password in the address is not sent."
        raise ConfigError(what, "Let the receiver check the signature instead: --secret-file.", where=where)


def read_secret(path: str) -> bytes:
    """The secret that bodies are signed with.

    Raises:
        ConfigError: the file is missing, others may open it, or there is nothing in it.
    """
    return read_key_file(path, "webhook secret").encode()


def shown(url: str) -> str:
    """An address for people: scheme and host, for the rest of it may be secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{_plain(host)}" if parts.scheme and host else ""


def _trust(url: str) -> ssl.SSLContext | bool:
    if urlsplit(url).scheme != "https":
        return True
    import ssl

    return ssl.create_default_context()


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:_REASON_CHARS]
