"""What is foretold of a canary, beside what the judge does in a small simulation of it."""

from __future__ import annotations

import random
from itertools import pairwise
from statistics import median

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nself_deploy.core import effects as do
from nself_deploy.core import forecast_words
from nself_deploy.core.analysis import Analysis, Mode
from nself_deploy.core.canary import LEAST_TIME
from nself_deploy.core.canary_settings import canary_of
from nself_deploy.core.evidence import Request, Verdict
from nself_deploy.core.forecast import RATES, Forecast, Outlook, forecast, outlook
from nself_deploy.core.model import Slot
from nself_deploy.core.plan import Timing
from nself_deploy.core.plan_canary import plan_canary
from nself_deploy.core.settings import resolve_settings
from nself_deploy.core.traffic import Traffic
from nself_deploy.core.verdict import Judge
from nself_deploy.errors import UsageError
from tests.unit.plans import a_project, a_release
from tests.unit.test_machine_canary import FACTS, a_plan

NEVER = 1e9
DEFAULT = ((10, 300.0), (50, 60.0))
GROWING = ((10, 60.0), (25, 120.0), (50, 120.0))


def judged(shares: tuple[tuple[int, float], ...]) -> list[do.Judge]:
    return [
        do.Judge(Slot.GREEN, percent, hold_s, following)
        for (percent, hold_s), (following, _) in pairwise((*shares, (100, 0.0)))
    ]


def settings(shares: tuple[tuple[int, float], ...]) -> Analysis:
    soak_s = sum(hold_s for _, hold_s in shares)
    return Analysis(soak_s=soak_s, max_soak_s=3 * soak_s)


def foretold(shares: tuple[tuple[int, float], ...], per_s: float, live: float) -> Forecast:
    return forecast(judged(shares), settings(shares), Traffic.even(per_s, live))


def played(
    shares: tuple[tuple[int, float], ...], per_s: float, live: float, rate: float, seed: int
) -> tuple[Verdict, float]:
    """One canary of independent clients, as the tool takes it through its shares: how it ended, and when."""
    rng, analysis = random.Random(seed), settings(shares)
    judge, at, deadline = Judge.begin(analysis), 0.0, analysis.max_soak_s
    for effect in judged(shares):
        began, share = at, effect.percent / 100
        deadline = max(deadline, began + LEAST_TIME * effect.hold_s)
        while at < deadline:
            at += rng.expovariate(per_s)
            candidate = rng.random() < share
            failed = rng.random() < (rate if candidate else live)
            judge.request(Request(at, rng.getrandbits(32), candidate, failed, share))
            if judge.decision is not None:
                return judge.decision.verdict, judge.decision.at
            last = effect.next_percent == 100
            proved = judge.verdict is Verdict.PASS if last else judge.may_grow(effect.next_percent)
            if at - began >= effect.hold_s and proved:
                break
        else:
            return Verdict.INCONCLUSIVE, at
    return Verdict.PASS, at


@pytest.mark.parametrize(
    ("shares", "per_s", "live", "rate"),
    [
        (DEFAULT, 2.0, 0.001, 1.0),
        (DEFAULT, 10.0, 0.001, 0.2),
        (DEFAULT, 10.0, 0.001, 0.05),
        (DEFAULT, 10.0, 0.005, 1.0),
        (DEFAULT, 10.0, 0.005, 0.2),
        (GROWING, 2.0, 0.001, 0.05),
        (GROWING, 10.0, 0.001, 0.02),
        (GROWING, 10.0, 0.005, 0.05),
    ],
)
def test_the_time_until_errors_are_found_is_within_two_fifths_of_the_median(
    shares: tuple[tuple[int, float], ...], per_s: float, live: float, rate: float
) -> None:
    ends = [played(shares, per_s, live, rate, seed) for seed in range(41)]
    found = median(at if verdict in (Verdict.FAIL, Verdict.HOLD) else NEVER for verdict, at in ends)
    expected = next(d for d in foretold(shares, per_s, live).detections if d.error_rate == rate)

    assert expected.seconds == pytest.approx(found, rel=0.4, abs=1.0)


