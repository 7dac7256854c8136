"""A canary's record: whatever it was told, and wherever it was killed, the same is decided again; forgery is found."""

from __future__ import annotations

import random
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nself_deploy.core import record_lines as lines
from nself_deploy.core.analysis import Analysis, LatencyKeys, Mode
from nself_deploy.core.canary import Consent, Session
from nself_deploy.core.evidence import RULES, Incident, Request, Trouble
from nself_deploy.core.log_moves import Move
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.recorder import Recorder, opened
from nself_deploy.core.replay import replayed

BEGAN = 1_795_000_000.125
BEFORE, HALF, ALL = Split.all_to(Slot.BLUE), Split(Slot.BLUE, Slot.GREEN, 50), Split.all_to(Slot.GREEN)
ROUTES, CUTS = ("api", "web"), (0.05, 0.1)
ANALYSIS = Analysis(soak_s=20.0, max_soak_s=60.0, latency=LatencyKeys((0.5, 0.9), warmup_s=2.0))


def a_beginning(analysis: Analysis = ANALYSIS, routes: tuple[str, ...] = ROUTES, cuts: tuple[float, ...] = CUTS) -> Any:
    moves = (Move(BEFORE), Move(HALF, BEGAN, BEGAN))
    return lines.Begun(lines.FORM, RULES, analysis, routes, cuts, Slot.GREEN, BEGAN, moves)


class Keeper:
    """A canary with its record and its journal; a kill loses what was not saved."""

    def __init__(self, begun: lines.Begun) -> None:
        self.record = b""
        self.recorder = Recorder(opened(begun, "salt"), begun)
        self.save()

    def save(self) -> None:
        data = self.recorder.taken()
        session = self.recorder.session
        self.record = self.record[: session.recorded] + data
        session.recorded = len(self.record)
        self.journal = msgspec.json.encode(session)

    def kill(self, torn: int) -> None:
        """While it writes down what it knows; a part of that is in the file."""
        session = msgspec.json.decode(self.journal, type=Session)
        self.record = self.record[: session.recorded] + self.recorder.taken()[:torn]
        self.recorder = Recorder(session)

    def ended(self) -> bytes:
        self.save()
        return self.record + lines.encoded([lines.Ended()])


def traffic(seed: int, since: float, until: float, failing: float, share: float = 0.5) -> tuple[Request, ...]:
    """Forty requests a second, at milliseconds as nginx writes them or at any time."""
    dice, found, at = random.Random(seed), [], since
    while (at := at + dice.expovariate(40)) < until:
        candidate = dice.random() < share
        exact = (round((BEGAN + at) * 1000) / 1000 - BEGAN) if dice.random() < 0.9 else at
        seconds = dice.choice([None, round(dice.lognormvariate(-3.0, 0.5), 3)])
        route = dice.choice((*ROUTES, "other"))
        failed = dice.random() < (failing if candidate else 0.01)
        found.append(Request(exact, dice.getrandbits(32), candidate, failed, share, route, seconds))
    return tuple(found)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("requests"), st.integers(0, 1000), st.sampled_from([0.0, 0.0, 0.02, 0.3])),
        st.tuples(st.just("incident"), st.booleans(), st.sampled_from(list(Trouble))),
        st.tuples(st.just("fault"), st.text(max_size=20)),
        st.tuples(st.just("enter"), st.floats(0.0, 30.0)),
        st.tuples(st.just("consent"), st.booleans()),
        st.tuples(st.just("asked"), st.sampled_from([50, 75, 100])),
        st.tuples(st.just("bake"), st.floats(1.0, 30.0)),
        st.tuples(st.just("clock"), st.floats(-3600.0, 3600.0)),
        st.tuples(st.just("again")),
        st.tuples(st.just("save")),
        st.tuples(st.just("kill"), st.integers(0, 500)),
    ),
    max_size=25,
)


