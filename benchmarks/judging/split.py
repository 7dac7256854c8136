"""The guard of the split for many deployments: `core/sample_ratio.py` client by client, in numpy.

Every request is another client's, so that all the traffic is looked at. Of very many clients only a sample counts
(`core/clients.py`): from then on one in 2, 4, 8 ... counts, at even distances here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np

from benchmarks.judging.vector import Floats
from benchmarks.judging.worlds import SOAK_S, Plan, share_at
from nself_deploy.core.clients import LIMIT
from nself_deploy.core.sample_ratio import CONCENTRATION
from nself_deploy.core.verdict import SPLIT_ALPHA

_AT_ONCE = 200
"""Deployments that are worked out together: memory."""


@dataclass(frozen=True)
class Split:
    """The candidate gets `factor` times the share that it is given."""

    per_s: float
    factor: float


def counted_at(per_s: float, seconds: float) -> Floats:
    """When the clients come that count."""
    numbers, number, step, room = [], 0, 1, LIMIT
    while count := min(room, int(per_s * seconds - number) // step):
        numbers.append(number + step * np.arange(1, count + 1))
        number += step * count
        step, room = 2 * step, LIMIT // 2
    return np.concatenate(numbers) / per_s if numbers else np.zeros(0)


def values(shares: Floats, candidate: Floats) -> Floats:
    """The guard's evidence (logarithm) after each client: rows of deployments, and the share at each client."""
    worth = np.zeros(candidate.shape)
    for begin, end in _stretches(shares):
        share, got = float(shares[begin]), candidate[:, begin:end]
        known = np.arange(end - begin)
        ours = np.cumsum(got, axis=1) - got
        seen = np.where(got, CONCENTRATION * share + ours, CONCENTRATION * (1.0 - share) + known - ours)
        worth[:, begin:end] = np.log(seen / ((CONCENTRATION + known) * np.where(got, share, 1.0 - share)))
    value: Floats = np.cumsum(worth, axis=1)
    return value


def _stretches(shares: Floats) -> list[tuple[int, int]]:
    """Where each share begins and ends."""
    begins = [0, *(np.flatnonzero(np.diff(shares)) + 1).tolist()] if len(shares) else []
    return list(zip(begins, [*begins[1:], len(shares)], strict=True))


def run(split: Split, plan: Plan, runs: int, rng: np.random.Generator) -> Floats:
    """When the guard says that the split is wrong (seconds; nan: never within the soak)."""
    times = counted_at(split.per_s, SOAK_S)
    shares = np.array([share_at(plan, at) for at in times])
    alarms = np.full(runs, np.nan)
    for begin in range(0, runs if len(times) else 0, _AT_ONCE):
        size = (min(_AT_ONCE, runs - begin), len(times))
        reached = values(shares, rng.random(size) < shares * split.factor) >= -log(SPLIT_ALPHA)
        found = reached.any(axis=1)
        alarms[begin : begin + _AT_ONCE][found] = times[reached.argmax(axis=1)[found]]
    return alarms
