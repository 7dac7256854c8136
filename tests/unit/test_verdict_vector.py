"""The simulation judges as the shipped code does: the same requests, the same verdicts, times and evidence."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from benchmarks.judging.times import VectorTimes
from benchmarks.judging.vector import FAIL, HOLD, INCONCLUSIVE, PASS, Slice, VectorJudge, in_random_order
from benchmarks.judging.worlds import RAMP, Rate, constant, from_then, outage, share_at
from nself_deploy.core.analysis import Analysis
from nself_deploy.core.evidence import Request, Verdict
from nself_deploy.core.verdict import Judge

NAMES = {FAIL: Verdict.FAIL, HOLD: Verdict.HOLD, PASS: Verdict.PASS, INCONCLUSIVE: Verdict.INCONCLUSIVE}
LENGTH, SOAK_S = 0.5, 300.0
Made = list[tuple[str, int, int]]
"""Kind, side (0: candidate), client."""


class History:
    """One deployment's traffic, request by request. Each client has a place: below the share, it is the candidate's."""

    def __init__(
        self, seed: int, per_s: float, ours: Rate, live: Rate, *, bursts: float = 0.0, chronic: int = 0
    ) -> None:
        self.random = random.Random(seed)
        self.per_s, self.rates, self.bursts = per_s, (ours, live), bursts
        self.chronic = [(self.random.getrandbits(32), self.random.random()) for _ in range(chronic)]
        self.failed: set[int] = set()
        self.lately: dict[int, int] = {}

    def slice(self, at: float, share: float) -> Made:
        """The requests of a slice in the order in which the simulation takes them."""
        made = []
        for _ in range(np.random.default_rng(self.random.getrandbits(32)).poisson(self.per_s * LENGTH)):
            client, side = self.random.getrandbits(32), int(self.random.random() >= share)
            if self.random.random() < self.bursts:
                made += [self._error(at, side, client) for _ in range(self.random.randint(1, 20))]
            elif self.random.random() < self.rates[side](at):
                made.append(self._error(at, side, client))
            else:
                made.append(("good", side, client))
        made += [
            self._error(at, int(place >= share), client)
            for client, place in self.chronic
            if self.random.random() < LENGTH / 20.0
        ]
        order = {"good": 0, "old": 1, "muted": 2, "new": 3}
        return sorted(made, key=lambda one: (order[one[0]], one[0] == "old" and -one[1]))

    def _error(self, at: float, side: int, client: int) -> tuple[str, int, int]:
        tens = int(at) // 10
        kind = "muted" if self.lately.get(client) == tens else "old" if client in self.failed else "new"
        self.failed.add(client)
        self.lately[client] = tens
        return kind, side, client


def counted(histories: list[Made]) -> tuple[Slice, Iterator[tuple[np.ndarray, np.ndarray]]]:
    """The same as counts, and the first errors in their order."""
    counts = {
        kind: tuple(np.array([sum(o[:2] == (kind, side) for o in made) for made in histories]) for side in (0, 1))
        for kind in ("good", "old", "muted", "new")
    }
    sides = [[side for kind, side, _ in made if kind == "new"] for made in histories]

    def steps() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        number = 0
        while True:
            found = [(i, _before(each, number)) for i, each in enumerate(sides) if each.count(0) > number]
            if not found:
                return
            yield np.array([i for i, _ in found]), np.array([before for _, before in found])
            number += 1

    return Slice(counts["good"], counts["old"], counts["muted"], counts["new"]), steps()  # type: ignore[arg-type]


def _before(sides: list[int], number: int) -> int:
    """Errors of the live slot between the candidate's error before, and its error of this number."""
    places = [i for i, side in enumerate(sides) if side == 0]
    return places[number] - (places[number - 1] + 1 if number else 0)