def happens(kept: Keeper, event: tuple[Any, ...], at: float) -> None:
    recorder, session = kept.recorder, kept.recorder.session
    match event:
        case ("requests", seed, failing):
            share = 1.0 if session.bake is not None else 0.5
            recorder.feed(traffic(seed, at, at + 3.0, failing, share))
        case ("incident", candidate, trouble):
            recorder.incidents([Incident(at, candidate, trouble, "shop-green-web-1")])
        case ("fault", reason):
            recorder.tell(lines.Fault(at, reason))
        case ("enter", hold_s):
            recorder.tell(lines.Entered(at, hold_s))
        case ("consent", full):
            recorder.consent(Consent("ann", "it is Friday", full))
        case ("asked", percent):
            recorder.proved(percent)
        case _:
            befalls(kept, event, at)


def befalls(kept: Keeper, event: tuple[Any, ...], at: float) -> None:
    recorder, session = kept.recorder, kept.recorder.session
    match event:
        case ("bake", seconds) if session.bake is None:
            recorder.tell(lines.Moving(ALL.name, BEGAN + at))
            recorder.tell(lines.Moved(ALL.name, BEGAN + at + 0.1))
            recorder.tell(lines.Baking(seconds, at))
        case ("clock", by):
            recorder.tell(lines.Clock(session.began + by))
        case ("again",) if session.bake is None:
            begun, recorded = a_beginning(), session.recorded
            kept.recorder = Recorder(opened(begun, "salt"), begun)
            kept.recorder.session.recorded = recorded
        case ("save",):
            kept.save()
        case ("kill", torn):
            kept.kill(torn)


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_what_was_recorded_is_decided_again_wherever_it_was_killed(events: list[tuple[Any, ...]]) -> None:
    kept, at = Keeper(a_beginning()), 0.0
    for event in events:
        happens(kept, event, at)
        at += 3.0
        kept.recorder.tell(lines.Time(at))
        kept.recorder.way(20.0, 100, at)
    record = kept.ended()
    found = replayed(record)

    assert found.difference is None, (found, record.decode())
    assert (found.whole, found.note, found.lines) == (True, "", record.count(b"\n"))
    assert found.decisions >= 2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(-10.0, 10.0), st.booleans(), st.booleans())
def test_requests_are_read_again_exactly(seed: int, offset: float, timed: bool, routed: bool) -> None:
    routes = ROUTES if routed else ()
    requests = (*traffic(seed, 0.0, 2.0, 0.1), *traffic(seed, 1.0, 2.0, 0.1, share=0.25))
    packed = lines.encoded(lines.packed(requests, BEGAN + offset, routes, timed=timed)).splitlines()
    found = [lines.decoded(line) for line in packed]

    assert len(found) == (2 if requests else 0)
    again = [
        r for line in found if isinstance(line, lines.Requests) for r in lines.unpacked(line, BEGAN + offset, routes)
    ]
    kept = [
        msgspec.structs.replace(r, route=r.route if r.route in routes else "", seconds=r.seconds if timed else None)
        for r in requests
    ]
    assert again == kept


def test_a_request_takes_some_tens_of_bytes() -> None:
    requests = traffic(1, 300.0, 400.0, 0.01)
    exact = tuple(r for r in requests if (r.at + BEGAN) * 1000 % 1 < 1e-3)

    assert len(lines.encoded(lines.packed(exact, BEGAN, (), timed=True))) < 30 * len(exact)


@settings(max_examples=8, deadline=None)
@given(st.sets(st.integers(0, 30), max_size=8), st.integers(0, 500))
def test_cut_points_that_are_found_meanwhile_survive_kills_and_are_found_again(kills: set[int], torn: int) -> None:
    begun = a_beginning(msgspec.structs.replace(ANALYSIS, soak_s=100.0, max_soak_s=200.0), cuts=())
    kept, whole = Keeper(begun), opened(begun)
    for piece in range(31):
        requests = traffic(piece, 4.0 * piece, 4.0 * piece + 4.0, 0.0)
        whole.feed(requests)
        kept.recorder.feed(requests)
        if piece in kills:  # it is killed before that is saved, and reads it once more
            kept.kill(torn)
            kept.recorder.feed(requests)
        kept.save()
    latency, other = kept.recorder.session.judge.latency, whole.judge.latency
    found = replayed(kept.ended())

    assert latency is not None and other is not None and latency.cuts
    assert msgspec.json.encode(latency, order="sorted") == msgspec.json.encode(other, order="sorted")
    assert found.difference is None and found.whole


