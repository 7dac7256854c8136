"""The library: the functions of the reference document, in Python.

A deploy that failed does not raise: its result says so. Wrong arguments do raise.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from nself_deploy.adapters.state_files import load_deploy_state, save_deploy_state
from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.document import Document
from nself_deploy.core.model import StepStatus, Strategy
from nself_deploy.core.rollback import RollbackUIState, ServiceRollback, checked
from nself_deploy.core.settings import KNOWN_TARGETS, TARGETS
from nself_deploy.core.state import DEPLOY_STATE_FILE, StrategyState
from nself_deploy.core.step_lines import StepLine
from nself_deploy.errors import NselfError, Parked, UsageError

__all__ = [
    "DEPLOY_STATE_FILE",
    "AuditEvent",
    "BlueGreenConfig",
    "BlueGreenResult",
    "CanaryConfig",
    "CanaryResult",
    "DeployStep",
    "RollbackConfig",
    "RollbackResult",
    "RollbackUIState",
    "StepStatus",
    "Strategy",
    "StrategyState",
    "execute_rollback",
    "load_deploy_state",
    "load_rollback_result",
    "run_blue_green",
    "run_canary",
    "save_deploy_state",
]

DeployStep = StepLine
"""One step of a deploy: `name`, `status`, `seconds`, `detail`."""


@dataclass(frozen=True)
class BlueGreenConfig:
    """The parameters of a blue-green deploy."""

    project_root: str | Path
    """The directory with the Compose file."""
    target: str = "local"
    """local, staging, prod. Calling this for prod is the yes that the command line asks for."""
    dry_run: bool = False
    """Give the steps without executing them."""
    health_timeout_sec: int = 0
    """Seconds; 0 means the default (30)."""
    force_migration: bool = False
    """Go on with a pending migration that the live release can't live with; that is an event of the audit trail."""


@dataclass(frozen=True)
class BlueGreenResult:
    """The outcome of a blue-green deploy."""

    success: bool
    steps: list[DeployStep] = field(default_factory=list)
    duration: timedelta = timedelta()
    rolled_back: bool = False
    """Traffic had been moved and was taken back."""
    error: str = ""


@dataclass(frozen=True)
class CanaryConfig:
    """The parameters of a canary deploy."""

    project_root: str | Path
    """The directory with the Compose file."""
    target: str = "local"
    """local, staging, prod. Calling this for prod is the yes that the command line asks for."""
    initial_percent: int = 0
    """The first share of the traffic, 1 to 99; 0 means the default (10). Then 50 and 100."""
    soak_minutes: float = 0
    """How long the first share is watched; 0 means the default (5)."""
    error_threshold_pct: float = 0
    """The error rate that is unacceptable in itself, in percent; 0 means the default (1.0)."""
    health_timeout_sec: int = 0
    """Seconds; 0 means the default (30)."""
    force_migration: bool = False
    """Go on with a pending migration that the live release can't live with; that is an event of the audit trail."""
    dry_run: bool = False
    """Give the steps without executing them."""


@dataclass(frozen=True)
class CanaryResult:
    """The outcome of a canary deploy. One that waits for a person has `parked` set, and no success."""

    success: bool
    steps: list[DeployStep] = field(default_factory=list)
    duration: timedelta = timedelta()
    final_percent: int = 0
    """The new version's share of the traffic: 100 on success, 0 when it was taken back."""
    rolled_back: bool = False
    """Traffic had been moved and was taken back."""
    error: str = ""
    parked: bool = False
    """It waits, and no pause of it has an end: `nself deploy resume`, `promote` or `abort` decide."""
    verdict: str | None = None
    """pass, fail, hold, invalid or inconclusive; None when nobody judged it."""


@dataclass(frozen=True)
class RollbackConfig:
    """The parameters of a rollback of one service."""

    service: str
    """The Compose service, such as `ping_api`."""
    deploy_key: str
    """What allows it; there are no anonymous rollbacks."""
    reason: str = ""
    """Why, for the audit trail: `slo-watcher: …`."""
    environment: str = "prod"
    """Where it was deployed to: local, staging, prod."""
    max_retries: int = 0
    """How often it is tried again after it failed; 0 means the default (1)."""
    project_root: str | Path = "."
    """The directory with the Compose file."""


