"""The JSON state files of a project, on disk."""

from __future__ import annotations

import os
import re
from pathlib import Path

from nself_deploy.adapters.durable_files import ensure_dir, ensure_nself_dir, read_bounded, write_atomic
from nself_deploy.core import state as states
from nself_deploy.core.state import BlueGreenState, RollbackState, StrategyState
from nself_deploy.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def save_deploy_state(project_root: str | os.PathLike[str], state: StrategyState) -> None:
    """Write `.nself/state/deploy.json`, atomically and durably, 0600.

    Raises:
        ValueError: a field of `state` has no valid value.
        NselfError: it can't be written.
    """
    _write(project_root, states.DEPLOY_STATE_FILE, states.encode_deploy_state(state))


def load_deploy_state(project_root: str | os.PathLike[str]) -> StrategyState:
    """What `.nself/state/deploy.json` says; a zero value when there is no such file.

    Raises:
        StateFileError: the file is there but can't be understood.
        NselfError: it can't be read.
    """
    path = Path(project_root, states.DEPLOY_STATE_FILE)
    data = read_bounded(path)
    return StrategyState() if data is None else states.decode_deploy_state(data, str(path))


def save_blue_green_state(project_root: str | os.PathLike[str], state: BlueGreenState) -> None:
    """Write `.nself/bluegreen/state.json`; raises like `save_deploy_state`."""
    _write(project_root, states.BLUE_GREEN_STATE_FILE, states.encode_blue_green_state(state))


def load_blue_green_state(project_root: str | os.PathLike[str]) -> BlueGreenState:
    """What `.nself/bluegreen/state.json` says; like `load_deploy_state`."""
    path = Path(project_root, states.BLUE_GREEN_STATE_FILE)
    data = read_bounded(path)
    return BlueGreenState() if data is None else states.decode_blue_green_state(data, str(path))


def rollback_state_file(environment: str, service: str) -> str:
    """The file of one service, relative to the project.

    Raises:
        UsageError: a name that can't be one of an environment or service.
    """
    for kind, name in (("environment", environment), ("service", service)):
        if not _NAME.fullmatch(name):
            remedy = "Use letters, digits, '_', '-' and '.', not a '.' or '-' first, at most 128."
            raise UsageError(f"{name[:140]!r} is no {kind} name.", remedy)
    return f"{states.ROLLBACK_STATE_DIR}/{environment}/{service}.json"


def save_rollback_state(
    project_root: str | os.PathLike[str], environment: str, service: str, state: RollbackState
) -> None:
    """Write `.nself/rollback-state/<environment>/<service>.json`; raises like `save_deploy_state`, and UsageError."""
    _write(project_root, rollback_state_file(environment, service), states.encode_rollback_state(state))


def load_rollback_state(project_root: str | os.PathLike[str], environment: str, service: str) -> RollbackState:
    """What that file says; like `load_deploy_state`, and UsageError."""
    path = Path(project_root, rollback_state_file(environment, service))
    data = read_bounded(path)
    return RollbackState() if data is None else states.decode_rollback_state(data, str(path))


def _write(project_root: str | os.PathLike[str], relative: str, data: bytes) -> None:
    base = ensure_nself_dir(project_root)
    path = Path(project_root, relative)
    for directory in reversed([p for p in path.parents if base in p.parents]):
        ensure_dir(directory)
    write_atomic(path, data)


class StateFiles:
    """The files of one project."""

    def __init__(self, project_root: str | os.PathLike[str]) -> None:
        self.root = Path(project_root)

    def save_deploy(self, state: StrategyState) -> None:
        """`.nself/state/deploy.json`."""
        save_deploy_state(self.root, state)

    def load_deploy(self) -> StrategyState:
        """The same, a zero value when there is none."""
        return load_deploy_state(self.root)

    def save_blue_green(self, state: BlueGreenState) -> None:
        """`.nself/bluegreen/state.json`."""
        save_blue_green_state(self.root, state)

    def load_blue_green(self) -> BlueGreenState:
        """The same, a zero value when there is none."""
        return load_blue_green_state(self.root)

    def save_rollback(self, environment: str, service: str, state: RollbackState) -> None:
        """`.nself/rollback-state/<environment>/<service>.json`."""
        save_rollback_state(self.root, environment, service, state)

    def load_rollback(self, environment: str, service: str) -> RollbackState:
        """The same, a zero value when there is none."""
        return load_rollback_state(self.root, environment, service)
