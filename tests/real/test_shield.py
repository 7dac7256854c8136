"""A candidate's failures that users don't see, and one that lets its requests wait: both are found all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import msgspec
import pytest

from nself_deploy.core.model import Slot, Split
from tests.load import LoadProcess
from tests.real import people
from tests.real.router_parts import Bench, HostBench, simple, slots
from tests.real.router_peers import Backend, Client, ask, until
from tests.real.stack import Stack, docker, wait_for
from tests.real.test_canary import CANARY, ended, named, under_way, users

pytestmark = [pytest.mark.real, pytest.mark.few]

SHIELDED = Split(Slot.BLUE, Slot.GREEN, 99, shielded=True)


@pytest.fixture
async def bench() -> AsyncIterator[tuple[Bench, Backend, Backend]]:
    made = HostBench()
    async with slots(made) as (blue, green, plain):
        try:
            simple(made, plain)
            made.edit()
            spec = made.spec({Slot.BLUE: [blue.address], Slot.GREEN: [green.address]})
            await made.router.move(Split.all_to(Slot.BLUE))
            await made.router.install(msgspec.structs.replace(spec, shield_answers=True))
            await made.router.record(on=True)
            await made.start()
            await made.router.move(SHIELDED)
            yield made, blue, green
        finally:
            await made.close()


async def of_the_candidate(bench: Bench) -> str:
    """A browser that is one of the candidate's clients."""
    for number in range(20):
        if (await ask(bench.address, User_Agent=f"browser {number}")).text.startswith("green"):
            return f"browser {number}"
    raise AssertionError("nobody is sent to the candidate")


async def test_what_is_long_is_not_cut_when_a_shield_begins_or_ends(bench: tuple[Bench, Backend, Backend]) -> None:
    """A WebSocket that is quiet and an answer that takes long stay where they are, on the same connections."""
    router, green = bench[0].router, bench[2]
    head = f"HTTP/1.1\r\nHost: a\r\nUser-Agent: {await of_the_candidate(bench[0])}\r\n"
    upgrade = f"GET /ws {head}Upgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    hold = f"GET /hold {head}\r\n"

    async with Client(bench[0].address) as socket, Client(bench[0].address) as slow:
        await socket.send(upgrade.encode())
        assert (await socket.reply()).status == 101
        await slow.send(hold.encode())

        async def held() -> bool:
            return green.held == 1

        async def two_in_flight() -> bool:
            return await router.in_flight(Slot.GREEN) == 2

        await until(held, "the answer is held")
        await until(two_in_flight, "all that was asked before has ended")
        for split in (Split(Slot.BLUE, Slot.GREEN, 99), SHIELDED, Split.all_to(Slot.BLUE)):
            await bench[0].to(split)
            await asyncio.sleep(1.0)
        await socket.send(b"still there")
        assert socket._streams
        assert await asyncio.wait_for(socket._streams[0].readexactly(17), 60) == b"green:still there"
        green.release()
        assert (await slow.reply()).text.startswith("green")


async def test_a_request_that_is_cut_off_is_answered_by_the_live_slot(bench: tuple[Bench, Backend, Backend]) -> None:
    """It waits on the candidate, which is removed: a GET is asked again, a POST is not."""
    place, blue, green = bench
    browser = await of_the_candidate(place)

    async def asked(method: str) -> tuple[int, str]:
        reply = await ask(place.address, "/hold", method=method, User_Agent=browser)
        return reply.status, reply.text.partition("\n")[0]

    blue.release()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asked(method)) for method in ("GET", "POST")]

        async def held() -> bool:
            return green.held == 2

        await until(held, "both are held")
        await green.stop()
    assert tasks[0].result() == (200, "blue")
    assert tasks[1].result()[0] == 502


@pytest.fixture(scope="module")
def shop() -> Iterator[Stack]:
    stack = people.shop("shield")
    try:
        stack.nself("init", "--yes")
        stack.nself(*people.QUICK, SHOP_RELEASE="first")
        yield stack
    finally:
        stack.remove()


def test_a_candidate_that_hangs_is_taken_back_within_seconds_and_nobody_gets_an_error(shop: Stack) -> None:
    mix = users()
    patient = replace(
        mix,
        streams=tuple(replace(stream, timeout_s=240) for stream in mix.streams),
        # However late it is first asked how many wait, more and more come to wait afterwards.
        limits=replace(mix.limits, in_flight=4000),
    )
    with LoadProcess(patient, shop.url) as load:
        process = shop.start_nself("--json", *CANARY, "--soak", "10m", SHOP_RELEASE="hanging")
        under_way(shop)
        candidate = people.split(shop).split("-")[1]
        (web,) = [n for n in shop.slots()[candidate] if "web" in n]
        docker("kill", "--signal", "STOP", web)
        status, document, err = ended(process)
        report = load.stop()
    print(report.result_line(), document["error"])

    assert status == 5, err
    assert (document["verdict"], document["final_percent"], document["rolled_back"]) == ("fail", 0, True)
    assert "the candidate hangs: " in document["error"] and "none was answered for " in document["error"]
    assert named(document, "Judge")["seconds"] < 120
    assert report.failed == 0, people.told(report)
    assert shop.releases_served() == {"first"}
    assert wait_for(lambda: not shop.slots()[candidate], "the candidate is gone") is True
