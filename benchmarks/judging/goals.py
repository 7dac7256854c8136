"""The goals, and whether they are met.

A time is too long when it is so by more than two standard errors of the simulation: some limits are what the rule can
reach at best. Shares of false rollbacks and promotions have no such allowance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.judging.cells import Outcome
from nself_deploy.core.verdict import SPLIT_ALPHA

FALSE_ROLLBACKS = 0.001
"""Of the healthy deployments in a world, at all rates of requests together."""
FALSE_ALARMS = SPLIT_ALPHA
"""Of the guard of the split, at any rate of requests."""
_SICK_PROMOTED = 0.001


@dataclass(frozen=True)
class Goal:
    """Upper limits for a cell: median and 95 % quantile in seconds, users that meet an error."""

    kind: str
    world: str
    per_s: float
    median: float
    p95: float | None = None
    users: float | None = None


GOALS = (
    Goal("sick", "100% errors", 50, 2, 2, 7),
    Goal("sick", "100% errors", 200, 2, 2),
    Goal("sick", "100% errors", 1000, 2, 2),
    Goal("sick", "20% errors", 50, 5, 10, 6),
    Goal("sick", "5% errors", 50, 20, 40, 6),
    Goal("sick", "5% errors", 200, 5, 11),
    Goal("sick", "2% errors", 50, 60, 110, 8),
    Goal("sick", "2% errors", 200, 15, 35),
    Goal("late", "2% errors from 150 s", 50, 50, 80),
    Goal("slow", "times x 2", 50, 10),
    Goal("slow", "times x 2", 200, 3),
    Goal("slow", "times +30 %", 200, 60, 90),
)
_PASSES = {"healthy, 0.1 %": 0.99, "healthy, 0.5 %": 0.90}
"""At 50 requests per second, after five minutes."""


def missed(outcomes: Sequence[Outcome]) -> list[str]:
    """The goals that are missed, in words. Cells that were not simulated are not judged."""
    found = [
        f"{world}: {share:.3%} false rollbacks of {runs}, {FALSE_ROLLBACKS:.1%} at most"
        for world, (share, runs) in false_rollbacks(outcomes).items()
        if share > FALSE_ROLLBACKS
    ]
    for outcome in outcomes:
        name = f"{outcome.kind}: {outcome.world}, {outcome.per_s:g}/s"
        if outcome.kind == "split" and outcome.world == "right" and outcome.failed > FALSE_ALARMS:
            found.append(f"{name}: {outcome.failed:.2%} false alarms, {FALSE_ALARMS:.1%} at most")
        if outcome.unproved:
            found.append(f"{name}: {outcome.unproved} promoted without evidence")
        sick = outcome.kind in ("sick", "flat") and outcome.world != "1% errors"
        if sick and outcome.passed > _SICK_PROMOTED:
            found.append(f"{name}: {outcome.passed:.2%} promoted, {_SICK_PROMOTED:.1%} at most")
        if outcome.kind == "healthy" and outcome.per_s == 50 and outcome.passed < _PASSES.get(outcome.world, 0.0):
            found.append(f"{name}: {outcome.passed:.1%} promoted, {_PASSES[outcome.world]:.0%} at least")
    for goal in GOALS:
        for outcome in outcomes:
            if (outcome.kind, outcome.world, outcome.per_s) == (goal.kind, goal.world, goal.per_s):
                found += _late(goal, outcome)
    return found


def false_rollbacks(outcomes: Sequence[Outcome]) -> dict[str, tuple[float, int]]:
    """Per world of healthy candidates, the share that was rolled back, and of how many."""
    found: dict[str, tuple[float, int]] = {}
    for outcome in outcomes:
        if outcome.kind in ("healthy", "starved"):
            name = outcome.world if outcome.kind == "healthy" else "hardly any requests"
            share, runs = found.get(name, (0.0, 0))
            both = runs + outcome.runs
            found[name] = ((share * runs + outcome.failed * outcome.runs) / both, both)
    return found


def _late(goal: Goal, outcome: Outcome) -> list[str]:
    pairs = (
        ("median", outcome.least[0], goal.median),
        ("p95", outcome.least[1], goal.p95),
        ("users", outcome.users, goal.users),
    )
    return [
        f"{goal.world}, {goal.per_s:g}/s: {what} {'never' if value is None else f'{value:.1f}'}, {limit:g} at most"
        for what, value, limit in pairs
        if limit is not None and (value is None or value > limit)
    ]


def result(outcomes: Sequence[Outcome]) -> str:
    """The last line."""
    worst = max((share for share, _ in false_rollbacks(outcomes).values()), default=0.0)
    found = [o.median for o in outcomes if (o.kind, o.world, o.per_s) == ("sick", "20% errors", 50)]
    median = f"{found[0]:.1f}" if found and found[0] is not None else "never"
    return (
        f"RESULT false_rollback_max={worst:.5f} median_20pct_50rps={median} "
        f"promoted_without_evidence={sum(o.unproved for o in outcomes)}"
    )
