"""What is under way when traffic moves: it ends where it began, and what never ends is closed properly in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.load import Answer, Kind, Limits, LoadMix, LoadProcess, Outcome, Report, Stream
from tests.load.drive import Driven, drive
from tests.load.health import HealthWatch
from tests.real import people
from tests.real.stack import Stack, docker

pytestmark = pytest.mark.real

QUICK = ["--min-uptime", "1s", "--health-timeout", "240s"]
SOCKETS = 3
LONG_S = 240.0
"""Longer than a busy machine takes."""
LENGTHS = (3, 4, 5)
"""Seconds: they differ, so that there is no moment at which nothing is under way."""


@dataclass
class Moved:
    """A run that moved traffic, seen from outside (monotonic seconds)."""

    driven: Driven
    report: Report
    unhealthy: list[str]
    drain_over: float
    linked_at: float
    """When the link was renamed, by the file system: at no time later than what was said of it."""

    @property
    def at(self) -> float:
        """When the other slot was confirmed."""
        return self.report.moment("moved")

    @property
    def drain(self) -> tuple[str, float]:
        """What the drain said, and its seconds."""
        line = next(line for line in self.driven.lines if line.startswith("[done] Drain"))
        return line, next(s for _, name, s in self.driven.steps if name.startswith("Drain"))

    def straddling(self, kind: str, old: str) -> list[Answer]:
        """Requests of these streams that were under way with the old release when traffic moved."""
        return [
            a for a in self.report.records if a.stream.startswith(kind) and a.release == old and a.end > self.linked_at
        ]


def long_mix(*, sockets: int) -> LoadMix:
    """Clients that are always in the middle of something."""
    size = 512
    limits = Limits(duration_s=1500, requests=20_000)
    streams = [
        stream
        for s in LENGTHS
        for stream in (
            Stream(Kind.SLOW, f"/slow?seconds={s}", clients=1, name=f"slow {s}", timeout_s=LONG_S),
            Stream(
                Kind.DOWNLOAD, f"/download?kb={size}&seconds={s}", clients=1, name=f"download {s}", timeout_s=LONG_S,
                expect_bytes=size * 1024,
            ),
            Stream(
                Kind.UPLOAD, "/echo", clients=1, name=f"upload {s}", timeout_s=LONG_S, over_s=s, body_bytes=size * 1024,
            ),
        )
    ]  # fmt: skip
    if sockets:
        streams.append(
            Stream(Kind.WEBSOCKET, "/ws", clients=sockets, name="websocket", timeout_s=LONG_S, tick_timeout_s=120)
        )
    return LoadMix(tuple(streams), limits=limits)


def seconds_of(answer: Answer) -> float:
    """How long it takes at least: a busy client may learn of its end long after the router.

    A download's last piece leaves a tenth of a second before its time is over.
    """
    return float(answer.stream.rpartition(" ")[2]) - 0.2


def move(stack: Stack, words: list[str], *, sockets: int = SOCKETS, release: str = "") -> Moved:
    """Run the command while the long requests go on, and for a while after it."""
    ends: list[float] = []
    moves: list[float] = []

    def say(line: str) -> None:
        if line.startswith("[done] Drain"):
            ends.append(time.monotonic())
        if line.startswith("[done] Move traffic"):
            link = (stack.root / ".nself/router/current").lstat()
            moves.append(time.monotonic() - (time.time() - link.st_ctime))

    mix = long_mix(sockets=sockets)
    with HealthWatch(stack) as watch, LoadProcess(mix, stack.url) as load:
        load.wait_requests(len(mix.streams), LONG_S)
        driven = drive(stack, load, words, moved="moved", say=say, **({"SHOP_RELEASE": release} if release else {}))
        assert driven.status == 0, driven
        goal = load.snapshot().ok + len(mix.streams)
        load.wait_until(
            lambda now: now.ok >= goal and now.websocket.opened >= 2 * sockets, LONG_S, "all clients afterwards"
        )
        report = load.stop()
        unhealthy = watch.served_unhealthy(report)
    print(f"\n{driven}\n{report.table()}\ndrain over {ends[0] - report.moment('moved'):.1f} s after the move")
    return Moved(driven, report, unhealthy, ends[0], moves[0])


def all_intact(moved: Moved, old: str) -> None:
    """Nothing failed; of each kind something was under way at the move, and the old release ended it."""
    assert moved.report.failed == 0, moved.report.table()
    assert not moved.unhealthy, moved.unhealthy[:5]
    for kind in ("slow", "download", "upload"):
        found = moved.straddling(kind, old)
        assert found, f"no {kind} was under way at the move"
        assert {(a.outcome, a.status) for a in found} == {(Outcome.OK, 200)}, found


def sockets_closed(moved: Moved, old: str, new: str, drain_s: float, *, within_s: float) -> None:
    """Each WebSocket stayed to the end of the drain, was closed properly, and came back to the new release."""
    stats = moved.report.websocket
    assert (stats.opened, stats.proper_closes, stats.abnormal) == (2 * SOCKETS, SOCKETS, 0)
    opened = [a for a in moved.report.records if a.stream == "websocket"]
    assert [a.release for a in opened] == [old] * SOCKETS + [new] * SOCKETS
    for again in opened[SOCKETS:]:
        assert drain_s <= again.start - moved.linked_at <= drain_s + within_s


@pytest.fixture(scope="module")
def shop() -> Iterator[Stack]:
    stack = people.unhurried(people.shop("drain"))
    try:
        stack.nself("init", "--yes")
        stack.nself(*QUICK, SHOP_RELEASE="d0")
        yield stack
    finally:
        stack.remove()


def test_with_nothing_in_flight_the_drain_is_over_at_once(shop: Stack) -> None:
    driven = drive(shop, None, [*QUICK, "--drain", "60s", "--standby", "0"], SHOP_RELEASE="d1")
    assert driven.status == 0, driven
    line = next(line for line in driven.lines if line.startswith("[done] Drain"))
    assert "nothing in flight" in line
    assert next(s for _, name, s in driven.steps if name.startswith("Drain")) < 30


def test_requests_end_on_the_old_slot_and_the_drain_with_them(shop: Stack) -> None:
    old = shop.release_served()
    moved = move(shop, [*QUICK, "--drain", "60s", "--standby", "0"], sockets=0, release="d2")
    all_intact(moved, old)
    assert not moved.report.wrong_after("moved", "d2")
    line, seconds = moved.drain
    assert "nothing in flight" in line
    assert seconds < 50
    assert moved.drain_over >= max(a.sent + seconds_of(a) for a in moved.report.records if a.release == old)
    assert shop.slots() == {"blue": shop.slots()["blue"], "green": []}


def test_websockets_stay_until_the_drain_ends_and_their_slot_is_removed(shop: Stack) -> None:
    old = shop.release_served()
    moved = move(shop, [*QUICK, "--drain", "9s", "--standby", "0"], release="d3")
    all_intact(moved, old)
    assert not moved.report.wrong_after("moved", "d3")
    sockets_closed(moved, old, "d3", 9, within_s=240)
    line, seconds = moved.drain
    assert "still in flight after 9 s: closed with their containers" in line
    assert 9 <= seconds < 120
    assert shop.slots()["blue"] == []


def test_websockets_of_a_warm_standby_are_closed_and_it_is_warm_again(shop: Stack) -> None:
    old = shop.release_served()
    moved = move(shop, [*QUICK, "--drain", "9s", "--standby", "2h"], release="d4")
    all_intact(moved, old)
    sockets_closed(moved, old, "d4", 9, within_s=240)
    assert "still in flight after 9 s: closed, by restarting their containers" in moved.drain[0]
    standby = shop.containers(f"{shop.name}-green")
    states = {c["Name"]: c["State"] for c in standby if c["State"].get("Health")}
    assert len(states) == 2, "web and api"
    assert {(s["Running"], s["Health"]["Status"]) for s in states.values()} == {(True, "healthy")}, states


def test_a_rollback_closes_the_websockets_of_the_newer_release(shop: Stack) -> None:
    newer, older = shop.release_served(), "d3"
    moved = move(shop, ["rollback", "--drain", "9s"], release=newer)
    all_intact(moved, newer)
    assert not moved.report.wrong_after("moved", older)
    sockets_closed(moved, newer, older, 9, within_s=240)
    assert not [name for _, name, _ in moved.driven.steps if name.startswith("Start")], "it was not warm"
    assert shop.release_served() == older
    log = docker("logs", f"{shop.name}-router-1")
    assert '" 502 ' not in log
    assert '" 504 ' not in log
