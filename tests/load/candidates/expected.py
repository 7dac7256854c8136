"""How soon the shipped judge finds a candidate when the same users are simulated: from the first share to the verdict.

`python -m tests.load.candidates.expected` prints what `kinds` has as `Found`; it takes a minute and a half.
"""

from __future__ import annotations

import random
import sys
from itertools import cycle, islice

from nself_deploy.core.analysis import Analysis
from nself_deploy.core.evidence import Request, Verdict
from nself_deploy.core.latency import cut_points
from nself_deploy.core.verdict import Judge
from tests.load.candidates.crowd import PEOPLE, RATE, SORTS, Sort
from tests.load.candidates.kinds import CANDIDATES, Candidate, Found

RUNS = 200
SHARE = 0.1
_SOAK_S, _LONGEST_S = 60.0, 180.0
_WIDTH = 0.1
"""Of the times that requests take, which are log-normal."""
_BEFORE = 1500


def simulated(candidate: Candidate, runs: int = RUNS) -> Found:
    """When it is found, with a share of `SHARE`; the same every time.

    Raises:
        ValueError: once it was not.
    """
    found = sorted(_found(candidate, random.Random(seed)) for seed in range(runs))
    return Found(found[runs // 2], found[-1])


def _found(candidate: Candidate, chance: random.Random) -> float:
    order = _order()
    before = [_took(sort, chance) for sort in islice(order, _BEFORE)]
    settings = Analysis(soak_s=_SOAK_S, max_soak_s=_LONGEST_S)
    judge = Judge.begin(settings, tuple({sort.route for sort in SORTS}), cut_points(before, settings.latency.cuts))
    salt, turns = chance.random(), dict.fromkeys(SORTS, 0)
    for number, sort in enumerate(order):
        at = number / RATE
        turns[sort] += 1
        person = (turns[sort] + SORTS.index(sort) * PEOPLE // len(SORTS)) % PEOPLE
        client = hash((salt, person)) & 0xFFFFFFFF
        ours = random.Random(client).random() < SHARE
        ill = ours and at >= candidate.onset_s
        failed = ill and chance.random() < candidate.fails.get(sort.name, 0.0)
        took = _took(sort, chance) * (candidate.slower if ill else 1.0)
        judge.request(Request(at, client, ours, failed, SHARE, sort.route, took))
        if judge.decision is not None or at > _LONGEST_S:
            break
    if judge.verdict is not Verdict.FAIL:
        raise ValueError(f"{candidate.name}: {judge.verdict} after {judge.now:.0f} s in the simulation")
    return judge.now


def _order() -> cycle[Sort]:
    """The sorts of requests as the load takes them: evenly mixed."""
    credit, order = dict.fromkeys(SORTS, 0.0), []
    for _ in range(100):
        for sort in SORTS:
            credit[sort] += sort.share
        chosen = max(SORTS, key=credit.__getitem__)
        credit[chosen] -= 1.0
        order.append(chosen)
    return cycle(order)


def _took(sort: Sort, chance: random.Random) -> float:
    return round(sort.seconds * chance.lognormvariate(0.0, _WIDTH), 3)


if __name__ == "__main__":
    for one in CANDIDATES:
        if one.simulated:
            sys.stdout.write(f"{one.name}: {simulated(one)}\n")