@pytest.mark.parametrize(
    ("shares", "per_s", "live"),
    [(DEFAULT, 2.0, 0.001), (DEFAULT, 10.0, 0.001), (GROWING, 5.0, 0.001), (GROWING, 20.0, 0.001)],
)
def test_the_time_until_a_promotion_is_within_two_fifths_of_the_median(
    shares: tuple[tuple[int, float], ...], per_s: float, live: float
) -> None:
    ends = [played(shares, per_s, live, live, seed) for seed in range(15)]
    passed = median(at if verdict is Verdict.PASS else NEVER for verdict, at in ends)

    assert foretold(shares, per_s, live).seconds == pytest.approx(passed, rel=0.4, abs=1.0)


def test_what_is_found_by_the_end_of_a_share_is_found_by_half_of_those_that_have_it() -> None:
    told = foretold(GROWING, 5.0, 0.001)
    rates, end = [share.found for share in told.shares], 0.0

    assert told.seconds == 300.0 and [share.seconds for share in told.shares] == [60.0, 120.0, 120.0]
    assert [round(share.requests) for share in told.shares] == [30, 150, 300]
    for share, rate in zip(told.shares, rates, strict=True):
        end += share.hold_s
        assert rate is not None
        ends = [played(GROWING, 5.0, 0.001, rate, seed) for seed in range(21)]
        assert 0.3 < sum(verdict is Verdict.FAIL and at <= end for verdict, at in ends) / 21 < 0.85


def test_too_little_traffic_is_parked_and_that_is_foretold() -> None:
    told = foretold(DEFAULT, 0.2, 0.001)
    assert told.seconds is None and told.parked_s == 1080.0
    assert [played(DEFAULT, 0.2, 0.001, 0.001, seed)[0] for seed in range(3)] == [Verdict.INCONCLUSIVE] * 3

    nobody = foretold(DEFAULT, 0.0, 0.0)
    assert nobody.parked_s == 1080.0 and [share.found for share in nobody.shares] == [None, None]
    assert [d.seconds for d in nobody.detections] == [None] * len(RATES)


def test_a_live_slot_that_misses_the_objective_can_not_be_followed() -> None:
    told = foretold(DEFAULT, 50.0, 0.03)

    assert told.seconds is None
    assert "the live slot itself fails more often than the 1.00%" in forecast_words.lines(Outlook(True, (told,)))[0]
    assert told.detections[-1].seconds is None  # 2 % are less than it has itself


def test_what_is_only_observed_waits_for_nothing() -> None:
    observed = msgspec.structs.replace(settings(DEFAULT), mode=Mode.OBSERVE)

    assert forecast(judged(DEFAULT), observed, Traffic.even(0.1, 0.0)).seconds == 360.0


@given(st.floats(0.01, 1000.0), st.floats(0.0, 0.2), st.floats(0.01, 1.0), st.sampled_from([DEFAULT, GROWING]))
@example(0.5, 0.0625, 0.9375, GROWING)  # one more error is expected by the end of the first share, which is kept for it
def test_more_traffic_never_sees_less(
    per_s: float, live: float, part: float, shares: tuple[tuple[int, float], ...]
) -> None:
    less, more = foretold(shares, per_s * part, live), foretold(shares, per_s, live)
    observed = msgspec.structs.replace(settings(shares), mode=Mode.OBSERVE)  # each share is kept for its time
    kept_less, kept_more = (
        forecast(judged(shares), observed, Traffic.even(rate, live)) for rate in (per_s * part, per_s)
    )
    # Errors are expected by whole ones: where some are before the proof, one more may keep a share for longer.
    few = live <= 0.001

    for before, after, slack in (
        (kept_less.detections, kept_more.detections, 1.0 + 1e-9),
        *([(less.detections, more.detections, 1.01)] if few else []),
    ):
        for one, other in zip(before, after, strict=True):
            assert one.seconds is None or other.seconds is None or other.seconds <= one.seconds * slack
    for one, other in zip(less.detections, more.detections, strict=True):
        assert (one.seconds is None) == (other.seconds is None)
    assert more.parked_s is None or less.parked_s is not None or not few
    assert all(share.found is None or live < share.found <= 1.0 for share in more.shares)


