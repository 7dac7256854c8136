"""The evidence is fair: summed over everything that can happen while nothing is wrong, it is worth at most 1.

By enumeration, not by sampling: every sequence of outcomes with its probability, for many error rates and splits.
"""

from __future__ import annotations

import itertools
from math import comb, exp

import pytest

from nself_deploy.core.absolute import AbsoluteTest
from nself_deploy.core.acceptance import log_proof_below
from nself_deploy.core.comparison import Comparison, smaller_ratios
from nself_deploy.core.evidence import Request
from nself_deploy.core.latency import Latency
from nself_deploy.core.mixture import Mixture, ratio_factors
from nself_deploy.core.sample_ratio import SampleRatio

MOST = 1.0 + 1e-9
SHARES = [(0.1,) * 9, (0.01,) * 3 + (0.1,) * 3 + (0.5,) * 3, (0.5, 0.05, 0.25, 0.9, 0.1, 0.1, 0.5, 0.01, 0.3)]


def value(mixture: Mixture) -> float:
    return exp(mixture.log_value)


def compared(
    events: tuple[bool, ...], shares: tuple[float, ...], *, every_s: float = 7.3, most: float = 0.0
) -> Comparison:
    """A comparison after errors of new clients, each on the candidate or not."""
    accept = Mixture.at_once(len(smaller_ratios(most))) if most else None
    comparison = Comparison(30.0, most=most, accept=accept)
    for number, (candidate, share) in enumerate(zip(events, shares, strict=True)):
        comparison.event(number * every_s, number, share, candidate=candidate)
    return comparison


@pytest.mark.parametrize("shares", SHARES)
def test_errors_that_fall_as_the_split_says_are_worth_one_on_average_whatever_the_weights_do(
    shares: tuple[float, ...],
) -> None:
    for length in (1, 4, 8):
        mean = 0.0
        for events in itertools.product((True, False), repeat=length):
            p = 1.0
            for candidate, share in zip(events, shares, strict=False):
                p *= share if candidate else 1.0 - share
            mean += p * value(compared(events, shares[:length]).mixture)

        assert mean == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shares", SHARES)
def test_a_candidate_that_is_better_is_never_favoured_by_chance(shares: tuple[float, ...], ratio: float) -> None:
    mean = 0.0
    for events in itertools.product((True, False), repeat=6):
        p = 1.0
        for candidate, share in zip(events, shares, strict=False):
            there = share * ratio / (1.0 - share + share * ratio)
            p *= there if candidate else 1.0 - there
        mean += p * value(compared(events, shares[:6]).mixture)

    assert mean <= MOST


@pytest.mark.parametrize("ratio", [3.0, 4.0, 30.0])
@pytest.mark.parametrize("shares", SHARES)
def test_the_reverse_comparison_is_fair_to_candidates_that_cannot_be_accepted(
    shares: tuple[float, ...], ratio: float
) -> None:
    mean = 0.0
    for events in itertools.product((True, False), repeat=6):
        p = 1.0
        for candidate, share in zip(events, shares, strict=False):
            there = share * ratio / (1.0 - share + share * ratio)
            p *= there if candidate else 1.0 - there
        accept = compared(events, shares[:6], most=3.0).accept
        assert accept is not None
        mean += p * value(accept)

    assert mean <= MOST


Arm = tuple[int, int]
TICKS: list[tuple[Arm, float, float]] = [
    ((2, 8), 0.05, 0.05),
    ((4, 6), 0.5, 0.5),
    ((5, 5), 0.9, 0.9),
    ((1, 9), 0.3, 0.3),
    ((6, 2), 0.01, 0.02),
    ((2, 6), 0.2, 0.9),
]
"""Requests of both slots in a tick, and their error rates: also when both fail half of the time."""


def binomial(count: int, p: float) -> list[float]:
    return [comb(count, k) * p**k * (1.0 - p) ** (count - k) for k in range(count + 1)]


@pytest.mark.parametrize("chosen", [*itertools.pairwise(TICKS), (TICKS[0], TICKS[5])])
def test_ticks_are_fair_for_every_error_rate_drift_and_change_of_weight(
    chosen: tuple[tuple[Arm, float, float], ...],
) -> None:
    mean = 0.0
    outcomes = [list(itertools.product(range(arms[0] + 1), range(arms[1] + 1))) for arms, _, _ in chosen]
    for counts in itertools.product(*outcomes):
        comparison, p = Comparison(300.0, random_split=False), 1.0
        for number, ((arms, ours, theirs), (failed, live_failed)) in enumerate(zip(chosen, counts, strict=True)):
            at, client = 10.0 * (number + 1), 1000 * number
            p *= binomial(arms[0], ours)[failed] * binomial(arms[1], theirs)[live_failed]
            tick(comparison, arms, (failed, live_failed), client)
            comparison.advance(at, 0.5)
        mean += p * value(comparison.mixture)

    assert mean <= MOST


