"""A candidate that lets its requests wait is found by what is in flight to it, and nobody else is."""

from __future__ import annotations

import random

import pytest

from nself_deploy.core.analysis import Analysis
from nself_deploy.core.evidence import Incident, Request, Trouble, Verdict
from nself_deploy.core.nginx_flags import LADDER
from nself_deploy.core.silence import Silence
from nself_deploy.core.verdict import Judge

LOOK_S = 0.25


def rung(number: int) -> int:
    """What the router says of so many requests in flight."""
    return max((step for step in LADDER if step <= number), default=0)


def watched(
    rate: float, share: float, hangs_at: float, *, took_s: float = 0.02, until: float = 30.0, seed: int = 1
) -> tuple[Judge, list[Incident]]:
    """A canary at so many requests per second, whose candidate answers nothing from a moment on."""
    rng, silence, judge = random.Random(seed), Silence(), Judge.begin(Analysis())
    told: list[Incident] = []
    at, look, in_flight = 0.0, LOOK_S, 0
    pending: list[tuple[float, Request]] = []
    while at < until and judge.decision is None:
        at += rng.expovariate(rate)
        while look < at and judge.decision is None:
            ended = sorted((one for one in pending if one[0] <= look), key=lambda one: one[0])
            pending = [one for one in pending if one[0] > look]
            for _, request in ended:
                in_flight -= request.candidate
                judge.request(request)
                silence.request(request)
            if silence.due(look) and (found := silence.waiting(look, rung(in_flight), share, 0.1)):
                told.append(found)
                judge.incident_seen(found)
            judge.advance(look - 0.5)
            look += LOOK_S
        client, candidate = rng.getrandbits(32), rng.random() < share
        in_flight += candidate
        if not candidate or at < hangs_at:
            pending.append((at + took_s, Request(at + took_s, client, candidate, False, share, seconds=took_s)))
    return judge, told


@pytest.mark.parametrize(("rate", "share", "seconds"), [(50, 0.1, 8), (60, 0.5, 8), (1000, 0.5, 8), (10, 0.5, 11)])
@pytest.mark.parametrize("hangs_at", [0.0, 12.0])
def test_a_candidate_that_hangs_fails_within_seconds(
    rate: float, share: float, seconds: float, hangs_at: float
) -> None:
    judge, told = watched(rate, share, hangs_at)

    assert judge.decision is not None
    assert judge.decision.verdict is Verdict.FAIL, judge.decision
    assert hangs_at < judge.decision.at <= hangs_at + seconds
    assert "the candidate hangs: " in judge.decision.reason and "clients came to the live slot" in judge.decision.reason
    assert told[-1].trouble is Trouble.HANGING


@pytest.mark.parametrize(
    ("rate", "share", "took_s"), [(50, 0.1, 0.02), (200, 0.5, 0.4), (20, 0.1, 2.0), (50, 0.1, 8.0)]
)
def test_a_healthy_one_never_does(rate: float, share: float, took_s: float) -> None:
    for seed in range(5):
        judge, told = watched(rate, share, 1e9, took_s=took_s, seed=seed)
        assert judge.decision is None
        assert Trouble.HANGING not in {incident.trouble for incident in told}


def test_what_takes_long_on_both_slots_proves_nothing() -> None:
    """Long polls: the live slot goes on answering those from before, the candidate has none of these."""
    silence = Silence()
    for number in range(400):
        at = number / 20
        silence.request(Request(at, number, False, False, 0.5, seconds=30.0))
        if silence.due(at):
            found = silence.waiting(at, rung(number // 2), 0.5, 30.0)
            assert found is None or found.trouble is Trouble.SILENT


def test_open_streams_and_few_users_prove_nothing() -> None:
    silence, told = Silence(), []
    for number in range(400):
        at = number / 20
        silence.request(Request(at, number, False, False, 0.1, seconds=0.01))
        if silence.due(at):
            told.append(silence.waiting(at, 8, 0.1, 0.0))
    assert [incident.trouble for incident in told if incident] == [Trouble.SILENT], "no more than there were"

    silence, told = Silence(), []
    for number in range(400):
        at = number / 20
        silence.request(Request(at, number % 20, False, False, 0.1, seconds=0.01))
        if silence.due(at):
            told.append(silence.waiting(at, rung(number), 0.1, 0.0))
    assert [incident.trouble for incident in told if incident] == [Trouble.SILENT], "twenty users are too few"


def test_an_answer_and_an_empty_slot_end_it() -> None:
    silence = Silence()
    for number in range(20):
        silence.request(Request(number / 10, number, False, False, 0.5, seconds=0.01))
    assert silence.due(2.0)
    assert silence.waiting(2.0, 0, 0.5, 0.0) is None and silence.since is None
    assert silence.waiting(2.1, 2, 0.5, 0.0) is not None and silence.since == 2.1
    silence.request(Request(2.2, 1, True, True, 0.5))
    assert silence.since == 2.1, "an error is no answer"
    silence.request(Request(2.3, 1, True, False, 0.5, seconds=0.01))
    assert silence.since is None and not silence.due(9.0)


def test_a_split_that_gives_the_candidate_nobody_is_invalid_a_little_later() -> None:
    judge = Judge.begin(Analysis())
    for number in range(2000):
        judge.request(Request(number / 100, number, False, False, 0.5, seconds=0.01))

    assert judge.decision is not None and judge.decision.verdict is Verdict.INVALID
    assert 5.0 < judge.decision.at < 8.0
