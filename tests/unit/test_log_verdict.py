"""From lines of the log to a verdict: the judge sees what happened, in whatever pieces the log is read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nself_deploy.adapters.access_log import AccessLog
from nself_deploy.core.analysis import Analysis
from nself_deploy.core.evidence import Verdict
from nself_deploy.core.log_clock import Tick
from nself_deploy.core.log_position import LogPosition
from nself_deploy.core.verdict import Judge
from tests.unit.log_lines import BEGAN, RULES, line

RETRIED: dict[str, object] = {"upstream_status": "502, 200", "upstream_response_time": "0.000, 0.020"}
LEFT: dict[str, object] = {"status": "499", "upstream_status": "-", "upstream_response_time": "3.000"}


def lines(per_s: float, seconds: float, candidate: dict[str, object] | None, late_s: float = 0.02) -> Iterator[bytes]:
    """Traffic of many clients; what is written of a request to the candidate, None: nothing, it hangs."""
    rng, at, found = random.Random(3), 0.0, []
    while at < seconds:
        at += rng.expovariate(per_s)
        hundredth = rng.randrange(100)
        words: dict[str, object] = {"client": f"{rng.randrange(10000):04d}{hundredth:02d}"}
        took = 0.02
        if hundredth < 10:
            if candidate is None:
                continue
            took = late_s
            words |= candidate
        found.append((at + took, line(at + took, hundredth, request_time=took, **words)))
    yield from (text for _, text in sorted(found))


def judged(directory: Path, text: bytes, step: int) -> Judge:
    """What the judge says when so many bytes are written between two looks."""
    log = AccessLog(directory, lambda: RULES, lambda: Tick(BEGAN + 10_000, 1.0))
    judge, position = Judge.begin(Analysis()), LogPosition()
    (directory / "access.log").write_bytes(b"")
    for start in range(0, len(text), step):
        with (directory / "access.log").open("ab") as file:
            file.write(text[start : start + step])
        read = log.read(position)
        assert (read.problem, read.skipped) == ("", 0)
        position = read.position
        for request in read.requests:
            judge.request(request)
    assert position.offset == len(text)
    return judge


@pytest.mark.parametrize(
    ("candidate", "late_s", "verdict", "within_s"),
    [
        (RETRIED, 0.02, Verdict.FAIL, 2.0),
        (LEFT, 3.0, Verdict.FAIL, 6.0),
        (None, 0.0, Verdict.INVALID, 15.0),
        ({}, 0.02, Verdict.INCONCLUSIVE, 0.0),
    ],
    ids=["rescued by the live slot", "hangs and clients leave", "hangs and clients wait", "healthy"],
)
def test_what_the_log_shows_is_found(
    tmp_path: Path, candidate: dict[str, object] | None, late_s: float, verdict: Verdict, within_s: float
) -> None:
    judge = judged(tmp_path, b"".join(lines(50, 15, candidate, late_s)), 1 << 16)

    assert judge.verdict is verdict
    if judge.decision is not None:
        assert judge.decision.at <= within_s


def test_pieces_do_not_matter(tmp_path: Path) -> None:
    text = b"".join(lines(50, 5, {}))
    whole = msgspec.json.encode(judged(tmp_path, text, len(text)), order="sorted")

    for step in (997, 20_011):
        assert msgspec.json.encode(judged(tmp_path, text, step), order="sorted") == whole