def test_without_traffic_that_is_known_examples_are_shown() -> None:
    plan = a_plan()
    found = outlook(plan)

    assert found is not None and not found.known
    assert forecast_words.title(found).startswith("Forecast (the traffic is not known")
    head, *rows = forecast_words.rows(found)
    assert head[0] == "requests/s" and [row[0] for row in rows] == ["1", "10", "100"]
    assert all(len(row) == len(head) for row in rows) and not forecast_words.lines(found)
    assert outlook(msgspec.structs.replace(plan, analysis=None)) is None


def test_what_is_foretold_is_said_in_words() -> None:
    seen = Traffic(12.3, 0.001, 8.0, clients=220, seconds=480.0, until=1_800_000_000.0)
    found = Outlook(True, (forecast(judged(DEFAULT), settings(DEFAULT), seen),))

    assert forecast_words.title(found) == (
        "Forecast (at 12 requests/s of which 0.10% fail, as seen for 8 min until 2027-01-15T08:00:00Z)"
    )
    assert forecast_words.rows(found)[0] == (
        "10 %",
        "for 5 min",
        "about 369 requests to the candidate",
        "finds 1.8% errors and more",
    )
    first, second = forecast_words.lines(found)
    assert first == "a candidate as good as the live slot has all of the traffic after about 6 min"
    assert "100%: 3 s, 4 users hit" in second

    few = Outlook(True, (forecast(judged(DEFAULT), settings(DEFAULT), Traffic(0.1, 0.0, 0.1, 9, 480.0, 1.8e9)),))
    words = " ".join(forecast_words.lines(few))
    assert "parked after about 18 min, without a proof" in words and "a promotion needs 30" in words
    assert [forecast_words.about(s) for s in (0.2, 119.0, 150.0, 9000.0)] == ["1 s", "119 s", "2 min", "2.5 h"]
    assert [forecast_words.pace(s) for s in (0.023, 1.25, 123.4)] == ["0.023", "1.2", "123"]


def chosen(per_s: float | None, steps: str) -> tuple[list[tuple[int, float, bool]], tuple[str, ...]]:
    """The shares, each with its time and whether it pauses, and the warnings of a plan at this traffic."""
    settings_ = resolve_settings({"strategy": "canary", "steps": steps}, {})
    traffic = None if per_s is None else Traffic.even(per_s, 0.0)
    canary = msgspec.structs.replace(canary_of(settings_, None), traffic=traffic)
    plan = plan_canary(a_project(), a_release(), FACTS, Timing(), "local", canary)
    effects = [step.effect for step in plan.steps if isinstance(step.effect, do.Judge)]
    return [(e.percent, e.hold_s, e.pause is not None) for e in effects], plan.warnings


@pytest.mark.parametrize(
    ("per_s", "shares"),
    [
        (1000.0, [(1, 300.0, False), (50, 60.0, False)]),
        (10.0, [(14, 300.0, False), (50, 60.0, False)]),
        (2.0, [(50, 360.0, False)]),
        (0.0, [(50, 360.0, False)]),
        (None, [(10, 300.0, False), (50, 60.0, False)]),
    ],
)
def test_the_first_share_is_as_small_as_the_traffic_allows(
    per_s: float | None, shares: list[tuple[int, float, bool]]
) -> None:
    found, warnings = chosen(per_s, "auto:5m,50:1m,100")

    assert found == shares
    assert [w for w in warnings if "traffic is not known" in w] == (
        ["the traffic is not known: the first share is 10 %, as usual"] if per_s is None else []
    )


def test_shares_that_are_not_larger_are_left_out_but_not_their_pause() -> None:
    assert chosen(2.0, "auto:5m,20:1m:pause,40:2m,80:3m,100")[0] == [(50, 480.0, True), (80, 180.0, False)]
    flagged = canary_of(resolve_settings({"initial_percent": "auto"}, {}), None)
    assert [(stage.percent, stage.auto) for stage in flagged.stages] == [(10, True), (50, False), (100, False)]
    with pytest.raises(UsageError, match="only the first share can be auto"):
        chosen(2.0, "10,auto,100")
