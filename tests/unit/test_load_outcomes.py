"""Every misdeed of a server is one failed request of the right sort, and only those are."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from dataclasses import replace

import pytest

from tests.load import Kind, Limits, Load, LoadMix, Outcome, Report, Stream
from tests.load.badserver import BadServer
from tests.unit.patience import patiently

QUICK = Limits(duration_s=20, requests=30)


def run(stream: Stream, limits: Limits = QUICK, **mix: object) -> tuple[Report, Counter[str], BadServer]:
    """Load a misbehaving server with one stream until a limit is reached."""

    async def scenario() -> tuple[Report, Counter[str], BadServer]:
        async with (
            BadServer() as server,
            Load(LoadMix((stream,), limits=limits, **mix), server.url) as load,  # type: ignore[arg-type]
        ):
            return await load.wait(), server.did, server

    return patiently(scenario())


MISDEEDS = {
    "reset-midway": Outcome.RESET,
    "truncate": Outcome.TRUNCATED,
    "truncate-head": Outcome.TRUNCATED,
    "truncate-chunked": Outcome.TRUNCATED,
    "unavailable": Outcome.BAD_STATUS,
    "garbage": Outcome.BAD_BODY,
    "extra": Outcome.BAD_BODY,
    "no-length": Outcome.BAD_BODY,
    "hang": Outcome.TIMEOUT,
}


@pytest.mark.parametrize("kind", [Kind.GET, Kind.POST, Kind.ONE_SHOT_GET, Kind.ONE_SHOT_POST])
@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_each_misdeed_is_counted_once(kind: Kind, misdeed: str) -> None:
    report, did, _ = run(Stream(kind, f"/every/10/{misdeed}", clients=3, timeout_s=0.2, check_echo=False))

    assert did[misdeed] == 3
    assert report.outcomes == {"ok": 27, MISDEEDS[misdeed]: 3}
    assert (report.requests, report.failed) == (30, 3)
    assert len(report.failures) == 3
    assert all(f.local_port and f.detail and f.outcome == MISDEEDS[misdeed] for f in report.failures)


@pytest.mark.parametrize("misdeed", ["reset", "close"])
def test_no_answer_on_a_fresh_connection_is_a_reset(misdeed: str) -> None:
    report, did, _ = run(Stream(Kind.ONE_SHOT_POST, f"/every/10/{misdeed}", clients=1))

    assert report.outcomes == {"ok": 27, "reset": 3}
    assert did[misdeed] == 3


@pytest.mark.parametrize("misdeed", ["reset", "close"])
@pytest.mark.parametrize("kind", [Kind.GET, Kind.POST])
def test_no_answer_on_a_reused_connection_has_its_own_name(kind: Kind, misdeed: str) -> None:
    report, did, _ = run(Stream(kind, f"/every/10/{misdeed}", clients=1))

    assert report.outcomes == {"ok": 27, "unexpected_close_on_reused_connection": 3}
    assert did[misdeed] == 3
    assert [f.nth_on_connection for f in report.failures] == [10] * 3


def test_nothing_is_sent_twice_by_default() -> None:
    report, did, server = run(Stream(Kind.GET, "/close-reused", clients=1))

    assert server.requests == report.requests == 30
    assert report.failed == did["close-reused"] == 15
    assert report.stale_retries == 0


def test_a_get_may_be_retried_as_browsers_do_and_is_counted_apart() -> None:
    report, did, _ = run(Stream(Kind.GET, "/close-reused", clients=1), retry_idempotent_on_stale=True)

    assert report.failed == 0
    assert report.stale_retries == did["close-reused"] > 10


def test_a_post_is_never_retried() -> None:
    stream = Stream(Kind.POST, "/close-reused", clients=1, check_echo=False)
    report, did, server = run(stream, retry_idempotent_on_stale=True)

    assert report.failed == did["close-reused"] == 15
    assert report.stale_retries == 0
    assert server.requests == 30


@pytest.mark.parametrize("path", ["/unlike", "/wrong-echo"])
@pytest.mark.parametrize("kind", [Kind.POST, Kind.ONE_SHOT_POST, Kind.UPLOAD])
def test_a_body_that_arrived_otherwise_is_a_bad_body(kind: Kind, path: str) -> None:
    report, did, _ = run(Stream(kind, path, clients=1, over_s=0.05), replace(QUICK, requests=5))

    assert report.outcomes == {"bad_body": 5}
    assert did[path[1:]] == 5


@pytest.mark.parametrize("kind", [Kind.POST, Kind.ONE_SHOT_POST, Kind.UPLOAD])
@pytest.mark.parametrize("size", [0, 1, 2048, 300_000])
def test_bodies_of_any_size_come_back_as_they_were_sent(kind: Kind, size: int) -> None:
    report, _, server = run(Stream(kind, "/echo", clients=1, body_bytes=size, over_s=0.1), replace(QUICK, requests=5))

    assert report.outcomes == {"ok": 5}, report.table()
    assert server.requests == 5


def test_an_upload_takes_its_time_and_an_early_refusal_is_seen() -> None:
    slow, _, _ = run(Stream(Kind.UPLOAD, "/echo", clients=1, over_s=0.5), replace(QUICK, requests=2))
    early, did, _ = run(Stream(Kind.UPLOAD, "/too-large", clients=1, over_s=5), replace(QUICK, requests=2))

    assert slow.failed == 0
    assert slow.latency_ms(0) == pytest.approx(500, abs=1)
    assert early.outcomes == {"bad_status": 2}
    assert did["too-large"] == 2
    assert all("413" in f.detail and f.took_s < 4 for f in early.failures)


def test_downloads_are_checked_to_the_last_byte() -> None:
    good = Stream(Kind.DOWNLOAD, "/download", clients=1, expect_bytes=10_240)
    limits = replace(QUICK, requests=4)

    assert run(good, limits)[0].outcomes == {"ok": 4}
    assert run(replace(good, expect_bytes=10_241), limits)[0].outcomes == {"bad_body": 4}
    assert run(replace(good, path="/truncate-chunked"), limits)[0].outcomes == {"truncated": 4}


def test_a_slow_reader_reads_slowly() -> None:
    stream = Stream(Kind.DOWNLOAD, "/download?kb=200", clients=1, expect_bytes=204_800, read_bytes_per_s=200_000)
    report, _, _ = run(stream, replace(QUICK, requests=1))

    assert report.failed == 0
    assert 600 < report.latency_ms(1) < 1100


def test_expected_text_is_looked_for() -> None:
    limits = replace(QUICK, requests=5)

    assert run(Stream(Kind.GET, "/ok", clients=1, expect_text="hello"), limits)[0].outcomes == {"ok": 5}
    assert run(Stream(Kind.GET, "/ok", clients=1, expect_text="goodbye"), limits)[0].outcomes == {"bad_body": 5}


def test_a_connection_that_the_server_closes_while_idle_is_no_failure_but_is_counted() -> None:
    limits = replace(QUICK, requests=10)
    report, did, server = run(Stream(Kind.GET, "/close-idle", clients=1, think_s=0.08), limits)

    assert report.failed == 0, report.table()
    assert server.connections == did["close-idle"] == 10
    assert report.idle_closes >= 9


def test_an_announced_close_is_no_failure_and_the_connection_is_not_used_again() -> None:
    report, _, server = run(Stream(Kind.GET, "/closing", clients=1))

    assert report.failed == 0
    assert server.connections == 30


def test_bytes_that_nobody_asked_for_are_a_failure_of_their_own() -> None:
    report, did, _ = run(Stream(Kind.GET, "/stray", clients=1, think_s=0.5), replace(QUICK, requests=5))

    assert report.outcomes == {"ok": 5, "bad_body": did["stray"]}
    assert report.requests == 5 + did["stray"]
    assert "another thing" in report.failures[0].detail


def test_nobody_listening_is_refused() -> None:
    async def scenario(port: int) -> Report:
        mix = LoadMix((Stream(Kind.GET, "/", clients=1),), limits=replace(QUICK, requests=3))
        async with Load(mix, f"http://127.0.0.1:{port}") as load:
            return await load.wait()

    with socket.socket() as held:  # bound, never listening: nobody else can take the port
        held.bind(("127.0.0.1", 0))
        report = patiently(scenario(held.getsockname()[1]))

    assert report.outcomes == {"refused": 3}
    assert report.per_release == {}


def test_a_connection_that_is_never_accepted_times_out() -> None:
    async def scenario(port: int) -> Report:
        mix = LoadMix((Stream(Kind.GET, "/", clients=1, timeout_s=0.2),), limits=replace(QUICK, requests=2))
        async with Load(mix, f"http://127.0.0.1:{port}") as load:
            return await load.wait()

    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        report = patiently(scenario(deaf.getsockname()[1]))

    assert report.outcomes == {"timeout": 2}


def test_a_rate_that_the_server_cannot_take_is_reported_and_not_lowered() -> None:
    limits = Limits(duration_s=1.0, in_flight=4, waiting=5)
    stream = Stream(Kind.GET, "/slow?seconds=0.1", share=1)
    report, _, server = run(stream, limits, rate=200)

    assert 199 <= report.paced.due <= 201
    assert report.paced.started + report.outcomes[Outcome.NOT_SENT] == report.paced.due == report.requests
    assert report.outcomes["ok"] == server.requests == report.paced.started < 50
    assert report.failed == report.outcomes[Outcome.NOT_SENT] > 100
    assert 150 < report.paced.late_max_ms < 250


def test_late_answers_do_not_lower_the_rate_and_the_wait_is_part_of_the_latency() -> None:
    report, _, server = run(Stream(Kind.GET, "/slow?seconds=0.2", share=1), Limits(duration_s=1), rate=200)

    assert report.failed == 0
    assert 199 <= server.requests == report.requests <= 201
    assert report.latency_ms(0.5) == pytest.approx(200, abs=10)


def test_keep_alive_stays_keep_alive_when_the_server_gets_slow() -> None:
    stream = Stream(Kind.GET, "/slow?seconds=0.1", share=1, connections=2)
    report, _, server = run(stream, Limits(duration_s=1, in_flight=40), rate=200)

    assert report.failed == 0
    assert 199 <= server.requests <= 201
    assert 15 <= server.connections <= 25


def test_streams_share_the_rate_as_configured() -> None:
    async def scenario() -> Report:
        streams = (
            Stream(Kind.GET, "/ok", share=3, name="three"),
            Stream(Kind.POST, "/echo", share=1, name="one"),
            Stream(Kind.ONE_SHOT_GET, "/ok", clients=1, think_s=0.01, name="closed"),
        )
        async with BadServer() as server, Load(LoadMix(streams, 400, Limits(duration_s=0.7)), server.url) as load:
            return await load.wait()

    report = patiently(scenario())

    assert report.failed == 0
    assert report.stopped_because == "duration"
    assert report.per_kind["three"].requests == pytest.approx(3 * report.per_kind["one"].requests, abs=3)
    assert report.per_kind["closed"].requests == pytest.approx(70, abs=2)
    assert report.paced.rate == pytest.approx(400, rel=0.05)


def test_people_take_turns_and_are_told_apart() -> None:
    stream = Stream(Kind.POST, "/echo", share=1, people=4, headers={"User-Agent": "person {person}"})

    report, _, server = run(stream, rate=300)

    assert Counter(answer.person for answer in report.records) == {1: 8, 2: 8, 3: 7, 4: 7}
    assert server.agents == {f"person {n}": count for n, count in ((1, 8), (2, 8), (3, 7), (4, 7))}


def test_giving_up_leaves_nothing_behind() -> None:
    async def scenario() -> int:
        streams = (Stream(Kind.SLOW, "/hang", clients=3), Stream(Kind.GET, "/ok", share=1))
        async with BadServer() as server:
            async with Load(LoadMix(streams, 50), server.url):
                while server.did["hang"] < 3:
                    await asyncio.sleep(0)
            return len(asyncio.all_tasks()) - 1 - len(server._peers)

    assert patiently(scenario()) == 0
