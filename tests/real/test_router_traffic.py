"""Moving traffic on real nginx: nothing is lost, shares are what they say, and what is in flight is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nself_deploy.adapters.nginx_store import LOG_LIMIT
from nself_deploy.core.model import Probe, Slot, Split
from nself_deploy.errors import RouterError
from tests.real.router_parts import KINDS, Bench, simple, slots
from tests.real.router_peers import LIMIT_S, Backend, Client, ask, until

pytestmark = pytest.mark.real


class Live:
    """A router with two slots behind it."""

    def __init__(self, bench: Bench, blue: Backend, green: Backend, plain: Backend) -> None:
        self.bench, self.blue, self.green, self.plain = bench, blue, green, plain
        self.router = bench.router
        self.to = bench.to


@pytest.fixture(params=["host", "container"])
async def live(request: pytest.FixtureRequest) -> AsyncIterator[Live]:
    bench = KINDS[request.param]()
    async with slots(bench) as (blue, green, plain):
        try:
            simple(bench, plain)
            bench.edit()
            spec = bench.spec({Slot.BLUE: [blue.address], Slot.GREEN: [green.address]})
            await bench.router.move(Split.all_to(Slot.BLUE))
            await bench.router.install(spec)
            await bench.router.record(on=True)
            await bench.start()
            await until(lambda: bench.is_in_flight(Slot.BLUE, 0), "nothing is in flight")
            blue.heads.clear()
            yield Live(bench, blue, green, plain)
        finally:
            await bench.close()


async def test_flips_under_load_lose_nothing(live: Live) -> None:
    failures: list[str] = []
    answers = [0] * 12
    done = asyncio.Event()

    async def client(number: int) -> None:
        while not done.is_set():
            try:
                async with Client(live.bench.address) as one:
                    for _ in range(25 if number % 2 else 1):
                        reply = await one.ask("/x", "POST", b"a" * 2000, User_Agent=str(number))
                        answers[number] += 1
                        if reply.status != 200:
                            failures.append(str(reply.status))
                        await asyncio.sleep(0.004)
            except (OSError, asyncio.IncompleteReadError) as error:
                failures.append(repr(error))

    async with asyncio.TaskGroup() as group:
        for number in range(len(answers)):
            group.create_task(client(number))
        for turn in range(24):
            slot, other = (Slot.GREEN, live.blue) if turn % 2 == 0 else (Slot.BLUE, live.green)
            await live.to(Split.all_to(slot))
            # A worker that stood still may have decided about a request and not counted it yet: that one has its answer
            # when each client has one more.
            then = list(answers)
            await until(lambda: _is(all(map(int.__lt__, then, answers))), "an answer for everybody")  # noqa: B023
            for _ in range(2):
                await until(lambda: live.bench.is_in_flight(slot.other, 0), "nothing is in flight")  # noqa: B023
                before, so_far = other.served, sum(answers)
                await until(lambda: _is(sum(answers) > so_far + 20), "some more answers")  # noqa: B023
            assert other.served == before
        done.set()

    assert failures == []
    assert sum(answers) > 480


async def test_shares_are_sticky_and_only_grow(live: Live) -> None:
    async def green_agents() -> set[int]:
        async with Client(live.bench.address) as client:
            return {n for n in range(1000) if (await client.ask("/", User_Agent=f"agent {n}")).text.startswith("green")}

    found = {}
    for percent in (1, 10, 50):
        await live.to(Split(Slot.BLUE, Slot.GREEN, percent))
        found[percent] = await green_agents()
        assert found[percent] == await green_agents()

    assert found[1] < found[10] < found[50]
    assert len(found[1]) <= 35  # chance misses one of these in a hundred million runs
    assert 46 <= len(found[10]) <= 165
    assert 410 <= len(found[50]) <= 590


async def test_green_can_be_the_base(live: Live) -> None:
    await live.to(Split(Slot.GREEN, Slot.BLUE, 100))
    assert (await ask(live.bench.address)).text.startswith("blue")
    await live.to(Split(Slot.GREEN, Slot.BLUE, 1))
    met = {(await ask(live.bench.address, User_Agent=f"agent {n}")).text.split("\n")[0] for n in range(8)}
    assert "green" in met


@pytest.mark.parametrize(("held", "said"), [(1, 1), (3, 2), (5, 4)])
async def test_requests_in_flight_are_counted(live: Live, held: int, said: int) -> None:
    await until(lambda: live.bench.is_in_flight(Slot.BLUE, 0), "nothing is in flight")
    waiting = [asyncio.create_task(ask(live.bench.address, f"/hold/{n}")) for n in range(held)]
    await until(lambda: _is(live.blue.held == held), "all are held")

    await until(lambda: live.bench.is_in_flight(Slot.BLUE, said), "so many are said to be in flight")
    await until(lambda: live.bench.is_in_flight(Slot.GREEN, 0), "nothing is in flight")
    await live.to(Split.all_to(Slot.GREEN))
    await until(lambda: live.bench.is_in_flight(Slot.BLUE, said), "so many are said to be in flight")

    live.blue.release()
    assert {(await one).text.split("\n")[0] for one in waiting} == {"blue"}
    await until(lambda: live.bench.is_in_flight(Slot.BLUE, 0), "nothing is in flight")


async def test_an_upgraded_connection_counts_until_it_ends(live: Live) -> None:
    async with Client(live.bench.address) as client:
        reply_head = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
        await client.send(reply_head.encode())
        assert (await client.reply()).status == 101
        await live.to(Split.all_to(Slot.GREEN))
        await until(lambda: live.bench.is_in_flight(Slot.BLUE, 1), "one is in flight")
    await until(lambda: live.bench.is_in_flight(Slot.BLUE, 0), "the WebSocket has gone")


async def test_an_upload_that_nginx_still_buffers_counts(live: Live) -> None:
    async with Client(live.bench.address) as client:
        await client.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n" + b"x" * 1000)
        await until(lambda: live.bench.is_in_flight(Slot.BLUE, 1), "the upload is counted")
        await live.to(Split.all_to(Slot.GREEN))
        assert live.blue.heads == live.green.heads == []
        await until(lambda: live.bench.is_in_flight(Slot.BLUE, 1), "one is in flight")

        await client.send(b"x" * 3000)
        assert (await client.reply()).text.startswith("blue")


async def test_an_internal_redirect_keeps_the_slot(live: Live) -> None:
    """A request that nginx sends on inside itself stays where it was decided, also when traffic moved meanwhile."""
    text = live.bench.conf.read_text()
    app = text[text.index("proxy_pass") :].split(";")[0]
    extra = f"""        location = /first {{ {app}; proxy_intercept_errors on; error_page 418 = /second; }}
        location = /second {{ {app}; }}
