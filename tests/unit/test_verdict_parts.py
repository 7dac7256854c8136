"""The parts of the judge: settings, samples of clients, windows, cut points, the bake, expectations, explanations."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from math import exp, inf, log, nan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core.analysis import Analysis, Grace, Hold, LatencyKeys
from nself_deploy.core.bake import Bake
from nself_deploy.core.clients import Clients
from nself_deploy.core.evidence import Evidence, Incident, Request, Trouble, Verdict
from nself_deploy.core.expectation import auto_percent, needed_requests
from nself_deploy.core.explanation import explain
from nself_deploy.core.latency import ENOUGH, Latency, cut_points
from nself_deploy.core.mixture import Mixture, waiting_at
from nself_deploy.core.verdict import Judge
from nself_deploy.core.windows import WINDOW_S, Counts


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Analysis(alpha=0.0), "analysis.alpha: 0.0 is out of range: 1e-09 to 0.2"),
        (lambda: Analysis(alpha=nan), "analysis.alpha"),
        (lambda: Analysis(beta=0.6), "analysis.beta"),
        (lambda: Analysis(slo_error_rate=0.51), "analysis.slo_error_rate: 0.51 is out of range: 1e-05 to 0.5"),
        (lambda: Analysis(max_ratio=1.0), "analysis.max_ratio"),
        (lambda: Analysis(min_effect=-0.1), "analysis.min_effect"),
        (lambda: Analysis(min_errors=0), "analysis.min_errors"),
        (lambda: Analysis(soak_s=inf), "analysis.soak"),
        (lambda: Analysis(soak_s=600.0, max_soak_s=300.0), "analysis.max_soak"),
        (lambda: Hold(alpha=1.0), "analysis.hold.alpha"),
        (lambda: Grace(min_s=40.0), "analysis.hold.grace.min"),
        (lambda: LatencyKeys(cuts=(0.9, 0.5)), "the smallest first"),
        (lambda: LatencyKeys(cuts=(0.5, 1.0)), "analysis.latency.cuts: 1.0 is out of range"),
        (lambda: LatencyKeys(tolerance=0.9), "analysis.latency.tolerance"),
    ],
)
def test_a_setting_that_is_out_of_range_is_refused_and_named(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        make()


def test_settings_are_written_and_read_as_they_are() -> None:
    analysis = Analysis(alpha=0.01, latency=LatencyKeys(cuts=()))

    assert msgspec.json.decode(msgspec.json.encode(analysis), type=Analysis) == analysis
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"alfa": 0.1}', type=Analysis)


def test_a_sample_of_clients_counts_each_once_and_stays_small() -> None:
    rng = random.Random(1)
    clients, everybody = Clients(limit=64), [rng.getrandbits(32) for _ in range(5000)]
    counted = Counter(client for client in everybody * 2 if clients.first(client))

    assert set(counted.values()) == {1}
    assert len(clients.seen) <= 64
    assert len(clients) == pytest.approx(5000, rel=0.4)
    assert all(clients.settled(client) for client in everybody)
    assert [client for client in everybody if client in clients]


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 1)), max_size=60))
def test_recent_counts_are_those_of_the_last_sixty_seconds(events: list[tuple[int, int]]) -> None:
    counts, second, seen = Counts.of(2), 0, []
    for gap, index in events:
        second += gap
        counts.advance(second)
        counts.add(index)
        seen.append((second, index))
        recent = Counter(i for at, i in seen if at > second - WINDOW_S)

        assert counts.recent == [recent[0], recent[1]]
        assert counts.total == [sum(i == k for _, i in seen) for k in (0, 1)]


def test_cut_points_are_quantiles_of_enough_requests() -> None:
    times = [number / 1000 for number in range(1000, 0, -1)]

    assert cut_points(times, (0.5, 0.9, 0.99)) == (0.5, 0.9, 0.99)
    assert cut_points(times[1:], (0.5, 0.9, 0.99)) == ()


def test_a_faster_candidate_with_few_clients_is_not_called_slow() -> None:
    """All clients of the live slot have been slow once; those of the candidate come last, and alone."""
    rng = random.Random(3)
    judge = Judge.begin(Analysis(), cuts=(1.0,))
    for number in range(30_000):
        client, at = rng.randrange(600), 31.0 + number / 110
        candidate = client < 60
        slow = rng.random() < (0.02 if candidate else 0.5)
        judge.request(Request(at, client * 2654435761 % 2**32, candidate, False, 0.1, seconds=2.0 if slow else 0.1))
    latency = judge.latency
    assert latency is not None

    assert latency.log_value > judge.log_latency_needed
    assert not latency.slower
    assert judge.decision is None


def test_evidence_survives_what_no_float_could_hold() -> None:
    mixture = Mixture.late()
    mixture.start(0.5)
    for _ in range(2000):
        mixture.multiply((10.0,) * 24)
    assert mixture.log_value == pytest.approx(log(0.5) + 2000 * log(10.0))
    for _ in range(2000):
        mixture.multiply((0.1,) * 24)
    assert mixture.log_value == pytest.approx(0.0, abs=1e-6)

    least = Mixture.at_once()
    for _ in range(2000):
        least.multiply((0.1,) * 24)
    assert least.log_value == pytest.approx(-2000 * log(10.0))


def test_the_stake_is_put_to_work_little_by_little_and_never_all() -> None:
    left = [waiting_at(s / 10, 300.0) for s in range(20_000)]

    assert left[0] == 0.35
    assert waiting_at(300.0, 300.0) == pytest.approx(0.10)
    assert all(a >= b > 0.0 for a, b in pairwise(left))


def bake(failing: float, *, lately: float | None = None, per_s: int = 20, until: float = 600.0, seed: int = 1) -> Bake:
    judge, rng = Bake.begin(0.01, lately, 600.0, 0.001, 0.05, 3), random.Random(seed)
    for number in range(int(per_s * until)):
        judge.request(Request(number / per_s, rng.getrandbits(32), True, rng.random() < failing, 1.0))
    judge.advance(until)
    return judge


@pytest.mark.parametrize(
    ("failing", "lately", "verdict"),
    [
        (0.001, None, Verdict.PASS),
        (1.0, None, Verdict.FAIL),
        (0.05, None, Verdict.FAIL),
        (0.05, 0.04, Verdict.PASS),
        (0.3, 0.04, Verdict.FAIL),
    ],
)
def test_the_bake_takes_the_objective_or_twice_what_was_usual(
    failing: float, lately: float | None, verdict: Verdict
) -> None:
    judge = bake(failing, lately=lately)

    assert judge.verdict is verdict
    assert judge.decision is None or judge.decision.at < 60.0
    assert msgspec.json.decode(msgspec.json.encode(judge), type=Bake) == judge


def test_a_bake_without_traffic_shows_nothing_and_a_dead_container_much() -> None:
    judge = Bake.begin(0.01, None, 600.0, 0.001, 0.05, 3)
    judge.advance(600.0)
    assert judge.verdict is Verdict.INCONCLUSIVE

    judge.incident_seen(Incident(601.0, True, Trouble.OUT_OF_MEMORY, "web-1"))
    assert judge.decision is not None
    assert judge.decision.reason == "the candidate's container web-1 was killed because it used too much memory"


def test_the_share_is_as_small_as_the_proof_allows() -> None:
    assert needed_requests(0.01) == 400
    assert [auto_percent(rate, 300.0, 0.01) for rate in (0.0, 2.0, 10.0, 50.0, 1000.0)] == [50, 50, 14, 3, 1]


def test_an_explanation_says_what_was_seen_and_what_is_missing() -> None:
    judge, rng = Judge.begin(Analysis(), cuts=(0.1,)), random.Random(5)
    for number in range(2000):
        candidate = rng.random() < 0.1
        failed = not candidate and judge.requests[1] in (500, 900)
        judge.request(Request(number / 20, rng.getrandbits(32), candidate, failed, 0.1, seconds=0.01))
    evidence = explain(judge, 100.0)

    assert (evidence.verdict, evidence.final, evidence.at) == (Verdict.INCONCLUSIVE, False, 100.0)
    assert evidence.candidate.requests + evidence.live.requests == 2000
    assert evidence.candidate.clients == evidence.candidate.requests
    assert (evidence.live.failed, evidence.live.failed_clients, evidence.candidate.rate) == (2, 2, 0.0)
    assert evidence.ratio == 0.0
    assert evidence.missing[0] == "200 s of the soak"
    assert "more good requests to the candidate" in evidence.missing[1]
    assert evidence.expected_s == 200.0
    assert msgspec.json.decode(msgspec.json.encode(evidence), type=Evidence) == evidence


def test_an_explanation_says_why_nothing_can_be_promoted() -> None:
    judge, rng = Judge.begin(Analysis()), random.Random(6)
    for number in range(3000):
        candidate = rng.random() < 0.1
        failed = judge.requests[not candidate] % 50 == 30
        judge.request(Request(number / 20, rng.getrandbits(32), candidate, failed, 0.1))
    evidence = explain(judge, 150.0)

    assert any(line.startswith("an error rate of 1.00% at most") for line in evidence.missing)
    assert evidence.expected_s is None


def test_times_without_cut_points_are_not_compared() -> None:
    judge = Judge.begin(Analysis(latency=LatencyKeys(cuts=())))
    judge.request(Request(40.0, 1, False, False, 0.1, seconds=100.0))

    assert judge.latency is None
    assert (explain(judge, 41.0).log_latency, explain(judge, 41.0).times_known) == (None, None)
    assert isinstance(Judge.begin(Analysis(), cuts=(0.1,)).latency, Latency)


def beside(seed: int, candidate_s: float, count: int = 6000) -> list[Request]:
    """Traffic at 40 requests/s; some fail, and of some the time is not known."""
    rng, found = random.Random(seed), []
    for number in range(count):
        candidate, failed = rng.random() < 0.25, rng.random() < 0.002
        seconds = 0.05 * rng.lognormvariate(0.0, 0.5) * (candidate_s if candidate else 1.0)
        known = None if failed or rng.random() < 0.1 else seconds
        found.append(Request(number / 40, rng.getrandbits(32), candidate, failed, 0.25, seconds=known))
    return found


def test_cut_points_are_found_beside_the_candidate_from_the_live_slot_alone_before_anything_counts() -> None:
    analysis, frozen = Analysis(latency=LatencyKeys((0.5, 0.9), warmup_s=2.0)), []
    for candidate_s in (0.1, 1.0, 3.0):
        judge, known, client = Judge.begin(analysis), 0, 0
        latency = judge.latency
        assert latency is not None
        live = [r.seconds for r in beside(3, candidate_s) if not r.candidate and r.seconds is not None]
        for request in beside(3, candidate_s):
            if not latency.cuts:
                assert explain(judge, judge.now).times_known == min(known, ENOUGH)
                assert explain(judge, judge.now).log_latency is None
                assert not any(latency.counts.total)
                known += not request.candidate and request.seconds is not None
                client = request.client
            judge.request(request)
        assert latency.cuts == cut_points(live[:ENOUGH], (0.5, 0.9))
        assert latency.gathered is None and known == ENOUGH
        assert client in latency.comparisons[0].clients
        assert sum(latency.counts.total[:2]) > 50
        assert explain(judge, judge.now).times_known is None
        frozen.append((latency.cuts, judge.decision.reason if judge.decision else ""))

    assert len({cuts for cuts, _ in frozen}) == 1
    assert [reason for _, reason in frozen] == ["", "", "the candidate answers later than the live slot"]


def test_no_answer_of_a_client_who_came_before_the_cut_points_counts() -> None:
    judge, requests = Judge.begin(Analysis(latency=LatencyKeys((0.5, 0.9), warmup_s=0.0))), beside(4, 1.0)
    latency = judge.latency
    assert latency is not None
    for request in requests:
        if latency.cuts:
            break
        judge.request(request)
    early = [r for r in requests if r.at <= judge.now]
    for request in early:
        judge.request(msgspec.structs.replace(request, at=judge.now + 0.01, failed=False, seconds=9.0))
    judge.advance(judge.now + 10.0)

    assert latency.log_value == 0.0
    assert [(one.candidate, one.live) for one in latency.comparisons] == [(0, 0), (0, 0)]


def test_the_part_of_alpha_for_times_is_kept_whenever_they_are_compared() -> None:
    known, later = Judge.begin(Analysis(), cuts=(0.1,)), Judge.begin(Analysis())
    never = Judge.begin(Analysis(latency=LatencyKeys(cuts=())))

    assert exp(-later.overall.log_needed) + exp(-later.log_latency_needed) == pytest.approx(0.001)
    assert known.overall.log_needed == later.overall.log_needed > never.overall.log_needed
    assert exp(-never.overall.log_needed) == pytest.approx(0.001)
