"""The only place that builds adapters: from a directory and flags to a `World` that a use case can work with.

Heavy adapters are imported when they are first needed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nself_deploy.adapters.durable_files import write_atomic
from nself_deploy.adapters.journal import JOURNAL_FILE, Journal
from nself_deploy.adapters.lock import FileLock
from nself_deploy.adapters.state_files import StateFiles
from nself_deploy.adapters.system import (
    LocalMachine,
    SystemClock,
    boot_id,
    git_info,
    host_name,
    is_gone,
    lock_owner,
    moment,
    user_name,
)
from nself_deploy.app.world import World
from nself_deploy.core.effects import KeepWarm
from nself_deploy.core.model import Project, Slot
from nself_deploy.core.plan import Kind, Plan, Timing
from nself_deploy.core.retention import KEEP
from nself_deploy.core.settings import Settings, resolve_settings
from nself_deploy.errors import ConfigError, NselfError, UsageError

if TYPE_CHECKING:
    from nself_deploy.adapters.docker_client import DockerClient
    from nself_deploy.adapters.judge_record import RecordFiles
    from nself_deploy.app.planning import Wanted
    from nself_deploy.app.ports import Clock, Engine, Metrics
    from nself_deploy.core.machine import Run
    from nself_deploy.core.plan_canary import Canary
    from nself_deploy.wiring.reading import Read

SINKS_NAME = "audit-sinks.json"
"""Beside the journal: where its audit trail is delivered to."""


@dataclass
class Opened:
    """A project that was opened."""

    world: World
    settings: Settings
    canary: Canary
    """What a canary is asked for."""

    @property
    def timing(self) -> Timing:
        """The limits of a run."""
        return timing_of(self.settings)

    def wanted(self, *, keep_failed: bool = False, force_migration: bool = False) -> Wanted:
        """How a release takes over."""
        from nself_deploy.app.planning import Wanted

        canary = msgspec.structs.replace(self.canary, keep_failed=keep_failed)
        return Wanted(self.settings.strategy, self.timing, self.settings.target, canary, force_migration)


class Files:
    """The files of ours in a project."""

    def __init__(self, root: Path) -> None:
        from nself_deploy.adapters.release_files import ReleaseFiles

        self._root = root
        self._releases = ReleaseFiles(root)

    def write_slot(self, release_id: str, slot: Slot, model: dict[str, Any]) -> str:
        """A slot's compiled Compose file; its path."""
        return self._releases.write_slot(release_id, slot, model)

    def slot_file(self, release_id: str, slot: Slot) -> str:
        """Where it is, or would be."""
        return self._releases.slot_file(release_id, slot)

    def forget_release(self, release_id: str) -> None:
        """Remove what was written for a release."""
        self._releases.forget_release(release_id)

    def write_override(self, model: dict[str, Any]) -> str:
        """The generated override; its path."""
        from nself_deploy.adapters.project_files import write_override

        return str(write_override(self._root, model, os.environ))

    def override_files(self) -> tuple[str, ...]:
        """The generated override, if it has been written."""
        from nself_deploy.adapters.project_files import find_project_files

        override = find_project_files(self._root, os.environ).override
        return (override,) if override else ()

    def file_hashes(self, project: Project) -> dict[str, str]:
        """sha256 of the files that the release reads."""
        return self._releases.file_hashes(project)


class LazyEngine:
    """The container engine, made at the first question: what needs none does not pay for its import."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._engine: Engine | None = None

    def get(self) -> Engine:
        """The engine's adapter."""
        if self._engine is None:
            from nself_deploy.adapters.docker_engine import DockerEngine

            self._engine = DockerEngine(pool=self._pool)
        return self._engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.get(), name)

    async def close(self) -> None:
        """Let go of connections, if there are any."""
        if self._engine is not None:
            await self._engine.close()