"""
    live.bench.conf.write_text(text.replace("        location / {", extra + "        location / {", 1))
    await live.bench.stop()
    await live.bench.start()
    live.blue.status = 418
    live.green.status = 200
    waiting = asyncio.create_task(ask(live.bench.address, "/first"))
    assert (await waiting).status == 418
    assert [head.split(b" ")[1] for head in live.blue.heads[-2:]] == [b"/first", b"/second"]
    assert not any(b"/second" in head for head in live.green.heads)


async def test_nothing_about_slots_is_public(live: Live) -> None:
    public = [
        await ask(live.bench.address, target)
        for target in ("/", "/nself", "/tree", f"/{'0' * 64}/tree", f"/{live.router.base_spec().secret}/tree")
    ]
    for reply in public:
        assert not any("nself" in f"{k}{v}".lower() or v in ("blue", "green") for k, v in reply.headers.items())
    for header in ("X-Nself-Slot", "X-Slot", "nself_shop_slot"):
        reply = await ask(live.bench.address, "/", **{header: "green"})
        assert reply.text.startswith("blue")

    await live.router.observe()
    seen = json.loads((live.bench.directory / "address.json").read_text())
    host, _, port = seen["address"].rpartition(":")
    for target in ("/", "/tree", "/split/00", "/inflight/blue/1", f"/{'0' * 64}/tree"):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await ask((host, int(port)), target)
    assert (live.bench.directory / "secret").stat().st_mode & 0o777 == 0o600
    assert (live.bench.directory / "tree" / "probe.conf").stat().st_mode & 0o777 == 0o600


def lines(log: Path, method: str) -> list[dict[str, Any]]:
    """The whole lines of this method; nginx writes one after it has sent the answer, and each worker when it can."""
    whole = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in whole if line["method"] == method]


async def test_the_access_log_says_who_served_what(live: Live) -> None:
    log = live.bench.directory / "log" / "access.log"
    for client in ('a "quoted" one', "b", "c"):
        await ask(live.bench.address, "/one?q=%22", method="PROPFIND", User_Agent=client)
    await live.to(Split.all_to(Slot.GREEN))
    live.green.status = 503
    await ask(live.bench.address, "/two", method="PROPPATCH")
    await until(lambda: _is(len(lines(log, "PROPFIND")) == 3 and len(lines(log, "PROPPATCH")) == 1), "four lines")

    (first, *others), (second,) = lines(log, "PROPFIND"), lines(log, "PROPPATCH")
    route = live.bench.routes()[0].key
    assert (first["slot"], first["route"], first["status"]) == ("blue", route, "200")
    assert (second["slot"], second["route"], second["status"]) == ("green", route, "503")
    assert first["upstream_addr"] == live.blue.address
    assert second["upstream_status"] == "503"
    assert isinstance(first["time"], float) and isinstance(first["request_time"], float)
    assert len(first["client"]) == 6 and first["client"].isdigit()
    assert len({first["client"], *(other["client"] for other in others)}) > 1
    assert "quoted" not in log.read_text() and '127.0.0.1"' not in log.read_text()


async def test_probing_a_slot_through_the_router(live: Live) -> None:
    route, any_path = live.bench.routes()[0], Probe("/", timeout_s=LIMIT_S)
    wanted = Probe("/health?a=b%2Fc&d", "shop.example", timeout_s=LIMIT_S)
    answer = await live.router.probe(route, Slot.GREEN, wanted)
    assert answer.ok and answer.status == 200
    head = live.green.heads[-1].decode()
    assert head.startswith("GET /health?a=b%2Fc&d HTTP/1.1\r\n")
    assert "\r\nHost: shop.example\r\n" in head
    assert "nself" not in head.lower() and live.router.base_spec().secret not in head
    assert not live.blue.heads

    live.green.status = 500
    refused = await live.router.probe(route, Slot.GREEN, any_path)
    assert not refused.ok and refused.status == 500 and "answered 500" in refused.detail
    await live.green.stop()
    gone = await live.router.probe(route, Slot.GREEN, any_path)
    assert not gone.ok and gone.status == 502
    await until(lambda: live.bench.is_in_flight(Slot.GREEN, 0), "nothing is in flight")


async def test_a_router_that_is_down_says_so(live: Live) -> None:
    await live.router.observe()
    await live.bench.stop()

    await live.router.move(Split.all_to(Slot.GREEN))
    with pytest.raises(RouterError, match="is not running"):
        await live.router.confirm(Split.all_to(Slot.GREEN), timeout_s=1)
    with pytest.raises(RouterError, match="is not running"):
        await live.router.in_flight(Slot.BLUE)
    state = await live.router.observe()
    assert not state.running and state.loaded_tree == "" and state.tree and state.split == Split.all_to(Slot.GREEN)

    await live.bench.start()
    assert (await ask(live.bench.address)).text.startswith("green")
    await live.router.confirm(Split.all_to(Slot.GREEN), LIMIT_S)


async def test_moves_and_questions_need_no_engine(live: Live) -> None:
    await live.router.observe()
    bench = live.bench
    before = getattr(bench, "asked", 0)
    await live.to(Split(Slot.BLUE, Slot.GREEN, 10))
    await live.to(Split.all_to(Slot.GREEN))
    await until(lambda: live.bench.is_in_flight(Slot.BLUE, 0), "nothing is in flight")
    assert getattr(bench, "asked", 0) == before


async def _is(fact: bool) -> bool:
    return fact


async def test_cookies_and_random_splits(live: Live) -> None:
    bench = live.bench
    servers = {Slot.BLUE: [live.blue.address], Slot.GREEN: [live.green.address]}
    await live.to(Split(Slot.BLUE, Slot.GREEN, 50))

    await bench.router.install(bench.spec(servers, sticky="cookie:sid"))
    async with Client(bench.address) as client:
        by_cookie = {
            n: {(await client.ask("/", Cookie=f"sid={n}", User_Agent=str(k))).text[:4] for k in range(5)}
            for n in range(40)
        }
    assert all(len(seen) == 1 for seen in by_cookie.values())
    assert len({next(iter(seen)) for seen in by_cookie.values()}) == 2

    await bench.router.install(bench.spec(servers, sticky="random"))
    async with Client(bench.address) as client:
        seen = [(await client.ask("/")).text[:4] for _ in range(200)]
    assert 60 < seen.count("gree") < 140


async def test_an_idle_connection_does_not_outlive_its_slot(live: Live) -> None:
    from nself_deploy.core.model import Route

    await ask(live.bench.address)
    await until(lambda: _is(not live.blue._tasks), "without keepalive nothing stays open")
    route = live.bench.routes()[0]
    kept = Route(route.key, route.service, route.port, keepalive=8)
    await live.bench.router.install(live.bench.spec({Slot.BLUE: [live.blue.address]}, [kept]))

    async def stays_open() -> bool:
        await ask(live.bench.address)
        return bool(live.blue._tasks)

    async with asyncio.timeout(LIMIT_S):
        while not await stays_open():  # two seconds later it may be closed before we look
            pass
    await until(lambda: _is(not live.blue._tasks), "idle connections are closed")


async def test_a_change_of_structure_under_keep_alive_load() -> None:
    """Where nginx has keepalive_min_timeout a reload loses no POST on the wire either."""
    bench = KINDS["container"]()
    failures: list[str] = []
    answers = 0
    done = asyncio.Event()

    async def client() -> None:
        nonlocal answers
        try:
            while not done.is_set():
                async with Client(bench.address) as one:
                    closing = False
                    while not closing and not done.is_set():
                        reply = await one.ask("/x", "POST", b"a" * 500)
                        answers += 1
                        closing = reply.headers.get("connection") == "close"
                        if reply.status != 200:
                            failures.append(str(reply.status))
                        await asyncio.sleep(0.005)
        except (OSError, asyncio.IncompleteReadError) as error:
            failures.append(repr(error))

    try:
        async with slots(bench) as (blue, green, plain):
            simple(bench, plain)
            bench.edit()
            await bench.router.move(Split.all_to(Slot.BLUE))
            await bench.router.install(bench.spec({Slot.BLUE: [blue.address]}))
            await bench.start()
            async with asyncio.TaskGroup() as group:
                for _ in range(10):
                    group.create_task(client())
                for servers in ([blue.address, green.address], [blue.address], [green.address], [blue.address]):
                    await bench.router.install(bench.spec({Slot.BLUE: servers}))
                    before = answers
                    await until(lambda: _is(answers > before + 100), "some more requests")  # noqa: B023
                done.set()
    finally:
        await bench.close()
    assert failures == []
    assert answers > 400


async def test_the_access_log_is_kept_only_while_it_is_asked_for(live: Live) -> None:
    log = live.bench.directory / "log" / "access.log"

    async def asked(path: str) -> None:
        await ask(live.bench.address, path, method="PROPFIND")

    def mine() -> int:
        return len(lines(log, "PROPFIND"))

    await until(lambda: _is(not live.blue.held), "nothing is under way")
    await asked("/recorded")
    await until(lambda: _is(log.exists() and mine() == 1), "a line")
    await live.router.record(on=False)
    for _ in range(20):
        await asked("/not-recorded")
    await live.router.record(on=True)
    await asked("/recorded")
    await until(lambda: _is(mine() == 2), "one more line of this client")


async def test_a_large_access_log_is_put_aside(live: Live) -> None:
    log = live.bench.directory / "log" / "access.log"
    await ask(live.bench.address, "/recorded")
    await until(lambda: _is(log.exists() and log.stat().st_size > 0), "a line")
    with log.open("ab") as file:
        file.truncate(LOG_LIMIT + 1)
    await live.router.record(on=True)
    await until(lambda: _is(log.exists() and log.stat().st_size < LOG_LIMIT), "a new file")

    async def recorded() -> bool:
        await ask(live.bench.address, "/recorded")  # a worker that has not been told yet writes into the old file
        return "upstream_addr" in log.read_text()

    await until(recorded, "a line in the new file")

    assert log.with_suffix(".log.1").stat().st_size > LOG_LIMIT
