"""Lines of the access log: what they are to a judge, and what is none."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core.evidence import Request
from nself_deploy.core.log_clock import Tick
from nself_deploy.core.log_line import LINE_LIMIT, LineReader, Other, first_seconds, first_status
from nself_deploy.core.log_moves import Move
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.nginx_names import LOG_FIELDS
from tests.unit.log_lines import BEGAN, RULES, line

NOW = Tick(BEGAN + 10, 10.0)
LATE = Tick(BEGAN + 10_000, 10_000.0)


def reader() -> LineReader:
    return LineReader(RULES)


def one(**words: object) -> Request:
    found = reader().line(line(**words))  # type: ignore[arg-type]
    assert isinstance(found, Request), found
    return found


def test_a_line_has_the_fields_that_the_router_writes() -> None:
    assert list(json.loads(line())) == list(LOG_FIELDS)


def test_a_good_request_of_either_slot() -> None:
    live, ours = one(at=2.5, hundredth=50), one(at=3.0, hundredth=9, route="api_9000", upstream_response_time="0.200")

    assert (live.at, live.candidate, live.failed, live.share, live.route) == (2.5, False, False, 0.1, "web_8000")
    assert live.seconds == 0.012
    assert (ours.candidate, ours.route, ours.seconds) == (True, "api_9000", 0.2)
    assert live.client != ours.client


@pytest.mark.parametrize(
    ("words", "failed"),
    [
        ({"upstream_status": "500", "status": "500"}, True),
        ({"upstream_status": "503", "status": "503"}, True),
        ({"upstream_status": "404", "status": "404"}, False),
        ({"upstream_status": "429", "status": "429"}, False),
        ({"upstream_status": "502, 200", "upstream_addr": "10.0.0.1:8, 10.0.0.2:8"}, True),
        ({"upstream_status": "504, 502, 200", "upstream_response_time": "1.000, 0.000, 0.004"}, True),
        ({"upstream_status": "418 : 502", "status": "502"}, False),
        ({"upstream_status": "502 : 200", "status": "200"}, True),
        ({"upstream_status": "-", "status": "502", "upstream_response_time": "-"}, True),
        ({"upstream_status": "-", "status": "200", "upstream_response_time": "-"}, True),
        ({"upstream_status": "200", "status": "499"}, False),
        ({"upstream_status": "500, -", "status": "499"}, True),
        ({"upstream_status": "502", "upstream_addr": "nself_shop_web_8000_blue", "status": "502"}, True),
    ],
)
def test_the_first_answer_decides(words: dict[str, object], failed: bool) -> None:
    found = one(**words)

    assert found.failed is failed
    assert not found.candidate
    assert (found.seconds is None) or not failed


def test_a_client_that_left_counts_when_it_had_waited() -> None:
    gone = {"status": "499", "upstream_status": "-"}

    assert reader().line(line(**gone, upstream_response_time="0.900", request_time=5.0)) is Other.NOT_OURS
    assert reader().line(line(**gone, upstream_response_time="-", request_time=0.9)) is Other.NOT_OURS
    assert one(**gone, upstream_response_time="1.100", request_time=1.2).failed
    assert one(**gone, upstream_response_time="-", request_time=1.1).failed
    patient = LineReader(msgspec.structs.replace(RULES, patience_s=3.0))
    assert patient.line(line(**gone, upstream_response_time="2.9")) is Other.NOT_OURS


@pytest.mark.parametrize("status", ["400", "408", "413"])
def test_an_upload_that_its_client_broke_off_says_nothing(status: str) -> None:
    assert reader().line(line(status=status, upstream_status="-", request_time=30.0)) is Other.NOT_OURS


def test_a_connection_that_was_upgraded_has_no_time() -> None:
    found = one(status="101", upstream_status="101", upstream_response_time="3600.1", request_time=3600.2, at=3601)

    assert (found.failed, found.seconds) == (False, None)


@pytest.mark.parametrize(
    "words",
    [
        {"slot": "", "bucket": ""},
        {"slot": "", "route": ""},
        {"route": ""},
        {"slot": "plain"},
        {"slot": "green", "bucket": "candidate", "upstream_status": "500", "status": "500"},
        {"slot": "blue", "bucket": "live"},
        {"slot": "blue", "bucket": "candidate"},
    ],
)
def test_what_is_no_evidence_about_these_two(words: dict[str, object]) -> None:
    assert reader().line(line(**words)) is Other.NOT_OURS  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "words",
    [
        {"slot": "red"},
        {"slot": 7},
        {"bucket": "5"},
        {"bucket": "xx"},
        {"bucket": "²²"},
        {"client": ""},
        {"client": "12345x"},
        {"client": "1234567"},
        {"client": "١٢٣٤٥٦"},
        {"client": None},
        {"upstream_status": ""},
        {"upstream_status": "nan"},
        {"upstream_status": "99999"},
        {"upstream_status": "200;502"},
        {"upstream_status": 200},
        {"upstream_response_time": "soon"},
        {"upstream_response_time": "-0.001"},
        {"upstream_response_time": "nan"},
        {"upstream_response_time": "inf"},
        {"upstream_response_time": "1e300"},
        {"upstream_response_time": "x, 0.1"},
        {"time": "now"},
        {"time": True},
        {"time": -1},
        {"time": 1e300},
        {"time": 10**40},
        {"time": float("nan")},
        {"time": float("inf")},
        {"request_time": -0.001},
        {"request_time": 1e12},
        {"request_time": [1]},
    ],
)
def test_wrong_types_and_absurd_numbers(words: dict[str, object]) -> None:
    assert reader().line(line(**words)) is Other.NOT_UNDERSTOOD  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", ["time", "slot", "route", "bucket", "client", "status", "upstream_status"])
def test_missing_fields(missing: str) -> None:
    values = json.loads(line())
    del values[missing]

    assert reader().line(json.dumps(values).encode()) is Other.NOT_UNDERSTOOD


BAD = (
    b"\n",
    b"{}\n",
    b"[]\n",
    b"null\n",
    line()[:-2] + b"\n",
    line()[:40] + line(),
    line()[:-1] + line(),
    b"\0" * 100 + b"\n",
    line().replace(b"web_8000", b"web\xff\xfe"),
    line().replace(b"web_8000", b"web\x01"),
    b'{"request_id":' + b"[" * 50_000 + b"\n",
    b'{"route":"' + b"a" * (1 << 20) + b'"}\n',
    line().replace(b"web_8000", b"a" * (1 << 20)),
    b"[" * (1 << 20) + b"\n",
    b"\xff" * LINE_LIMIT + b"\n",
)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad[:12]!r}-{len(bad)}")
def test_a_bad_line_costs_itself_only(bad: bytes) -> None:
    found = reader().read(line(0.5, 7) + bad + line(1.0, 50) + line(2.0, 5), NOW)

    assert found.problem == ""
    assert [(r.at, r.candidate) for r in found.requests] == [(0.5, True), (1.0, False), (2.0, True)]
    assert (found.skipped, found.skipped_bytes) == (1, len(bad))


def test_a_field_that_nobody_reads_may_be_anything() -> None:
    assert len(reader().read(line().replace(b"GET", b"G\xc3") + line(request_id=7), NOW).requests) == 2


def test_nothing_is_nothing() -> None:
    assert reader().read(b"", NOW).requests == ()


@given(st.lists(st.one_of(st.sampled_from(BAD[:10]), st.just(b""), st.binary(max_size=40).map(lambda b: b + b"\n"))))
def test_any_bytes_between_good_lines(bad: list[bytes]) -> None:
    data = b"".join(line(1.0, number % 100) + b for number, b in enumerate(bad))
    found = reader().read(data, NOW)

    assert len(found.requests) == len(bad)
    assert found.skipped == b"".join(bad).count(b"\n")
    assert found.skipped_bytes == len(b"".join(bad))


@given(
    st.lists(
        st.tuples(st.integers(0, 99), st.sampled_from(["200", "502, 200", "-", "404"]), st.floats(0.0, 9.0)),
        min_size=1,
        max_size=400,
    ),
    st.data(),
)
def test_pieces_do_not_matter(events: list[tuple[int, str, float]], data: st.DataObject) -> None:
    events.sort(key=lambda event: event[2])
    lines = [line(at, bucket, upstream_status=status) for bucket, status, at in events]
    cut = data.draw(st.integers(0, len(lines)))
    whole, parts = reader().read(b"".join(lines), NOW), reader()

    first, second = parts.read(b"".join(lines[:cut]), NOW), parts.read(b"".join(lines[cut:]), NOW)

    assert whole.problem == first.problem == second.problem == ""
    assert whole.requests == first.requests + second.requests
    assert whole.requests == tuple(reader().line(text) for text in lines)


@given(st.text(max_size=30))
def test_any_word_as_status_or_time(word: str) -> None:
    assert -1 <= first_status(word) <= 999
    seconds = first_seconds(word)
    assert seconds == -1.0 or seconds >= 0.0


def test_the_share_is_that_of_the_time_when_a_request_came() -> None:
    moves = (
        Move(Split.all_to(Slot.BLUE)),
        Move(Split(Slot.BLUE, Slot.GREEN, 10), BEGAN, BEGAN + 0.1),
        Move(Split(Slot.BLUE, Slot.GREEN, 50), BEGAN + 60, BEGAN + 60.2),
        Move(Split.all_to(Slot.GREEN), BEGAN + 90, BEGAN + 90.2),
    )
    reads = LineReader(msgspec.structs.replace(RULES, moves=moves))

    def found(at: float, took: float, bucket: int, slot: str) -> float | Other:
        one = reads.line(line(at, bucket, slot=slot, request_time=took))
        return one.share if isinstance(one, Request) else one

    assert found(-5.0, 0.1, 3, "blue") == 0.0
    assert found(20.0, 0.1, 3, "green") == found(59.0, 0.1, 30, "blue") == 0.1
    assert found(70.0, 0.1, 30, "green") == 0.5
    assert found(70.0, 30.0, 30, "blue") == 0.1, "it came before the move"
    for start in (-0.04, 0.05, 0.14, 59.96, 60.1, 60.24):
        assert found(start + 1, 1.0, 3, "green") is Other.AT_A_MOVE
    assert found(95.0, 1.0, 77, "green") == 1.0
    assert found(20.0, 0.1, 30, "green") is Other.CONTRADICTS
    assert found(95.0, 1.0, 77, "blue") is Other.NOT_OURS
    assert reads.line(line(-5.0, 50)).at == 0.0  # type: ignore[union-attr]


def test_requests_that_go_elsewhere_than_the_split_says_are_a_problem() -> None:
    reads = reader()
    wrong = b"".join(line(1.0, 30 + n, slot="green") for n in range(19))
    assert reads.read(wrong, NOW).problem == ""
    found = reads.read(line(1.0, 60, slot="green") + line(1.0, 61), NOW)

    assert found.problem == "20 of 21 requests went to another slot than the split sends them to"
    assert found.requests == ()
    assert reads.read(line(1.0, 61), NOW).problem == "", "it is said once"


def test_clients_have_even_bits_and_a_salt() -> None:
    numbers = {n: one(client=f"{n:06d}").client for n in range(4000)}
    other = LineReader(msgspec.structs.replace(RULES, salt="r3"))

    assert len(set(numbers.values())) == 4000
    assert all(0 <= number < 1 << 32 for number in numbers.values())
    for bit in (0, 7, 31):
        assert 1800 < sum(number >> bit & 1 for number in numbers.values()) < 2200
    assert numbers[1] == one(client="000001").client
    assert numbers[1] != other.line(line(client="000001")).client  # type: ignore[union-attr]


def test_rules_can_change() -> None:
    reads = reader()
    assert reads.line(line(1.0, 30)).share == 0.1  # type: ignore[union-attr]
    moves = (*RULES.moves, Move(Split(Slot.BLUE, Slot.GREEN, 50), BEGAN + 60, BEGAN + 60))
    reads.follow(msgspec.structs.replace(RULES, moves=moves))

    assert reads.line(line(61.0, 30, slot="green")).share == 0.5  # type: ignore[union-attr]
    assert reads.line(line(1.0, 30)).share == 0.1  # type: ignore[union-attr]


def test_a_clock_that_jumps_is_said_once() -> None:
    reads = reader()
    assert reads.read(line(1.0), Tick(BEGAN + 1, 1.0)).problem == ""
    assert "jumped by +3600.0 s" in reads.read(line(3602.0), Tick(BEGAN + 3602, 2.0)).problem
    assert reads.read(line(3603.0), Tick(BEGAN + 3603, 3.0)).problem == ""
    assert "jumped by -7200.0 s" in reads.read(b"", Tick(BEGAN - 3596, 4.0)).problem
    assert reads.read(line(-3595.0), Tick(BEGAN - 3595, 5.0)).problem == ""
    for second in range(6, 3000):
        slow = Tick(BEGAN - 3600 + second * 1.0005, float(second))
        assert reads.read(b"", slow).problem == "", "it is corrected slowly"


def test_lines_that_are_out_of_order() -> None:
    reads = reader()
    assert reads.read(line(100.0) + line(96.0) + line(101.0), LATE).problem == ""
    assert "went back by 50.0 s" in reads.read(line(51.0) + line(52.0), LATE).problem
    assert reads.read(line(53.0), LATE).problem == ""
    assert "is 7.0 s ahead" in reader().read(line(17.0), NOW).problem
