"""The judge: what it decides, when, and what does not change its mind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import exp

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nself_deploy.core.analysis import Analysis, Unit
from nself_deploy.core.evidence import Incident, Request, Trouble, Verdict
from nself_deploy.core.explanation import explain
from nself_deploy.core.verdict import Judge


def traffic(
    seed: int, per_s: float, ours: float, live: float, *, until: float = 300.0, share: float = 0.1, slower: float = 0.0
) -> Iterator[Request]:
    """Requests of ever new clients, with these error rates. `slower`: the candidate's times as a factor."""
    rng = random.Random(seed)
    at = rng.expovariate(per_s)
    while at < until:
        candidate = rng.random() < share
        seconds = 0.05 * rng.lognormvariate(0.0, 0.3) * (slower if candidate else 1.0) if slower else None
        failed = rng.random() < (ours if candidate else live)
        yield Request(at, rng.getrandbits(40), candidate, failed, share, seconds=seconds)
        at += rng.expovariate(per_s)


def judged(requests: Iterator[Request] | list[Request], judge: Judge | None = None, *, until: float = 300.0) -> Judge:
    judge = judge or Judge.begin(Analysis())
    for request in requests:
        judge.request(request)
    judge.advance(until)
    return judge


CUTS = (0.05, 0.0734, 0.1005)


@pytest.mark.parametrize(
    ("per_s", "ours", "limit_s", "limit_users"),
    [(50, 1.0, 3.0, 8), (50, 0.2, 12.0, 8), (50, 0.05, 60.0, 12), (200, 0.02, 60.0, 14), (2, 1.0, 60.0, 8)],
)
def test_a_sick_candidate_is_found_soon_and_hurts_few(
    per_s: float, ours: float, limit_s: float, limit_users: int
) -> None:
    for seed in range(6):
        judge = judged(traffic(seed, per_s, ours, 0.001, until=limit_s))

        assert judge.decision is not None
        assert judge.decision.verdict is Verdict.FAIL
        assert judge.decision.at <= limit_s
        assert judge.requests[2] <= limit_users


def test_a_slow_candidate_is_found_and_one_that_is_a_little_slower_is_not() -> None:
    for slower, verdict in ((2.0, Verdict.FAIL), (1.1, Verdict.PASS)):
        judge = judged(traffic(1, 50, 0.001, 0.001, slower=slower), Judge.begin(Analysis(), cuts=CUTS))

        assert judge.verdict is verdict
        assert judge.decision is None or 30.0 < judge.decision.at <= 60.0


def test_a_healthy_candidate_passes_when_the_soak_is_over_and_not_before() -> None:
    judge = judged(traffic(3, 50, 0.001, 0.001), until=299.9)

    assert judge.verdict is Verdict.INCONCLUSIVE
    judge.advance(300.0)
    assert judge.verdict is Verdict.PASS


def test_an_outage_of_both_slots_ends_in_hold() -> None:
    requests = [*traffic(4, 50, 0.001, 0.001, until=100.0)]
    requests += [msgspec.structs.replace(r, at=r.at + 100.0) for r in traffic(5, 50, 0.5, 0.5, until=20.0)]
    judge = judged(requests)

    assert judge.verdict is Verdict.HOLD
    assert judge.decision is not None
    assert judge.decision.reason.startswith("both slots fail")
    assert 105.0 <= judge.decision.at <= 130.0


def test_without_traffic_nothing_is_ever_shown() -> None:
    judge = judged([], until=1e6)
    evidence = explain(judge, 1e6)

    assert (evidence.verdict, evidence.final, evidence.expected_s) == (Verdict.INCONCLUSIVE, True, None)
    assert any("0 of" in line for line in evidence.missing)
    assert not judge.may_grow(25)


@pytest.mark.parametrize(("percent", "enough"), [(25, 16), (50, 69), (99, 353)])
def test_every_step_asks_for_a_proof_of_its_size(percent: int, enough: int) -> None:
    judge = Judge.begin(Analysis())
    for number in range(enough):
        assert not judge.may_grow(percent)
        for candidate in (True, False):
            judge.request(Request(number / 10, 2 * number + candidate, candidate, False, 0.5))

    assert judge.may_grow(percent)


def test_clients_that_always_fail_count_once_wherever_the_split_moves_them() -> None:
    judge = Judge.begin(Analysis())
    for second in range(200):
        share = 0.05 if second < 100 else 0.9
        for client in range(100):
            judge.request(Request(second + client / 100, client, client < 100 * share, client % 4 == 0, share))

    assert judge.overall.comparison.candidate == 2
    assert judge.overall.comparison.live == 23
    assert judge.decision is not None
    assert judge.decision.verdict is Verdict.HOLD


