"""What a judge gets of a real nginx's access log: who was sent where, what failed there, and nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from nself_deploy.adapters.access_log import AccessLog
from nself_deploy.core.evidence import Request
from nself_deploy.core.log_line import Rules
from nself_deploy.core.log_moves import MARGIN_S, Move
from nself_deploy.core.log_position import LogPosition
from nself_deploy.core.model import Probe, Slot, Split
from tests.real.router_parts import KINDS, SECRET, Bench, simple, slots
from tests.real.router_peers import LIMIT_S, Backend, Client, ask, until
from tests.real.things import docker

pytestmark = pytest.mark.real

TENTH = Split(Slot.BLUE, Slot.GREEN, 10)
PATIENCE_S = 0.5


class Watched:
    """A router whose log is read."""

    def __init__(self, bench: Bench, blue: Backend, green: Backend) -> None:
        self.bench, self.blue, self.green = bench, blue, green
        self.moves = [Move(Split.all_to(Slot.BLUE))]
        self.began = time.time()
        self.log = AccessLog(bench.directory / "log", self.rules)
        self.position = LogPosition()
        self.seen: list[Request] = []
        self.skipped = self.cuts = 0
        self.lost_s = 0.0
        self.patience_s = LIMIT_S

    def rules(self) -> Rules:
        return Rules(Slot.GREEN, tuple(self.moves), self.began, "this one", self.patience_s)

    async def to(self, split: Split) -> None:
        since = time.time()
        await self.bench.router.move(split)
        self.moves.append(Move(split, since, time.time()))
        await asyncio.sleep(2 * MARGIN_S)

    def look(self) -> list[Request]:
        read = self.log.read(self.position)
        assert not read.problem
        self.position = read.position
        self.seen += read.requests
        self.skipped += read.skipped
        self.cuts += read.cuts
        self.lost_s += read.lost_s
        return self.seen

    async def wait_for(self, count: int) -> list[Request]:
        """All requests seen since the last call, when there are so many."""

        async def enough() -> bool:
            return len(self.look()) >= count

        await until(enough, f"{count} requests in the log")
        found, self.seen = self.seen, []
        assert len(found) == count, found
        return found

    def copy_and_empty(self) -> None:
        """As logrotate does with `copytruncate`."""
        log = self.bench.directory / "log" / "access.log"
        if self.bench.kind == "host":
            shutil.copyfile(log, log.with_name("access.log.1"))
            os.truncate(log, 0)
        else:
            script = "cp /var/log/nself/access.log /var/log/nself/access.log.1; : > /var/log/nself/access.log"
            docker("exec", self.bench.name, "sh", "-c", script)  # type: ignore[attr-defined]

    def reopen(self) -> None:
        if self.bench.kind == "host":
            os.kill(int((self.bench.base / "nginx.pid").read_text()), signal.SIGUSR1)
        else:
            docker("kill", "-s", "USR1", self.bench.name)  # type: ignore[attr-defined]

    async def both(self, count: int) -> tuple[int, int]:
        """Requests of so many clients; how many the live slot and the candidate answered."""
        async with Client(self.bench.address) as client:
            texts = [(await client.ask("/", User_Agent=f"agent {n}")).text for n in range(count)]
        return sum(t.startswith("blue") for t in texts), sum(t.startswith("green") for t in texts)


@pytest.fixture(params=["host", "container"])
async def watched(request: pytest.FixtureRequest) -> AsyncIterator[Watched]:
    bench = KINDS[request.param]()
    (bench.directory / "secret").write_text(SECRET)
    async with slots(bench) as (blue, green, plain):
        try:
            simple(bench, plain)
            bench.edit()
            await bench.router.move(Split.all_to(Slot.BLUE))
            await bench.router.install(bench.spec({Slot.BLUE: [blue.address], Slot.GREEN: [green.address]}))
            await bench.router.record(on=True)
            await bench.start()
            made = Watched(bench, blue, green)
            log = bench.directory / "log" / "access.log"
            await until(lambda: _is(log.read_bytes().count(b"\n") == blue.served), "the first requests are in the log")
            made.position = made.log.end()
            yield made
        finally:
            await bench.close()


async def test_each_request_of_both_slots(watched: Watched) -> None:
    await watched.to(TENTH)
    live, ours = await watched.both(200)
    found = await watched.wait_for(200)

    assert (live, ours) == (sum(not r.candidate for r in found), sum(r.candidate for r in found))
    assert live > ours > 0
    assert {r.share for r in found} == {0.1}
    assert {r.route for r in found} == {watched.bench.routes()[0].key}
    assert not any(r.failed for r in found)
    assert all(r.seconds is not None and 0.0 <= r.seconds < 60.0 for r in found)
    assert len({r.client for r in found}) >= 198
    assert [r.at for r in found] == sorted(r.at for r in found)
    assert watched.skipped == 0


async def test_what_failed_and_what_says_nothing(watched: Watched) -> None:
    await watched.to(Split.all_to(Slot.GREEN))
    for status, failed in ((200, False), (404, False), (429, False), (500, True), (503, True)):
        watched.green.status = status
        assert (await ask(watched.bench.address)).status == status
        (found,) = await watched.wait_for(1)
        assert (found.candidate, found.failed, found.share) == (True, failed, 1.0)
    watched.green.status = 200

    async with Client(watched.bench.address) as client:
        await client.send(b"GET /" + b"u" * (1 << 20) + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.reply()).status == 414
    assert (await ask(watched.bench.address, method="B\xc3\xa4D")).status == 400
    probe = await watched.bench.router.probe(watched.bench.routes()[0], Slot.GREEN, Probe("/", timeout_s=LIMIT_S))
    assert probe.ok
    await ask(watched.bench.address)
    (found,) = await watched.wait_for(1)
    assert not found.failed
    assert watched.skipped == 0


async def test_clients_that_do_not_wait(watched: Watched) -> None:
    log = watched.bench.directory / "log" / "access.log"

    async def leave(after_s: float) -> None:
        held = watched.blue.held
        async with Client(watched.bench.address) as client:
            await client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: _is(watched.blue.held > held), "it is held")
            await asyncio.sleep(after_s)

    def left() -> int:
        return log.read_text().count('"status":"499"')

    await leave(0.0)
    await until(lambda: _is(left() == 1), "it is in the log")
    assert not watched.look(), "it says nothing"
    watched.patience_s = PATIENCE_S
    await leave(PATIENCE_S + 0.2)
    (found,) = await watched.wait_for(1)
    assert (found.failed, found.candidate, found.seconds) == (True, False, None)
    assert left() == 2


async def test_the_slot_that_failed_first_has_the_failure(watched: Watched) -> None:
    dead = await Backend("dead").start(watched.bench.host)  # type: ignore[attr-defined]
    await dead.stop()
    servers = {Slot.BLUE: [watched.blue.address], Slot.GREEN: [dead.address, watched.green.address]}
    await watched.bench.router.install(watched.bench.spec(servers))
    await watched.to(Split.all_to(Slot.GREEN))
    for _ in range(20):
        assert (await ask(watched.bench.address)).text.startswith("green")
    found = await watched.wait_for(20)
    # Each worker tries the dead one once, and again a second later if it takes so long; by turns it would be ten times.
    assert 1 <= sum(r.failed for r in found) < 10

    await watched.green.stop()
    assert (await ask(watched.bench.address)).status == 502
    assert (await ask(watched.bench.address, method="POST")).status == 502
    found = await watched.wait_for(2)
    assert all(r.failed and r.candidate for r in found)


async def test_a_rotation_under_load(watched: Watched) -> None:
    """Each request once, while nginx goes from one file to the next and two clients never pause."""
    await watched.to(TENTH)
    log = watched.bench.directory / "log" / "access.log"
    answered, done = 0, asyncio.Event()

    async def client(number: int) -> None:
        nonlocal answered
        async with Client(watched.bench.address) as one:
            while not done.is_set():
                assert (await one.ask("/", User_Agent=f"{number}-{answered % 50}")).status == 200
                answered += 1
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        for number in range(2):
            group.create_task(client(number))
        for _ in range(2):
            before = answered
            await until(lambda: _is(answered > before + 20), "some requests")  # noqa: B023
            watched.look()
            log.rename(log.with_name("access.log.1"))
            before = answered
            await until(lambda: _is(answered > before + 10), "some requests in the old file")  # noqa: B023
            watched.reopen()
            await until(lambda: _is(log.exists() and log.stat().st_size > 2000), "lines in the new file")
            inode = log.stat().st_ino

            async def over() -> bool:
                watched.look()
                return watched.position.inode == inode  # noqa: B023

            await until(over, "the reader is in the new file")
        done.set()
    found = await watched.wait_for(answered)

    assert len(found) == answered
    assert watched.skipped == 0


async def test_a_log_that_is_copied_and_emptied_under_load(watched: Watched) -> None:
    """What is lost is what came since the last look; nothing is read twice, and nothing is taken for something else."""
    await watched.to(TENTH)
    asked, done = 0, asyncio.Event()

    async def client() -> None:
        nonlocal asked
        async with Client(watched.bench.address) as one:
            while not done.is_set():
                assert (await one.ask("/", User_Agent=f"{asked % 50}")).status == 200
                asked += 1
                await asyncio.sleep(0.01)

    async def seen_since(before: int) -> bool:
        return len(watched.look()) > before

    async with asyncio.TaskGroup() as group:
        group.create_task(client())
        for _ in range(3):
            before = len(watched.seen)
            await until(lambda: seen_since(before + 20), "some requests in the log")  # noqa: B023
            watched.copy_and_empty()
            before = len(watched.seen)
            await until(lambda: seen_since(before + 5), "some requests after it was emptied")  # noqa: B023
        done.set()
    log = watched.bench.directory / "log" / "access.log"
    await until(
        lambda: _is(bool(watched.look()) and watched.position.offset == log.stat().st_size), "the end of the log"
    )
    lines = log.read_bytes().count(b"\n")

    assert watched.cuts == 3 and watched.lost_s > 0.0
    assert 0 < lines <= len(watched.seen) <= asked
    assert watched.skipped == 0


async def test_a_move_in_the_middle(watched: Watched) -> None:
    """Every request has the share of the time when it came, or is left out."""
    for percent in (1, 10, 50):
        await watched.to(Split(Slot.BLUE, Slot.GREEN, percent))
        live, ours = await watched.both(150)
        found = await watched.wait_for(150)
        assert (live, ours) == (sum(not r.candidate for r in found), sum(r.candidate for r in found))
        assert {r.share for r in found} == {percent / 100}


SHIELDED = Split(Slot.BLUE, Slot.GREEN, 99, shielded=True)


@pytest.mark.parametrize("answers", [False, True])
async def test_the_shield(watched: Watched, answers: bool) -> None:
    """Users do not see what fails on the candidate, where that is safe; the judge does."""
    bench, servers = watched.bench, {Slot.BLUE: [watched.blue.address], Slot.GREEN: [watched.green.address]}
    await bench.router.install(msgspec.structs.replace(bench.spec(servers), shield_answers=answers))
    await watched.to(SHIELDED)
    green, blue = "green", "blue"

    async def of_the_candidate() -> str:
        """A browser that is one of the candidate's clients; all that was asked for that is in the log."""
        for number in range(20):
            if (await ask(bench.address, User_Agent=f"browser {number}")).text.startswith(green):
                await watched.wait_for(number + 1)
                return f"browser {number}"
        raise AssertionError("nobody is sent to the candidate")

    browser = await of_the_candidate()

    async def asked(method: str) -> tuple[str, int]:
        reply = await ask(bench.address, method=method, User_Agent=browser)
        return reply.text.partition("\n")[0], reply.status

    assert await asked("GET") == await asked("POST") == (green, 200)
    watched.green.status = 503
    served = watched.green.served
    assert [await asked("GET") for _ in range(5)] == [(blue, 200) if answers else (green, 503)] * 5
    assert await asked("POST") == (green, 503)
    assert watched.green.served == served + 6, "it is asked first, each time"

    found = await watched.wait_for(8)
    # Two workers write their lines, each after the answer: not always in the order of the answers.
    assert sorted(r.failed for r in found) == [False] * 2 + [True] * 6
    assert all(r.candidate for r in found)

    await watched.green.stop()
    assert [await asked("GET") for _ in range(5)] == [(blue, 200)] * 5
    assert await asked("POST") == (blue, 200), "it was never sent to the candidate"
    assert all(r.candidate and r.failed for r in await watched.wait_for(6))

    await watched.to(Split(Slot.BLUE, Slot.GREEN, 99))
    assert (await asked("GET"))[1] == 502, "without the shield, and without a reload"
    await watched.to(Split.all_to(Slot.BLUE))
    watched.blue.status = 503
    assert await asked("GET") == (blue, 503)


async def _is(fact: bool) -> bool:
    return fact
