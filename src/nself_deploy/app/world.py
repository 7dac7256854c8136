"""What a use case works with: the adapters behind their ports, and what it is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nself_deploy.core.retention import KEEP
from nself_deploy.core.step_lines import StepLine

if TYPE_CHECKING:  # a way back to a warm release needs few of them
    from nself_deploy.app.ports import (
        Clock,
        Compose,
        Engine,
        EngineLock,
        JudgeRecords,
        Lock,
        Metrics,
        Prober,
        RequestLogs,
        Router,
    )
    from nself_deploy.app.stores import Files, States, Store
    from nself_deploy.core.migration import Migrations
    from nself_deploy.core.model import Project, Setting
    from nself_deploy.core.routing import TreeSpec
    from nself_deploy.core.slo import Objective


async def nothing() -> None:
    """Nothing has to be made sure of."""


async def no_migrations() -> Migrations | None:
    """None are configured."""
    return None


ReadMigrations = Callable[[], "Awaitable[Migrations | None]"]
"""All migrations with what is dangerous in them; None when none are configured. Raises NselfError."""

Watcher = Callable[[StepLine], None]
"""Told of every change of a step, for live progress."""


@dataclass
class World:
    """One project, and everything outside that a use case may touch."""

    root: Path
    engine: Engine
    compose: Compose
    router: Router
    prober: Prober
    store: Store
    states: States
    files: Files
    lock: Lock
    clock: Clock
    project: Project
    tree: Callable[[], Awaitable[TreeSpec]]
    """What the router's files need beside the upstreams; makes the secret at the first call."""
    user: str
    git: tuple[str, bool]
    host: str = ""
    """This machine's name."""
    settings: tuple[Setting, ...] = ()
    """What this command works with."""
    watcher: Watcher = field(default=lambda line: None)
    progress: Callable[[str], None] = field(default=lambda line: None)
    note: Callable[[str], None] = field(default=lambda line: None)
    """Told what a person has to know beside the steps."""
    engine_lock: EngineLock | None = None
    """None where nobody else can use the engine."""
    request_log: RequestLogs | None = None
    """None where no canary is judged."""
    recent_log: Callable[[int], bytes] = field(default=lambda limit: b"")
    """Whole lines from the end of the router's access log, up to so many bytes; nothing where none was kept."""
    boot: str = ""
    """A word for this boot of the machine, empty where it has none."""
    metrics: Metrics | None = None
    """Who answers the queries of metrics; None when nobody is named."""
    judge_records: JudgeRecords | None = None
    """None where nobody wants to replay verdicts."""
    objectives: tuple[Objective, ...] = ()
    """Service level objectives of the project's file."""
    keep_releases: int = KEEP
    """How many releases are kept."""
    migrations: ReadMigrations = field(default=no_migrations)
    """The migrations of the project as they are now."""
    still_ours: Callable[[], Awaitable[None]] = field(default=nothing)
    """Raises Locked when the lock was lost; called around every effect."""
