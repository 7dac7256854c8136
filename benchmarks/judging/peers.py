"""The rules of others, as their sources define them, on the same traffic: a canary at 10 %, one value a minute.

Each looks five times, once a minute, as long as ours watches.

- Flagger (pkg/controller/scheduler_metrics.go, scheduler.go; documented example): success rate of the last minute below
  99 %, or no value, is a failed check; after five of them the next look, a minute later, rolls back.
- Argo Rollouts (analysis/analysis.go): a measurement fails when its success rate is below 99 %; the run fails when more
  than `failureLimit` measurements have failed (3 in the documented example, 0 by default).
- Kayenta (NetflixACAJudge, MannWhitneyClassifier): five values a side after five minutes; "high" when the lower end of
  the 98 % interval of the Mann-Whitney test is above a quarter of the Hodges-Lehmann estimate. With five against five
  values the interval's lower end is the smallest difference. No values on a side: not counted as a failure.

Delays of metrics pipelines (15 to 30 s) are left out, in their favour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.judging.vector import Floats, Ints
from benchmarks.judging.worlds import Rate

_LOOKS, _MINUTES, _MINUTE_S, _SHARE = 5, 6, 60, 0.10


@dataclass(frozen=True)
class Found:
    """What a rule did: when it rolled back (nan: never), and the candidate's errors until then."""

    rule: str
    times: Floats
    victims: Ints


def judged(per_s: float, candidate: Rate, live: Rate, runs: int, rng: np.random.Generator) -> list[Found]:
    """All rules on the traffic of `runs` deployments."""
    seconds = np.arange(_MINUTES * _MINUTE_S) + 1.0
    counts = []
    for rate, share in ((candidate, _SHARE), (live, 1.0 - _SHARE)):
        p = np.array([rate(at) for at in seconds]).reshape(_MINUTES, _MINUTE_S).mean(axis=1)
        failed = rng.poisson(per_s * share * _MINUTE_S * p, (runs, _MINUTES))
        counts.append((failed + rng.poisson(per_s * share * _MINUTE_S * (1.0 - p), (runs, _MINUTES)), failed))
    (requests, failed), (live_requests, live_failed) = counts
    nothing, looks = requests == 0, slice(_LOOKS)
    bad = ~nothing & (failed > 0.01 * requests)
    ours, theirs = failed / np.maximum(1, requests), live_failed / np.maximum(1, live_requests)
    rules = {
        "Flagger, 60 s, threshold 5": _minute((bad | nothing)[:, looks], 5) + 1,
        "Argo, 60 s, failureLimit 3": _minute(bad[:, looks], 4),
        "Argo, 60 s, failureLimit 0": _minute(bad[:, looks], 1),
        "Kayenta, 60 s": np.where(_high(ours[:, looks], theirs[:, looks]), 5.0, np.nan),
    }
    until = failed.cumsum(axis=1)
    found = []
    for rule, minutes in rules.items():
        last = np.where(np.isnan(minutes), _LOOKS, minutes).astype(np.int64)
        found.append(Found(rule, minutes * _MINUTE_S, until[np.arange(runs), last - 1]))
    return found


def _minute(bad: Floats, count: int) -> Floats:
    """The minute in which the `count`th bad value is seen, from 1; nan if it never is."""
    reached = bad.cumsum(axis=1) >= count
    value: Floats = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.nan)
    return value


def _high(ours: Floats, theirs: Floats) -> Floats:
    differences = (ours[:, :, None] - theirs[:, None, :]).reshape(len(ours), -1)
    value: Floats = differences.min(axis=1) > 0.25 * np.abs(np.median(differences, axis=1))
    return value
