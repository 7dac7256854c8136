"""A change of the router's files while a worker of before stands still."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from nself_deploy.core.model import Slot, Split
from tests.real.router_parts import Bench, simple, slots
from tests.real.router_peers import ask, until

pytestmark = pytest.mark.real


async def test_files_are_loaded_when_nobody_takes_requests_with_those_of_before(bench: Bench) -> None:
    """nginx's new workers take requests while one of before has not heard yet that it shall end."""
    async with slots(bench) as (blue, green, plain):
        simple(bench, plain)
        bench.edit()
        await bench.router.move(Split.all_to(Slot.BLUE))
        await bench.router.install(bench.spec({Slot.BLUE: [blue.address]}))
        await bench.start()
        answers: list[str] = []
        stopped = (await bench.workers())[0].pid
        bench.signal(stopped, "STOP")  # before there are users: none of them waits for it
        async with _users(bench, answers):
            installing = asyncio.create_task(
                bench.router.install(bench.spec({Slot.BLUE: [blue.address], Slot.GREEN: [green.address]}))
            )
            await until(lambda: _is_loaded(bench), "the new workers answer")
            before = len(answers)
            await until(lambda: _is(len(answers) > before + 400), "the users are served")
            assert not installing.done()
            bench.signal(stopped, "CONT")
            await installing
            await bench.to(Split.all_to(Slot.GREEN))
            before = len(answers)
            await until(lambda: _is(len(answers) > before + 200), "the users are served")
        assert set(answers) == {"blue", "green"}, "nobody was sent where the files of before know no server"


@contextlib.asynccontextmanager
async def _users(bench: Bench, answers: list[str]) -> AsyncIterator[None]:
    """Four of them, who ask until the end; what each was answered."""
    done = asyncio.Event()

    async def user() -> None:
        while not done.is_set():
            reply = await ask(bench.address)
            answers.append(reply.text.split("\n")[0] if reply.status == 200 else str(reply.status))
            await asyncio.sleep(0.003)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(user())
        try:
            yield
        finally:
            done.set()


async def _is_loaded(bench: Bench) -> bool:
    state = await bench.router.observe()
    return state.tree == state.loaded_tree


async def _is(fact: bool) -> bool:
    return fact
