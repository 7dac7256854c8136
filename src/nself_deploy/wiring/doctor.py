"""Opening a project for `doctor`: also one whose journal can't be read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from nself_deploy import wiring
from nself_deploy.adapters.journal import JOURNAL_FILE, Journal
from nself_deploy.adapters.leftover_files import LeftoverFiles
from nself_deploy.adapters.project_files import check_override, find_project_files
from nself_deploy.app.checkup import trouble_of
from nself_deploy.app.doctor import Patient
from nself_deploy.core.doctor_facts import Trouble
from nself_deploy.errors import StateFileError


class Leftovers(LeftoverFiles):
    """What is left in a project, and the file beside it that we generate."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._project = root

    def override(self, model: dict[str, Any]) -> tuple[str, bool]:
        """The generated override where it isn't this model, and whether it is missing; an empty path when it is."""
        return check_override(self._project, model, os.environ)


@contextlib.asynccontextmanager
async def open_patient(directory: str, *, write: bool) -> AsyncIterator[Patient]:
    """A project to look at, or to put right.

    Raises:
        ConfigError: something in its files is wrong, or `init` has not been run.
    """
    root = Path(find_project_files(directory, os.environ).root)
    trouble = None if write else _unreadable(root)
    # A journal without a file is an empty one: nothing is on record then, so nothing is taken for ours.
    store = Journal(root / JOURNAL_FILE, None, False, lambda: "", "") if trouble else None
    async with wiring.open_world(directory, {}, write=write, store=store) as opened:
        yield Patient(opened.world, Leftovers(root), opened.timing, trouble)


def _unreadable(root: Path) -> Trouble | None:
    """Why the journal can't be read; None when it can, or when there is none yet."""
    try:
        Journal.open(root, create=False).close()
    except StateFileError as error:
        return trouble_of(error)
    return None
