"""The one JSON document that every strategy prints (spec: command line), and its lines."""

from __future__ import annotations

import msgspec

from nself_deploy.core.effects import Bake, Judge
from nself_deploy.core.evidence import Verdict
from nself_deploy.core.machine import Outcome, Run
from nself_deploy.core.model import StepStatus
from nself_deploy.core.plan import Plan
from nself_deploy.core.step_lines import StepLine, step_line
from nself_deploy.errors import Exit


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


def run_document(run: Run, before: tuple[StepLine, ...] = (), duration_ms: int = 0) -> Document:
    """The document of a run; `before` are steps from before the plan (building images)."""
    plan, success = run.plan, run.outcome is Outcome.DONE or run.left
    return Document(
        target=plan.target,
        strategy=plan.strategy.value,
        release=plan.release,
        previous_release=plan.previous_release,
        steps=(*before, *(step_line(s) for s in run.steps)),
        duration_ms=duration_ms,
        success=success,
        rolled_back=run.rolled_back,
        final_percent=run.percent if run.ended or run.waits or run.left else 0,
        error="" if success else _error(run),
        verdict=_verdict(run),
    )


def _error(run: Run) -> str:
    if run.parking is not None:
        return run.parking.reason
    return "" if run.failure is None else run.failure.message


def _verdict(run: Run) -> str | None:
    """What the candidate's judge said last; None when nobody judged it."""
    if run.parking is not None:
        return run.parking.verdict or Verdict.INCONCLUSIVE.value
    states = {state.key: state for state in run.steps}
    judged = [states[step.key] for step in run.plan.steps if isinstance(step.effect, Judge | Bake)]
    if any(state.status is StepStatus.UNHEALTHY for state in judged):
        return Verdict.FAIL.value
    words = [state.detail.partition(":")[0] for state in judged if state.status is StepStatus.DONE]
    return next((word for word in reversed(words) if word in set(Verdict)), None)


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


def answer_document(run: Run, line: StepLine) -> Document:
    """The document of a command that asked something of a run; its only step is the answer."""
    found = run_document(run)
    done = line.status is StepStatus.DONE
    return msgspec.structs.replace(found, steps=(line,), success=done, error="" if done else line.detail)


def exit_status(run: Run) -> Exit:
    """The exit status of a finished (or stuck) run."""
    if run.waits:
        return Exit.PARKED
    if run.outcome is Outcome.DONE or run.left:
        return Exit.OK
    if run.outcome is Outcome.INTERRUPTED:
        return Exit.INTERRUPTED
    return Exit(run.failure.exit_status) if run.failure else Exit.FAILED
