"""A canary that is judged by metrics as well: what both say together, and what that leads to."""

from __future__ import annotations

import msgspec
import pytest

from nself_deploy.core.analysis import Analysis, Mode, OnInconclusive
from nself_deploy.core.canary import (
    Consent,
    Session,
    Way,
    evidence_words,
    explained,
    progress_words,
    proved,
    way,
)
from nself_deploy.core.evidence import Verdict
from nself_deploy.core.metrics import Condition, Metric, Reading
from nself_deploy.core.metrics_judge import MetricsJudge
from nself_deploy.core.model import Slot
from nself_deploy.core.plan import Timing
from nself_deploy.core.plan_canary import plan_canary
from tests.unit.plans import a_canary, a_project, a_release
from tests.unit.test_canary import a_session, watched
from tests.unit.test_machine_canary import FACTS

ERRORS = Metric("errors", "up", success=Condition(below=0.1), interval_s=5.0, window_s=5.0)
DEAD = Reading.error("nobody answers")


def with_metrics(*readings: Reading, seconds: float = 25.0, failing: float = 0.0, **analysis: object) -> Session:
    """A canary that was watched for so long; its metric was read every second at the end."""
    session = a_session(Analysis(soak_s=20.0, max_soak_s=60.0, **analysis))  # type: ignore[arg-type]
    session.metrics = MetricsJudge.begin((ERRORS,))
    watched(session, seconds, failing)
    for n, reading in enumerate(readings):
        session.metrics.measured("errors", seconds - len(readings) + 1 + n, reading)
    return session


def good(count: int) -> tuple[Reading, ...]:
    return (Reading.of(0.0),) * count


def bad(count: int) -> tuple[Reading, ...]:
    return (Reading.of(0.5),) * count


def test_it_goes_on_when_requests_and_metrics_pass() -> None:
    session = with_metrics(*good(3))

    assert session.verdict is Verdict.PASS
    assert way(session, 20.0, 100, 25.0) == (Way.ON, "pass: it is shown to be good enough")
    assert way(session, 20.0, 75, 25.0)[0] is Way.ON


@pytest.mark.parametrize(
    "readings",
    [(), good(2), (*good(3), *bad(1)), (*good(3), DEAD), (*good(3), Reading.no_data("none")), (DEAD, DEAD, DEAD)],
    ids=["never asked", "too few", "bad at last", "no answer at last", "no data at last", "never an answer"],
)
def test_good_requests_alone_give_it_no_larger_share(readings: tuple[Reading, ...]) -> None:
    session = with_metrics(*readings)

    assert session.judge.verdict is Verdict.PASS
    assert session.verdict is Verdict.INCONCLUSIVE
    for following in (75, 100):
        assert way(session, 20.0, following, 25.0) == (Way.WAIT, "")
        assert way(session, 20.0, following, 60.0)[0] is Way.STAY
        assert not proved(session, following)


def test_a_value_of_long_ago_says_nothing_about_now() -> None:
    session = with_metrics(*good(3))
    assert session.metrics is not None
    session.metrics.advance(50.0)

    assert way(session, 20.0, 100, 50.0) == (Way.WAIT, "")


def test_a_bad_metric_takes_it_back_though_requests_pass() -> None:
    session = with_metrics(*bad(3))

    where, why = way(session, 20.0, 100, 25.0)
    assert (where, session.verdict) == (Way.BACK, Verdict.FAIL)
    assert why == "the metric errors was bad 3 times in a row: 0.5 at last, and below 0.1 is wanted"


def test_a_failure_of_the_requests_counts_whatever_metrics_say() -> None:
    session = with_metrics(*good(3), seconds=5.0, failing=0.5)

    assert way(session, 20.0, 100, 5.0)[0] is Way.BACK
    assert session.decision == session.judge.decision


def test_the_worse_decision_stands() -> None:
    session = with_metrics(*bad(3))
    session.judge.fault(26.0, "the log is gone")
    assert session.decision is not None and session.decision.verdict is Verdict.FAIL

    session = with_metrics(DEAD, DEAD, DEAD, DEAD, seconds=5.0, failing=0.5)
    assert session.decision is not None and session.decision.verdict is Verdict.FAIL


