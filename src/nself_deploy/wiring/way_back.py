"""Opening what a way back to a warm release needs until users are back: the journal, our files, nginx's address."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from nself_deploy import wiring
from nself_deploy.adapters.journal import JOURNAL_FILE, Journal
from nself_deploy.adapters.lock import FileLock
from nself_deploy.adapters.nginx import NginxRouter
from nself_deploy.adapters.state_files import StateFiles
from nself_deploy.adapters.system import SystemClock, host_name, is_gone, lock_owner, user_name
from nself_deploy.app.locking import OnEngine
from nself_deploy.app.world import World
from nself_deploy.core.model import Project, RouterRef
from nself_deploy.core.remembered import KEY, Remembered, recall
from nself_deploy.core.settings import Settings, resolve_settings
from nself_deploy.core.slot_records import standby_slot
from nself_deploy.errors import ConfigError, StateFileError

_PARTS = ("engine", "compose", "router", "prober", "files", "project", "tree", "git", "request_log")
"""What the whole world has and the small one lacks."""


@dataclass
class Ajar:
    """A project that was opened as far as a way back needs it."""

    world: World
    settings: Settings
    directory: str
    flags: Mapping[str, object]
    _later: contextlib.AsyncExitStack
    _whole: wiring.Opened | None = None

    async def complete(self, on_engine: OnEngine) -> None:
        """Open the rest, and take the lock on the engine.

        Raises:
            NselfError: it can't be opened.
        """
        if self._whole is None:
            assert isinstance(self.world.store, Journal)
            opening = wiring.open_world(self.directory, self.flags, write=True, store=self.world.store)
            self._whole = await self._later.enter_async_context(opening)
        found = self._whole.world
        if found.project.name != self.world.project.name:
            raise ConfigError(
                f"The project is called {found.project.name} now; what runs was deployed as {self.world.project.name}.",
                "Give it that name again (COMPOSE_PROJECT_NAME).",
            )
        for part in _PARTS:
            setattr(self.world, part, getattr(found, part))
        await on_engine(found.engine_lock)


@contextlib.asynccontextmanager
async def open_way_back(directory: str, flags: Mapping[str, object]) -> AsyncIterator[Ajar | None]:
    """Open it, or give None when our records don't say that a release is warm.

    Raises:
        UsageError: a flag or variable is wrong.
        StateFileError: the journal can't be read.
    """
    settings, root = resolve_settings(flags, os.environ), journal_root(directory)
    wiring.refuse_other_host(settings.target)
    if root is None:
        yield None
        return
    async with contextlib.AsyncExitStack() as later:
        store = later.enter_context(contextlib.closing(wiring.open_journal(root)))
        known = known_project(store) if standby_slot(store.slots()) is not None else None
        if known is None:
            yield None
            return
        settings = recall(settings, known)
        engine = wiring.LazyEngine(settings.subnet_pool)
        later.push_async_callback(engine.close)
        yield Ajar(small_world(root, known, settings, store, engine), settings, directory, flags, later)


def deployed_to(directory: str) -> str | None:
    """The environment of the last deploy that was done, which a rollback without a target is for; None without one.

    Raises:
        StateFileError: the journal can't be read.
    """
    try:
        root = wiring.project_root(directory)
    except ConfigError:
        return None  # which is said better by who needs the files
    with contextlib.closing(Journal.open(root, create=False)) as store:
        return store.last_target()


def journal_root(directory: str) -> Path | None:
    """The project's directory, if there is a journal in it."""
    root = Path(os.path.abspath(directory))
    return root if directory and (root / JOURNAL_FILE).is_file() else None


def known_project(store: Journal) -> Remembered | None:
    """What is kept of the project's files; None when nothing is, or a variable gives it another name now.

    Raises:
        StateFileError: it can't be read.
    """
    text = store.meta(KEY)
    if not text:
        return None
    try:
        known = msgspec.json.decode(text, type=Remembered)
    except msgspec.MsgspecError as error:
        raise StateFileError(f"what is kept of the project can't be read: {error}.", where=JOURNAL_FILE) from error
    name = os.environ.get("COMPOSE_PROJECT_NAME", "")
    return known if name in ("", known.project) else None


def small_world(root: Path, known: Remembered, settings: Settings, store: Journal, engine: Any) -> World:
    """A world of our records and files, nginx's address and the engine; what else is asked for is a bug."""
    later: Any = _Later()
    return World(
        root=root,
        engine=engine,
        compose=later,
        router=NginxRouter(root / ".nself/router", known.router, known.project, engine.get),
        prober=later,
        store=store,
        states=StateFiles(root),
        files=later,
        lock=FileLock(root, settings.target, lock_owner, is_gone),
        clock=SystemClock(),
        project=_project(root, known, store),
        tree=later,
        user=user_name(),
        git=("", False),
        host=host_name(),
    )


def _project(root: Path, known: Remembered, store: Journal) -> Project:
    """As much of it as is on record: the services of the two releases that are in the slots."""
    found = [store.release(record.release) for record in store.slots().values() if record.release]
    services = {name: service for release in found if release for name, service in release.services.items()}
    routes = tuple(sorted({route for release in found if release for route in release.routes}))
    router: RouterRef = known.router
    return Project(known.project, str(root), (), services, {}, {}, {}, {}, router, routes)


class _Later:
    """Stands in the place of what is opened only after users are back."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(f"{name} was asked for, and the project's files were not read")
