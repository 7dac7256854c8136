"""From what is asked and what is there to one value that is printed, confirmed, journalled and executed.

Pure: the same facts and request give the same plan. Nothing about the order of a deploy is decided anywhere else.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from nself_deploy.core import effects as do
from nself_deploy.core.analysis import Analysis
from nself_deploy.core.metrics import Metric
from nself_deploy.core.model import Activate, Project, Release, Role, Slot, Split, Strategy
from nself_deploy.core.traffic import Traffic


class Kind(StrEnum):
    """What a run is for."""

    DEPLOY = "deploy"
    ROLLBACK = "rollback"


class Step(msgspec.Struct, frozen=True):
    """The unit of a run."""

    key: str
    name: str
    effect: do.Effect
    undo: tuple[Step, ...] = ()
    """What takes it back, in order; performed when the step was begun and the run turns back."""
    commits: bool = False
    """Once this is done the run is finished rather than undone, whatever happens."""
    moves_traffic: bool = False
    again: bool = False
    """Done anew, with all that follows, when a run that was not committed is finished by another process."""
    once: bool = False
    """But not this one, when it was done already."""
    stays: bool = False
    """Users stay where they are when it can't be done for another reason than the slot's health: the next command does
    it, and what follows."""


class Change(msgspec.Struct, frozen=True):
    """One line of a plan: `+` created, `~` changed in place, `-` removed, `=` kept."""

    sign: str
    what: str
    reason: str = ""


class Facts(msgspec.Struct, frozen=True):
    """What was observed, as far as a plan depends on it."""

    live: Slot | None = None
    live_release: str = ""
    live_healthy: bool = True
    standby: Slot | None = None
    standby_release: str = ""
    standby_warm: bool = False
    """The standby answered through the router just now."""
    occupied: tuple[Slot, ...] = ()
    """Slots (blue, green) in which containers exist."""
    plain_apps: tuple[str, ...] = ()
    """App services of which plain containers run; while nothing is live, those of which stopped ones are left."""
    stopped_shared: tuple[str, ...] = ()
    """Shared services that don't run (in start order)."""
    router_running: bool = False
    warnings: tuple[str, ...] = ()


class Timing(msgspec.Struct, frozen=True):
    """Limits of a run, in seconds."""

    health_timeout_s: float = 30.0
    min_uptime_s: float = 7.0
    watch_s: float = 2.0
    drain_s: float = 60.0
    standby_s: float = 600.0
    job_timeout_s: float = 600.0
    bake_s: float = 0.0
    """How long a new release is watched while it serves everybody, before the old one is retired; 0: not."""


class Cause(msgspec.Struct, frozen=True):
    """Why a rollback was asked for, for the audit trail."""

    service: str = ""
    """The one service that it is about; empty: all of them."""
    reason: str = ""
    key: str = ""
    """Name of the deploy key that allowed it; empty when a person asked, or the machine itself."""
    evidence: tuple[str, ...] = ()
    """What the reason rests on."""
    attempt: str = ""
    """Of a rollback of one service: the request that it is a try of; others of the same one have it too."""


NO_CAUSE = Cause()


class Plan(msgspec.Struct, frozen=True):
    """What will be done, and why."""

    kind: Kind
    strategy: Strategy
    target: str
    project: str
    release: str
    previous_release: str
    live: Slot | None
    candidate: Slot | None
    steps: tuple[Step, ...]
    closing: tuple[Step, ...] = ()
    """Last steps of an undo."""
    park: Step | None = None
    """What takes users back before the run waits for a person."""
    keep_failed: bool = False
    """Whether the containers of a candidate that failed are kept, for a person to look at."""
    analysis: Analysis | None = None
    """How the candidate is judged; None when it is not."""
    metrics: tuple[Metric, ...] = ()
    """What is asked for while it is judged, beside its users' requests."""
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    traffic: Traffic | None = None
    """What users asked for lately; None when that is not known, or not needed."""
    cause: Cause = NO_CAUSE
    override: tuple[str, ...] = ()
    """What its migrations break, which somebody accepted; empty when they break nothing."""

    @property
    def judged(self) -> bool:
        """Whether the candidate is compared with the live slot before it gets all requests."""
        return any(isinstance(step.effect, do.Judge) for step in self.steps)

    @property
    def unchanged(self) -> bool:
        """Whether there is nothing to do."""
        return not self.steps


def plan_blue_green(project: Project, release: Release, facts: Facts, timing: Timing, target: str) -> Plan:
    """Start the release in the idle slot, prove it, move all traffic, prove it again, retire the old one."""
    if facts.live is not None and facts.live_release == release.id and facts.live_healthy:
        return _unchanged(project, release, facts, target)
    candidate = Slot.BLUE if facts.live is None else facts.live.other
    facts = msgspec.structs.replace(facts, standby_warm=False)  # it has to go, also when it is of this very release
    return Plan(
        kind=Kind.DEPLOY,
        strategy=Strategy.BLUE_GREEN,
        target=target,
        project=project.name,
        release=release.id,
        previous_release=facts.live_release,
        live=facts.live,
        candidate=candidate,
        steps=(*_prepare(project, release, facts, candidate, timing), *_switch(release, facts, candidate, timing)),
        closing=_closing(facts, candidate),
        changes=_changes(project, release, facts, candidate, timing),
        warnings=(*project.warnings, *facts.warnings),
    )


