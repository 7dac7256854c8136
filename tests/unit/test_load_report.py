"""What a report can be asked: gaps, releases after a moment, latencies; and what it must not hide."""

from __future__ import annotations

import pytest

from tests.load import Kind, Limits, LoadError, LoadMix, Outcome, Report, Stream
from tests.load.books import Books
from tests.load.records import MAX_NAMES, OTHER_NAME, Attempt, Records
from tests.load.report import build_report, longest_gap_ms

MIX = LoadMix((Stream(Kind.GET, "/", share=1, name="get"), Stream(Kind.POST, "/", clients=1, name="post")), rate=10)


def attempt(sent: float, end: float, release: str = "v1", *, stream: int = 0, status: int = 200) -> Attempt:
    return Attempt(stream, sent - 0.001, due=sent - 0.003, sent=sent, end=end, status=status, release=release)


def report(*rows: tuple[Attempt, Outcome], mix: LoadMix = MIX, stopped_at: float = 110.0) -> Report:
    books = Books(mix, started_at=100.0)
    books.marks["flip"] = 105.0
    for row, outcome in rows:
        books.started += 1
        books.add(row, outcome, "detail")
    return build_report(books, stopped_at, "asked", 0.1)


OK = Outcome.OK


def test_the_longest_gap_counts_the_time_before_the_first_and_after_the_last_success() -> None:
    rows = [(attempt(t, t + 0.01), OK) for t in (101.0, 101.5, 103.0, 104.0)]
    in_between = (attempt(102.0, 102.2), Outcome.RESET)  # a failed request does not end a gap

    assert report(*rows, in_between, stopped_at=104.5).longest_gap_ms == pytest.approx(1500)
    assert report(*rows).longest_gap_ms == pytest.approx(5990)
    assert report(*rows[2:]).gap_ms(since=100, until=103.5) == pytest.approx(3010)
    assert report(stopped_at=102).longest_gap_ms == pytest.approx(2000)


def test_gaps_do_not_depend_on_the_order_of_the_rows() -> None:
    records = Records(("get",))
    for end in (3.0, 1.0, 2.0):
        records.add(Attempt(0, end - 0.1, end=end), OK)

    assert longest_gap_ms(records, 0.5, 3.25) == pytest.approx(1000)


def test_wrong_slot_is_judged_by_when_the_request_was_sent() -> None:
    result = report(
        (attempt(104.0, 106.0, "v1"), OK),  # sent before the flip, finished after it: right
        (attempt(105.5, 105.6, "v2"), OK),
        (attempt(106.0, 106.5, "v1"), OK),  # wrong
        (attempt(106.1, 106.2, "v1", status=500), Outcome.BAD_STATUS),  # wrong too, whatever its status
        (attempt(106.2, 106.3, ""), OK),  # nobody knows
        (attempt(106.4, 106.5, "", status=0), Outcome.RESET),  # a failure, but no answer
    )

    assert [a.sent for a in result.wrong_after("flip", "v2")] == pytest.approx([106.0, 106.1, 106.2])
    assert [a.sent for a in result.wrong_after("flip", "v2", until=106.05)] == pytest.approx([106.0])
    first = result.first_after("flip", "v1")
    assert first is not None
    assert first.sent == pytest.approx(106.0)
    assert result.first_after(106.15, "v1") is None
    last = result.last_from("v1")
    assert last is not None
    assert last.end == pytest.approx(106.5)
    assert result.releases_between("flip") == {"v2": 1, "v1": 2, "": 1}
    assert result.per_release == {"v1": 3, "v2": 1, "": 1}
    assert [a.outcome for a in result.failed_between("flip")] == [Outcome.BAD_STATUS, Outcome.RESET]


def test_an_unknown_mark_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(LoadError, match="no mark 'flop'; there are: flip"):
        report().first_after("flop", "v1")


def test_latency_counts_from_when_a_paced_request_was_due() -> None:
    result = report(*[(attempt(101 + n, 101 + n + 0.01 * n), OK) for n in range(5)])

    assert result.latency_ms(0) == pytest.approx(3, abs=0.01)
    assert result.latency_ms(0.5) == pytest.approx(23, abs=0.01)
    assert result.latency_ms(1, "get") == pytest.approx(43, abs=0.01)
    assert result.latency_ms(1, "post") == 0
    assert result.paced.late_max_ms == pytest.approx(2, abs=0.01)


def test_only_the_first_failures_keep_their_details_but_all_are_counted() -> None:
    mix = LoadMix(MIX.streams, 10, Limits(failures_kept=3))
    result = report(*[(attempt(101.0, 101.1), Outcome.TRUNCATED)] * 7, mix=mix)

    assert (result.requests, result.failed, len(result.failures)) == (7, 7, 3)
    assert result.per_kind["get"].failed == 7


def test_a_started_request_without_a_row_is_an_error() -> None:
    books = Books(MIX, 100.0)
    books.started += 1

    with pytest.raises(LoadError, match="1 requests started, 0 rows"):
        build_report(books, 101.0, "asked", 0.1)


def test_a_report_survives_its_journey_as_json() -> None:
    before = report((attempt(101.0, 101.5), OK), (attempt(102.0, 102.5, "v2", stream=1), Outcome.RESET))
    after = Report.from_json(before.to_json())

    assert after == before
    assert list(after.records) == list(before.records)
    assert after.failures[0].outcome is Outcome.RESET


def test_the_table_and_the_result_line_say_what_failed() -> None:
    result = report((attempt(101.0, 101.5), OK), (attempt(102.0, 102.5, stream=1), Outcome.RESET))

    assert "failed 1 " in result.table()
    assert "reset: detail [port 0" in result.table()
    assert result.result_line(deploys=20) == "RESULT requests=2 failed=1 longest_gap_ms=8500 deploys=20"


def test_names_are_bounded() -> None:
    records = Records(("get",))
    for number in range(MAX_NAMES + 50):
        records.add(Attempt(0, 1.0, end=2.0, status=200, release=f"r{number}"), OK)

    assert len(records.names) == MAX_NAMES + 1
    assert [a.release for a in records][-1] == OTHER_NAME
