"""Installing the router's files on real nginx: adoption, refusals, restarts, copies, two projects on one nginx."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from nself_deploy.adapters.nginx import NginxRouter
from nself_deploy.core.model import RouterRef, Slot, Split
from nself_deploy.core.nginx_edit import Services, plan_edit
from nself_deploy.errors import RouterError
from tests.real.free_ports import free_port
from tests.real.router_parts import KINDS, Bench, CopiedBench, HostBench, simple, slots
from tests.real.router_peers import LIMIT_S, Client, ask, until
from tests.real.things import docker

pytestmark = pytest.mark.real


@pytest.fixture
async def copied() -> AsyncIterator[CopiedBench]:
    made = CopiedBench()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def host() -> AsyncIterator[HostBench]:
    made = HostBench()
    try:
        yield made
    finally:
        await made.close()


async def _adopt(bench: Bench) -> None:
    """A stack that runs as the user wrote it becomes ours under load, and its traffic moves to blue."""
    async with slots(bench) as (blue, green, plain):
        simple(bench, plain)
        await bench.start()
        failures: list[str] = []
        answers = [0] * 4
        done = asyncio.Event()

        async def client(number: int) -> None:
            while not done.is_set():
                try:
                    reply = await ask(bench.address, "/", User_Agent="load")
                    answers[number] += 1
                    if reply.status != 200:
                        failures.append(f"{reply.status} {reply.text[:80]}")
                except (OSError, asyncio.IncompleteReadError) as error:
                    failures.append(repr(error))
                await asyncio.sleep(0.003)

        async with asyncio.TaskGroup() as group, Client(bench.address) as websocket:
            for number in range(len(answers)):
                group.create_task(client(number))
            await websocket.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
            assert (await websocket.reply()).status == 101
            bench.edit()
            assert bench.router.split() is None
            spec = bench.spec({Slot.PLAIN: [plain.address], Slot.BLUE: [blue.address], Slot.GREEN: [green.address]})
            await bench.router.install(spec)
            assert bench.router.split() == Split.all_to(Slot.PLAIN)
            assert (await ask(bench.address)).text.startswith("plain")
            await until(lambda: _has_old_workers(bench), "an old worker stays for the WebSocket")
            before = list(answers)  # what a worker from before serves is not counted
            await until(lambda: _each_more(answers, before), "everybody has asked the new workers")

            await bench.to(Split.all_to(Slot.BLUE))
            moved = list(answers)  # a worker may have decided about a request before, and not counted it yet
            await until(lambda: _each_more(answers, moved), "everybody was answered since the move")
            for _ in range(2):
                await until(lambda: bench.is_in_flight(Slot.PLAIN, 0), "plain is drained")
                served = plain.served
                assert {(await ask(bench.address)).text[:4] for _ in range(20)} == {"blue"}
            assert plain.served == served
            done.set()
        await until(lambda: _no_old_workers(bench), "the old worker ends with its WebSocket")

        await bench.router.install(bench.spec({Slot.BLUE: [blue.address], Slot.GREEN: [green.address]}))
        assert (await ask(bench.address)).text.startswith("blue")
        await until(lambda: bench.is_in_flight(Slot.PLAIN, 0), "nothing is in flight")
    assert failures == []


async def _each_more(answers: list[int], before: list[int]) -> bool:
    return all(now >= then + 2 for now, then in zip(answers, before, strict=True))


async def _has_old_workers(bench: Bench) -> bool:
    return await bench.router.old_workers() >= 1


async def _no_old_workers(bench: Bench) -> bool:
    return not await _has_old_workers(bench)


async def test_a_running_nginx_is_adopted_without_a_gap(bench: Bench) -> None:
    await _adopt(bench)


async def test_a_container_that_does_not_see_our_directory_gets_copies(copied: CopiedBench) -> None:
    await _adopt(copied)


async def test_copies_follow_moves_and_survive_a_stop(copied: CopiedBench) -> None:
    async with slots(copied) as (blue, green, plain):
        simple(copied, plain)
        await copied.start()
        copied.edit()
        await copied.router.move(Split.all_to(Slot.BLUE))
        await copied.router.install(copied.spec({Slot.BLUE: [blue.address], Slot.GREEN: [green.address]}))
        state = await copied.router.observe()
        assert not state.mounted and state.loaded_tree == state.tree != ""

        await copied.to(Split.all_to(Slot.GREEN))
        assert (await ask(copied.address)).text.startswith("green")
        await copied.to(Split(Slot.GREEN, Slot.BLUE, 50))
        await copied.stop()
        await copied.router.move(Split.all_to(Slot.BLUE))
        await copied.start()
        assert (await ask(copied.address)).text.startswith("blue")
        await copied.router.confirm(Split.all_to(Slot.BLUE), LIMIT_S)


async def test_a_refused_file_changes_nothing(bench: Bench) -> None:
    async with slots(bench) as (blue, green, plain):
        simple(bench, plain)
        bench.edit()
        await bench.router.move(Split.all_to(Slot.BLUE))
        good = await bench.router.install(bench.spec({Slot.BLUE: [blue.address]}))
        await bench.start()
        right = bench.conf.read_text()
        bench.conf.write_text(right.replace("listen ", "lisp ", 1))

        with pytest.raises(RouterError) as caught:
            await bench.router.install(bench.spec({Slot.BLUE: [blue.address], Slot.GREEN: [green.address]}))

        assert 'unknown directive "lisp"' in " ".join(caught.value.evidence)
        state = await bench.router.observe()
        assert state.tree == state.loaded_tree == good
        assert (await ask(bench.address)).text.startswith("blue")
        assert len(list((bench.directory / "trees").iterdir())) == 1

        bench.conf.write_text(right)
        better = await bench.router.install(bench.spec({Slot.BLUE: [blue.address], Slot.GREEN: [green.address]}))
        assert better != good
        assert (await bench.router.observe()).loaded_tree == better


async def test_the_same_files_are_not_loaded_again(bench: Bench) -> None:
    async with slots(bench) as (blue, _, plain):
        simple(bench, plain)
        bench.edit()
        await bench.router.move(Split.all_to(Slot.BLUE))
        spec = bench.spec({Slot.BLUE: [blue.address]})
        first = await bench.router.install(spec)
        await bench.start()
        async with Client(bench.address) as client:
            await client.ask("/")
            files = {p: p.stat().st_mtime_ns for p in (bench.directory / "tree").iterdir()}
            assert await bench.router.install(spec) == first
            assert await bench.router.install(spec) == first
            assert (await client.ask("/")).status == 200  # a reload would have closed it
            assert {p: p.stat().st_mtime_ns for p in (bench.directory / "tree").iterdir()} == files
        assert await bench.router.old_workers() == 0


async def test_a_restart_keeps_the_split(bench: Bench) -> None:
    async with slots(bench) as (blue, green, plain):
        simple(bench, plain)
        bench.edit()
        await bench.router.install(bench.spec({Slot.BLUE: [blue.address], Slot.GREEN: [green.address]}))
        await bench.router.move(Split.all_to(Slot.GREEN))
        await bench.start()
        assert (await ask(bench.address)).text.startswith("green")
        await bench.stop()
        assert not (await bench.router.observe()).running
        await bench.start()
        assert (await ask(bench.address)).text.startswith("green")
        await bench.router.confirm(Split.all_to(Slot.GREEN), LIMIT_S)


async def test_a_route_without_a_server_answers_502(bench: Bench) -> None:
    async with slots(bench) as (blue, _, plain):
        simple(bench, plain)
        bench.edit()
        await bench.router.move(Split.all_to(Slot.GREEN))
        await bench.router.install(bench.spec({Slot.BLUE: [blue.address]}))
        await bench.start()
        assert (await ask(bench.address)).status == 502
        await bench.router.move(Split.all_to(Slot.BLUE))
        assert (await ask(bench.address)).status == 200


async def test_http_conf_that_is_not_included_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nself_deploy.adapters.nginx.LOAD_S", 1.0)
    async with slots(bench) as (blue, _, plain):
        simple(bench, plain)
        await bench.start()
        route = plan_edit(bench.sources(), bench.services, bench.project, bench.seen).routes[0]
        with pytest.raises(RouterError, match=r"did not load them.*http\.conf is included"):
            await bench.router.install(bench.spec({Slot.BLUE: [blue.address]}, [route]))
        assert not (bench.directory / "tree").is_symlink()
        assert (await ask(bench.address)).text.startswith("plain")


async def test_a_taken_probe_port_leaves_nginx_as_it_was(host: HostBench) -> None:
    async with slots(host) as (blue, _, plain):
        simple(host, plain)
        await host.start()
        host.edit()
        spec = host.spec({Slot.PLAIN: [plain.address], Slot.BLUE: [blue.address]})
        address, _, port = spec.probe_listen.rpartition(":")
        with socket.socket() as taken, pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr("nself_deploy.adapters.nginx.LOAD_S", 1.0)
            monkeypatch.setattr("nself_deploy.adapters.nginx._ASK_S", 1.0)  # who took the port never answers
            taken.bind((address, int(port)))
            taken.listen()
            with pytest.raises(RouterError, match=f"port {port} of the probe server"):
                await host.router.install(spec)
        assert (await ask(host.address)).text.startswith("plain")
        await host.router.install(spec)
        assert (await ask(host.address)).text.startswith("plain")


async def test_a_directory_that_workers_cannot_read_is_noticed(host: HostBench) -> None:
    async with slots(host) as (blue, _, plain):
        simple(host, plain)
        host.edit()
        host.base.chmod(0o700)
        await host.router.install(host.spec({Slot.BLUE: [blue.address]}))
        await host.start()
        workers_are_others = os.geteuid() == 0  # nobody's, while the directory is root's
        refused = pytest.raises(RouterError, match="can't read our directory")
        with refused if workers_are_others else contextlib.nullcontext():
            await host.router.install(host.spec({Slot.BLUE: [blue.address, plain.address]}))
        host.base.chmod(0o755)
        await host.router.install(host.spec({Slot.BLUE: [blue.address, plain.address]}))


async def test_two_projects_share_one_nginx(host: HostBench) -> None:
    """One file, two servers, two projects whose names begin alike: each moves by itself."""
    async with slots(host) as (blue, green, _):
        other = host.base / "other" / ".nself" / "router"
        other.mkdir(parents=True)
        ref = msgspec.structs.replace(host.ref, probe_port=free_port())
        routers = {"shop": host.router, "shop-two": NginxRouter(other, ref, "shop-two")}
        seen = {"shop": str(host.directory), "shop-two": str(other)}
        second = ("127.0.0.1", free_port())
        host.conf.write_text(
            host.http(f"""    server {{
        listen {host.listen};
        location / {{ proxy_pass http://127.0.0.1:1111; }}
    }}
    server {{
        listen 127.0.0.1:{second[1]};
        location / {{ proxy_pass http://127.0.0.1:2222; }}
    }}
""")
        )
        for project, service in (("shop", ("web", 1111)), ("shop-two", ("two_web", 2222))):
            host.project, host.seen = project, seen[project]
            host.services = Services({service[0]: service[0]}, {}, {service[1]: service})
            host.edit()
            router = routers[project]
            spec = host.spec({Slot.BLUE: [blue.address], Slot.GREEN: [green.address]})
            base = router.base_spec()
            await router.move(Split.all_to(Slot.BLUE))
            await router.install(
                type(spec)(project, spec.upstreams, base.directory, base.log_directory, base.probe_listen, base.secret)
            )
            await router.record(on=True)
        await host.start()

        await routers["shop"].move(Split.all_to(Slot.GREEN))
        await routers["shop"].confirm(Split.all_to(Slot.GREEN), LIMIT_S)
        await routers["shop-two"].confirm(Split.all_to(Slot.BLUE), LIMIT_S)
        assert (await ask(host.address)).text.startswith("green")
        assert (await ask(second)).text.startswith("blue")
        for router in routers.values():
            await until(lambda: _counts(router, 0), "nothing is in flight")  # noqa: B023
        waiting = asyncio.create_task(ask(second, "/hold"))
        await until(lambda: _held(blue.held), "it is held")
        await until(lambda: _counts(routers["shop"], 0), "none of the first project's is in flight")
        await until(lambda: _counts(routers["shop-two"], 1), "one of the second one's is")
        blue.release()
        assert (await waiting).status == 200
        first, second_log = (r.base_spec().log_directory for r in routers.values())
        await until(lambda: _has_lines(second_log, 2), "nginx writes a line after it has sent the answer")
        await until(lambda: _has_lines(first, 1), "the first one's")
        assert all('"route":"web_1111"' in line for line in _lines(first))
        assert all('"route":"two_web_2222"' in line for line in _lines(second_log))


def _lines(directory: str) -> list[str]:
    return Path(directory, "access.log").read_text().splitlines()


async def _has_lines(directory: str, count: int) -> bool:
    return len(_lines(directory)) >= count


async def _counts(router: NginxRouter, number: int) -> bool:
    return await router.in_flight(Slot.BLUE) == number


async def _held(number: int) -> bool:
    return number > 0


async def test_a_recreated_container_is_found_again(tmp_path: Path) -> None:
    made = KINDS["container"]()
    try:
        async with slots(made) as (blue, green, plain):
            simple(made, plain)
            made.edit()
            await made.router.move(Split.all_to(Slot.BLUE))
            await made.router.install(made.spec({Slot.BLUE: [blue.address], Slot.GREEN: [green.address]}))
            await made.start()
            await made.router.confirm(Split.all_to(Slot.BLUE), LIMIT_S)
            placeholder = docker("run", "-d", "busybox:1.37", "sleep", "60")
            docker("rm", "-f", made.name)  # type: ignore[attr-defined]
            try:
                other = docker("run", "-d", "busybox:1.37", "sleep", "60")  # it takes the old address
                await made.start()
                await made.to(Split.all_to(Slot.GREEN))
                assert (await made.router.observe()).running
            finally:
                docker("rm", "-f", placeholder, other)
    finally:
        await made.close()


async def test_the_router_needs_its_service() -> None:
    from nself_deploy.core.model import RouterKind

    with pytest.raises(ValueError, match="needs the engine"):
        NginxRouter(Path("/nowhere"), RouterRef(RouterKind.SERVICE, service="router"), "shop")