def timing_of(settings: Settings) -> Timing:
    """The limits of a run."""
    return Timing(
        health_timeout_s=settings.health_timeout_s,
        min_uptime_s=settings.min_uptime_s,
        drain_s=settings.drain_s,
        standby_s=settings.standby_s,
        bake_s=settings.bake_s,
    )


def clock() -> Clock:
    """Time."""
    return SystemClock()


def check_flags(flags: Mapping[str, object]) -> Settings:
    """The settings as flags and environment alone have them; UsageError for one that can't be."""
    return resolve_settings(flags, os.environ)


def open_store(directory: str) -> Journal:
    """The journal of a project, to read."""
    return Journal.open(project_root(directory), create=False)


def project_root(directory: str) -> Path:
    """The project's directory; one with a journal needs no Compose file, so that its records can be read at any time.

    Raises:
        ConfigError: there is no project.
    """
    root = Path(os.path.abspath(directory))
    if directory and (root / JOURNAL_FILE).is_file():
        return root
    from nself_deploy.adapters.project_files import find_project_files

    return Path(find_project_files(directory, os.environ).root)


def open_journal(root: str | os.PathLike[str]) -> Journal:
    """The journal of a project, to write. What it adds to the audit trail is delivered after it was closed.

    Raises:
        NselfError: see `Journal.open`.
    """
    journal = Journal.open(root, actor=actor())
    journal.at_end, journal.at_run = _deliver, _settle
    return journal


def _settle(journal: Journal, run: Run) -> None:
    if run.ended and run.plan.kind is Kind.ROLLBACK:
        from nself_deploy.app.rollback_end import settle  # users don't wait for it

        settle(journal, run, moment())


def _deliver(journal: Journal) -> None:
    if os.path.exists(journal.path.with_name(SINKS_NAME)):  # most projects have none, and need no more than this
        from nself_deploy.wiring.delivery import start_if_something_waits

        start_if_something_waits(journal)


def judge_records(directory: str) -> RecordFiles:
    """The records of a project's judges."""
    from nself_deploy.adapters.judge_record import RecordFiles

    return RecordFiles(project_root(directory))


@contextlib.asynccontextmanager
async def open_world(
    directory: str, flags: Mapping[str, object], *, write: bool, store: Journal | None = None
) -> AsyncIterator[Opened]:
    """Open a project that has a router and routes; `store` takes the place of its journal.

    Raises:
        ConfigError: something in its files is wrong, or `init` has not been run.
    """
    from nself_deploy.adapters.docker_client import DockerClient
    from nself_deploy.core.canary_settings import canary_of
    from nself_deploy.wiring.reading import read
    from nself_deploy.wiring.router import open_router

    source = await read(directory, flags)
    settings = source.settings
    refuse_other_host(settings.target)
    canary = canary_of(settings, source.extension.project.analysis)
    engine = LazyEngine(settings.subnet_pool)
    root = Path(source.found.root)
    routed = await open_router(source, engine, settings)
    if not routed.project.routes:
        raise ConfigError(
            "Nothing is routed to a service of this project yet.",
            "Run nself deploy init, which says what is missing.",
            where=source.locate(()),
        )
    opened = store or (open_journal(root) if write else Journal.open(root, create=False))
    with contextlib.closing(opened) as journal:
        if write:
            _remember(journal, source, routed.project)
        client = DockerClient()
        try:
            yield Opened(await _world(root, source, engine, routed, journal, client), settings, canary)
        finally:
            await client.close()
            await engine.close()


def refuse_other_host(target: str) -> None:
    """UsageError when the environment names another host for a target."""
    if target != "local" and os.environ.get(f"NSELF_DEPLOY_HOST_{target.upper()}"):
        raise UsageError(
            f"NSELF_DEPLOY_HOST_{target.upper()} names another host; this version deploys to the engine "
            "that the docker command uses.",
            "Set DOCKER_HOST, or unset the variable.",
        )


def actor() -> str:
    """Who acts, for the audit trail."""
    return f"{user_name()}@{host_name()}"