def tick(comparison: Comparison, arms: Arm, failed: Arm, client: int) -> None:
    """The requests of one tick, each by a client of its own."""
    for side in (0, 1):
        for number in range(arms[side]):
            client += 1
            comparison.request(client, candidate=side == 0)
            if number < failed[side]:
                comparison.event(0.0, client, 0.5, candidate=side == 0)


@pytest.mark.parametrize("most", [1.5, 2.0, 3.0])
@pytest.mark.parametrize(("arms", "live"), [((3, 17), 0.05), ((5, 5), 0.2), ((2, 18), 0.01)])
def test_ticks_are_fair_in_reverse(arms: Arm, live: float, most: float) -> None:
    mean = 0.0
    for failed, live_failed in itertools.product(range(arms[0] + 1), range(arms[1] + 1)):
        comparison = Comparison(300.0, random_split=False, most=most, accept=Mixture.at_once(len(smaller_ratios(most))))
        tick(comparison, arms, (failed, live_failed), 0)
        comparison.advance(10.0, 0.5)
        assert comparison.accept is not None
        p = binomial(arms[0], most * live)[failed] * binomial(arms[1], live)[live_failed]
        mean += p * value(comparison.accept)

    assert mean <= MOST


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.01])
def test_the_test_against_the_objective_is_fair_up_to_it(rate: float) -> None:
    mean = 0.0
    for outcomes in itertools.product((True, False), repeat=9):
        test, p = AbsoluteTest(0.01, 20.0), 1.0
        for number, failed in enumerate(outcomes):
            test.add(number * 2 // 3, failed=failed)
            p *= rate if failed else 1.0 - rate
        test.add(1000, failed=False)  # the second is over: what was good in it counts
        mean += p * value(test.mixture)

    assert mean <= MOST
    assert rate < 0.01 or mean == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("excess", [1.0, 1.3, 4.0])
def test_the_proof_of_an_error_rate_is_fair_from_the_limit_on(limit: float, excess: float) -> None:
    for count in (1, 50, 400):
        outcomes = binomial(count, limit * excess)
        mean = sum(p * exp(log_proof_below(limit, count, failed)) for failed, p in enumerate(outcomes))

        assert mean <= MOST


@pytest.mark.parametrize("shares", SHARES)
def test_the_guard_of_the_split_is_fair_to_a_split_that_is_right(shares: tuple[float, ...]) -> None:
    mean = 0.0
    for clients in itertools.product((True, False), repeat=8):
        guard, p = SampleRatio(), 1.0
        for number, (candidate, share) in enumerate(zip(clients, shares, strict=False)):
            guard.add(number, share, candidate=candidate)
            p *= share if candidate else 1.0 - share
        mean += p * exp(guard.log_value)

    assert mean == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("order", ["abcdefgahbcg", "aabbccddeeffghgh", "hgfedcbaabcdefgh", "abababcdcdcdefefghgh"])
@pytest.mark.parametrize("times", [(1, 2, 3, 4, 5, 6, 7, 8), (9, 1, 8, 2, 7, 3, 6, 4), (5, 5, 1, 9, 9, 9, 1, 1)])
@pytest.mark.parametrize("stop", [1e9, 1.2])
def test_cut_points_that_are_found_beside_the_candidate_are_fair_to_clients_who_come_back(
    order: str, times: tuple[int, ...], stop: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each client takes its own time, whichever slot it has; also if one stops looking when it seems worst."""
    monkeypatch.setattr("nself_deploy.core.latency.ENOUGH", 3)
    mean = 0.0
    for slots in itertools.product((True, False), repeat=8):
        latency, reached = Latency.later((0.5, 0.9), 1.0, 30.0, random=True, by_client=True), 1.0
        for second, name in enumerate(order):
            client = ord(name) - ord("a")
            if latency.advance(float(second), 0.3) and (reached := exp(latency.log_value)) >= stop:
                break
            request = Request(float(second), client, slots[client], False, 0.3, seconds=float(times[client]))
            if latency.cuts:
                latency.add(request.at, client, 0.3, float(times[client]), candidate=request.candidate)
            else:
                latency.gather(request)
        else:
            latency.advance(1000.0, 0.3)
            reached = exp(latency.log_value)
        mean += reached * 0.3 ** sum(slots) * 0.7 ** (8 - sum(slots))

    assert mean == pytest.approx(1.0, abs=1e-9)


def test_what_is_checked_here_can_fail() -> None:
    ours, theirs = ratio_factors(0.1)
    wrong = [0.15 * a + 0.85 * b for a, b in zip(ours, theirs, strict=True)]

    assert sum(wrong) / len(wrong) > 1.01
