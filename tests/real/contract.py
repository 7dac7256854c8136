"""The contract's documents and files, spelled out: what programs that read them rely on."""

from __future__ import annotations

import hashlib
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.real.stack import Outcome, Stack

DOCUMENT: dict[str, type | tuple[type, ...]] = {
    "target": str,
    "strategy": str,
    "release": str,
    "previous_release": str,
    "steps": list,
    "duration_ms": int,
    "success": bool,
    "rolled_back": bool,
    "final_percent": int,
    "error": str,
    "verdict": (str, type(None)),
}
PLAN = DOCUMENT | {"services": list, "routes": list, "changes": list, "warnings": list, "settings": list}
PLAN["forecast"] = (dict, type(None))
STEP = {"name": str, "status": str, "seconds": (int, float), "detail": str}
STATUSES = {"pending", "running", "done", "failed", "skipped", "unhealthy"}
ROLES = {"app", "shared", "job", "router"}
DEPLOY_STATE = {
    "schema_version": int,
    "strategy": str,
    "target": str,
    "started_at": str,
    "completed_at": str,
    "success": bool,
    "canary_percent": int,
    "rolled_back": bool,
}
BLUE_GREEN_STATE = {
    "active": str,
    "blue_version": str,
    "green_version": str,
    "canary_percent": int,
    "last_deploy": str,
    "last_rollback": str,
}
ROLLBACK_STATE = {"prior_tag": str, "prior_hash": str, "updated_at": str}


def check_keys(value: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Exactly these keys, each of its type (true and false are no numbers)."""
    assert set(value) == set(wanted), set(value) ^ set(wanted)
    for key, kind in wanted.items():
        assert isinstance(value[key], kind), (key, value[key])
        assert kind is not int or not isinstance(value[key], bool), (key, value[key])


def check_document(outcome: Outcome, *, success: bool) -> dict[str, Any]:
    """stdout is one JSON document, as the contract has it; the document."""
    document: dict[str, Any] = outcome.json
    check_keys(document, DOCUMENT)
    for step in document["steps"]:
        check_keys(step, STEP)
        assert step["status"] in STATUSES
    assert document["strategy"] == "blue-green"
    assert document["success"] is success, document
    assert document["final_percent"] == (100 if success else 0)
    assert bool(document["error"]) is not success
    assert document["verdict"] is None
    return document


def check_plan(outcome: Outcome) -> dict[str, Any]:
    """The same for a plan."""
    document: dict[str, Any] = outcome.json
    check_keys(document, PLAN)
    for step in document["steps"]:
        check_keys(step, STEP)
        assert (step["status"], step["seconds"], step["detail"]) == ("pending", 0.0, "")
    for service in document["services"]:
        check_keys(service, {"name": str, "role": str, "reason": str})
        assert service["role"] in ROLES and service["reason"]
    for setting in document["settings"]:
        assert set(setting) == {"name", "value", "origin"} and setting["origin"]
    return document


def steps_of(document: dict[str, Any]) -> list[tuple[str, str]]:
    """(status, name) of the steps that were not skipped."""
    return [(s["status"], s["name"]) for s in document["steps"] if s["status"] != "skipped"]


def private_state(stack: Stack, relative: str, keys: dict[str, Any], *optional: str) -> dict[str, Any]:
    """A state file: readable by its owner only, these keys; its value."""
    path = stack.root / ".nself" / relative
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    value: dict[str, Any] = stack.state(relative)
    check_keys({k: v for k, v in value.items() if k not in optional}, keys)
    return value


def moment(text: str) -> datetime:
    """A time of a state file: UTC, RFC 3339, ending in Z."""
    assert text.endswith("Z"), text
    found = datetime.fromisoformat(text)
    assert found.tzinfo == UTC
    return found


def tree_of(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a directory: kind, mode, and of files the time of the last change and the content.

    Not the times of directories: SQLite makes a file for the time that it reads, and removes it. And not at which
    address the router answered last: a memory that every question may refresh.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *(name for name in files if name != "address.json")):
            path = Path(directory, name)
            info = path.lstat()
            if path.is_symlink():
                content = os.readlink(path)
            else:
                content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            changed = 0 if path.is_dir() and not path.is_symlink() else info.st_mtime_ns
            found[str(path.relative_to(root))] = (stat.filemode(info.st_mode), changed, content)
    return found