def test_an_outage_parks_it_and_never_takes_it_back_for_good() -> None:
    session = with_metrics(*good(3), DEAD, DEAD, DEAD, DEAD, on_inconclusive=OnInconclusive.ROLLBACK)

    where, why = way(session, 20.0, 100, 25.0)
    assert (where, session.verdict) == (Way.HOLD, Verdict.INVALID)
    assert why == "the metric errors could not be measured 4 times in a row: nobody answers"


@pytest.mark.parametrize(("last", "where"), [(DEAD, Way.STAY), (Reading.no_data("none"), Way.BACK)])
def test_when_its_time_is_over_in_an_outage_a_person_decides(last: Reading, where: Way) -> None:
    session = with_metrics(last, on_inconclusive=OnInconclusive.ROLLBACK)

    assert way(session, 20.0, 100, 60.0)[0] is where


def test_a_person_moves_it_on_without_metrics() -> None:
    session = with_metrics(DEAD)
    session.consent = Consent("ann", "Prometheus is being moved")

    assert way(session, 20.0, 100, 25.0) == (
        Way.ON,
        "inconclusive: promoted by ann, because: Prometheus is being moved",
    )


def test_metrics_that_are_only_observed_have_no_consequences() -> None:
    session = with_metrics(*bad(3), mode=Mode.OBSERVE)

    assert way(session, 20.0, 100, 25.0) == (Way.ON, "fail: it is only observed")


def test_what_is_known_names_each_metric_and_what_is_missing() -> None:
    found = explained(with_metrics(*good(2), *bad(1)))

    assert (found.verdict, found.final) == (Verdict.INCONCLUSIVE, False)
    assert found.reason == "a metric is not shown to be good enough yet"
    assert [(m.name, m.good, m.bad, m.value) for m in found.metrics] == [("errors", 2, 1, 0.5)]
    assert found.expected_s == pytest.approx(5.0)
    words = evidence_words(found)
    assert "metric errors: 0.5; below 0.1 is wanted (2 good, 1 bad)" in words
    assert "missing: 1 more good values of errors: 2 of 3" in words


def test_what_is_known_when_it_is_decided_or_nothing_is_missing() -> None:
    passed = explained(with_metrics(*good(3)))
    assert (passed.verdict, passed.final, passed.missing) == (Verdict.PASS, True, ())

    session = with_metrics(*bad(3))
    failed = explained(session)
    assert (failed.verdict, failed.final, failed.missing, failed.expected_s) == (Verdict.FAIL, True, (), None)
    assert failed.reason.startswith("the metric errors was bad")
    assert progress_words(session).startswith("50 %, fail: ")
    assert progress_words(session).endswith("; metrics: fail")


def test_what_was_not_answered_is_said() -> None:
    assert "metric errors: nobody answers; below 0.1 is wanted (1 not measured)" in evidence_words(
        explained(with_metrics(DEAD))
    )
    assert "metric errors: not asked for yet; below 0.1 is wanted" in evidence_words(explained(with_metrics()))


def test_it_goes_on_from_what_was_written_down() -> None:
    session = with_metrics(*good(2), DEAD)
    again = msgspec.json.decode(msgspec.json.encode(session), type=Session)

    assert msgspec.json.encode(again) == msgspec.json.encode(session)
    assert again.metrics is not None
    again.metrics.measured("errors", 26.0, Reading.of(0.0))
    assert again.metrics.verdict is Verdict.PASS


def test_a_session_of_before_there_were_metrics_has_none() -> None:
    written = msgspec.json.decode(msgspec.json.encode(a_session()))
    del written["metrics"]

    assert msgspec.convert(written, Session).metrics is None


def test_the_plan_names_what_a_promotion_needs() -> None:
    canary = msgspec.structs.replace(a_canary(), metrics=(ERRORS,))
    plan = plan_canary(a_project(), a_release(), FACTS, Timing(), "local", canary)

    assert plan.metrics == (ERRORS,) and plan.candidate is Slot.GREEN
    assert any("400 good requests to it, good values of errors)" in change.reason for change in plan.changes)
