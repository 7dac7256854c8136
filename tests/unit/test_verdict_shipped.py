"""The simulation gives the shipped judge what it would be given request by request."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.judging import split
from benchmarks.judging.cells import shipped
from benchmarks.judging.shipped import Trusted, answered, begun
from benchmarks.judging.vector import PASS
from benchmarks.judging.worlds import FLAT, RAMP, SOAK_S, Independent, constant, share_at
from nself_deploy.core.analysis import Analysis
from nself_deploy.core.evidence import Request, Verdict
from nself_deploy.core.explanation import explain
from nself_deploy.core.sample_ratio import SampleRatio


def test_good_requests_put_in_together_are_the_same_as_one_by_one() -> None:
    together, alone, generator = begun(Analysis()), begun(Analysis()), random.Random(3)
    for second in range(1, 300):
        share, good = share_at(RAMP, second), (generator.randrange(9), generator.randrange(40))
        for judge in (together, alone):
            judge.advance(float(second))
        answered(together, share, good)
        for side in (0, 1):
            for _ in range(good[side]):
                alone.request(Request(float(second), generator.getrandbits(32), side == 0, False, share))
        if second % 40 == 0:
            failed = Request(float(second), generator.getrandbits(32), second == 40, True, share)
            together.request(failed)
            alone.request(failed)

    assert explain(together, 300.0) == explain(alone, 300.0)
    assert together.verdict is alone.verdict is Verdict.PASS
    assert isinstance(together.split, Trusted)


@pytest.mark.parametrize(("rate", "verdict"), [(0.0, "pass"), (0.2, "fail")])
def test_the_shipped_judge_says_it(rate: float, verdict: str) -> None:
    world = Independent(20.0, constant(rate), constant(0.001))
    judges = shipped(world, RAMP, 3, 1.0, np.random.default_rng(5))

    assert {"pass" if code == PASS else "fail" for code in judges.verdicts} == {verdict}
    assert all(judges.times == SOAK_S) == (verdict == "pass")


def test_the_guard_of_the_split_is_the_shipped_one() -> None:
    rng, guard = np.random.default_rng(6), SampleRatio()
    times = split.counted_at(10.0, SOAK_S)
    shares = np.array([share_at(RAMP, at) for at in times])
    candidate = rng.random((1, len(times))) < shares
    expected = []
    for client, (share, got) in enumerate(zip(shares, candidate[0], strict=True)):
        guard.add(client, float(share), candidate=bool(got))
        expected.append(guard.log_value)

    assert split.values(shares, candidate)[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("per_s", [0.0, 5.0, 200.0])
def test_of_very_many_clients_a_sample_counts(per_s: float) -> None:
    clients, generator, counted = SampleRatio(), random.Random(7), 0
    for _ in range(round(per_s * SOAK_S)):
        clients.add(generator.getrandbits(32), 0.1, candidate=False)
        counted = clients.total_live

    assert len(split.counted_at(per_s, SOAK_S)) == pytest.approx(counted, rel=0.06)


def test_a_split_that_is_wrong_is_found() -> None:
    rng = np.random.default_rng(8)

    assert np.isnan(split.run(split.Split(50.0, 1.0), FLAT, 50, rng)).all()
    assert np.nanmax(split.run(split.Split(50.0, 2.0), FLAT, 50, rng)) < 60.0
