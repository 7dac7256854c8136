"""More boundaries: before anything, and after each durable write that is no part of the machine's own journal.

That is each other transaction (a key's use, a breaker's count, an event, a state that others read), each file, and each
lock that is taken or given back. Nothing durable happens between two of them, so before one is after the one before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nself_deploy.adapters import durable_files
from nself_deploy.adapters.docker_lock import DockerLock
from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.lock import FileLock

_OURS = ("/contextlib.py", "/journal.py", "/journal_guards.py", "/breaker.py", "/tests/crash/")
_MACHINE = ("begin", "record")
"""What `tests/crash/child.py` has boundaries around."""


def wrap_writes(reached: Callable[[str], None]) -> None:
    """Have these reported too."""
    reached("before anything")
    _transactions(reached)
    _files(reached)
    _locks(reached)


def _transactions(reached: Callable[[str], None]) -> None:
    transaction = Journal.transaction

    @contextmanager
    def wrapped(self: Journal) -> Iterator[None]:
        outer = self._db is not None and not self._db.in_transaction
        writer, written = _writer(), _writes(self) if outer else 0
        with transaction(self):
            yield
        if outer and writer not in _MACHINE and _writes(self) > written:
            reached(f"after the write of {writer}")

    Journal.transaction = wrapped  # type: ignore[method-assign]


def _writes(journal: Journal) -> int:
    return journal._db.total_changes if journal._db is not None else 0


def _writer() -> str:
    """The function whose transaction it is; the journal's own for those of the machine."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        name, file = frame.f_code.co_name, frame.f_code.co_filename
        if file.endswith("/journal.py") and name in _MACHINE:
            return name
        if not file.endswith(_OURS[:-1]) and _OURS[-1] not in file:
            return name
        frame = frame.f_back
    return "nobody"


def _files(reached: Callable[[str], None]) -> None:
    write = durable_files._write_once

    def wrapped(path: Path, data: bytes, mode: int) -> bool:
        done = write(path, data, mode)
        reached(f"after the write of {path.name}")
        return done

    durable_files._write_once = wrapped


def _locks(reached: Callable[[str], None]) -> None:
    take, give = FileLock.acquire, FileLock.release
    take_engine, give_engine = DockerLock.acquire, DockerLock.release

    def taken(self: FileLock, purpose: str) -> None:
        take(self, purpose)
        reached("after the lock was taken")

    def given(self: FileLock) -> None:
        give(self)
        reached("after the lock was given back")

    async def taken_engine(self: DockerLock, purpose: str) -> None:
        await take_engine(self, purpose)
        reached("after the engine's lock was taken")

    async def given_engine(self: DockerLock) -> None:
        await give_engine(self)
        reached("after the engine's lock was given back")

    FileLock.acquire, FileLock.release = taken, given  # type: ignore[method-assign]
    DockerLock.acquire, DockerLock.release = taken_engine, given_engine  # type: ignore[method-assign]
