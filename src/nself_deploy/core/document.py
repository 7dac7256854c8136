"""The one JSON document that every strategy prints (spec: command line), and its lines."""

from __future__ import annotations

import msgspec

from nself_deploy.core.machine import Outcome, Run, StepState
from nself_deploy.core.model import Project, StepStatus
from nself_deploy.core.plan import Plan
from nself_deploy.errors import Exit


class StepLine(msgspec.Struct, frozen=True):
    """A step as people and programs see it."""

    name: str
    status: StepStatus
    seconds: float = 0.0
    detail: str = ""


class ServiceLine(msgspec.Struct, frozen=True):
    """A service in a plan."""

    name: str
    role: str
    reason: str


class SettingLine(msgspec.Struct, frozen=True):
    """A setting with the place it came from."""

    name: str
    value: object
    origin: str


class Document(msgspec.Struct, frozen=True):
    """The result of a deploy or rollback."""

    target: str
    strategy: str
    release: str
    previous_release: str
    steps: tuple[StepLine, ...]
    duration_ms: int
    success: bool
    rolled_back: bool
    final_percent: int
    error: str
    verdict: str | None = None


class PlanDocument(Document, frozen=True, kw_only=True):
    """The same with the steps pending, and what was inferred."""

    services: tuple[ServiceLine, ...] = ()
    routes: tuple[dict[str, object], ...] = ()
    changes: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    settings: tuple[SettingLine, ...] = ()


def step_line(state: StepState) -> StepLine:
    """One line of a run."""
    return StepLine(state.name, state.status, state.seconds, state.detail)


def run_document(run: Run, before: tuple[StepLine, ...] = (), duration_ms: int = 0) -> Document:
    """The document of a run; `before` are steps from before the plan (building images)."""
    plan, success = run.plan, run.outcome is Outcome.DONE
    return Document(
        target=plan.target,
        strategy=plan.strategy.value,
        release=plan.release,
        previous_release=plan.previous_release,
        steps=(*before, *(step_line(s) for s in run.steps)),
        duration_ms=duration_ms,
        success=success,
        rolled_back=run.rolled_back,
        final_percent=100 if success and plan.candidate else 0,
        error="" if success or run.failure is None else run.failure.message,
    )


def unchanged_step(plan: Plan, seconds: float = 0.0) -> StepLine:
    """The only step of a deploy that finds nothing to do."""
    words = f"release {plan.release} is live already: the same images and configuration"
    return StepLine("Unchanged", StepStatus.DONE, seconds, words)


def unchanged_document(plan: Plan, steps: tuple[StepLine, ...] = (), duration_ms: int = 0) -> Document:
    """The document of a plan with nothing to do; `steps` are what was said about it."""
    return Document(
        plan.target,
        plan.strategy.value,
        plan.release,
        plan.previous_release,
        steps or (unchanged_step(plan),),
        duration_ms,
        success=True,
        rolled_back=False,
        final_percent=100,
        error="",
    )


def nothing_document(target: str = "local", strategy: str = "") -> Document:
    """The document of a command that found nothing under way."""
    line = StepLine("Nothing to do", StepStatus.DONE, 0.0, "no deploy was interrupted")
    return Document(target, strategy, "", "", (line,), 0, success=True, rolled_back=False, final_percent=0, error="")


def plan_document(plan: Plan, project: Project, settings: tuple[SettingLine, ...]) -> PlanDocument:
    """What `plan --json` prints."""
    return PlanDocument(
        target=plan.target,
        strategy=plan.strategy.value,
        release=plan.release,
        previous_release=plan.previous_release,
        steps=tuple(StepLine(s.name, StepStatus.PENDING) for s in plan.steps),
        duration_ms=0,
        success=True,
        rolled_back=False,
        final_percent=100 if plan.candidate or plan.unchanged else 0,
        error="",
        services=tuple(ServiceLine(s.name, s.role.value, s.reason) for _, s in sorted(project.services.items())),
        routes=tuple(
            {"key": r.key, "service": r.service, "port": r.port, "protocol": r.protocol.value, "source": r.source}
            for r in project.routes
        ),
        changes=tuple({"sign": c.sign, "what": c.what, "reason": c.reason} for c in plan.changes),
        warnings=plan.warnings,
        settings=settings,
    )


def exit_status(run: Run) -> Exit:
    """The exit status of a finished (or stuck) run."""
    if run.outcome is Outcome.DONE:
        return Exit.OK
    if run.outcome is Outcome.INTERRUPTED:
        return Exit.INTERRUPTED
    return Exit(run.failure.exit_status) if run.failure else Exit.FAILED
