"""The judge of metrics: what is never a success, what decides, and that it goes on where it was."""

from __future__ import annotations

from math import inf, nan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core.evidence import Verdict
from nself_deploy.core.metrics import Condition, Metric, Missing, Outcome, Reading
from nself_deploy.core.metrics_judge import MetricsJudge, explain_metrics, worst

BELOW = Condition(below=0.1)
NOTHING = Reading.no_data("no series")
DOWN = Reading.error("can't be reached")


def ratio(name: str = "errors", **keys: object) -> Metric:
    return msgspec.structs.replace(Metric(name, "query", success=BELOW, failure=Condition(above=0.5)), **keys)


def next_at(judge: MetricsJudge) -> float:
    """When something is to be asked for again."""
    return min(tally.due for tally in judge.tallies)


def told(metric: Metric, *readings: Reading | float) -> MetricsJudge:
    """A judge that has been told these, each at the time when it was due."""
    judge = MetricsJudge.begin((metric,))
    for reading in readings:
        at = judge.now if judge.decision is not None else next_at(judge)
        judge.measured(metric.name, at, reading if isinstance(reading, Reading) else Reading.of(reading))
    return judge


READINGS = st.one_of(
    st.sampled_from(
        [NOTHING, DOWN, Reading(Outcome.VALUE), Reading(Outcome.NO_DATA, 0.0), Reading(Outcome.ERROR, 0.0)]
    ),
    st.sampled_from([0.0, 0.05, 0.3, 0.9, nan, inf, -inf]).map(Reading.of),
    st.sampled_from([nan, inf]).map(lambda value: Reading(Outcome.VALUE, value)),
)
METRICS = st.builds(
    ratio,
    successes=st.integers(1, 4),
    failures=st.integers(0, 6),
    failures_in_a_row=st.integers(1, 4),
    missing=st.sampled_from(Missing),
    gaps_in_a_row=st.integers(1, 4),
)


def good(reading: Reading) -> bool:
    return reading.outcome is Outcome.VALUE and reading.value in {0.0, 0.05}


def test_nothing_is_shown_before_the_window_is_over() -> None:
    judge = MetricsJudge.begin((ratio(window_s=60.0), ratio("slow", window_s=90.0, interval_s=40.0)))

    assert (judge.verdict, next_at(judge), judge.due(59.9)) == (Verdict.INCONCLUSIVE, 60.0, ())
    assert [metric.name for metric in judge.due(60.0)] == ["errors"]
    judge.measured("errors", 61.0, Reading.of(0.0))
    assert next_at(judge) == 76.0
    assert [metric.name for metric in judge.due(95.0)] == ["errors", "slow"]
    judge.measured("errors", 80.0, Reading.of(0.0))
    assert [metric.name for metric in judge.due(95.0)] == ["slow", "errors"], "what waits longest is first"


def test_enough_good_values_and_a_good_one_at_last_pass() -> None:
    assert told(ratio(), 0.0, 0.0).verdict is Verdict.INCONCLUSIVE
    assert told(ratio(), 0.0, 0.0, 0.0).verdict is Verdict.PASS
    assert told(ratio(), 0.0, 0.9, 0.0, 0.0).verdict is Verdict.PASS
    for last in (0.9, 0.3, NOTHING, DOWN, nan, inf):
        assert told(ratio(), 0.0, 0.0, 0.0, last).verdict is Verdict.INCONCLUSIVE


def test_an_old_value_passes_no_longer() -> None:
    judge = told(ratio(), 0.0, 0.0, 0.0)
    judge.advance(judge.now + 39.0)
    assert judge.verdict is Verdict.PASS

    judge.advance(judge.now + 2.0)
    assert judge.verdict is Verdict.INCONCLUSIVE
    assert explain_metrics(judge, judge.now)[0].missing == ("a new value of errors: the last one is 41 s old",)


@pytest.mark.parametrize(
    ("readings", "words"),
    [
        ((0.9, 0.9, 0.9), "was bad 3 times in a row: 0.9 at last, and below 0.1 is wanted"),
        ((0.9, 0.0, 0.9, 0.3, 0.9, 0.0, 0.9, 0.0, 0.75), "was bad 5 times: 0.75 at last, and below 0.1 is wanted"),
        ((0.9, NOTHING, 0.9, DOWN, 0.9), "was bad 3 times in a row: 0.9 at last"),
    ],
)
def test_bad_values_fail_in_a_row_or_in_total(readings: tuple[Reading | float, ...], words: str) -> None:
    assert told(ratio(), *readings[:-1]).decision is None
    judge = told(ratio(), *readings)

    assert judge.verdict is Verdict.FAIL
    assert judge.decision is not None
    assert judge.decision.reason.startswith(f"the metric errors {words}")
    assert judge.decision.at == judge.now
    assert judge.due(1e9) == ()


def test_a_limit_of_none_is_none() -> None:
    assert told(ratio(failures=0), *[0.9, 0.9, 0.0] * 20).decision is None
    assert told(ratio(failures_in_a_row=0), *[0.9] * 5).verdict is Verdict.FAIL


