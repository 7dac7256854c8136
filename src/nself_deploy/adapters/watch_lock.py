"""One watch of objectives at a time watches a project: `flock` on a file, which the kernel releases when it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from nself_deploy.adapters.durable_files import ensure_nself_dir, os_error
from nself_deploy.errors import Locked

WATCH_LOCK_FILE = ".nself/watch.lock"


class WatchLock:
    """The lock of one process, from entering to leaving."""

    def __init__(self, project_root: str | os.PathLike[str]) -> None:
        self._root = Path(project_root)
        self._fd = -1

    def __enter__(self) -> Self:
        """Take it.

        Raises:
            Locked: another watch runs.
            NselfError: the file can't be made.
        """
        path = self._root / WATCH_LOCK_FILE
        ensure_nself_dir(self._root)
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise Locked("The objectives of this project are watched by another process.", "Stop that one.") from None
        except OSError as error:
            raise os_error(error, path, "write") from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