def plan_rollback(project: Project, release: Release, facts: Facts, timing: Timing, target: str) -> Plan:
    """Back to `release`: by one rename while its slot is warm, else by starting it from its record.

    `release` must not be the live one.
    """
    warm = facts.standby is not None and facts.standby_release == release.id and facts.standby_warm
    if not warm or facts.standby is None or facts.live is None:
        timing = msgspec.structs.replace(timing, bake_s=0.0)  # whoever goes back is in a hurry
        plan = plan_blue_green(project, release, msgspec.structs.replace(facts, live_healthy=False), timing, target)
        return msgspec.structs.replace(plan, kind=Kind.ROLLBACK)
    to = facts.standby
    return Plan(
        kind=Kind.ROLLBACK,
        strategy=Strategy.BLUE_GREEN,
        target=target,
        project=project.name,
        release=release.id,
        previous_release=facts.live_release,
        live=facts.live,
        candidate=to,
        steps=(
            Step("probe", f"Probe standby {to}", do.ProbeWarm(release.id, to), again=True),
            *_switch(release, facts, to, timing),
        ),
        closing=(_record_unchanged(facts, facts.standby, facts.standby_release, timing.standby_s),),
        changes=(
            Change("~", "split", f"all requests from {facts.live} back to {to}, by one rename"),
            Change("=", f"{to}: release {release.id}", "still warm"),
            *_old_changes(facts, timing),
        ),
        warnings=facts.warnings,
    )


def _unchanged(project: Project, release: Release, facts: Facts, target: str) -> Plan:
    return Plan(
        kind=Kind.DEPLOY,
        strategy=Strategy.BLUE_GREEN,
        target=target,
        project=project.name,
        release=release.id,
        previous_release=facts.live_release,
        live=facts.live,
        candidate=None,
        steps=(),
        changes=(Change("=", f"{facts.live}: release {release.id}", "unchanged: the same images and configuration"),),
        warnings=(*project.warnings, *facts.warnings),
    )


def _prepare(project: Project, release: Release, facts: Facts, candidate: Slot, timing: Timing) -> tuple[Step, ...]:
    """Everything that has to be there before the candidate starts; none of it touches traffic."""
    router = project.router.service if project.router else ""
    steps = []
    if candidate in facts.occupied:
        remove, what = do.RemoveSlot(candidate), f"Remove {_was(facts, candidate)} {candidate}"
        steps.append(Step("vacate", what, remove, undo=(Step("undo:vacate", f"Remove {candidate}", remove),)))
    steps.append(Step("networks", "Prepare networks", do.PrepareNetworks(release.id)))
    if facts.stopped_shared:
        steps.append(Step("shared", "Start shared services", do.StartShared(facts.stopped_shared)))
    initial = Split.all_to(facts.live or candidate)
    steps.append(Step("router", "Configure router", do.InstallRouter(release.id, candidate, initial)))
    if router and not facts.router_running:
        steps.append(Step("router-up", "Start router", do.StartShared((), router)))
    for job in release.jobs():
        effect = do.RunJob(release.id, candidate, job.name, timing.job_timeout_s)
        clean = Step("undo:job", f"Remove {candidate}", do.RemoveSlot(candidate))
        first = job is release.jobs()[0]
        steps.append(Step(f"job:{job.name}", f"Run job {job.name}", effect, undo=(clean,) if first else ()))
    return tuple(steps)


def _switch(release: Release, facts: Facts, to: Slot, timing: Timing) -> tuple[Step, ...]:
    """Start and prove (when it doesn't run yet), move traffic, prove again, retire the old slot."""
    old, warm = facts.live, facts.standby_warm and facts.standby is to and facts.standby_release == release.id
    steps: list[Step] = []
    if not warm:
        remove = Step("undo:start", f"Remove {to}", do.RemoveSlot(to))
        begin = do.StartSlot(release.id, to, timing.health_timeout_s)
        steps.append(Step("start", f"Start {to}", begin, undo=(remove,), again=True))
        prove = do.ProveHealth(release.id, to, timing.health_timeout_s, timing.min_uptime_s)
        steps.append(Step("health", f"Health check {to}", prove))
    steps.append(
        Step(
            "move",
            f"Move traffic to {to}",
            do.MoveTraffic(Split.all_to(to)),
            undo=_take_back(old, to, timing, keep=warm),
            moves_traffic=True,
        )
    )
    singletons = any(s.activate is Activate.ON_LIVE for s in release.apps())
    watch = do.WatchLive(release.id, to, timing.watch_s)
    bakes = timing.bake_s > 0 and old is not None and not warm
    name, last = f"Health check {to} with the traffic on", not (singletons or bakes)
    steps.append(Step("watch", name, watch, commits=last, stays=warm))
    if bakes:
        steps.append(Step("bake", f"Bake {to}", do.Bake(to, timing.bake_s), commits=not singletons))
    if singletons:
        start, stop = (to, release.id), (old or to.other, facts.live_release)
        back = Step("undo:handover", f"Give single services back to {stop[0]}", _hand_over(start, stop))
        steps.append(
            Step(
                "handover",
                f"Hand single services over to {to}",
                _hand_over(stop, start),
                undo=(back,) if old else (),
                commits=True,
                stays=warm,
            )
        )
    return (*steps, *_retire(release, facts, to, timing))


