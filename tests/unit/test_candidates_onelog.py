"""What the canaries that were killed are compared with: it finds what a kill must not do, and nothing else."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import msgspec
import pytest

from nself_deploy.core import record_lines as lines
from nself_deploy.core.analysis import Analysis
from nself_deploy.core.canary import Session
from nself_deploy.core.evidence import RULES, Verdict
from nself_deploy.core.log_clock import Tick
from nself_deploy.core.log_line import LineReader, Rules
from nself_deploy.core.log_moves import Move
from nself_deploy.core.log_position import LogPosition
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.recorder import Recorder, opened
from tests.load.candidates.onelog import Kept, compared, lines_of, told_the_same

BEGAN = 1_700_000_000.125
BEFORE, TEN = Split.all_to(Slot.BLUE), Split(Slot.BLUE, Slot.GREEN, 10)
OUTAGE_S, LONGEST_S = 12.0, 60.0
LOOK_S, SAVE_S, LATE_S = 0.25, 2.0, 0.5


def written(chance: random.Random, stalls: list[float]) -> list[tuple[float, bytes]]:
    """A log: when each line is in it, in this order. An nginx that stands still is late with its lines."""
    found = []
    at = -2.0
    while (at := at + chance.expovariate(60)) < LONGEST_S:
        person, api = chance.randrange(2000), chance.random() < 0.25
        bucket = person % 100
        status = "500" if api and at > OUTAGE_S else "200"
        line = {
            "time": round(BEGAN + at, 3),
            "slot": "green" if bucket < 10 and at > 0.2 else "blue",
            "route": "api:9000" if api else "web:8000",
            "bucket": f"{bucket:02d}",
            "client": f"{person:06d}",
            "status": status,
            "request_time": 0.004,
            "upstream_status": status,
            "upstream_response_time": "0.004",
        }
        until = next((since + 1.7 for since in stalls if since <= at < since + 1.7), at)
        found.append((until, json.dumps(line).encode() + b"\n"))
    return sorted(found, key=lambda line: line[0])


class Canary:
    """One that is judged, and saved every other second, by a process that is killed now and then."""

    def __init__(self, log: list[tuple[float, bytes]]) -> None:
        moves = (Move(BEFORE), Move(TEN, BEGAN + 0.1, BEGAN + 0.3))
        routes = ("api:9000", "web:8000")
        begun = lines.Begun(lines.FORM, RULES, Analysis(), routes, (), Slot.GREEN, BEGAN, moves)
        self.log, self.record = log, b""
        self.recorder = Recorder(opened(begun, "salt"), begun)
        self.save()
        self.start()

    def save(self) -> None:
        data, session = self.recorder.taken(), self.recorder.session
        self.record = self.record[: session.recorded] + data
        session.recorded = len(self.record)
        self.known = msgspec.json.encode(session)

    def start(self) -> None:
        session = msgspec.json.decode(self.known, type=Session)
        self.recorder = Recorder(session)
        self.reader = LineReader(Rules(Slot.GREEN, tuple(session.moves), session.began, session.salt))

    def look(self, at: float) -> None:
        session = self.recorder.session
        data = b"".join(line for there, line in self.log if there <= at)
        batch = self.reader.read(data[session.position.offset :], Tick(BEGAN + at, at))
        assert not batch.problem
        self.recorder.feed(batch.requests)
        session.position = LogPosition(1, len(data))
        self.recorder.tell(lines.Time(at - LATE_S))

    def led(self, kills: list[float]) -> None:
        """To its end."""
        at, saved, todo = 1.0, 1.0, sorted(kills)
        while self.recorder.session.judge.decision is None:
            at += LOOK_S
            self.look(at)
            if at - saved >= SAVE_S:
                self.save()
                saved = at
            if todo and at >= todo[0]:
                del todo[0]
                self.start()
                at += 1.5
        self.save()

    def kept(self) -> Kept:
        session = msgspec.json.decode(self.known, type=Session)
        session.moves.append(Move(BEFORE, BEGAN + session.judge.now + 1.0, BEGAN + session.judge.now + 1.1))
        data = b"".join(line for _, line in self.log)[: session.position.offset]
        return Kept(session, lines_of(self.record), data)


def a_canary(seed: int, stalls: list[float], kills: list[float]) -> Canary:
    chance = random.Random(seed)
    canary = Canary(written(chance, stalls))
    canary.led(kills)
    return canary


@pytest.mark.parametrize("seed", range(4))
def test_kills_alone_make_no_difference(seed: int) -> None:
    kept = a_canary(seed, [], [4.0, 9.0]).kept()

    assert kept.session.judge.verdict is Verdict.HOLD
    assert told_the_same(kept)[1] == 0.0
    assert compared(kept) == []


@pytest.mark.parametrize("seed", range(4))
def test_lines_that_come_late_make_none_either(seed: int) -> None:
    stalls = [1.0 + 2.5 * number for number in range(24)]
    kept = a_canary(seed, stalls, [4.0, 9.0]).kept()

    assert told_the_same(kept)[1] > 0.5
    assert compared(kept) == []


def test_what_is_told_twice_is_found() -> None:
    canary = Canary(written(random.Random(7), []))
    canary.look(8.0)
    canary.save()
    session = msgspec.json.decode(canary.known, type=Session)
    session.position = LogPosition(1, session.position.offset // 2)  # the place in the log is older than the evidence
    canary.known = msgspec.json.encode(session)
    canary.start()
    canary.led([])

    assert any("were told twice" in found for found in compared(canary.kept()))


def test_what_is_never_told_is_found() -> None:
    canary = Canary(written(random.Random(7), []))
    canary.look(8.0)
    position = canary.recorder.session.position
    canary.start()
    canary.recorder.session.position = position  # newer than the evidence
    canary.led([])

    assert any("were never told" in found for found in compared(canary.kept()))


def test_evidence_that_a_kill_changed_is_found() -> None:
    canary = a_canary(3, [], [])
    kept = canary.kept()
    spoilt = msgspec.json.decode(msgspec.json.encode(kept.session), type=Session)
    spoilt.judge.absolute.failed += 1
    found = compared(replace(kept, session=spoilt))

    assert compared(kept) == []
    assert found == ["what is known after kills is not what one knows that was told the same"]
    spoilt.judge.trials.failed += 1
    assert any(text.startswith("trials: ") for text in compared(replace(kept, session=spoilt)))


def test_a_judge_whose_clock_is_ahead_is_found() -> None:
    canary = Canary(written(random.Random(7), []))
    canary.look(8.0)
    canary.recorder.tell(lines.Time(1e9))
    canary.save()

    assert any("by the clock" in found for found in compared(canary.kept()))
