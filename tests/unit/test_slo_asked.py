"""Objectives by Prometheus' numbers: windows, what an answer means, and what is this release's doing."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nself_deploy.core.metrics import Reading
from nself_deploy.core.slo import ALERTS, Pace, Queries, Windows, ratio
from nself_deploy.core.slo_alerts import Alert, Watch
from nself_deploy.core.slo_asked import (
    Answer,
    Asked,
    Before,
    Counts,
    asked_windows,
    counted,
    every_s,
    standings,
    windows_before,
)

CHECKOUTS = ratio(99.9, "checkouts", Queries("total", "bad"), "web")
LIVE = 1000.0
Rate = Callable[[float], float]
"""The share of bad requests at a time."""


def counts(bad: Rate, at: float, windows: tuple[int, ...], per_s: float = 10.0) -> Counts:
    """What an exact Prometheus would answer."""
    found = {}
    for window in windows:
        shares = [bad(at - second) for second in range(window)]
        found[window] = (round(window * per_s), round(sum(shares) * per_s))
    return Counts(found)


def step(asked: Asked, at: float, bad: Rate, *, away: str = "", forgotten: bool = False) -> tuple[Alert, ...]:
    """Ask once, and be told."""
    question = asked.question(0, at)
    if question is None:
        return asked.look()
    if away:
        asked.tell(0, at, Answer(question, Counts(problem=away, again=True)))
        return asked.look()
    before = None
    if question.before:
        before = Counts(problem="no series") if forgotten else counts(bad, LIVE, question.before)
    asked.tell(0, at, Answer(question, counts(bad, at, question.windows), before))
    return asked.look()


def played(bad: Rate, until: float, *, asked: Asked | None = None, forgotten: bool = False) -> tuple[Alert, ...]:
    """Ask every 15 s until something fast fires."""
    asked = asked if asked is not None else Asked.begin((CHECKOUTS,), LIVE)
    at = LIVE
    while (at := at + 15) < until:
        alerts = step(asked, at, bad, forgotten=forgotten)
        if any(alert.windows.pace is Pace.FAST for alert in alerts):
            return alerts
    return ()


def test_the_windows_are_those_of_the_workbook_and_none_is_older_than_the_release() -> None:
    assert asked_windows(CHECKOUTS, 59.9) == ()
    assert asked_windows(CHECKOUTS, 60)[0] == Windows(Pace.FAST, 60, 60, 14.4, scaled=True)
    assert asked_windows(CHECKOUTS, 900)[0].words == "1m15s/15m (the release is no older)"
    assert asked_windows(CHECKOUTS, 21600) == ALERTS
    assert windows_before(CHECKOUTS) == (60, 300, 1800, 3600, 21600)
    assert every_s(CHECKOUTS) == 15 and every_s(ratio(99, "x", Queries("t", "b", least_s=2))) == 1


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 100_000), st.integers(1, 300))
def test_no_window_reaches_back_before_the_release_or_is_too_short(age: float, least: int) -> None:
    for windows in asked_windows(ratio(99, "x", Queries("t", "b", least_s=least)), age):
        assert least <= windows.short_s <= windows.long_s <= max(age, 5)


def test_a_release_that_fails_from_its_beginning_is_found_when_it_is_old_enough() -> None:
    [alert] = [a for a in played(lambda at: 0.02 if at >= LIVE else 0.0, 1200) if a.windows.pace is Pace.FAST]

    assert alert.since in {1060, 1075}
    assert alert.words.startswith("checkouts 99.9 % burn 2") and alert.service == "web"
    assert "by Prometheus' count; 0.1 % are allowed" in alert.evidence


def test_one_that_fails_later_is_found() -> None:
    alerts = played(lambda at: 0.2 if at >= 5000 else 0.0, 6000)

    assert alerts and 5000 < alerts[0].since < 5400


@pytest.mark.parametrize("began", [0.0, 900.0, 960.0])
def test_what_burnt_before_the_release_is_never_its_doing(began: float) -> None:
    asked = Asked.begin((CHECKOUTS,), LIVE)

    assert played(lambda at: 0.05 if at >= began else 0.0, 6000, asked=asked) == ()
    assert asked.lines[0].before is Before.KNOWN and Pace.FAST in asked.lines[0].old
    assert asked.silent() == {}


@pytest.mark.parametrize(("before", "after", "blamed"), [(0.05, 0.6, True), (0.2, 0.4, False), (0.5, 1.0, False)])
def test_a_release_that_makes_it_evidently_worse_is_to_blame(before: float, after: float, blamed: bool) -> None:
    alerts = played(lambda at: 0.0 if at < 940 else before if at < LIVE else after, 3000)

    assert any(alert.windows.pace is Pace.FAST for alert in alerts) is blamed


def test_what_stopped_and_comes_back_is() -> None:
    def bad(at: float) -> float:
        return 0.05 if at < 1100 or at > 3000 else 0.0

    alerts = played(bad, 5000)
    assert alerts and alerts[0].since > 3000


def test_without_numbers_of_the_past_it_must_first_be_seen_to_keep_its_objective() -> None:
    asked = Asked.begin((CHECKOUTS,), LIVE)
    assert played(lambda at: 0.05 if at >= LIVE else 0.0, 4000, asked=asked, forgotten=True) == ()
    assert asked.lines[0].before is Before.UNKNOWN
    assert asked.silent() == {"checkouts 99.9 %": "it burns 50x, and nobody knows whether it did before the release"}
    assert asked.unmeasured() == asked.silent()

    alerts = played(lambda at: 0.05 if at >= 2000 else 0.0, 4000, forgotten=True)
    assert alerts and alerts[0].since > 2000


def test_no_data_fires_nothing_and_stops_nothing() -> None:
    def bad(at: float) -> float:
        return 0.1 if at >= LIVE else 0.0

    asked = Asked.begin((CHECKOUTS,), LIVE)
    for at in (1060.0, 1075.0):
        assert step(asked, at, bad, away="can't be reached") == ()
    assert asked.unmeasured() == {"checkouts 99.9 %": "can't be reached"}
    [first, *_] = step(asked, 1090.0, bad)
    assert step(asked, 1105.0, bad, away="can't be reached") == ()
    [again, *_] = step(asked, 1120.0, bad)

    assert first.since == again.since == 1090.0 and asked.silent() == {}


def test_it_is_not_measured_before_there_is_an_answer() -> None:
    asked = Asked.begin((CHECKOUTS,), LIVE)
    assert "checkouts 99.9 %" in asked.unmeasured() and asked.silent() == {}
    [standing] = standings(Watch.begin((), LIVE), asked)
    assert standing.burn == 0.0 and "not 1m old" in standing.silence
    step(asked, 1100.0, lambda _: 0.0)
    [standing] = standings(Watch.begin((), LIVE), asked)
    assert (standing.requests, standing.bad, standing.silence) == (1000, 0, "")


def test_an_answer_about_another_release_is_forgotten() -> None:
    asked = Asked.begin((CHECKOUTS,), LIVE)
    question = asked.question(0, 1100.0)
    assert question is not None
    asked.goes_live(1101.0)
    asked.tell(0, 1100.0, Answer(question, counts(lambda _: 1.0, 1100.0, question.windows)))

    assert asked.look() == () and not asked.lines[0].asked


def test_all_of_it_can_be_written_down() -> None:
    asked = Asked.begin((CHECKOUTS,), LIVE)
    played(lambda at: 0.1 if at >= LIVE else 0.0, 1300, asked=asked)
    assert asked.lines[0].firing

    assert msgspec.json.decode(msgspec.json.encode(asked), type=Asked) == asked


BAD, GOOD = Queries("t", "b"), Queries("t", "g", good=True)


@pytest.mark.parametrize(
    ("queries", "total", "part", "found"),
    [
        (BAD, 100.2, 4.7, (100, 5)),
        (GOOD, 100.2, 95.1, (100, 5)),
        (BAD, 0.0, 0.0, (0, 0)),
        (GOOD, 100.0, 104.0, (100, 0)),
        (BAD, 100.0, 104.0, (100, 100)),
    ],
)
def test_two_numbers_are_requests_and_bad_ones(
    queries: Queries, total: float, part: float, found: tuple[int, int]
) -> None:
    assert counted(queries, Reading.of(total), Reading.of(part)) == found


@pytest.mark.parametrize(
    ("total", "part", "why", "again"),
    [
        (Reading.of(math.nan), Reading.of(0.0), "`total`: it is NaN", False),
        (Reading.of(9.0), Reading.of(math.inf), "`bad`: it is +Inf", True),
        (Reading.of(9.0), Reading.no_data("no series"), "`bad`: no series; if that means", False),
        (Reading.error("can't be reached"), Reading.of(1.0), "`total`: can't be reached", True),
        (Reading.wrong("no PromQL"), Reading.of(1.0), "`total`: no PromQL", False),
        (Reading.of(-1.0), Reading.of(0.0), "`total` is -1, which is no number", False),
        (Reading.of(1e300), Reading.of(0.0), "`total` is 1e+300, which is no number", False),
        (Reading.of(10.0), Reading.of(20.0), "`bad` is 20, and `total` only 10", False),
    ],
)
def test_what_is_no_count_is_neither_good_nor_bad(total: Reading, part: Reading, why: str, again: bool) -> None:
    found = counted(BAD, total, part)

    assert isinstance(found, Counts)
    assert found.problem.startswith(why) and found.again is again


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(allow_nan=True, allow_infinity=True), st.booleans())
def test_whatever_is_answered_there_are_never_more_bad_requests_than_requests(
    total: float, part: float, good: bool
) -> None:
    found = counted(GOOD if good else BAD, Reading.of(total), Reading.of(part))

    if isinstance(found, Counts):
        assert found.problem and not found.windows
    else:
        assert 0 <= found[1] <= found[0]


ANSWERS = st.lists(st.tuples(st.integers(1, 400), st.sampled_from(["good", "bad", "no data", "away"])), max_size=40)


@settings(max_examples=100, deadline=None)
@given(ANSWERS, st.booleans())
def test_nothing_fires_without_bad_numbers_of_this_moment(found: list[tuple[int, str]], forgotten: bool) -> None:
    asked, at = Asked.begin((CHECKOUTS,), LIVE), LIVE
    for later, kind in found:
        at += later
        share = 1.0 if kind == "bad" else 0.0
        away = {"no data": "no series", "away": "can't be reached"}.get(kind, "")
        alerts = step(asked, at, lambda _, share=share: share, away=away, forgotten=forgotten)  # type: ignore[misc]
        assert not alerts or kind == "bad" or asked.question(0, at) is None