def test_what_missing_data_means() -> None:
    assert told(ratio(), *[NOTHING] * 50).verdict is Verdict.INCONCLUSIVE
    assert told(ratio(missing=Missing.FAIL), *[NOTHING] * 3).decision.reason.endswith(  # type: ignore[union-attr]
        "was bad 3 times in a row: no series at last, and below 0.1 is wanted"
    )
    invalid = told(ratio(missing=Missing.INVALID), *[NOTHING, DOWN] * 2)
    assert invalid.verdict is Verdict.INVALID
    assert told(ratio(missing=Missing.INVALID), NOTHING, NOTHING, NOTHING, 0.0, NOTHING).decision is None


def test_errors_in_a_row_make_it_invalid() -> None:
    assert told(ratio(), DOWN, DOWN, DOWN, 0.0, DOWN, DOWN, DOWN).verdict is Verdict.INCONCLUSIVE
    judge = told(ratio(), DOWN, DOWN, DOWN, DOWN)

    assert judge.verdict is Verdict.INVALID
    assert judge.decision is not None
    assert judge.decision.reason == "the metric errors could not be measured 4 times in a row: can't be reached"


@given(METRICS, st.lists(READINGS, max_size=30))
def test_what_was_not_measured_as_good_is_never_a_success(metric: Metric, readings: list[Reading]) -> None:
    judge = told(metric, *readings)
    [evidence] = explain_metrics(judge, judge.now)

    assert judge.verdict in {Verdict.PASS, Verdict.FAIL, Verdict.INVALID, Verdict.INCONCLUSIVE}
    assert evidence.good <= sum(map(good, readings))
    if judge.verdict is Verdict.PASS:
        assert sum(map(good, readings)) >= metric.successes
        assert good(readings[-1])


@given(METRICS, st.lists(READINGS, max_size=30), st.lists(READINGS, max_size=10))
def test_a_decision_stands(metric: Metric, before: list[Reading], after: list[Reading]) -> None:
    judge = told(metric, *before)
    decision = judge.decision
    for reading in after:
        judge.measured(metric.name, judge.now + 100, reading)

    assert decision is None or judge.decision == decision


@given(METRICS, st.lists(READINGS, max_size=20), st.integers(0, 20))
def test_it_goes_on_where_it_was(metric: Metric, readings: list[Reading], cut: int) -> None:
    through, split = told(metric, *readings), told(metric, *readings[:cut])
    split = msgspec.json.decode(msgspec.json.encode(split), type=MetricsJudge)
    for reading in readings[cut:]:
        split.measured(metric.name, split.now if split.decision is not None else next_at(split), reading)

    assert split == through
    assert msgspec.json.encode(explain_metrics(split, 1e6)) == msgspec.json.encode(explain_metrics(through, 1e6))


@given(METRICS, st.lists(READINGS, max_size=20))
def test_an_explanation_says_what_is_missing_unless_it_passes(metric: Metric, readings: list[Reading]) -> None:
    judge = told(metric, *readings)
    [evidence] = explain_metrics(judge, judge.now)

    assert evidence.verdict is judge.verdict
    assert bool(evidence.missing) is (judge.verdict is Verdict.INCONCLUSIVE)
    assert (evidence.expected_s is None) is (judge.decision is not None)
    assert evidence.good + evidence.bad + evidence.between + evidence.errors <= len(readings)


def test_an_explanation_in_numbers_and_words() -> None:
    judge = MetricsJudge.begin((ratio(), ratio("other")))
    for at, value in ((60.0, 0.05), (75.0, 0.3), (90.0, nan), (105.0, 0.9)):
        judge.measured("errors", at, Reading.of(value))
    first, second = explain_metrics(judge, 107.0)

    assert (first.good, first.between, first.no_data, first.bad, first.errors) == (1, 1, 1, 1, 0)
    assert (first.value, first.at, first.wanted, first.expected_s) == (0.9, 105.0, "below 0.1", 28.0)
    assert first.missing == (
        "2 more good values of errors: 1 of 3",
        "a good value of errors at last: 0.9, and below 0.1 is wanted",
    )
    assert (second.value, second.missing) == (None, ("3 more good values of other: 0 of 3",))
    for at in (120.0, 135.0):
        judge.measured("errors", at, Reading.of(0.9))
    first, second = explain_metrics(judge, 140.0)
    assert (first.verdict, second.verdict, judge.verdict) == (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.FAIL)
    assert first.missing == second.missing == ()


def test_all_metrics_have_to_pass() -> None:
    judge = MetricsJudge.begin((ratio(), ratio("other", successes=1)))
    for _ in range(3):
        assert judge.verdict is Verdict.INCONCLUSIVE
        at = next_at(judge)
        for metric in judge.due(at):
            judge.measured(metric.name, at, Reading.of(0.0))

    assert judge.verdict is Verdict.PASS


def test_what_several_sources_say_together() -> None:
    assert worst(Verdict.PASS, Verdict.PASS) is Verdict.PASS
    assert worst(Verdict.PASS, Verdict.INCONCLUSIVE) is Verdict.INCONCLUSIVE
    assert worst(Verdict.HOLD, Verdict.INCONCLUSIVE, Verdict.PASS) is Verdict.HOLD
    assert worst(Verdict.INVALID, Verdict.FAIL) is Verdict.FAIL
    assert worst() is Verdict.INCONCLUSIVE


def test_nothing_to_judge_by_is_refused() -> None:
    with pytest.raises(ValueError, match="without a metric"):
        MetricsJudge.begin(())
    with pytest.raises(ValueError, match="there is no metric 'x'"):
        MetricsJudge.begin((ratio(),)).measured("x", 1.0, DOWN)
