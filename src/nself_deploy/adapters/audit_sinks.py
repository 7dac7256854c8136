"""Where the audit trail is delivered to: the file `.nself/audit-sinks.json` (0600), and who delivers just now."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from nself_deploy.adapters.durable_files import ensure_nself_dir, os_error, read_bounded, write_atomic
from nself_deploy.core.audit_delivery import Sink
from nself_deploy.errors import Locked, StateFileError

SINKS_FILE = ".nself/audit-sinks.json"

_PAUSE_S = 0.05
_COURIER = "audit-courier.lock"
_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class AuditSinks:
    """The sinks of one project."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / SINKS_FILE

    def load(self) -> list[Sink]:
        """The sinks, in the order in which they were added.

        Raises:
            StateFileError: the file is damaged.
            NselfError: it can't be read.
        """
        data = read_bounded(self._path)
        if data is None:
            return []
        try:
            return msgspec.json.decode(data, type=list[Sink])
        except ValueError as error:
            # Its content is secret, and so is what a decoder would quote of it.
            what, remedy = (
                "can't be read: it is no list of sinks.",
                "Move it away; nself deploy audit init makes it anew.",
            )
            raise StateFileError(what, remedy, where=str(self._path)) from error

    def save(self, sinks: list[Sink]) -> None:
        """Replace the sinks by these.

        Raises:
            NselfError: it can't be written; then the old ones are still there.
        """
        ensure_nself_dir(self._root)
        write_atomic(self._path, msgspec.json.format(msgspec.json.encode(sinks), indent=2) + b"\n")

    @asynccontextmanager
    async def turn(self, sink: Sink, patience_s: float) -> AsyncIterator[None]:
        """Be the only process that delivers to a sink.

        Raises:
            Locked: another one is at it for longer than `patience_s`.
        """
        until = time.monotonic() + patience_s
        with self._file(f"audit-{sink.name}.lock") as file:
            while not _take(file):
                if time.monotonic() >= until:
                    what = f"Another process delivers to {sink.name} just now."
                    raise Locked(what, "Try again when it is done; nself deploy audit status shows how far it is.")
                await asyncio.sleep(_PAUSE_S)
            yield

    @contextmanager
    def courier(self, tries: int) -> Iterator[bool]:
        """Be the process in the background that delivers; whether we are. A look of another is over at once."""
        with self._file(_COURIER) as file:
            for left in reversed(range(tries)):
                if _take(file):
                    yield True
                    return
                if left:
                    time.sleep(_PAUSE_S)
            yield False

    @contextmanager
    def _file(self, name: str) -> Iterator[int]:
        """An open file of ours, unlocked again at the end."""
        path = self._root / ".nself" / name
        try:
            file = os.open(path, _OPEN, 0o600)
        except OSError as error:
            raise os_error(error, path, "lock") from error
        try:
            yield file
        finally:
            os.close(file)


def _take(file: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
