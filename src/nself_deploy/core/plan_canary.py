"""The plan of a canary: blue-green's, with shares of the traffic and a judge before all of it is moved."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import msgspec

from nself_deploy.core import effects as do
from nself_deploy.core.analysis import Analysis
from nself_deploy.core.durations import format_duration
from nself_deploy.core.expectation import auto_percent, needed_requests
from nself_deploy.core.metrics import Metric
from nself_deploy.core.model import Project, Release, Slot, Split, Strategy
from nself_deploy.core.pauses import Limit
from nself_deploy.core.plan import Change, Facts, Plan, Step, Timing, plan_blue_green
from nself_deploy.core.traffic import Traffic

PROBES = 20
"""Requests to each routed service of the candidate before any user."""


class Stage(msgspec.Struct, frozen=True):
    """A share of the traffic (percent, 1 to 100), and how many seconds the candidate keeps it at least."""

    percent: int
    hold_s: float = 0.0
    pause: bool = False
    """Whether a person has to decide before the next share."""
    auto: bool = False
    """Whether the share is chosen from the traffic; `percent` is taken when that is not known."""


class Canary(msgspec.Struct, frozen=True):
    """What a canary is asked for."""

    stages: tuple[Stage, ...]
    """Growing, the last one 100 %."""
    analysis: Analysis
    keep_failed: bool = False
    metrics: tuple[Metric, ...] = ()
    pause: Limit = Limit(0.0)
    """How long a pause lasts, and what is done then; 0 seconds: until somebody decides."""
    traffic: Traffic | None = None
    """What users asked for lately, as far as that is known."""


def plan_canary(project: Project, release: Release, facts: Facts, timing: Timing, target: str, canary: Canary) -> Plan:
    """Prove the release in the idle slot, give it more and more of the traffic while it is judged, then all of it.

    Without a live slot of ours there is nothing to compare with: then it is blue-green's plan, and says so.
    """
    base = plan_blue_green(project, release, facts, timing, target)
    base = msgspec.structs.replace(base, strategy=Strategy.CANARY)
    if base.unchanged:
        return base
    live, to = base.live, base.candidate
    if live is None or live is Slot.PLAIN or to is None:
        return msgspec.structs.replace(base, warnings=(*base.warnings, _nothing_to_compare(live)))
    canary, warnings = _chosen(canary)
    at = next(n for n, step in enumerate(base.steps) if step.moves_traffic)
    move = base.steps[at]
    kept = canary.keep_failed
    undo = tuple(_kept_open(step) if kept else step for step in move.undo)
    smoke = Step("smoke", f"Smoke test {to}", do.Smoke(release.id, to, PROBES))
    return msgspec.structs.replace(
        base,
        steps=(
            *base.steps[:at],
            smoke,
            *_stages(canary, live, to, undo),
            msgspec.structs.replace(move, undo=undo, once=True),
            *base.steps[at + 1 :],
        ),
        park=Step("park", f"Take all traffic back to {live}", do.MoveTraffic(Split.all_to(live))),
        keep_failed=kept,
        analysis=canary.analysis,
        traffic=canary.traffic,
        warnings=(*base.warnings, *warnings),
        metrics=canary.metrics,
        changes=tuple(_in_shares(change, canary, live, to) for change in base.changes),
    )


def plan_directly(
    project: Project, release: Release, facts: Facts, timing: Timing, target: str, canary: Canary
) -> Plan:
    """Blue-green; of what a canary is asked for, only how a bake is judged counts."""
    plan = plan_blue_green(project, release, facts, timing, target)
    bakes = any(isinstance(step.effect, do.Bake) for step in plan.steps)
    return msgspec.structs.replace(plan, analysis=canary.analysis if bakes else None, keep_failed=canary.keep_failed)


def _chosen(canary: Canary) -> tuple[Canary, tuple[str, ...]]:
    """With the first share as the traffic wants it, and a warning when that is not known.

    Other shares that are not larger are left out, and the first one is kept for their time too.
    """
    first, traffic = canary.stages[0], canary.traffic
    if not first.auto:
        return canary, ()
    share, warnings = first.percent, list[str]()
    if traffic is not None:
        share = auto_percent(traffic.trials_per_s, first.hold_s, canary.analysis.slo_error_rate)
    else:
        warnings.append(f"the traffic is not known: the first share is {share} %, as usual")
    small = [stage for stage in canary.stages[1:] if stage.percent <= share]
    hold_s = first.hold_s + sum(stage.hold_s for stage in small)
    pause = first.pause or any(stage.pause for stage in small)
    chosen = Stage(share, hold_s, pause)
    larger = [stage for stage in canary.stages[1:] if stage.percent > share]
    return msgspec.structs.replace(canary, stages=(chosen, *larger)), tuple(warnings)


def _stages(canary: Canary, live: Slot, to: Slot, undo: tuple[Step, ...]) -> Iterator[Step]:
    for stage, following in pairwise(canary.stages):
        share = stage.percent
        move = do.MoveTraffic(Split(live, to, share, canary.analysis.shield))
        yield Step(f"split:{share}", f"Move {share} % to {to}", move, undo=undo, moves_traffic=True, once=True)
        judge = do.Judge(to, share, stage.hold_s, following.percent, canary.pause if stage.pause else None)
        yield Step(f"judge:{share}", f"Judge {to} at {share} %", judge, once=True)


def _kept_open(step: Step) -> Step:
    """A slot that is drained to be kept, not to be removed."""
    if not isinstance(step.effect, do.Drain):
        return step
    return msgspec.structs.replace(step, effect=msgspec.structs.replace(step.effect, keep=True))


def _nothing_to_compare(live: Slot | None) -> str:
    what = "nothing is live yet" if live is None else "the plain stack keeps no record of its requests"
    return f"there is nothing to compare the new version with ({what}): it gets all requests at once, as in blue-green"


def _in_shares(change: Change, canary: Canary, live: Slot, to: Slot) -> Change:
    stages, objective = canary.stages, canary.analysis.slo_error_rate
    if change.what.startswith("split"):
        shares = ", ".join(
            f"{s.percent} % for {format_duration(s.hold_s)}{' and a pause' if s.pause else ''}"
            if s.percent < 100
            else "100 %"
            for s in stages
        )
        needed = f"about {needed_requests(objective)} good requests to it"
        needed += "".join(f", good values of {metric.name}" for metric in canary.metrics)
        proof = f"longer while it lacks proof ({needed}); back when it fails"
        if canary.analysis.shield:
            proof += f"; meanwhile {live} answers what fails on {to}, where it is safe to ask again"
        return Change("~", f"split, from {live} to {to}: {shares}", proof)
    if "never touched by blue-green" in change.reason:
        return msgspec.structs.replace(change, reason="never touched by a canary")
    return change
