"""The connection to the engine: made when it is needed, every call bounded, no exception of a library leaves it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nself_deploy.adapters.docker_host import EngineAddress, find_engine
from nself_deploy.errors import EngineError

if TYPE_CHECKING:
    import aiodocker
    import aiohttp

T = TypeVar("T")

NOT_FOUND = 404
CALL_S = 30.0
"""How long the engine may take for a call that isn't slow by nature."""
UNREACHABLE = 900
"""aiodocker's status for an engine that could not be reached."""


class Refused(EngineError):
    """The engine said no; `status` is its HTTP status."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status


class DockerClient:
    """One connection pool to one engine, for one event loop.

    Args:
        address: the engine; None finds it as `docker` does, at the first call.
    """

    def __init__(self, address: EngineAddress | None = None) -> None:
        self._address = address
        self._docker: aiodocker.Docker | None = None
        self._connector: aiohttp.BaseConnector | None = None

    @property
    def address(self) -> EngineAddress:
        """Where the engine is."""
        if self._address is None:
            self._address = find_engine(os.environ, Path.home())
        return self._address

    async def run(
        self, what: str, operation: Callable[[aiodocker.Docker], Awaitable[T]], timeout_s: float = CALL_S
    ) -> T:
        """One operation on the engine's API; `what` says it in words, for the error.

        Raises:
            Refused: the engine said no.
            EngineError: it can't be reached, or took too long.
        """
        import aiodocker
        import aiohttp

        try:
            async with asyncio.timeout(timeout_s):
                return await operation(self._connected())
        except TimeoutError as error:
            raise EngineError(
                f"{what}: the container engine did not answer within {timeout_s:g} s.",
                "Check with `docker info` that it is well, and try again.",
            ) from error
        except aiodocker.DockerError as error:
            if error.status == UNREACHABLE:
                raise self._unreachable(error.message) from error
            raise Refused(f"{what}: {_sentence(error.message)}", error.status) from error
        except (aiohttp.ClientError, OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
            # An answer that is cut off in the middle, or that no engine gave, comes up like this.
            raise self._unreachable(str(error) or type(error).__name__) from error

    async def run_or_none(
        self,
        what: str,
        operation: Callable[[aiodocker.Docker], Awaitable[T]],
        timeout_s: float = CALL_S,
        *,
        fine: Collection[int] = (NOT_FOUND,),
    ) -> T | None:
        """The same; None when the engine answers with a status of `fine`: there is nothing to do."""
        try:
            return await self.run(what, operation, timeout_s)
        except Refused as error:
            if error.status in fine:
                return None
            raise

    async def close(self) -> None:
        """Let go of all connections; the next call makes new ones."""
        docker, connector = self._docker, self._connector
        self._docker = self._connector = None
        if docker is not None:
            await docker.close()
        if connector is not None:
            await connector.close()

    def _connected(self) -> aiodocker.Docker:
        if self._docker is None:
            import aiodocker
            import aiohttp

            address = self.address
            # A new connection for each call: an idle one that the engine closes just then would fail the call.
            if address.socket:
                self._connector = aiohttp.UnixConnector(address.socket, force_close=True)
                url = "unix://localhost"
            elif address.tls_dir is not None:
                self._connector = aiohttp.TCPConnector(ssl=address.ssl_context(), force_close=True)
                url = address.host.replace("tcp://", "https://", 1)
            else:
                self._connector = aiohttp.TCPConnector(force_close=True)
                url = address.host.replace("tcp://", "http://", 1)
            self._docker = aiodocker.Docker(url=url.rstrip("/"), connector=self._connector)
        return self._docker

    def _unreachable(self, reason: str) -> EngineError:
        address = self.address
        remedy = "Start Docker, or name the engine to use with DOCKER_HOST or `docker context use`."
        if address.socket:
            path = Path(address.socket)
            if not path.exists():
                reason = "there is no such socket"
            elif not os.access(path, os.W_OK):
                reason = "you may not use this socket"
                remedy = "Run it as a user of the group that owns the socket (usually `docker`)."
            elif "Connection refused" in reason:
                reason = "nothing listens on this socket"
        return EngineError(
            f"the container engine at {address.host} ({address.origin}) can't be reached: {reason}.", remedy
        )


def _sentence(message: str) -> str:
    text = " ".join(message.split())
    return text if text.endswith((".", "!", "?")) else f"{text}."