@dataclass(frozen=True)
class RollbackResult:
    """The outcome of a rollback of one service."""

    success: bool
    service: str
    prior_version: str = ""
    """The release that was restored."""
    error: str = ""
    audit_event_id: str = ""
    duration: timedelta = timedelta()
    ui_state: RollbackUIState = RollbackUIState.ERROR


def execute_rollback(config: RollbackConfig) -> RollbackResult:
    """Roll one service back: check the key, find the version before, bring it live, prove it, write the audit event.

    Must not be called from a running event loop (use `asyncio.to_thread`).

    Raises:
        UsageError: wrong arguments: no such name of a service or environment, a number that is out of range; or it is
            called from an event loop.
    """
    _not_in_a_loop("execute_rollback")
    request = checked(config.service, _environment(config.environment), config.reason, config.max_retries)
    from nself_deploy import wiring
    from nself_deploy.wiring.service_rollback import Told, execute, hear

    outcome = asyncio.run(execute(str(config.project_root), request, config.deploy_key, Told()))
    if outcome.result is not None and outcome.state.ui_state is RollbackUIState.POPULATED:
        wiring.schedule_expiry(outcome.result.plan, outcome.root)
    hear(outcome)
    return _result(outcome.state)


def load_rollback_result(project_root: str | Path, service: str, environment: str = "prod") -> RollbackResult | None:
    """How the last rollback of a service stands, also while it runs in another process; None when there was none.

    Raises:
        UsageError: wrong arguments.
        NselfError: it can't be read.
    """
    from nself_deploy.wiring.service_rollback import read_state

    found = read_state(str(project_root), checked(service, _environment(environment), "", 0))
    return _result(found) if found else None


def _result(state: ServiceRollback) -> RollbackResult:
    return RollbackResult(
        state.ui_state is RollbackUIState.POPULATED,
        state.service,
        state.prior_version,
        state.error,
        state.audit_event_id,
        timedelta(milliseconds=state.duration_ms),
        state.ui_state,
    )


def _environment(name: str) -> str:
    known = TARGETS.get(name, name) or "prod"
    if known not in KNOWN_TARGETS:
        raise UsageError(f"There is no environment {name!r}.", f"Environments: {', '.join(KNOWN_TARGETS)}.")
    return known


def _not_in_a_loop(caller: str) -> None:
    with contextlib.suppress(RuntimeError):  # "no running event loop", as it should be
        asyncio.get_running_loop()
        raise UsageError(f"{caller} was called from a running event loop.", "Call it with asyncio.to_thread.")


def run_blue_green(config: BlueGreenConfig) -> BlueGreenResult:
    """Deploy blue-green: start the idle slot, prove it, move all traffic, prove it again, drain and retire the old one.

    Must not be called from a running event loop (use `asyncio.to_thread`).

    Raises:
        UsageError: wrong arguments: a time-out that is out of range, no such target, no such
            directory; or it is called from an event loop.
    """
    flags = _flags(config, Strategy.BLUE_GREEN, "run_blue_green")
    duration, document = _timed(config, flags)
    return BlueGreenResult(document.success, list(document.steps), duration, document.rolled_back, document.error)


