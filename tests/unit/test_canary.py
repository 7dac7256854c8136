"""What is known of a canary, and what follows from it; the shares that are asked for."""

from __future__ import annotations

import msgspec
import pytest

from nself_deploy.core.analysis import Analysis, LatencyKeys, Mode, OnInconclusive
from nself_deploy.core.canary import (
    Consent,
    Session,
    Way,
    bake_words,
    evidence_words,
    explained,
    new_bake,
    progress_words,
    way,
)
from nself_deploy.core.canary_settings import canary_of
from nself_deploy.core.evidence import Request
from nself_deploy.core.extension import AnalysisKeys
from nself_deploy.core.extension_reader import read_extension
from nself_deploy.core.log_moves import Move
from nself_deploy.core.log_position import LogPosition
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.plan_canary import Stage
from nself_deploy.core.settings import resolve_settings
from nself_deploy.core.verdict import Judge
from nself_deploy.errors import ConfigError, UsageError

BEFORE, TEN, HALF = Split.all_to(Slot.BLUE), Split(Slot.BLUE, Slot.GREEN, 10), Split(Slot.BLUE, Slot.GREEN, 50)
BEGAN = 1000.0


def a_session(analysis: Analysis | None = None) -> Session:
    judge = Judge.begin(analysis or Analysis(soak_s=20.0, max_soak_s=60.0))
    moves = [Move(BEFORE), Move(HALF, BEGAN, BEGAN)]
    return Session.begin(judge, Slot.GREEN, BEGAN, "salt", LogPosition(1, 0), moves)


