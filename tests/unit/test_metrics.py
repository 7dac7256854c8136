"""`analysis.prometheus` and `analysis.metrics`: what they may say, and which values are good."""

from __future__ import annotations

from math import inf, isfinite, nan
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core.extension import AnalysisKeys
from nself_deploy.core.extension_reader import read_extension
from nself_deploy.core.key_places import KeyPath, Locate, nowhere
from nself_deploy.core.metrics import Condition, Metric, MetricKeys, Missing, Outcome, Reading, fill
from nself_deploy.core.metrics_check import MOST_METRICS, MOST_QUERY
from nself_deploy.errors import ConfigError, Exit

URL = "http://127.0.0.1:9090"
PROMETHEUS = {"url": URL}
GOOD = {"name": "errors", "query": "up", "success": {"below": 0.01}}


def read_metrics(analysis: dict[str, Any], locate: Locate = nowhere) -> AnalysisKeys:
    keys = read_extension({"x-nself-deploy": {"analysis": analysis}}, locate).project.analysis
    assert keys is not None
    return keys


def test_nothing_said_is_nothing_measured() -> None:
    keys = read_metrics({"alpha": 0.01})

    assert keys.prometheus is None
    assert keys.metrics == ()


def test_reads_everything() -> None:
    metric = {
        "name": "failed checkouts",
        "query": 'rate(failed{slot="{{slot}}"}[{{ window }}])',
        "success": {"below": 1},
        "failure": {"above": 2.5},
        "interval": "30s",
        "window": "2m",
        "successes": 4,
        "failures_in_a_row": 2,
        "failures": 0,
        "missing": "fail",
        "gaps_in_a_row": 7,
    }
    prometheus = {"url": "https://prometheus/x", "username": "ops", "password_file": "p", "ca_file": "ca.pem"}
    keys = read_metrics({"prometheus": {**prometheus, "timeout": "500ms"}, "metrics": [metric]})

    assert keys.prometheus is not None
    assert (keys.prometheus.url, keys.prometheus.timeout_s) == ("https://prometheus/x", 0.5)
    [read] = keys.metrics
    assert read.metric == Metric(
        "failed checkouts",
        'rate(failed{slot="{{slot}}"}[{{ window }}])',
        success=Condition(below=1.0),
        failure=Condition(above=2.5),
        successes=4,
        failures_in_a_row=2,
        failures=0,
        missing=Missing.FAIL,
        gaps_in_a_row=7,
        interval_s=30.0,
        window_s=120.0,
    )


def test_defaults() -> None:
    keys = read_metrics({"prometheus": PROMETHEUS, "metrics": [{**GOOD, "interval": 0}]})

    assert keys.prometheus is not None
    assert keys.prometheus.timeout_s == 5
    metric = keys.metrics[0].metric
    assert (metric.interval_s, metric.window_s, metric.missing) == (15, 60, Missing.WAIT)
    assert (metric.successes, metric.failures_in_a_row, metric.failures, metric.gaps_in_a_row) == (3, 3, 5, 4)


def metric(**keys: Any) -> dict[str, Any]:
    return {"prometheus": PROMETHEUS, "metrics": [{**GOOD, **keys}]}


def prometheus(**keys: Any) -> dict[str, Any]:
    return {"prometheus": {**PROMETHEUS, **keys}}


