"""Who gets the candidate, counted by the clients: shares, cookies, testers; and nobody goes back and forth."""

from __future__ import annotations

import asyncio
import json
import math
import re
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from nself_deploy.core.log_line import LineReader, Other, Rules
from nself_deploy.core.log_moves import Move
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.routing import Override
from tests.real.router_parts import KINDS, SECRET, Bench, simple, slots
from tests.real.router_peers import LIMIT_S, Backend, Client, Reply, ask, until
from tests.real.things import docker

pytestmark = pytest.mark.real

SHARES = (1, 5, 10, 50)
CLIENTS = 1200
CONNECTIONS = 12
WORD = "only-testers-know-this"


@dataclass
class Shop:
    """A router that takes clients' addresses from X-Forwarded-For, with two slots behind it."""

    bench: Bench
    blue: Backend
    green: Backend

    async def split(self, sticky: str = "client", override: Override | None = None) -> None:
        """Clients are told apart like this from now on."""
        servers = {Slot.BLUE: [self.blue.address], Slot.GREEN: [self.green.address]}
        spec = msgspec.structs.replace(self.bench.spec(servers, sticky=sticky), override=override)
        await self.bench.router.install(spec)

    async def share(self, percent: int) -> None:
        """The candidate, green, gets this share."""
        split = Split(Slot.BLUE, Slot.GREEN, percent) if percent else Split.all_to(Slot.BLUE)
        await self.bench.router.move(split)
        await self.bench.router.confirm(split, LIMIT_S)

    def reloads(self) -> int:
        """How often nginx has loaded its files anew."""
        if self.bench.kind == "host":
            return (self.bench.base / "error.log").read_text().count("reconfiguring")
        return docker("logs", self.bench.name).count("reconfiguring")  # type: ignore[attr-defined]


