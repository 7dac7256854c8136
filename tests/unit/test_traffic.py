"""How much traffic there was, from the end of an access log."""

from __future__ import annotations

from pathlib import Path

import pytest

from nself_deploy.adapters.access_log import newest_lines
from nself_deploy.core.traffic_log import traffic_of
from tests.unit.log_lines import BEGAN, line


def lines(*times: float, **words: object) -> bytes:
    return b"".join(line(at, **words) for at in times)


def steady(begin: float, seconds: int, per_s: int = 2) -> bytes:
    """That many requests in each second, of ten clients in turns; the first of all fails."""
    count = seconds * per_s + 1
    return b"".join(
        line(begin + n / per_s, client=f"{n % 10:06d}", upstream_status="200" if n else "502, 200")
        for n in range(count)
    )


def test_requests_failures_and_clients_are_counted() -> None:
    found = traffic_of(steady(0.0, 50), BEGAN + 60.0)

    assert found is not None
    assert found.per_s == pytest.approx(2.02) and found.failed == pytest.approx(1 / 101)
    assert (found.clients, found.seconds, found.until) == (10, 50.0, BEGAN + 50.0)
    assert found.trials_per_s == pytest.approx(1.0, rel=0.05)  # each of ten clients once in ten seconds


def test_only_the_last_stretch_without_a_pause_counts() -> None:
    found = traffic_of(steady(0.0, 100, 10) + steady(400.0, 60), BEGAN + 470.0)

    assert found is not None and found.seconds == 60.0 and found.per_s == pytest.approx(2.0, rel=0.05)
    longer = traffic_of(steady(0.0, 1000), BEGAN + 1000.0)
    assert longer is not None and longer.seconds == pytest.approx(600.0, abs=1.0)


@pytest.mark.parametrize(
    ("log", "now"),
    [
        (b"", 0.0),
        (b"\xff not a line\n{}\n" + lines(*range(10)), 10.0),
        (lines(*[1.0] * 50), 10.0),
        (steady(0.0, 60), 90_000.0),
        (steady(1000.0, 60), 0.0),
        (lines(*range(50), route="", slot=""), 50.0),
    ],
    ids=["nothing", "too few", "one moment", "of yesterday", "of tomorrow", "not ours"],
)
def test_what_says_too_little_is_not_known(log: bytes, now: float) -> None:
    assert traffic_of(log, BEGAN + now) is None


def test_lines_come_from_the_end_also_of_the_log_that_was_put_aside(tmp_path: Path) -> None:
    assert newest_lines(tmp_path / "none", 1000) == b""
    (tmp_path / "access.log.1").write_bytes(b"one\ntwo\n")
    (tmp_path / "access.log").write_bytes(b"three\nfour\nfi")

    assert newest_lines(tmp_path, 1000) == b"one\ntwo\nthree\nfour\n"
    assert newest_lines(tmp_path, 9) == b"four\n"
    (tmp_path / "access.log").unlink()
    (tmp_path / "access.log").mkdir()
    assert newest_lines(tmp_path, 1000) == b"one\ntwo\n"
