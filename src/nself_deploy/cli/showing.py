"""Plans, states and histories as people read them."""

from __future__ import annotations

import msgspec

from nself_deploy.app.inspect import CanaryStatus, RecoveryStatus, RunStatus, SlotStatus, Status
from nself_deploy.app.release_list import ReleaseStatus
from nself_deploy.app.replaying import Replay, RunReplay
from nself_deploy.cli.output import Lines, printable
from nself_deploy.core import forecast_words
from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.forecast import Outlook, outlook
from nself_deploy.core.plan import Change, Plan
from nself_deploy.core.plan_document import PlanDocument


def show_plan(plan: PlanDocument, lines: Lines) -> None:
    """What was inferred, what will change, and the steps in their order."""
    lines.title("Services")
    lines.table([(s.name, s.role, s.reason) for s in plan.services])
    lines.title("Routes")
    lines.table([(f"{r['service']}:{r['port']}", r["protocol"], r["source"]) for r in plan.routes])
    lines.title("Settings")
    lines.table([(s.name, s.value, s.origin) for s in plan.settings])
    lines.title(f"Plan ({plan.strategy}, {plan.target}): release {plan.release or 'to be made'}")
    lines.plan([Change(c["sign"], c["what"], c["reason"]) for c in plan.changes], plan.warnings)
    if plan.forecast is not None:
        show_forecast(plan.forecast, lines)
    for step in plan.steps:
        lines.note(f"[{step.status.value}] {step.name}")


def show_expected(plan: Plan, lines: Lines) -> None:
    """The same of a plan."""
    if (found := outlook(plan)) is not None:
        show_forecast(found, lines)


def show_forecast(found: Outlook, lines: Lines) -> None:
    """What is expected of a canary."""
    lines.title(forecast_words.title(found))
    lines.table(forecast_words.rows(found), colour="0")
    lines.list(forecast_words.lines(found))


def show_status(found: Status, lines: Lines) -> None:
    """A line for the project, one for each slot, one for what happened last."""
    lines.note(f"{found.project}: router {found.router}; requests go to {_split_words(found.split)}")
    lines.table([_slot(s) for s in found.slots], colour="0")
    if found.engine != "ok":
        lines.note(f"engine: {found.engine}")
    if found.last is not None:
        lines.note(f"last: {_run(found.last)}")
    running = found.under_way
    if running is not None and found.holder:
        lines.note(f"under way: {running.kind} of {running.release}, at {running.step!r}, by {found.holder}")
    elif running is not None:
        lines.note(f"{running.outcome}: {running.kind} of {running.release}, at {running.step!r}")
        if running.outcome == "unfinished":
            lines.list([f"users are there already; {running.error}", "-> nself deploy resume does the rest"])
        lines.table([(r.command, _way(r), r.why) for r in found.recovery])
    elif found.holder:
        lines.note(f"under way: {found.holder}")
    if found.canary is not None:
        _show_canary(found.canary, lines)
    if found.watched:
        lines.note(f"watch: objectives are watched; heard of at {found.watched}")


def _way(recovery: RecoveryStatus) -> str:
    if recovery.waits:
        return "is refused"
    return "goes on with it" if recovery.finish else "undoes it"


def _show_canary(canary: CanaryStatus, lines: Lines) -> None:
    verdict = f", {canary.evidence.verdict}: {canary.evidence.reason}" if canary.evidence else ""
    lines.note(f"canary: {canary.percent} %{verdict}")
    lines.list(canary.words)
    if canary.next:
        lines.list([f"missing {canary.next}"])
    if canary.parked:
        lines.note(f"parked: {canary.parked}" + (f"; {canary.expiry}" if canary.expiry else ""))
    if canary.remedy:
        lines.list([f"-> {canary.remedy}"])


def show_history(runs: list[RunStatus], lines: Lines) -> None:
    """One line for each."""
    for run in runs:
        lines.note(_run(run))
    if not runs:
        lines.note("Nothing was deployed yet.")


def show_releases(releases: list[ReleaseStatus], lines: Lines) -> None:
    """One line for each, and its images below."""
    for release in releases:
        place = f"{release.role} in {release.slot}" if release.role else "kept"
        host = f"@{release.created_on}" if release.created_on else ""
        dirty = " with changes" if release.git_dirty else ""
        commit = f"  commit {release.git_commit[:12]}{dirty}" if release.git_commit else ""
        lines.note(f"{release.id}  {place:<16}  {printable(f'{release.created_by}{host}')}{commit}")
        lines.list(f"{name}: {printable(image.ref)}  {image.id[:19]}" for name, image in sorted(release.images.items()))
        if release.migrations:
            lines.list([f"migrations: {len(release.migrations)}, up to {printable(release.migrations[-1])}"])
    if not releases:
        lines.note("There is no release yet.")


def show_events(events: list[AuditEvent], lines: Lines) -> None:
    """One line for each."""
    for event in events:
        error = event.error or event.reason
        words = f"{event.event_type:<14}  {event.outcome:<11}  {event.environment:<7}  {event.actor}  {event.id}"
        lines.note(printable(f"{event.timestamp}  {words}" + (f"  {error}" if error else "")))
    if not events:
        lines.note("Nothing is on the trail yet.")


def show_event(event: AuditEvent, lines: Lines) -> None:
    """One line for each thing that is known."""
    fields = msgspec.structs.asdict(event)
    rows = [(name, value) for name, value in {**fields, **event.metadata}.items() if name != "metadata"]
    for name, value in rows:
        for text in value if isinstance(value, list) else [value]:
            if text != "":
                lines.note(f"  {name:<14}  {printable(str(text))}")


def show_replay(found: Replay, lines: Lines) -> None:
    """One line for each run, and the first line that differs."""
    for run in found.runs:
        lines.note(f"{run.started_at}  {'identical' if run.identical else 'differs  '}  {_judged(run)}  {run.run}")
        if run.difference is not None:
            lines.note(f"  line {run.difference.line}")
            lines.list([f"  decided:  {printable(run.difference.recorded)}"])
            lines.list([f"  computed: {printable(run.difference.computed)}"])
        if run.note:
            lines.list([f"note: {run.note}"])


def _judged(run: RunReplay) -> str:
    verdict = f"{run.verdict or 'no verdict'}, " if run.identical else ""
    return f"{verdict}{run.decisions} decisions from {run.requests} requests"


def _split_words(split: str) -> str:
    return {"none": "where they always went", "plain": "the plain stack"}.get(split, split)


def _slot(slot: SlotStatus) -> tuple[str, ...]:
    containers = f"{slot.healthy} of {slot.containers} containers healthy" if slot.containers else "no containers"
    until = f", until {slot.until}" if slot.until else ""
    return slot.slot, f"{slot.percent:>3} %", slot.role, slot.release or "-", containers + until


def _run(run: RunStatus) -> str:
    error = f"  {run.error}" if run.error else ""
    took = f"  {run.duration_s:.1f} s" if run.duration_s else ""
    forced = "  migration override" if run.migration_override else ""
    return f"{run.started_at}  {run.kind:<8}  {run.outcome:<11}  {run.release}{took}{forced}{error}"