@pytest.fixture(params=["host", "container"])
async def shop(request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    bench = KINDS[request.param]()
    (bench.directory / "secret").write_text(SECRET)
    async with slots(bench) as (blue, green, plain):
        try:
            bench.know(plain)
            bench.conf.write_text(_files(bench, plain))
            bench.edit(cookie=True)
            made = Shop(bench, blue, green)
            await bench.router.move(Split.all_to(Slot.BLUE))
            await made.split()
            await bench.router.record(on=True)
            await bench.start()
            yield made
        finally:
            await bench.close()


def _files(bench: Bench, app: Backend) -> str:
    passed = f"proxy_pass http://{bench.app(app)}; proxy_set_header Host $host;"  # type: ignore[attr-defined]
    off = "add_header_inherit off; " if bench.kind == "container" else ""  # the host's nginx may not know it yet
    return bench.http(f"""    set_real_ip_from 0.0.0.0/0;
    real_ip_header X-Forwarded-For;
    add_header X-Everywhere yes always;
    server {{
        listen {bench.listen};
        server_name ~^([a-z]+)\\.example$;
        location / {{ {passed} }}
        location /own/ {{ add_header X-Own yes; {passed} }}
        location /off/ {{ {off}{passed} }}
        location = /site {{ return 200 "site $1"; }}
    }}
    server {{
        listen {bench.listen};
        server_name static;
        location / {{ return 200 "static"; }}
    }}
""")  # type: ignore[attr-defined]


def address(number: int) -> str:
    """The address of a client."""
    return f"198.{18 + number // 65025}.{number // 255 % 255}.{number % 255 + 1}"


def within(count: int, total: int, percent: int) -> bool:
    """Whether so many of them lie in the middle 99.9 % of what chance gives."""
    share = percent / 100
    logs = [
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
        + k * math.log(share) + (total - k) * math.log1p(-share)
        for k in range(total + 1)
    ]  # fmt: skip
    below = math.fsum(math.exp(one) for one in logs[: count + 1])
    above = math.fsum(math.exp(one) for one in logs[count:])
    return min(below, above) > 0.0005


@dataclass
class Person:
    """A client: its address, what it keeps of a cookie, and which slot it met at each request."""

    number: int
    keeps_cookies: bool = False
    cookie: str = ""
    met: list[str] = field(default_factory=list)

    def headers(self) -> dict[str, str]:
        here = self.number if not self.keeps_cookies else (self.number * 7919 + len(self.met) * 104729) % 60000
        return {"X_Forwarded_For": address(here), **({"Cookie": f"shop_split={self.cookie}"} if self.cookie else {})}

    def answered(self, reply: Reply) -> None:
        assert reply.status == 200
        given = re.match(r"shop_split=([0-9a-f]{32});", reply.headers.get("set-cookie", ""))
        if given:
            assert self.keeps_cookies and not self.cookie
            self.cookie = given[1]
        self.met.append(reply.text.split("\n", 1)[0])


async def each_asks(shop: Shop, people: list[Person]) -> None:
    """Each client asks once, over connections that are new."""

    async def some(mine: list[Person]) -> None:
        async with Client(shop.bench.address) as client:
            for person in mine:
                person.answered(await client.ask("/", **person.headers()))

    async with asyncio.TaskGroup() as group:
        for number in range(CONNECTIONS):
            group.create_task(some(people[number::CONNECTIONS]))


async def grown(shop: Shop, people: list[Person]) -> list[int]:
    """How many met the candidate at each share while it grew, and once all is taken back."""
    for percent in (*SHARES, 100, 0):
        await shop.share(percent)
        await each_asks(shop, people)
    return [sum(person.met[step] == "green" for person in people) for step in range(len(SHARES) + 2)]


def went_once(met: list[str]) -> bool:
    """Whether somebody went to the candidate at most once, stayed, and is back at the end."""
    return re.fullmatch(r"b*g*b+", "".join(name[0] for name in met)) is not None


async def test_a_share_of_the_addresses_and_each_stays(shop: Shop) -> None:
    people = [Person(number) for number in range(CLIENTS)]
    before = shop.reloads()
    counts = await grown(shop, people)

    assert [within(count, CLIENTS, share) for count, share in zip(counts, SHARES, strict=False)] == [True] * 4, counts
    assert counts[-2:] == [CLIENTS, 0]
    assert all(went_once(person.met) for person in people)
    assert shop.reloads() == before


async def test_a_share_of_the_cookies_and_each_stays_wherever_it_comes_from(shop: Shop) -> None:
    await shop.split("cookie:shop_split")
    for last in (
        False,
        False,
        True,
    ):  # cookies are drawn anew each time: one sample in 250 misses an interval
        people = [Person(number, keeps_cookies=True) for number in range(CLIENTS)]
        counts = await grown(shop, people)
        fits = [within(count, CLIENTS, share) for count, share in zip(counts, SHARES, strict=False)]
        assert all(went_once(person.met) for person in people)
        assert counts[-2:] == [CLIENTS, 0]
        assert len({person.cookie for person in people} - {""}) == CLIENTS
        if all(fits) or last:
            break
    assert all(fits), counts


async def test_nobody_goes_back_and_forth_under_way(shop: Shop) -> None:
    await shop.split("cookie:shop_split")
    people = [Person(number, keeps_cookies=number % 2 == 0) for number in range(40)]
    for person in people[1::2]:
        person.cookie = f"of its own {person.number}"
    done = asyncio.Event()

    async def visits(person: Person) -> None:
        while not done.is_set():
            async with Client(shop.bench.address) as client:
                for _ in range(4):
                    person.answered(await client.ask("/", **person.headers()))
                    await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        for person in people:
            group.create_task(visits(person))
        for percent in (1, 5, 10, 50, 100, 0):
            await shop.share(percent)
            seen = {person.number: len(person.met) for person in people}
            await until(lambda: _is(all(len(p.met) > seen[p.number] + 1 for p in people)), "all asked")  # noqa: B023
        done.set()

    assert all(went_once(person.met) and "green" in person.met for person in people)


async def test_a_random_split_is_by_request(shop: Shop) -> None:
    await shop.split("random")
    await shop.share(10)
    people = [Person(1) for _ in range(CLIENTS)]
    for last in (False, False, True):
        await each_asks(shop, people)
        green = sum(person.met[-1] == "green" for person in people)
        if within(green, CLIENTS, 10) or last:
            break
    assert within(green, CLIENTS, 10)


async def test_the_cookie_and_its_flags(shop: Shop) -> None:
    await shop.split("cookie:shop_split")

    async def given(path: str = "/", **words: str) -> str:
        return (await ask(shop.bench.address, path, **words)).headers.get("set-cookie", "")

    wanted = r"shop_split=[0-9a-f]{32}; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax"
    assert re.fullmatch(wanted, await given())
    assert re.fullmatch(wanted, await given("/own/page", Sec_Fetch_Dest="document"))
    assert re.fullmatch(f"{wanted}; Secure", await given(X_Forwarded_Proto="https"))
    assert await given() != await given()
    assert re.fullmatch(wanted, await given("/off/page"))
    shop.blue.status = 500
    assert re.fullmatch(wanted, await given("/broken"))
    shop.blue.status = 200
    own = await ask(shop.bench.address, "/own/page")
    assert own.headers["x-own"] == "yes" and "x-everywhere" not in own.headers
    assert (await ask(shop.bench.address, "/")).headers["x-everywhere"] == "yes"

    for words in (
        {"method": "POST", "Content_Length": "0"},
        {"Sec_Fetch_Dest": "image"},
        {"Sec_Fetch_Dest": "iframe"},
        {"Cookie": "shop_split=somebody-else-set-this"},
        {"Host": "static"},
    ):
        assert await given(**words) == "", words
    for path in ("/", "/own/page"):
        assert "set-cookie" not in (await ask(shop.bench.address, path, Cookie=f"shop_split={'a' * 32}")).headers

    await shop.split()
    assert await given() == await given("/own/page") == ""


@pytest.mark.parametrize("value", ["x" * 7000, "\xff\xfe\x80\x01", "$remote_addr", '";}', "../../current", "00"])
async def test_a_strange_cookie_is_a_client_like_any_other(shop: Shop, value: str) -> None:
    await shop.split("cookie:shop_split")
    await shop.share(50)
    async with Client(shop.bench.address) as client:
        met = [await client.ask("/", Cookie=f"shop_split={value}", X_Forwarded_For=address(n)) for n in range(20)]

    assert {reply.status for reply in met} == {200}
    assert len({reply.text.split("\n")[0] for reply in met}) == 1


async def test_testers_choose_and_are_no_evidence(shop: Shop) -> None:
    await shop.split("cookie:shop_split", Override(WORD, "X-Shop-Slot", "shop_slot"))

    async def met(said: str, number: int = 0) -> set[str]:
        by_header = await ask(shop.bench.address, "/", X_Shop_Slot=said, X_Forwarded_For=address(number))
        by_cookie = await ask(shop.bench.address, "/", Cookie=f"a=b; shop_slot={said}; c=d")
        return {by_header.text.split("\n")[0], by_cookie.text.split("\n")[0]}

    for percent, live, candidate in ((0, "blue", "blue"), (1, "blue", "green"), (50, "blue", "green")):
        await shop.share(percent)
        assert await met(f"live:{WORD}") == {live}
        assert await met(f"candidate:{WORD}") == await met(f"candidate:{WORD.upper()}") == {candidate}
    await shop.share(100)
    assert await met(f"live:{WORD}") == await met(f"candidate:{WORD}") == {"green"}

    await shop.share(1)
    log = shop.bench.directory / "log" / "access.log"
    answered = shop.blue.served + shop.green.served  # nginx writes the line after the answer
    await until(lambda: _is(log.read_bytes().count(b"\n") == answered), "all lines of before are there")
    known = log.read_bytes()
    for _ in range(5):
        await met(f"candidate:{WORD}")
        await met(f"live:{WORD}")
    await ask(shop.bench.address, "/last", User_Agent="last")
    await until(lambda: _is(log.read_bytes().removeprefix(known).count(b"\n") == 21), "all lines are there")
    lines = log.read_bytes().removeprefix(known).splitlines()
    reader = LineReader(Rules(Slot.GREEN, (Move(Split(Slot.BLUE, Slot.GREEN, 1)),)))
    found = [reader.line(line) for line in lines]
    assert [one is Other.NOT_OURS for one in found].count(True) == 20
    testers = [line for line, one in zip(lines, found, strict=True) if one is Other.NOT_OURS]
    assert {json.loads(line)["bucket"] for line in testers} == {"candidate", "live"}
    assert WORD not in log.read_text()


async def test_the_public_chooses_nothing(shop: Shop) -> None:
    async def green(**words: str) -> int:
        async with Client(shop.bench.address) as client:
            asked = [await client.ask("/", X_Forwarded_For=address(n), **words) for n in range(150)]
        return sum(reply.text.startswith("green") for reply in asked)

    await shop.share(10)
    usual = await green()
    assert 0 < usual < 40
    said = ["candidate", "candidate:", f"candidate:{WORD[:-1]}", "00", "green", f"green:{WORD}"]
    for override in (None, Override(WORD, "X-Shop-Slot", "shop_slot")):
        await shop.split("client", override)
        for one in said:
            assert await green(X_Shop_Slot=one, Cookie=f"shop_slot={one}") == usual, one
    await shop.split()
    assert await green(X_Shop_Slot=f"candidate:{WORD}", Cookie=f"shop_slot=candidate:{WORD}") == usual

    await shop.split("client", Override(WORD, "X-Shop-Slot"))
    tree = shop.bench.directory / "tree"
    assert [path.name for path in tree.iterdir() if WORD in path.read_text()] == ["override.conf"]
    assert (tree / "override.conf").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("sticky", ["client", "cookie:shop_split"])
async def test_what_the_users_files_captured_stays(shop: Shop, sticky: str) -> None:
    await shop.split(sticky, Override(WORD, "X-Shop-Slot", "shop_slot"))
    for words in ({}, {"Cookie": f"shop_split={'a' * 32}"}, {"X_Shop_Slot": f"live:{WORD}"}):
        assert (await ask(shop.bench.address, "/site", Host="books.example", **words)).text == "site books"


async def test_over_tls_the_cookie_is_for_tls_only(tmp_path: Path) -> None:
    bench = KINDS["host"]()
    key, certificate, port = tmp_path / "key.pem", tmp_path / "certificate.pem", bench.address[1]
    await asyncio.to_thread(_certify, key, certificate)
    async with slots(bench) as (blue, green, plain):
        try:
            simple(bench, plain)
            tls = f"listen {bench.listen};\n listen 127.0.0.2:{port} ssl; ssl_certificate {certificate};"  # type: ignore[attr-defined]
            text = bench.conf.read_text().replace(f"listen {bench.listen};", f"{tls} ssl_certificate_key {key};")  # type: ignore[attr-defined]
            bench.conf.write_text(text)
            bench.edit(cookie=True)
            await bench.router.move(Split.all_to(Slot.BLUE))
            await Shop(bench, blue, green).split("cookie:shop_split")
            await bench.start()
            trusted = ssl.create_default_context(cafile=str(certificate))
            reader, writer = await asyncio.open_connection("127.0.0.2", port, ssl=trusted, server_hostname="localhost")
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            writer.close()
            assert re.search(r"^Set-Cookie: shop_split=\w{32}; .*SameSite=Lax; Secure\r$", head, re.MULTILINE), head
            plain_cookie = (await ask(bench.address)).headers["set-cookie"]
            assert plain_cookie.endswith("; SameSite=Lax")
        finally:
            await bench.close()


def _certify(key: Path, certificate: Path) -> None:
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    command = ["openssl", *words, "-subj", "/CN=localhost", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True, timeout=300)


async def _is(fact: bool) -> bool:
    return fact
