"""The generator in a process of its own, driven from synchronous code."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.load import Kind, Limits, LoadError, LoadMix, LoadProcess, Paths, Stream, process
from tests.load.badserver import BadServerThread
from tests.load.books import Books
from tests.load.records import Attempt, Outcome
from tests.load.report import snapshot_of

PATHS = Paths("/ok", "/echo", "/download", "/slow?seconds=0.1", "/ws")


def test_a_release_change_under_the_standard_mix_is_seen_and_nothing_fails() -> None:
    with BadServerThread() as server, LoadProcess(LoadMix.standard(200, paths=PATHS), server.url) as load:
        load.wait_requests(200)
        server.release = "v2"
        at = load.mark("flip confirmed")
        load.wait_until(lambda now: now.per_release.get("v2", 0) >= 100)
        before = time.monotonic()
        server.release = "v1"
        back = time.monotonic()
        load.wait_requests(50)
        report = load.stop()

    assert report.failed == 0, report.table()
    assert report.moment("flip confirmed") == at
    assert report.started_at < at < report.stopped_at
    assert report.per_release["v2"] >= 100
    first = report.first_after("flip confirmed", "v1")  # the server went back to v1: that must be found
    assert first is not None and first.end > before
    assert all(a.sent < back for a in report.records if a.release == "v2")
    assert report.wrong_after("flip confirmed", "v2")
    assert report.requests == report.per_release["v1"] + report.per_release["v2"]
    assert report.websocket.opened == report.websocket.ended_by_client == 2
    assert set(report.per_kind) == {stream.label for stream in LoadMix.standard().streams}
    assert all(stats.requests > 0 for stats in report.per_kind.values())
    assert report.stopped_because == "asked"


def test_failures_reach_the_parent_with_their_details() -> None:
    mix = LoadMix((Stream(Kind.GET, "/every/10/reset", share=1),), rate=200)
    with BadServerThread() as server, LoadProcess(mix, server.url) as load:
        now = load.wait_until(lambda now: now.failed >= 5)
        report = load.stop()

    assert now.failures[0].detail
    assert report.failed == server.did["reset"] >= 5
    assert report.requests == server.requests
    assert set(report.outcomes) <= {"ok", "reset", "unexpected_close_on_reused_connection"}


def test_it_ends_by_itself_at_a_limit_and_still_reports() -> None:
    mix = LoadMix((Stream(Kind.GET, "/ok", clients=2),), limits=Limits(requests=100))
    with BadServerThread() as server, LoadProcess(mix, server.url) as load:
        load.wait_until(lambda now: not now.running)
        report = load.stop()
        with pytest.raises(LoadError, match=r"gone|ended"):
            load.snapshot()

    assert report.stopped_because == "requests"
    assert report.requests == server.requests == 100


def test_waiting_for_what_never_comes_is_an_error() -> None:
    mix = LoadMix((Stream(Kind.GET, "/ok", clients=1),), limits=Limits(requests=10))
    with (
        BadServerThread() as server,
        LoadProcess(mix, server.url) as load,
        pytest.raises(LoadError, match="ended by itself"),
    ):
        load.wait_requests(100)


@pytest.mark.parametrize(("running", "moments"), [(True, [0.0, 0.0, 900.0]), (False, [0.0, 0.0, 0.0])])
def test_what_came_in_time_counts_however_late_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, running: bool, moments: list[float]
) -> None:
    """Also what was in flight when the load reached a limit."""
    mix = LoadMix((Stream(Kind.GET, "/", clients=1),))
    load, books = LoadProcess(mix, "http://127.0.0.1:80"), Books(mix, 0.0, started=1)
    snapshots = [snapshot_of(books, running)]
    books.add(Attempt(0, 1.0, end=2.0), Outcome.OK)
    snapshots.append(snapshot_of(books, running))
    monkeypatch.setattr(load, "snapshot", lambda: snapshots.pop(0))
    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: moments.pop(0)))

    assert load.wait_until(lambda now: now.ok == 1, 120.0).ok == 1


def test_a_generator_that_died_is_an_error_and_not_a_clean_result() -> None:
    mix = LoadMix((Stream(Kind.GET, "/ok", clients=1, think_s=0.01),))
    with BadServerThread() as server, LoadProcess(mix, server.url) as load:
        load.wait_requests(5)
        os.kill(load.pid, signal.SIGKILL)
        with pytest.raises(LoadError, match=r"gone|ended"):
            load.stop()


def test_leaving_the_block_ends_the_process() -> None:
    mix = LoadMix((Stream(Kind.SLOW, "/hang", clients=2, timeout_s=100),))
    with BadServerThread() as server, LoadProcess(mix, server.url) as load:
        load.wait_until(lambda now: now.in_flight == 2)
        assert Path(f"/proc/{load.pid}").exists()

    assert not Path(f"/proc/{load.pid}").exists()
