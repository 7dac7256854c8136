"""Objectives and burn-rate alerts: against a slow count of the same, and in worlds with known rates of errors."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nself_deploy.core.slo import (
    ALERTS,
    BUCKET_S,
    LONGEST_S,
    Kind,
    Objective,
    Pace,
    Windows,
    availability,
    latency,
    objective,
    windows_at,
)
from nself_deploy.core.slo_alerts import MIN_BAD, Alert, Watch, fires
from nself_deploy.core.slo_tally import FINE_S, MINUTE_S, Tally

THREE_NINES = availability("99.9 %")
FAST, SLOW = ALERTS


@pytest.mark.parametrize(
    ("text", "name"),
    [("99.9", "availability 99.9 %"), ("99.95 %", "availability 99.95 %"), (99.5, "availability 99.5 %")],
)
def test_an_availability_is_read(text: str | float, name: str) -> None:
    assert availability(text).name == name


def test_a_latency_objective_is_read() -> None:
    found = latency("99 % < 300ms", service="web")

    assert found.name == "latency 99 % < 300ms of web"
    assert found.limit_s == pytest.approx(0.3) and found.budget == pytest.approx(0.01)
    assert found.is_bad(failed=False, seconds=0.4) and not found.is_bad(failed=False, seconds=0.2)
    assert found.is_bad(failed=True, seconds=0.01) and not found.is_bad(failed=False, seconds=None)


SHARES = st.integers(500_000, 999_999).map(lambda n: f"{n / 10_000:g}")
OF = st.sampled_from(["", "web", "api-2", "web:8000"])


@settings(max_examples=50, deadline=None)
@given(SHARES, st.integers(1, 600_000), OF)
def test_the_name_of_an_objective_is_read_as_the_same_one(share: str, limit_ms: int, of: str) -> None:
    service, route = ("", of) if ":" in of else (of, "")
    for found in (availability(share, service, route), latency(f"{share} % < {limit_ms}ms", service, route)):
        assert objective(found.name) == found


@pytest.mark.parametrize("text", ["", "99.9", "availability", "uptime 99.9", "latency 99.9", "availability 99 of a b"])
def test_what_is_no_line_of_an_objective_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an objective|not a latency|not an availability"):
        objective(text)


@pytest.mark.parametrize("text", ["100", "100 %", "49", "0", "x", "99.9 % < 3s", "-1", "99,9", ""])
def test_what_is_no_availability_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"availability|objective"):
        availability(text)


@pytest.mark.parametrize("text", ["99", "99 % < 0ms", "99 % < 20m", "99 % < 601s", "300ms", "100 % < 1s"])
def test_what_is_no_latency_objective_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"latency|limit|objective|duration"):
        latency(text)


REQUESTS = st.lists(st.tuples(st.floats(0, 40_000), st.booleans()), max_size=80)


@settings(max_examples=100, deadline=None)
@given(REQUESTS, st.sampled_from([5, 25, 300, 1800, 3600, 21600]), st.floats(0, 5_000))
def test_a_window_holds_what_a_slow_count_finds(found: list[tuple[float, bool]], window: int, later: float) -> None:
    found, tally = sorted(found), Tally()
    for at, bad in found:
        tally.add(at, bad=bad)
    end = max([at for at, _ in found], default=0.0) + later
    tally.advance(end)

    width = BUCKET_S if window <= FINE_S else MINUTE_S
    first = end // width - window // width
    inside = [bad for at, bad in found if at // width >= first]
    assert tally.over(window) == (len(inside), sum(inside))
    assert msgspec.json.decode(msgspec.json.encode(tally), type=Tally) == tally


def test_a_tally_stays_small_for_ever() -> None:
    tally = Tally()
    for second in range(0, 2 * LONGEST_S, 4):
        tally.add(float(second), bad=second % 3 == 0)

    assert len(tally.fine.buckets) == FINE_S // BUCKET_S + 1
    assert len(tally.coarse.buckets) == LONGEST_S // MINUTE_S + 1
    assert len(msgspec.json.encode(tally)) < 8_000


def test_windows_of_a_young_release_reach_back_to_its_beginning_only() -> None:
    assert windows_at(FAST, 3600) == FAST and windows_at(SLOW, 99_999) == SLOW
    assert windows_at(FAST, 600) == Windows(Pace.FAST, 50, 600, 14.4, scaled=True)
    assert windows_at(FAST, 20) == Windows(Pace.FAST, 5, 20, 14.4, scaled=True)
    assert windows_at(FAST, 0).long_s == BUCKET_S
    assert windows_at(FAST, 300).words == "25s/5m (the release is no older)" and FAST.words == "5m/1h"


Traffic = Iterator[tuple[float, bool]]


def traffic(seed: int, rate: float, seconds: float, wrong: float, *, start: float = 0.0) -> Traffic:
    dice, at = random.Random(seed), start
    while (at := at + dice.expovariate(rate)) < start + seconds:
        yield at, dice.random() < wrong


def told(watch: Watch, requests: Traffic) -> tuple[Alert, ...]:
    """Until something fires; what it is."""
    looked = 0.0
    for at, bad in requests:
        watch.request(at, service="web", route="web:80", failed=bad, seconds=0.01, ours=at >= watch.live_since)
        if at - looked >= 1:
            looked = at
            if alerts := watch.look():
                return alerts
    return ()


@pytest.mark.parametrize("rate", [1, 20, 200])
def test_a_release_that_keeps_its_objective_never_fires(rate: int) -> None:
    for seed in range(3):
        watch = Watch.begin((THREE_NINES,), 0.0)
        assert told(watch, traffic(seed, rate, 6_000 / rate + 30, 0.001)) == ()


@pytest.mark.parametrize(("wrong", "within"), [(1.0, 10.0), (0.2, 15.0), (0.05, 30.0), (0.02, 120.0)])
def test_errors_above_the_pace_are_found_in_seconds(wrong: float, within: float) -> None:
    for seed in range(5):
        watch = Watch.begin((THREE_NINES,), 0.0)
        alerts = told(watch, traffic(seed, 50, 600, wrong))

        assert alerts and watch.now <= within, (seed, watch.now)
        assert alerts[0].burn > 6 and alerts[0].bad >= MIN_BAD
        assert "burn" in alerts[0].words and "are allowed" in alerts[0].evidence


def test_a_slow_burn_is_not_a_fast_one() -> None:
    watch = Watch.begin((THREE_NINES,), 0.0)
    paces = {alert.windows.pace for alert in told(watch, traffic(3, 50, 3_000, 0.009))}

    assert paces == {Pace.SLOW}


def test_a_few_bad_requests_are_no_alert() -> None:
    tally = Tally()
    for _ in range(MIN_BAD - 1):
        tally.add(1.0, bad=True)
    assert fires(tally, THREE_NINES, FAST) is None
    tally.add(1.0, bad=True)
    assert fires(tally, THREE_NINES, FAST) is not None
    loose = Objective(Kind.AVAILABILITY, 0.5)
    assert fires(tally, loose, FAST) is None


def test_an_alert_that_fired_before_the_release_is_not_its_doing() -> None:
    watch = Watch.begin((THREE_NINES,), 1000.0)

    assert told(watch, traffic(1, 50, 1600, 0.05)) == ()
    assert watch.old


@pytest.mark.parametrize(("rate", "wrong"), [(50, 1.0), (50, 0.2), (50, 0.05), (5, 0.5), (5, 0.2)])
@pytest.mark.parametrize("earlier", [12, 30, 100, 900])
def test_trouble_that_had_just_begun_is_not_its_doing(rate: float, wrong: float, earlier: int) -> None:
    """Too young for the alert of an hour, and the windows of a young release would show nothing but it."""
    for seed in range(3):
        watch = Watch.begin((THREE_NINES,), 4000.0)
        assert told(watch, traffic(seed, rate, 4000 - earlier, 0.0005)) == ()
        assert told(watch, traffic(seed + 10, rate, earlier + 900, wrong, start=4000 - earlier)) == ()
        assert "0 fast" in watch.old


@pytest.mark.parametrize(
    ("before", "after", "blamed"), [(0.03, 0.3, True), (0.05, 1.0, True), (0.2, 0.4, False), (0.5, 1.0, False)]
)
def test_a_release_that_makes_it_evidently_worse_is_to_blame(before: float, after: float, blamed: bool) -> None:
    for seed in range(5):
        watch = Watch.begin((THREE_NINES,), 4000.0)
        assert told(watch, traffic(seed, 50, 3980, 0.0)) == ()
        assert told(watch, traffic(seed + 10, 50, 20, before, start=3980)) == ()
        alerts = told(watch, traffic(seed + 20, 50, 600, after, start=4000))

        assert any(alert.windows.pace is Pace.FAST for alert in alerts) is blamed
        assert not blamed or watch.now < 4030


def test_an_alert_that_fired_by_its_own_windows_excuses_any_release() -> None:
    watch = Watch.begin((THREE_NINES,), 4000.0)
    assert told(watch, traffic(1, 50, 4000, 0.05)) == ()

    assert told(watch, traffic(2, 50, 600, 1.0, start=4000)) == () and "0 fast" in watch.old


def test_silence_before_it_does_not_show_that_the_trouble_was_over() -> None:
    watch = Watch.begin((THREE_NINES,), 4000.0)
    assert told(watch, traffic(1, 50, 3960, 0.0)) == ()
    assert told(watch, traffic(2, 50, 30, 0.05, start=3960)) == ()
    assert told(watch, traffic(3, 50, 100, 0.05, start=4000)) == () and "0 fast" in watch.old


def test_trouble_that_was_over_before_it_is_no_excuse() -> None:
    watch = Watch.begin((THREE_NINES,), 4000.0)
    assert told(watch, traffic(1, 50, 3920, 0.0)) == ()
    assert told(watch, traffic(2, 50, 40, 0.05, start=3920)) == ()
    assert told(watch, traffic(3, 50, 40, 0.0, start=3960)) == ()
    alerts = told(watch, traffic(4, 50, 100, 0.2, start=4000))

    assert alerts and alerts[0].windows.pace is Pace.FAST and watch.now < 4015


def test_trouble_that_stops_after_it_went_live_is_no_excuse_any_more() -> None:
    watch = Watch.begin((THREE_NINES,), 4000.0)
    assert told(watch, traffic(1, 50, 3985, 0.0)) == ()
    assert told(watch, traffic(2, 50, 20, 0.05, start=3985)) == ()
    assert watch.old
    assert told(watch, traffic(3, 50, 60, 0.0, start=4005)) == () and "0 fast" not in watch.old
    alerts = told(watch, traffic(4, 50, 100, 0.2, start=4065))

    assert alerts and watch.now < 4080


def test_one_that_stopped_and_comes_back_is() -> None:
    watch = Watch.begin((THREE_NINES,), 1000.0)
    assert told(watch, traffic(1, 50, 1100, 0.05)) == ()
    assert told(watch, traffic(2, 50, 900, 0.0, start=1100)) == ()
    assert watch.old == []
    alerts = told(watch, traffic(3, 50, 900, 0.2, start=2000))

    assert alerts and alerts[0].since >= 2000


def test_errors_of_the_release_before_do_not_count_for_this_one() -> None:
    watch = Watch.begin((THREE_NINES,), 100.0)
    told(watch, traffic(1, 50, 99, 0.01))

    assert told(watch, traffic(2, 50, 200, 0.0, start=100)) == ()
    assert watch.counts(0)[1] == 0 and watch.every[0].over(LONGEST_S)[1] > 0


def test_objectives_of_a_service_count_its_requests_only() -> None:
    watch = Watch.begin((availability("99.9", service="api"), availability("99.9", route="web:80")), 0.0)
    alerts = told(watch, traffic(1, 50, 60, 1.0))

    assert {alert.objective.name for alert in alerts} == {"availability 99.9 % of web:80"}
    assert watch.counts(0) == (0, 0)
    assert alerts[0].service == "web"


def test_an_alert_stops_when_the_errors_do() -> None:
    watch = Watch.begin((THREE_NINES,), 0.0)
    assert told(watch, traffic(1, 50, 300, 0.3))
    for at, bad in traffic(2, 50, 700, 0.0, start=watch.now):
        watch.request(at, service="web", route="", failed=bad, seconds=None)
    assert all(alert.windows.pace is Pace.SLOW for alert in watch.look())
    watch.advance(watch.now + 7 * 3600)
    assert watch.look() == ()


def test_what_a_candidate_answered_before_is_not_what_was_wrong_before() -> None:
    watch = Watch.begin((THREE_NINES,), 200.0)
    for at, bad in traffic(1, 50, 200, 0.1):
        watch.request(at, service="web", route="", failed=bad, seconds=None, ours=True)
        watch.request(at, service="web", route="", failed=False, seconds=None, ours=False)
    alerts = told(watch, traffic(2, 50, 100, 0.1, start=200))

    assert alerts and watch.old == []


def test_what_another_candidate_answers_does_not_count() -> None:
    watch = Watch.begin((THREE_NINES,), 0.0)
    for at, bad in traffic(1, 50, 100, 0.5):
        watch.request(at, service="web", route="", failed=bad, seconds=None, ours=False)

    assert watch.look() == () and watch.counts(0) == (0, 0)
