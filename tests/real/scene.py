"""What a refused command must leave as it was: every file of a project, its containers, networks and volumes."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.real.stack import Outcome, Stack, copy_of, docker, inspected

FAST = ("--min-uptime", "1s", "--drain", "60s", "--health-timeout", "240s")
"""Quick where nothing hinders it, patient where a busy machine needs it."""

_NOT_COMPARED = ("access.log", "nself.db-wal", "nself.db-shm", "address.json")
"""nginx's log; SQLite's files beside the database, whose content is compared instead; at which address the
router answered last, a memory that every question may refresh."""


def tiny(*, init: bool = True) -> Stack:
    """A copy of the tiny project, ready for its first deploy."""
    stack = copy_of("tiny", prefix="bad")
    if init:
        stack.nself("init", "--yes")
    return stack


def edit(stack: Stack, old: str, new: str, file: str = "compose.yaml") -> None:
    """Replace words in a file of the project."""
    path = stack.root / file
    text = path.read_text()
    assert old in text, (file, old)
    path.write_text(text.replace(old, new))


def facts(stack: Stack) -> dict[str, Any]:
    """All of it, by name."""
    found: dict[str, Any] = {
        f"file {path.relative_to(stack.root)}": _file(path)
        for path in stack.root.rglob("*")
        if path.name not in _NOT_COMPARED
    }
    ids = docker("ps", "--all", "--quiet", "--filter", f"name={stack.name}").split()
    for container in inspected(ids):
        networks = sorted(container["NetworkSettings"]["Networks"])
        state = container["State"]
        found[f"container {container['Name']}"] = (container["Id"], state["Status"], state["StartedAt"], networks)
    for kind in ("network", "volume"):
        for name in docker(kind, "ls", "--format", "{{.Name}}", "--filter", f"name={stack.name}").split():
            found[f"{kind} {name}"] = True
    return found


def _file(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return ("link", os.readlink(path))
    if not stat.S_ISREG(status.st_mode):
        return (stat.filemode(status.st_mode),)
    return (stat.filemode(status.st_mode), _rows(path) if path.name == "nself.db" else _digest(path))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _rows(path: Path) -> str:
    """What is in a database, whichever of SQLite's files it is in; the bytes of a damaged one."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return hashlib.sha256("\n".join(database.iterdump()).encode()).hexdigest()
    except sqlite3.DatabaseError:
        return _digest(path)


def check_message(outcome: Outcome, status: int, *says: str) -> None:
    """The exit status, and one message with these words on stderr; no traceback."""
    assert outcome.status == status, outcome.text
    assert "Traceback" not in outcome.out + outcome.err, outcome.text
    assert len([line for line in outcome.err.splitlines() if line.startswith("error: ")]) == 1, outcome.text
    for words in says:
        assert words in outcome.err, (words, outcome.text)


def refused(stack: Stack, status: int, *says: str, words: tuple[str, ...] = (), **env: str) -> Outcome:
    """Run `nself deploy WORDS`: it is refused like this, and nothing is changed."""
    before = facts(stack)
    outcome = stack.nself(*words, check=False, **env)
    check_message(outcome, status, *says)
    check_same(before, facts(stack))
    return outcome


def check_same(before: dict[str, Any], after: dict[str, Any], *, but: tuple[str, ...] = ()) -> None:
    """Nothing was changed, but for what has one of these beginnings."""
    changed = {
        name: (before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name) and not name.startswith(but)
    }
    assert not changed, changed


def with_mounts(script: str, argv: list[str]) -> list[str]:
    """The words that run `argv` where a shell script has changed what is mounted, for this program alone."""
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *rights, "--mount", "sh", "-ec", f'{script}\nexec "$@"', "sh", *argv]


def nself_argv(*words: str) -> list[str]:
    """The words of `nself deploy WORDS`, for a test that starts it in its own way."""
    return [sys.executable, "-m", "nself_deploy.cli.main", "deploy", *words]