def watched(session: Session, seconds: float, failing: float = 0.0) -> Session:
    """Sixty requests a second of so many clients, half of them on the candidate, where this part fails."""
    for n in range(int(seconds * 60)):
        client = (n * 2654435761) % (1 << 32)
        candidate = n % 2 == 0
        failed = candidate and (n // 2) % 100 < failing * 100
        session.feed((Request(n / 60, client, candidate, failed, 0.5),))
    session.judge.advance(seconds)
    return session


def test_a_healthy_candidate_goes_on_when_its_time_is_over() -> None:
    session = watched(a_session(), 25.0)

    assert way(session, 20.0, 100, 19.0) == (Way.WAIT, "")
    where, why = way(session, 20.0, 100, 25.0)
    assert where is Way.ON and why.startswith("pass: ")
    assert way(session, 20.0, 75, 25.0)[0] is Way.ON


def test_a_worse_candidate_is_taken_back_at_once() -> None:
    session = watched(a_session(), 5.0, failing=0.5)

    where, why = way(session, 20.0, 100, 5.0)
    assert where is Way.BACK and "more requests fail on the candidate" in why
    assert "of about" in evidence_words(explained(session))[0]
    assert progress_words(session).startswith("50 %, fail: ")


@pytest.mark.parametrize(("kept", "where"), [(OnInconclusive.HOLD, Way.STAY), (OnInconclusive.ROLLBACK, Way.BACK)])
def test_nothing_is_waited_for_for_ever(kept: OnInconclusive, where: Way) -> None:
    session = a_session(Analysis(soak_s=20.0, max_soak_s=60.0, on_inconclusive=kept))

    assert way(session, 20.0, 100, 59.0)[0] is Way.WAIT
    assert way(session, 20.0, 100, 60.0)[0] is where


def test_a_measurement_that_is_wrong_takes_users_back_and_asks_a_person() -> None:
    session = a_session()
    session.judge.fault(3.0, "the log is gone")

    assert way(session, 20.0, 100, 3.0) == (Way.HOLD, "the log is gone")


def test_a_person_moves_it_on_without_proof_but_not_a_failure() -> None:
    session = a_session()
    session.consent = Consent("ann", "I looked at it")
    assert way(session, 20.0, 100, 1.0) == (Way.ON, "inconclusive: promoted by ann, because: I looked at it")

    failing = watched(a_session(), 5.0, failing=0.5)
    failing.consent = Consent("ann", "I looked at it", full=True)
    assert way(failing, 20.0, 100, 5.0)[0] is Way.BACK


def test_what_is_only_observed_has_no_consequences() -> None:
    session = watched(a_session(Analysis(soak_s=20.0, max_soak_s=60.0, mode=Mode.OBSERVE)), 5.0, failing=0.5)

    assert way(session, 20.0, 100, 5.0)[0] is Way.WAIT
    assert way(session, 20.0, 100, 20.0) == (Way.ON, "fail: it is only observed")


def test_a_share_that_is_given_again_began_when_it_may_have_been_in_force() -> None:
    session = a_session()
    session.moved_to(HALF, 2000.0)
    assert session.moves[-1] == Move(HALF, BEGAN, BEGAN)

    later = Split(Slot.BLUE, Slot.GREEN, 75)
    session.moves_to(later, 1030.0)
    session.moves_to(later, 1090.0)
    session.moved_to(later, 1091.0)
    assert session.moves[-1] == Move(later, 1030.0, 1091.0)
    assert (session.percent, session.share_began_s) == (75, 91.0)


def test_a_resumed_share_has_time_again_and_a_late_one_too() -> None:
    session = a_session()
    session.enter(10.0, 20.0)
    assert session.deadline_s == 60.0
    session.enter(50.0, 20.0)
    assert session.deadline_s == 90.0
    session.enter(5000.0, 20.0)
    assert session.deadline_s == 5060.0


def test_requests_outside_of_a_share_are_not_judged_and_those_after_it_are_baked() -> None:
    session = a_session()
    session.bake, session.bake_began_s = new_bake(Analysis(), session.judge, 60.0), 30.0
    session.feed(
        tuple(Request(at, 7, True, at > 31, share) for at, share in ((1, 0.0), (2, 0.5), (29, 1.0), (32, 1.0)))
    )

    assert session.judge.requests == [1, 0, 0, 0]
    assert (session.bake.requests, session.bake.failed) == (1, 1)
    assert bake_words(session.bake) == "1 of 1 requests failed, up to 1.00% are allowed"


def test_a_bake_allows_for_what_failed_before() -> None:
    session = watched(a_session(), 40.0)
    assert new_bake(Analysis(), session.judge, 60.0).absolute.objective == 0.01


def test_a_session_is_the_same_after_it_was_written_down() -> None:
    session = watched(a_session(), 5.0, failing=0.02)
    session.containers["x"] = "since then"
    again = msgspec.json.decode(msgspec.json.encode(session), type=Session)

    assert msgspec.json.encode(again) == msgspec.json.encode(session)


def stages(flags: dict[str, object], env: dict[str, str] | None = None, **keys: object) -> list[tuple[int, float]]:
    project = read_extension({"x-nself-deploy": keys}).project
    settings = resolve_settings({"strategy": "canary", **flags}, env or {}, project)
    return [(s.percent, s.hold_s) for s in canary_of(settings, project.analysis).stages]


def test_shares_come_from_flags_the_environment_and_the_project() -> None:
    assert stages({}) == [(10, 300.0), (50, 60.0), (100, 0.0)]
    assert stages({"initial_percent": "60", "soak_minutes": "10s"}) == [(60, 10.0), (100, 0.0)]
    assert stages({"steps": "5, 25:2m,100", "soak_minutes": "1"}) == [(5, 60.0), (25, 120.0), (100, 0.0)]
    assert stages({}, {"NSELF_CANARY_PERCENT": "20", "NSELF_CANARY_SOAK_MINUTES": "10"})[0] == (20, 600.0)
    assert stages({}, steps="10:1m,25:2m,100") == [(10, 60.0), (25, 120.0), (100, 0.0)]
    assert stages({}, analysis={"soak": "2m"}) == [(10, 120.0), (50, 24.0), (100, 0.0)]


def test_a_stronger_word_wins() -> None:
    assert stages({"initial_percent": "5"}, steps="10:1m,25:2m,100") == [(5, 300.0), (50, 60.0), (100, 0.0)]
    assert stages({"soak_minutes": "30s"}, steps="10:1m,25:2m,100") == [(10, 30.0), (25, 60.0), (100, 0.0)]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"steps": "10,5,100"}, "5 % after 10 % does not grow"),
        ({"steps": "10,50"}, "it ends with 50 %"),
        ({"steps": "100"}, "at least one share"),
        ({"steps": "0,100"}, "'0' is no share"),
        ({"steps": "10:0s,100"}, "kept for no time"),
        ({"steps": "ten,100"}, "'ten' is no share"),
        ({"steps": "10,100", "initial_percent": "10"}, "given in two ways"),
        ({"steps": "10:1m,100", "soak_minutes": "2"}, "kept for 1m or for 2m"),
        ({"error_threshold_pct": "80"}, "slo_error_rate: 0.8 is out of range"),
        ({"soak_minutes": "1s"}, "'1s' is out of range: 3s to 24h is possible"),
    ],
)
def test_shares_that_can_not_be_are_refused(flags: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        stages(flags)


def test_the_projects_analysis_is_what_the_judge_goes_by() -> None:
    keys = read_extension(
        {
            "x-nself-deploy": {
                "analysis": {
                    "slo_error_rate": 0.02,
                    "unit": "request",
                    "hold": {"alpha": 0.01, "grace": {"errors": 5, "max": "10s"}},
                    "latency": {"cuts": ["p50", "p99.9"], "warmup": "5s"},
                    "max_soak": "1h",
                }
            }
        }
    ).project.analysis
    analysis = canary_of(resolve_settings({"strategy": "canary"}, {}), keys).analysis

    assert (analysis.slo_error_rate, analysis.unit, analysis.max_soak_s) == (0.02, "request", 3600.0)
    assert (analysis.hold.alpha, analysis.hold.grace.errors, analysis.hold.grace.max_s) == (0.01, 5, 10.0)
    assert analysis.latency == LatencyKeys((0.5, 0.999), 1.15, 5.0)
    flagged = resolve_settings({"strategy": "canary", "error_threshold_pct": "3"}, {})
    assert canary_of(flagged, keys).analysis.slo_error_rate == 0.03


def test_an_analysis_out_of_range_is_refused_with_its_key() -> None:
    with pytest.raises(ConfigError, match="x-nself-deploy.analysis: analysis.alpha: 3.0 is out of range"):
        canary_of(resolve_settings({}, {}), AnalysisKeys(alpha=3.0))


def test_a_canary_bakes_and_blue_green_does_not_unless_asked() -> None:
    assert resolve_settings({"strategy": "canary"}, {}).bake_s == 600.0
    assert resolve_settings({"strategy": "canary", "bake_s": "0"}, {}).bake_s == 0.0
    assert resolve_settings({}, {}).bake_s == 0.0
    assert Stage(100).hold_s == 0.0