def _remember(journal: Journal, source: Read, project: Project) -> None:
    """Keep what a rollback needs to know of the project's files."""
    from nself_deploy.app.alerts import keep_rules
    from nself_deploy.core import alerts
    from nself_deploy.core.breaker_settings import rules_of
    from nself_deploy.core.remembered import KEY, remembered

    assert project.router is not None
    known = remembered(project.name, project.router, resolve_settings({}, {}, source.extension.project))
    text = msgspec.json.encode(known).decode()
    if journal.meta(KEY) != text:
        journal.set_meta(KEY, text)
    journal.guards.keep_rules(rules_of(source.extension.project.breaker))
    keep_rules(journal, alerts.rules_of(source.extension.project.alerts))


async def _world(root: Path, source: Read, engine: Any, routed: Any, journal: Journal, client: DockerClient) -> World:
    from nself_deploy.adapters.compose import DockerCompose
    from nself_deploy.adapters.docker_lock import DockerLock
    from nself_deploy.adapters.docker_lock_volumes import LockVolumes
    from nself_deploy.adapters.judge_record import RecordFiles
    from nself_deploy.adapters.probe import HttpProber
    from nself_deploy.core.slo_check import objectives_of
    from nself_deploy.wiring.logs import recent_log, request_logs
    from nself_deploy.wiring.migrations import migrations_of

    target = source.settings.target
    return World(
        root=root,
        engine=engine,
        compose=DockerCompose(),
        router=routed.router,
        prober=HttpProber(),
        store=journal,
        states=StateFiles(root),
        files=Files(root),
        lock=FileLock(root, target, lock_owner, is_gone),
        engine_lock=DockerLock(LockVolumes(client, routed.project.name, target), LocalMachine(), target),
        clock=SystemClock(),
        project=routed.project,
        tree=routed.tree,
        user=user_name(),
        git=await git_info(root),
        host=host_name(),
        settings=source.settings.listing(),
        request_log=request_logs(root),
        recent_log=recent_log(root),
        boot=boot_id(),
        metrics=_metrics(source, root),
        judge_records=RecordFiles(root),
        objectives=objectives_of(source.extension.project.slo),
        keep_releases=source.extension.project.keep_releases or KEEP,
        migrations=migrations_of(root, source.extension.project.migrations),
    )


def _metrics(source: Read, root: Path) -> Metrics | None:
    """Who answers the queries of metrics, if somebody is named."""
    keys = source.extension.project.analysis
    if keys is None or keys.prometheus is None:
        return None
    from nself_deploy.adapters.prometheus import PrometheusMetrics

    return PrometheusMetrics(keys.prometheus, str(root))


def keep_traceback(directory: str, text: str) -> str:
    """Write a traceback into the project's private directory, over the last one; its path, empty if it can't be."""
    path = Path(directory, ".nself", "traceback.txt")
    try:
        if path.parent.is_dir():
            write_atomic(path, text.encode(errors="backslashreplace"))
            return str(path)
    except (NselfError, OSError):
        return ""  # the bug is what has to be told, not this
    return ""


def spawn_detached(args: list[str]) -> None:
    """Start our own program in the background, without a terminal, and let it go; it outlives this process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nself_deploy.cli.main", *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        close_fds=True,
        cwd="/",
    )
    # A program that uses us as a library may outlive it: then somebody has to take its exit status.
    threading.Thread(target=process.wait, name="nself-standby", daemon=True).start()


def schedule_expiry(plan: Plan, root: str) -> None:
    """A small process of its own removes the standby when its time is over (else the next command does)."""
    for effect in _standbys(plan):
        spawn_detached(["deploy", "expire-standby", f"{effect.seconds + 1:g}", "-C", root])


def _standbys(plan: Plan) -> Iterator[KeepWarm]:
    return (step.effect for step in plan.steps if isinstance(step.effect, KeepWarm))