def test_one_clients_burst_of_errors_is_one_error_unless_requests_are_counted() -> None:
    burst = [Request(10.0 + i / 100, 7, True, True, 0.1) for i in range(500)]

    assert judged(burst, until=11.0).decision is None
    by_request = judged(burst, Judge.begin(Analysis(unit=Unit.REQUEST)))
    assert by_request.verdict is Verdict.FAIL


def test_a_split_that_is_not_what_it_says_makes_all_of_it_invalid() -> None:
    wrong = (msgspec.structs.replace(r, share=0.1) for r in traffic(6, 200, 0.001, 0.001, share=0.2))
    judge = judged(wrong)

    assert judge.verdict is Verdict.INVALID
    assert judge.decision is not None
    assert judge.decision.at < 15.0


def test_a_fault_of_the_measurement_is_no_evidence() -> None:
    judge = Judge.begin(Analysis())
    judge.fault(3.0, "the log can't be read")
    judge.request(Request(4.0, 1, True, True, 0.1))

    assert (judge.verdict, judge.requests) == (Verdict.INVALID, [0, 0, 0, 0])


@pytest.mark.parametrize(
    ("incidents", "verdict", "at"),
    [
        ([Incident(10.0, True, Trouble.OUT_OF_MEMORY, "web-1")], Verdict.FAIL, 10.0),
        ([Incident(10.0, True, Trouble.RESTARTED, "web-1")], Verdict.FAIL, 15.0),
        ([Incident(10.0, True, Trouble.UNHEALTHY), Incident(12.0, False, Trouble.UNHEALTHY)], Verdict.HOLD, 15.0),
        ([Incident(10.0, False, Trouble.UNHEALTHY), Incident(12.0, True, Trouble.UNHEALTHY)], Verdict.HOLD, 17.0),
        ([Incident(10.0, False, Trouble.RESTARTED)], Verdict.INCONCLUSIVE, None),
    ],
)
def test_a_container_that_breaks_down_needs_no_statistics(
    incidents: list[Incident], verdict: Verdict, at: float | None
) -> None:
    judge = Judge.begin(Analysis())
    for incident in incidents:
        judge.incident_seen(incident)
    judge.advance(40.0)

    assert judge.verdict is verdict
    assert (judge.decision.at if judge.decision else None) == at


def test_a_route_that_fails_alone_is_found_and_named() -> None:
    judge = Judge.begin(Analysis(), ("api", "shop"))
    for request in traffic(8, 200, 0.0, 0.0, until=60.0):
        route = "api" if request.client % 20 == 0 else "shop"
        failed = route == "api" and request.candidate
        judge.request(msgspec.structs.replace(request, route=route, failed=failed))

    assert judge.decision is not None
    assert judge.decision.verdict is Verdict.FAIL


def test_the_whole_alpha_is_shared_out_and_no_more() -> None:
    analysis = Analysis(alpha=0.01)
    together, each = analysis.error_alpha(4, latency=True)

    assert together + 4 * each + analysis.latency_alpha == pytest.approx(0.01)
    assert analysis.error_alpha(1, latency=False) == (0.01, 0.0)


def test_a_split_that_is_not_random_is_judged_by_what_each_slot_got() -> None:
    judge = Judge.begin(Analysis(), random_split=False)
    for request in traffic(9, 50, 0.2, 0.001, share=0.3, until=120.0):
        judge.request(msgspec.structs.replace(request, share=0.1))

    assert judge.decision is not None
    assert judge.decision.verdict is Verdict.FAIL


histories = st.lists(
    st.tuples(st.floats(0.0, 3.0), st.integers(0, 40), st.booleans(), st.sampled_from((0, 0, 1)), st.booleans()),
    max_size=150,
)


def requests_of(history: list[tuple[float, int, bool, int, bool]]) -> list[Request]:
    """Requests with gaps of some seconds, few clients, many errors, and a share that grows."""
    at, made = 0.0, []
    for number, (gap, client, candidate, failed, slow) in enumerate(history):
        at += gap * gap
        share = 0.1 if number < 60 else 0.5
        hashed = client * 2654435761 % 2**32
        made.append(Request(at, hashed, candidate, bool(failed), share, "api", 0.2 if slow else 0.01))
    return made


