"""What the router does when a worker of nginx stands still while it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nself_deploy.adapters import nginx
from nself_deploy.adapters.nginx import NginxRouter
from nself_deploy.core.model import HostRouter, RouterKind, RouterRef
from nself_deploy.errors import RouterError


class Worker:
    """A probe server that says so to the question whether it can read; the first ones of these have no answer."""

    def __init__(self, says: str, silent: int) -> None:
        self.says, self.silent, self.asked = says, silent, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = "a tree"
                if head.split()[1].endswith(b"/reads"):
                    self.asked += 1
                    if self.asked <= self.silent:
                        continue
                    body = self.says
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        except asyncio.IncompleteReadError:
            writer.close()


@asynccontextmanager
async def a_router(directory: Path, worker: Worker) -> AsyncIterator[NginxRouter]:
    async with await asyncio.start_server(worker.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        router = NginxRouter(directory, RouterRef(RouterKind.HOST, host=HostRouter(), probe_port=port), "shop")
        assert await router._learn() == "a tree"
        yield router


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx, "_ASK_S", 0.5)


async def test_a_worker_that_gives_no_answer_is_asked_again(tmp_path: Path) -> None:
    worker = Worker("yes", 2)
    async with a_router(tmp_path, worker) as router:
        await router._refuse_unreadable()
    assert worker.asked == 3


async def test_one_that_can_not_read_is_refused_at_once(tmp_path: Path) -> None:
    worker = Worker("no", 0)
    async with a_router(tmp_path, worker) as router:
        with pytest.raises(RouterError, match="can't read our directory"):
            await router._refuse_unreadable()
    assert worker.asked == 1


async def test_one_that_never_answers_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nginx, "LOAD_S", 1.0)
    worker = Worker("yes", 1000)
    async with a_router(tmp_path, worker) as router:
        with pytest.raises(RouterError, match="does not answer"):
            await router._refuse_unreadable()
    assert worker.asked >= 2
