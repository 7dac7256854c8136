"""Opening a project to look at it: by our own records, so that its files need not be read, nor be right."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator

from nself_deploy import wiring
from nself_deploy.adapters.docker_client import DockerClient
from nself_deploy.adapters.docker_lock import DockerLock
from nself_deploy.adapters.docker_lock_volumes import LockVolumes
from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.system import LocalMachine
from nself_deploy.app.world import World
from nself_deploy.core.settings import resolve_settings
from nself_deploy.wiring.way_back import journal_root, known_project, small_world


@contextlib.asynccontextmanager
async def open_to_look(directory: str) -> AsyncIterator[World]:
    """The project as the last command that changed something knew it; before the first one, as its files say it.

    Raises:
        ConfigError: something in its files is wrong, and nothing was deployed yet.
        UsageError: a variable is wrong.
        StateFileError: the journal can't be read.
    """
    root = journal_root(directory)
    async with contextlib.AsyncExitStack() as later:
        if root is not None:
            store = later.enter_context(contextlib.closing(Journal.open(root, create=False)))
            known = known_project(store)
            if known is not None:
                settings = resolve_settings({}, os.environ)
                wiring.refuse_other_host(settings.target)
                engine = wiring.LazyEngine(settings.subnet_pool)
                later.push_async_callback(engine.close)
                client = DockerClient()
                later.push_async_callback(client.close)
                world = small_world(root, known, settings, store, engine)
                volumes = LockVolumes(client, known.project, settings.target)
                world.engine_lock = DockerLock(volumes, LocalMachine(), settings.target)
                yield world
                return
        opened = await later.enter_async_context(wiring.open_world(directory, {}, write=False))
        yield opened.world