def begin(*, random_split: bool = True) -> Judge:
    return Judge.begin(Analysis(soak_s=60.0), ("api", "shop"), CUTS, random_split=random_split)


@given(histories, st.integers(0, 150), st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_judge_that_was_written_down_goes_on_where_it_was(history: list, cut: int, random_split: bool) -> None:
    requests = requests_of(history)
    whole = begin(random_split=random_split)
    broken = begin(random_split=random_split)
    for number, request in enumerate(requests):
        if number == cut:
            broken = msgspec.json.decode(msgspec.json.encode(broken), type=Judge)
        whole.request(request)
        broken.request(request)

    assert explain(broken, 1000.0) == explain(whole, 1000.0)
    assert broken == whole


@given(histories, st.lists(st.floats(0.0, 300.0), max_size=20), st.booleans())
@settings(deadline=None, max_examples=40)
def test_looking_changes_nothing(history: list, looks: list[float], random_split: bool) -> None:
    requests = requests_of(history)
    alone, watched = begin(random_split=random_split), begin(random_split=random_split)
    waiting = sorted(looks)
    for request in requests:
        while waiting and waiting[0] < request.at:
            explain(watched, waiting.pop(0))
        alone.request(request)
        watched.request(request)

    assert explain(watched, 1000.0) == explain(alone, 1000.0)


@given(histories, st.data())
@settings(deadline=None, max_examples=40)
def test_another_error_of_the_candidate_never_speaks_for_it(history: list, data: st.DataObject) -> None:
    """Evidence against it is no smaller, the proof for it no greater, when a good request had failed instead."""
    requests = [msgspec.structs.replace(r, client=i * 7919) for i, r in enumerate(requests_of(history))]
    good = [i for i, r in enumerate(requests) if r.candidate and not r.failed]
    if not good:
        return
    chosen = data.draw(st.sampled_from(good))
    worse = [*requests]
    worse[chosen] = msgspec.structs.replace(requests[chosen], failed=True)
    lenient = Analysis(soak_s=60.0, alpha=1e-9, min_errors=1000)
    one, other = judged(requests, Judge.begin(lenient)), judged(worse, Judge.begin(lenient))

    assert other.overall.comparison.mixture.log_value >= one.overall.comparison.mixture.log_value - 1e-9
    assert other.absolute.log_value >= one.absolute.log_value - 1e-9
    assert other.log_proof(0.01) <= one.log_proof(0.01) + 1e-9


@given(histories, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_the_order_within_a_moment_does_not_matter(history: list, rng: random.Random) -> None:
    """And one tick may be split: what happens at once is worth the same in any order, in any number of portions."""
    requests = [
        msgspec.structs.replace(r, at=float(i // 30), client=i * 7919, share=0.1, route="")
        for i, r in enumerate(requests_of(history))
    ]
    shuffled = sorted(requests, key=lambda r: (r.at, rng.random()))
    calm = Analysis(alpha=1e-9, min_errors=1000)
    one, other = judged(requests, Judge.begin(calm)), judged(shuffled, Judge.begin(calm))

    for values in zip(_values(one), _values(other), strict=True):
        assert values[0] == pytest.approx(values[1], abs=1e-9)


def _values(judge: Judge) -> tuple[float, ...]:
    comparison, objective = judge.overall.comparison.mixture.log_value, judge.absolute.log_value
    return comparison, objective, judge.log_proof(0.01), judge.split.log_value


@given(histories)
@settings(deadline=None, max_examples=40)
def test_nothing_passes_without_evidence(history: list) -> None:
    requests = requests_of(history)
    judge = begin()
    for request in requests:
        judge.request(request)
        if judge.verdict is Verdict.PASS:
            assert judge.requests[0] >= 100
    judge.advance(10_000.0)

    assert judge.verdict is not Verdict.PASS or judge.requests[0] >= 100


def test_the_state_is_small() -> None:
    judge = Judge.begin(Analysis(alpha=1e-9, hold=msgspec.json.decode(b'{"alpha":1e-9}', type=type(Analysis().hold))))
    rng = random.Random(1)
    for i in range(30_000):
        judge.request(Request(i / 500, rng.getrandbits(32), rng.random() < 0.1, i % 2 == 0, 0.1))
        if judge.decision is not None:
            judge.decision = None
            judge.crossed_at = None

    assert len(judge.overall.comparison.clients.seen) <= 4096
    assert len(msgspec.json.encode(judge)) < 250_000
    assert exp(judge.split.log_value) < 1000.0