BAD = [
    # analysis, expected place behind x-nself-deploy.analysis, expected words
    ({"metrics": [GOOD]}, ".metrics", "Nobody answers the queries"),
    ({"metrics": GOOD, "prometheus": PROMETHEUS}, ".metrics", "is not a list"),
    ({"metrics": ["up"], "prometheus": PROMETHEUS}, ".metrics[0]", "'up' is not a mapping"),
    ({"metrics": [GOOD] * 2, "prometheus": PROMETHEUS}, ".metrics[1].name", "Two metrics are called 'errors'"),
    ({"metrics": [GOOD] * (MOST_METRICS + 1), "prometheus": PROMETHEUS}, ".metrics", "At most 50"),
    ({"prometheus": URL}, ".prometheus", "is not a mapping"),
    ({"prometheus": {}}, ".prometheus", "'url' is missing"),
    (prometheus(url="127.0.0.1:9090"), ".prometheus.url", "Write it like http://"),
    (prometheus(url="ftp://x"), ".prometheus.url", "'ftp://x' is not an address"),
    (prometheus(url="http://[x"), ".prometheus.url", "not an address"),
    (prometheus(url="http://x:port"), ".prometheus.url", "not an address"),
    (prometheus(url="http://x y"), ".prometheus.url", "not an address"),
    (prometheus(url=f"{URL}/api/v1/query"), ".prometheus.url", "Leave out /api/v1/query"),
    (prometheus(url=f"{URL}/?x=1"), ".prometheus.url", "from ? or # on"),
    (prometheus(username="ops"), ".prometheus", "'password_file' is missing"),
    (prometheus(password_file="p"), ".prometheus", "'username' is missing"),
    (prometheus(username="a:b", password_file="p"), ".prometheus.username", "has a colon"),
    (prometheus(username="a", password_file="p", token_file="t"), ".prometheus.token_file", "Keep one of"),
    (prometheus(ca_file="ca.pem"), ".prometheus.ca_file", "Write https://"),
    (prometheus(timeout="2m"), ".prometheus.timeout", "From 100ms to 1m"),
    (prometheus(adress="x"), ".prometheus.adress", "Unknown key 'adress'"),
    (metric(querry="up"), ".metrics[0].querry", "Did you mean query?"),
    (metric(name=" "), ".metrics[0].name", "' ' is not a name"),
    (metric(name="x" * 81), ".metrics[0].name", "1 to 80 characters"),
    (metric(query=" "), ".metrics[0].query", "asks for nothing"),
    (metric(query=1), ".metrics[0].query", "is not text"),
    (metric(query="sum(up)\nby (job)"), ".metrics[0].query", "Write it on one line"),
    (metric(query="x" * (MOST_QUERY + 1)), ".metrics[0].query", "make a recording rule"),
    (metric(query="up{slot='{{solt}}'}"), ".metrics[0].query", "Did you mean {{slot}}?"),
    (metric(query="up[{{}}]"), ".metrics[0].query", "There is no placeholder {{}}"),
    (metric(success=None), ".metrics[0]", "neither which values are good nor which are bad"),
    (metric(success={}), ".metrics[0].success", "this one has nothing"),
    (metric(success={"below": 1, "above": 0}), ".metrics[0].success", "`below` and `above`"),
    (metric(success={"below": "0.01"}), ".metrics[0].success.below", "'0.01' is not a number"),
    (metric(success={"below": nan}), ".metrics[0].success.below", "nan is no number to compare with"),
    (metric(success={"within": [0, inf]}), ".metrics[0].success.within", "inf is no number"),
    (metric(success={"within": [2, 1]}), ".metrics[0].success.within", "Write the lower one first"),
    (metric(success={"within": [1]}), ".metrics[0].success.within", "length 2"),
    (metric(success={"less": 1}), ".metrics[0].success.less", "Known keys: below, above, within"),
    (metric(failure={"above": 0.005}), ".metrics[0].failure", "can be good and bad: below 0.01, and above 0.005"),
    (metric(interval="2h"), ".metrics[0].interval", "2h is out of range"),
    (metric(window="10ms"), ".metrics[0].window", "From 1s to 1h"),
    (metric(interval="often"), ".metrics[0].interval", "'often' is not a duration"),
    (metric(successes=0), ".metrics[0].successes", "at least 1"),
    (metric(failures=1.5), ".metrics[0].failures", "is not a whole number"),
    (metric(failures=0, failures_in_a_row=0), ".metrics[0].failures_in_a_row", "can never fail"),
    (metric(missing="success"), ".metrics[0].missing", "Choose one of wait, invalid, fail"),
    (metric(gaps_in_a_row=0), ".metrics[0].gaps_in_a_row", "at least 1"),
]