def _hand_over(stop: tuple[Slot, str], start: tuple[Slot, str]) -> do.HandOver:
    return do.HandOver(stop=stop[0], start=start[0], stop_release=stop[1], start_release=start[1])


def _take_back(old: Slot | None, to: Slot, timing: Timing, *, keep: bool) -> tuple[Step, ...]:
    if old is None:
        return ()
    return (
        Step("undo:move", f"Move traffic back to {old}", do.MoveTraffic(Split.all_to(old))),
        Step("undo:drain", f"Drain {to}", do.Drain(to, timing.drain_s, keep=keep)),
    )


def _retire(release: Release, facts: Facts, live: Slot, timing: Timing) -> tuple[Step, ...]:
    """Drain the old slot, then keep it warm or remove it; write down how it ended."""
    old = facts.live
    steps: list[Step] = []
    standby: Slot | None = None
    keep = timing.standby_s > 0 and old is not Slot.PLAIN
    if old is not None:
        steps.append(Step("drain", f"Drain {old}", do.Drain(old, timing.drain_s, keep=keep)))
    if old is Slot.PLAIN or (old is None and facts.plain_apps):
        steps.append(Step("retire", "Remove the plain stack's app containers", do.RetirePlain(facts.plain_apps)))
    elif old is not None and keep:
        standby = old
        steps.append(Step("retire", f"Keep {old} warm", do.KeepWarm(old, timing.standby_s)))
    elif old is not None:
        steps.append(Step("retire", f"Stop {old}", do.RemoveSlot(old)))
    record = do.Record(
        live=live,
        live_release=release.id,
        standby=standby,
        standby_release=facts.live_release if standby else "",
        standby_s=timing.standby_s if standby else 0.0,
    )
    return (*steps, Step("record", "Persist state", record))


def _closing(facts: Facts, candidate: Slot) -> tuple[Step, ...]:
    """After an undo: the live slot is what it was; a standby that was in the candidate's place is gone."""
    standby = facts.standby if facts.standby is not candidate else None
    return (_record_unchanged(facts, standby, facts.standby_release if standby else "", 0.0),)


def _record_unchanged(facts: Facts, standby: Slot | None, release: str, seconds: float) -> Step:
    effect = do.Record(facts.live, facts.live_release, standby, release, seconds)
    return Step("undo:record", "Persist state", effect)


def _was(facts: Facts, slot: Slot) -> str:
    return "standby" if facts.standby is slot else "leftover"


def _changes(project: Project, release: Release, facts: Facts, candidate: Slot, timing: Timing) -> tuple[Change, ...]:
    lines = []
    if candidate in facts.occupied:
        lines.append(Change("-", f"{candidate}: {_was(facts, candidate)}", "its place is needed"))
    lines += [Change("+", f"{s} (shared)", "is not running") for s in facts.stopped_shared]
    if project.router and project.router.service and not facts.router_running:
        lines.append(Change("+", f"{project.router.service} (router)", "is not running"))
    for service in project.with_role(Role.SHARED):
        if service.name not in facts.stopped_shared:
            lines.append(Change("=", f"{service.name} (shared)", "never touched by blue-green"))
    lines += [Change("+", f"{candidate}/{job.name}", "job, once, before traffic") for job in release.jobs()]
    for app in release.apps():
        count = f" x{app.replicas}" if app.replicas != 1 else ""
        when = " (when live)" if app.activate is Activate.ON_LIVE else ""
        lines.append(Change("+", f"{candidate}/{app.name}{count}{when}", release.images[app.name].ref))
    lines.append(Change("~", "split", f"all requests {f'from {facts.live} ' if facts.live else ''}to {candidate}"))
    return (*lines, *_old_changes(facts, timing))


def _old_changes(facts: Facts, timing: Timing) -> tuple[Change, ...]:
    if facts.live is None and not facts.plain_apps:
        return ()
    if facts.live in (None, Slot.PLAIN):
        return (Change("-", f"plain containers of {', '.join(facts.plain_apps)}", "replaced by the slot"),)
    if timing.standby_s > 0:
        return (Change("=", f"{facts.live}: release {facts.live_release}", f"kept warm for {timing.standby_s:g} s"),)
    return (Change("-", f"{facts.live}: release {facts.live_release}", "drained, then stopped"),)