def a_record(*, ended: bool = True) -> bytes:
    """Of a canary that fails in its second half."""
    kept = Keeper(a_beginning())
    for second in range(12):
        kept.recorder.feed(traffic(second, second, second + 1.0, 0.3 if second > 6 else 0.0))
        kept.recorder.tell(lines.Time(second + 0.5))
        kept.recorder.way(20.0, 100, second + 1.0)
        kept.save()
    return kept.ended() if ended else kept.record


def test_every_line_that_says_what_was_decided_is_compared() -> None:
    record = a_record().splitlines(keepends=True)
    said = [n for n, line in enumerate(record) if line.startswith((b'["way"', b'["known"'))]

    assert len(said) == 26 and b'"back"' in b"".join(record)
    for at in said:
        line = record[at]
        number = max(re.finditer(rb"\d+\.\d+|\d+", line), key=lambda found: len(found[0]))
        forged = line[: number.start()] + b"7" + number[0] + line[number.end() :]
        if line.startswith(b'["way"'):
            forged = line.replace(b'"wait"', b'"on"').replace(b'"back"', b'"stay"')
        found = replayed(b"".join([*record[:at], forged, *record[at + 1 :]])).difference

        assert found is not None and found.line == at + 1, line
        assert found.recorded == forged.decode().strip()
        assert found.computed == line.decode().strip()


def test_requests_that_were_changed_change_what_is_decided() -> None:
    record = a_record()
    lines_of_requests = [n for n, line in enumerate(record.splitlines()) if line.startswith(b'["r"')]
    for at in lines_of_requests[:8]:  # those before it was decided: no later one is listened to
        pieces = record.splitlines(keepends=True)
        pieces[at] = re.sub(rb'"([0-3]+)"', lambda found: b'"' + b"0" * len(found[1]) + b'"', pieces[at])
        assert replayed(b"".join(pieces)).difference is not None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"nonsense\n", "no line of a record"),
        (b'["r",0.5,[1,2],[3],"00"]\n', "different lengths"),
        (b'["r",0.5,[1],[3],"0",[7]]\n', "don't fit"),
        (b'["r",0.5,[1],[3],"9"]\n', "no judge was told that"),
        (b'["way",1.0,20.0,100,"away",""]\n', "no line of a record"),
        (b'["move","nowhere",1.0]\n', "no judge was told that"),
        (b"\xff\xfe\n", "no line of a record"),
    ],
)
def test_what_is_no_line_is_named(line: bytes, words: str) -> None:
    first, *others = a_record().splitlines(keepends=True)
    found = replayed(first + line + b"".join(others))

    assert found.difference is not None and found.difference.line == 2
    assert words in found.difference.computed


def test_a_record_that_does_not_begin_with_a_judge_is_none() -> None:
    found = replayed(b"".join(a_record().splitlines(keepends=True)[1:]))
    assert found.difference is not None and "does not begin with a judge" in found.difference.computed


def test_what_is_not_on_record_is_said() -> None:
    record = a_record(ended=False)

    assert replayed(record).whole is False and replayed(record).difference is None
    assert "not whole" in replayed(record + b'["t",1').note
    full = replayed(record + lines.encoded([lines.Full()]) + b"what comes then\n")
    assert full.difference is None and not full.whole
    assert full.note.startswith(f"it was full after {full.requests} requests")


def test_other_rules_are_named() -> None:
    begun = msgspec.structs.replace(a_beginning(), rules=RULES + 1)
    assert "other rules" in replayed(lines.encoded([begun])).note


def test_what_is_only_observed_is_recorded_too() -> None:
    kept = Keeper(a_beginning(msgspec.structs.replace(ANALYSIS, mode=Mode.OBSERVE), (), ()))
    kept.recorder.feed(traffic(1, 0.0, 20.0, 0.5))
    kept.recorder.way(10.0, 100, 20.0)
    found = replayed(kept.ended())

    assert (found.difference, found.verdict) == (None, "fail")
