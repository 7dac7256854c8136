"""The records of judges, below `.nself/canary`: one private file for each run that was judged."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from nself_deploy.adapters.durable_files import ensure_dir, ensure_nself_dir, os_error, read_bounded, sync_dir
from nself_deploy.core.record_lines import LIMIT
from nself_deploy.errors import StateFileError, UsageError

RECORDS_DIR = ".nself/canary"
_RUN = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}")
_LONGEST = 2 * LIMIT


class RecordFiles:
    """The `JudgeRecords` port."""

    def __init__(self, root: Path) -> None:
        """The records of the project in this directory; nothing is looked at yet."""
        self._root = root
        self._directory = root / RECORDS_DIR

    def write(self, run_id: str, at: int, data: bytes) -> int:
        """Put this at a place of a record, instead of what is there and behind it; see the port.

        Raises:
            StateFileError: the record is shorter than that, a symbolic link, or no regular file.
            NselfError: it can't be written.
        """
        path = self._path(run_id)
        ensure_nself_dir(self._root)
        ensure_dir(self._directory)
        fresh = not os.path.lexists(path)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise os_error(error, path, "write") from error
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_size < at:
                raise StateFileError(f"has {found.st_size} bytes instead of {at}.", "Move it away.", where=str(path))
            _put(fd, at, data)
            if fresh:
                sync_dir(self._directory)
        except OSError as error:
            raise os_error(error, path, "write") from error
        finally:
            os.close(fd)
        return at + len(data)

    def read(self, run_id: str) -> bytes | None:
        """A record; None when there is none.

        Raises:
            StateFileError: it is longer than any record, a symbolic link, or no regular file.
            NselfError: it can't be read.
        """
        return read_bounded(self._path(run_id), _LONGEST)

    def runs(self) -> tuple[str, ...]:
        """The runs that have a record, oldest first (their ids begin with the time).

        Raises:
            NselfError: the directory can't be read.
        """
        try:
            return tuple(sorted(name for name in os.listdir(self._directory) if _RUN.fullmatch(name)))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise os_error(error, self._directory, "read") from error

    def keep(self, newest: int) -> None:
        """Remove all but the newest ones.

        Raises:
            NselfError: one can't be removed.
        """
        for run_id in self.runs()[: -newest or None]:
            path = self._path(run_id)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise os_error(error, path, "remove") from error

    def _path(self, run_id: str) -> Path:
        if not _RUN.fullmatch(run_id):
            raise UsageError(f"{run_id[:140]!r} is no id of a run.", "nself deploy history --json shows them.")
        return self._directory / run_id


def _put(fd: int, at: int, data: bytes) -> None:
    os.fchmod(fd, 0o600)
    os.ftruncate(fd, at)
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, at)
        rest, at = rest[written:], at + written
    os.fsync(fd)