@pytest.mark.parametrize(("analysis", "place", "words"), BAD, ids=[f"{place} {words}" for _, place, words in BAD])
def test_what_is_wrong_is_named(analysis: dict[str, Any], place: str, words: str) -> None:
    def locate(path: KeyPath) -> str:
        return f"compose.yaml:{len(path)}"

    with pytest.raises(ConfigError) as caught:
        read_metrics(analysis, locate)

    file, _, found = caught.value.where.partition(": ")
    assert file.startswith("compose.yaml:")
    assert found == f"x-nself-deploy.analysis{place}"
    assert words in f"{caught.value.what} {caught.value.remedy}"
    assert caught.value.exit_status is Exit.USAGE


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="Write `username` and `password_file`") as caught:
        read_metrics({"prometheus": {"url": "http://ops:s3cr3t@host:9090"}})

    assert "s3cr3t" not in str(caught.value)


def test_a_query_is_filled_in() -> None:
    query = 'rate(x{slot="{{slot}}",r="{{ release }}"}[{{window}}]) {{project}}'
    values = {"slot": "green", "release": "20261122T232401-27d68860", "project": "my-shop_1"}

    assert fill(query, values, 60.0) == 'rate(x{slot="green",r="20261122T232401-27d68860"}[60s]) my-shop_1'
    assert fill("[{{window}}]", {}, 1.5) == "[1500ms]"


@pytest.mark.parametrize("value", ['"', "a b", "x\n", "{", "\\"])
def test_a_value_that_means_something_in_a_query_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="slot: "):
        fill("{{slot}}", {"slot": value}, 60.0)


NUMBERS = st.floats(-5, 5).map(lambda x: round(x * 2) / 2)
CONDITIONS = st.one_of(
    NUMBERS.map(lambda x: Condition(below=x)),
    NUMBERS.map(lambda x: Condition(above=x)),
    st.tuples(NUMBERS, NUMBERS).map(lambda ends: Condition(within=(min(ends), max(ends)))),
)
POINTS = sorted({x / 4 for x in range(-24, 25)})


@given(CONDITIONS, CONDITIONS)
def test_conditions_overlap_when_a_value_meets_both(one: Condition, other: Condition) -> None:
    both = any(one.met_by(x) and other.met_by(x) for x in POINTS)

    assert one.overlaps(other) is other.overlaps(one) is both


@pytest.mark.parametrize("condition", [Condition(below=1), Condition(above=1), Condition(within=(-9, 9)), Condition()])
def test_what_is_no_finite_number_meets_nothing(condition: Condition) -> None:
    assert not any(condition.met_by(value) for value in (nan, inf, -inf))


@given(st.floats(allow_nan=False, allow_infinity=False), CONDITIONS)
def test_one_condition_says_it_all(value: float, condition: Condition) -> None:
    good, bad = Metric("x", "x", success=condition), Metric("x", "x", failure=condition)

    assert good.good(value) is condition.met_by(value)
    assert bad.good(value) is not condition.met_by(value)


def test_with_two_conditions_there_is_something_between() -> None:
    both = Metric("x", "x", success=Condition(below=1), failure=Condition(above=2))

    assert [both.good(x) for x in (0.9, 1.0, 2.0, 2.1)] == [True, None, None, False]
    assert (both.wanted, Metric("x", "x", failure=Condition(within=(1, 2))).wanted) == ("below 1", "not within 1 and 2")


@given(st.floats())
def test_a_reading_has_a_value_only_if_it_is_finite(value: float) -> None:
    reading = Reading.of(value)

    assert (reading.outcome is Outcome.VALUE) is isfinite(value) is (reading.value is not None)
    assert bool(reading.detail) is not isfinite(value)


def test_the_keys_have_descriptions() -> None:
    schema = msgspec.json.schema(MetricKeys, schema_hook=lambda kind: {"type": "string"})

    assert [k for k, v in schema["$defs"]["MetricKeys"]["properties"].items() if "description" not in str(v)] == []