QUIET = constant(0.001)
WORLDS: dict[str, Callable[[int], History]] = {
    "healthy": lambda seed: History(seed, 20, QUIET, QUIET),
    "healthy, 0.5 %": lambda seed: History(seed, 20, constant(0.005), constant(0.005)),
    "better": lambda seed: History(seed, 20, constant(0.0), constant(0.01)),
    "both bad": lambda seed: History(seed, 20, constant(0.03), constant(0.03)),
    "outage": lambda seed: History(seed, 20, outage(0.001, 0.5, 70, 20), outage(0.001, 0.5, 70, 20)),
    "2 %": lambda seed: History(seed, 20, constant(0.02), QUIET),
    "20 %": lambda seed: History(seed, 20, constant(0.2), QUIET),
    "all": lambda seed: History(seed, 5, constant(1.0), QUIET),
    "late": lambda seed: History(seed, 20, from_then(0.001, 0.05, 150.0), QUIET),
    "bursts": lambda seed: History(seed, 20, QUIET, QUIET, bursts=0.002),
    "chronic": lambda seed: History(seed, 20, QUIET, QUIET, chronic=15),
    "chronic and 5 %": lambda seed: History(seed, 20, constant(0.05), QUIET, chronic=6),
    "little": lambda seed: History(seed, 0.3, constant(0.5), constant(0.4)),
}


def test_both_judges_say_the_same_about_the_same_requests() -> None:
    settings = Analysis()
    histories = [world(seed) for seed, world in enumerate(WORLDS.values())]
    shipped = [Judge.begin(settings) for _ in histories]
    vector = VectorJudge(len(histories), settings)
    for number in range(1, round(SOAK_S / LENGTH) + 1):
        at = number * LENGTH
        share = share_at(RAMP, at)
        made = [history.slice(at, share) for history in histories]
        vector.step(at, share, *counted(made))
        for judge, requests in zip(shipped, made, strict=True):
            for kind, side, client in requests:
                judge.request(Request(at, client, side == 0, kind != "good", share))
    watching = vector.state.verdict == 0
    errors, objective, proof = vector.log_errors(), vector.log_objective(), vector.log_proof()
    vector.end(SOAK_S)

    for i, (name, judge) in enumerate(zip(WORLDS, shipped, strict=True)):
        judge.advance(SOAK_S)
        if watching[i]:
            assert judge.overall.comparison.mixture.log_value == pytest.approx(errors[i], abs=1e-9), name
            assert judge.absolute.mixture.log_value == pytest.approx(objective[i], abs=1e-9), name
            assert judge.log_proof(settings.slo_error_rate) == pytest.approx(proof[i], abs=1e-9), name
        assert judge.verdict is NAMES[int(vector.verdicts[i])], name
        assert judge.decision is None or judge.decision.at == pytest.approx(vector.times[i]), name
        assert judge.overall.comparison.candidate == vector.victims[i], name
    assert {judge.verdict for judge in shipped} == set(NAMES.values())


def test_both_judges_say_the_same_about_times() -> None:
    settings, cuts = Analysis(), (1.0, 2.0, 3.0)
    factors = (1.0, 1.1, 1.5, 3.0)
    shipped = [Judge.begin(settings, cuts=cuts) for _ in factors]
    vector = VectorTimes(len(factors), settings)
    generator, client = random.Random(4), 0
    for second in range(30, 120):
        share = 0.1 if second < 75 else 0.25
        counts = np.zeros((len(vector.number), 4, 2), dtype=np.int64)
        for row, number in enumerate(vector.number):
            for _ in range(20):
                client += 1
                candidate = generator.random() < share
                seconds = generator.lognormvariate(0.0, 0.6) * (factors[number] if candidate else 1.0)
                request = Request(float(second), client, candidate, False, share, seconds=seconds)
                shipped[number].request(request)
                scaled = seconds / settings.latency.tolerance if candidate else seconds
                counts[row, :, int(not candidate)] += [1, *(scaled > cut for cut in cuts)]
        vector.step(second, share, counts, None)

    for number, judge in enumerate(shipped):
        judge.advance(120.0)
        failed = judge.decision is not None
        assert failed == (vector.verdicts[number] == FAIL)
        assert not failed or judge.decision.at == vector.times[number]
    left = [shipped[number] for number in vector.number]
    assert [judge.latency.log_value for judge in left] == pytest.approx(list(vector.log_value()), abs=1e-9)
    assert 1 <= len(left) < len(factors)


def test_first_errors_come_in_any_order_with_the_same_probability() -> None:
    rng, runs = np.random.default_rng(2), 20_000
    first = np.zeros(runs, dtype=np.int64)
    ours, live = np.full(runs, 2), np.full(runs, 3)
    for number, (index, before) in enumerate(in_random_order(rng, (ours, live))):
        if number == 0:
            first[index] = before

    assert np.bincount(first) / runs == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.02)