def run_canary(config: CanaryConfig) -> CanaryResult:
    """Deploy a canary: prove it, give it more and more of the traffic while users' requests are judged, then all of it.

    It is taken back when it is worse than the live release, and parked when only a person can decide. While it makes a
    pause that has an end (`pause_expiry` of the project, or `nself deploy pause --for 30m`), this waits, without the
    lock, until somebody decides or the time is over, does what is to be done then, and returns how that went.

    Must not be called from a running event loop (use `asyncio.to_thread`).

    Raises:
        UsageError: wrong arguments: a number that is out of range, no such target, no such
            directory; or it is called from an event loop.
    """
    flags = _flags(config, Strategy.CANARY, "run_canary")
    for setting, value in (
        ("initial_percent", config.initial_percent),
        ("soak_minutes", config.soak_minutes),
        ("error_threshold_pct", config.error_threshold_pct),
    ):
        if value:
            flags[setting] = value
    _check(flags)
    duration, document = _timed(config, flags)
    return CanaryResult(
        document.success,
        list(document.steps),
        duration,
        document.final_percent,
        document.rolled_back,
        document.error,
        document.parked,
        document.verdict,
    )


class _Outcome(Document, frozen=True, kw_only=True):
    """A document, and whether it is that of a run that waits."""

    parked: bool = False


def _timed(config: BlueGreenConfig | CanaryConfig, flags: dict[str, object]) -> tuple[timedelta, _Outcome]:
    """How long it took, and how it ended; what failed before a run began has a document of its own."""
    from nself_deploy import wiring

    clock = wiring.clock()
    start = clock.monotonic()
    try:
        document = asyncio.run(_deploy(config, flags))
    except NselfError as failure:
        parked = isinstance(failure, Parked)
        words = str(failure)
        target, strategy = str(flags["target"]), str(flags["strategy"])
        document = _Outcome(
            target,
            strategy,
            "",
            "",
            (),
            0,
            success=False,
            rolled_back=False,
            final_percent=0,
            error=words,
            parked=parked,
        )
    return timedelta(seconds=clock.monotonic() - start), document


def _flags(config: BlueGreenConfig | CanaryConfig, strategy: Strategy, caller: str) -> dict[str, object]:
    """The arguments as settings; UsageError for one that can't be."""
    _not_in_a_loop(caller)
    if not Path(config.project_root).is_dir():
        raise UsageError(f"project_root is no directory: {config.project_root}", "Name the one with the Compose file.")
    if config.health_timeout_sec < 0:
        raise UsageError(f"health_timeout_sec is {config.health_timeout_sec}.", "Give seconds, or 0 for the default.")
    flags: dict[str, object] = {"target": config.target, "strategy": strategy.value}
    if config.health_timeout_sec:
        flags["health_timeout_s"] = config.health_timeout_sec
    _check(flags)
    return flags


def _check(flags: dict[str, object]) -> None:
    from nself_deploy import wiring

    target = wiring.check_flags(flags).target
    if target not in KNOWN_TARGETS:
        raise UsageError(f"There is no target {target!r}.", f"Targets: {', '.join(KNOWN_TARGETS)}.")


async def _deploy(config: BlueGreenConfig | CanaryConfig, flags: dict[str, object]) -> _Outcome:
    from nself_deploy import wiring
    from nself_deploy.app import deploy
    from nself_deploy.app.locking import held
    from nself_deploy.app.planning import preview
    from nself_deploy.app.waiting import waited
    from nself_deploy.core.document import run_document, unchanged_document
    from nself_deploy.core.plan_document import plan_document

    async with wiring.open_world(str(config.project_root), flags, write=not config.dry_run) as opened:
        world, wanted = opened.world, opened.wanted(force_migration=config.force_migration)
        if config.dry_run:
            plan = await preview(world, wanted)
            return _outcome(plan_document(plan, world.project, ()))
        target, stop = opened.settings.target, asyncio.Event()
        async with held(world, f"deploy ({target})", target, stop):
            result = await deploy.deploy(world, wanted, stop, lambda plan: None)
        result = await waited(world, result, target, stop)
    if result.run is None:
        return _outcome(unchanged_document(result.plan, result.before))
    document = run_document(result.run, result.before)
    if document.success:
        wiring.schedule_expiry(result.plan, str(world.root))
    return _outcome(document, parked=result.run.waits)


def _outcome(document: Document, *, parked: bool = False) -> _Outcome:
    fields = {name: getattr(document, name) for name in Document.__struct_fields__}
    return _Outcome(**fields, parked=parked)
