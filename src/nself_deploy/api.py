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
from nself_deploy.core.document import StepLine
from nself_deploy.core.model import StepStatus, Strategy
from nself_deploy.core.settings import KNOWN_TARGETS
from nself_deploy.core.state import DEPLOY_STATE_FILE, StrategyState
from nself_deploy.errors import NselfError, UsageError

__all__ = [
    "DEPLOY_STATE_FILE",
    "BlueGreenConfig",
    "BlueGreenResult",
    "DeployStep",
    "StepStatus",
    "Strategy",
    "StrategyState",
    "load_deploy_state",
    "run_blue_green",
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
    """Go on with a pending migration that the live release can't live with. Reserved: nothing is refused for it yet."""


@dataclass(frozen=True)
class BlueGreenResult:
    """The outcome of a blue-green deploy."""

    success: bool
    steps: list[DeployStep] = field(default_factory=list)
    duration: timedelta = timedelta()
    rolled_back: bool = False
    """Traffic had been moved and was taken back."""
    error: str = ""


def run_blue_green(config: BlueGreenConfig) -> BlueGreenResult:
    """Deploy blue-green: start the idle slot, prove it, move all traffic, prove it again, drain and retire the old one.

    Must not be called from a running event loop (use `asyncio.to_thread`).

    Raises:
        UsageError: wrong arguments: a time-out that is out of range, no such target, no such
            directory; or it is called from an event loop.
    """
    from nself_deploy import wiring

    flags = _flags(config)
    clock = wiring.clock()
    start = clock.monotonic()
    try:
        steps, error, rolled_back = asyncio.run(_deploy(config, flags))
    except NselfError as failure:
        return BlueGreenResult(False, [], timedelta(seconds=clock.monotonic() - start), False, str(failure))
    return BlueGreenResult(not error, steps, timedelta(seconds=clock.monotonic() - start), rolled_back, error)


def _flags(config: BlueGreenConfig) -> dict[str, object]:
    """The arguments as settings; UsageError for one that can't be."""
    from nself_deploy import wiring

    with contextlib.suppress(RuntimeError):  # "no running event loop", as it should be
        asyncio.get_running_loop()
        raise UsageError("run_blue_green was called from a running event loop.", "Call it with asyncio.to_thread.")
    if not Path(config.project_root).is_dir():
        raise UsageError(f"project_root is no directory: {config.project_root}", "Name the one with the Compose file.")
    if config.health_timeout_sec < 0:
        raise UsageError(f"health_timeout_sec is {config.health_timeout_sec}.", "Give seconds, or 0 for the default.")
    flags: dict[str, object] = {"target": config.target, "strategy": Strategy.BLUE_GREEN.value}
    if config.health_timeout_sec:
        flags["health_timeout_s"] = config.health_timeout_sec
    target = wiring.check_flags(flags).target
    if target not in KNOWN_TARGETS:
        raise UsageError(f"There is no target {target!r}.", f"Targets: {', '.join(KNOWN_TARGETS)}.")
    return flags


async def _deploy(config: BlueGreenConfig, flags: dict[str, object]) -> tuple[list[DeployStep], str, bool]:
    from nself_deploy import wiring
    from nself_deploy.app import deploy
    from nself_deploy.app.locking import held
    from nself_deploy.app.planning import preview
    from nself_deploy.core.document import plan_document, run_document, unchanged_document

    async with wiring.open_world(str(config.project_root), flags, write=not config.dry_run) as opened:
        world, timing = opened.world, opened.timing
        if config.dry_run:
            plan = await preview(world, timing, opened.settings.target)
            return list(plan_document(plan, world.project, ()).steps), "", False
        target, stop = opened.settings.target, asyncio.Event()
        async with held(world, f"deploy ({target})", target, stop):
            result = await deploy.deploy(world, timing, target, stop, lambda plan: None)
    if result.run is None:
        return list(unchanged_document(result.plan, result.before).steps), "", False
    document = run_document(result.run, result.before)
    if document.success:
        wiring.schedule_expiry(result.plan, str(world.root))
    return list(document.steps), document.error, document.rolled_back
