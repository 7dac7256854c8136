"""One command at a time changes a project: `flock` on `.nself/lock`, which the kernel releases when its holder dies.

The directory `.nself` is locked as well, so that removing the file by hand does not let a second one in.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from nself_deploy.adapters.durable_files import ensure_nself_dir, os_error
from nself_deploy.core.lock_rules import UNKNOWN, LockOwner, refusal
from nself_deploy.errors import InfrastructureError, NselfError, StateFileError

LOCK_FILE = ".nself/lock"

_TRIES = 5
_PAUSE_S = 0.02
_CONTENT_LIMIT = 8192
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Content(msgspec.Struct, frozen=True):
    owner: LockOwner
    target: str = ""


class FileLock:
    """The lock of one project, for one holder."""

    def __init__(
        self,
        project_root: str | os.PathLike[str],
        target: str,
        identify: Callable[[str], LockOwner],
        gone: Callable[[LockOwner], bool] = lambda owner: True,
    ) -> None:
        """A lock that nobody holds yet.

        Args:
            project_root: the project's directory.
            target: what will be deployed to; for the message only, the lock is the project's.
            identify: gives the owner to write down for a purpose.
            gone: whether one that the file names, and that the kernel let go, is known to have died.
        """
        self.path = Path(project_root, LOCK_FILE)
        self.previous: LockOwner | None = None
        """After `acquire`: who held it last and died without giving it back."""
        self.noted: LockOwner | None = None
        """After `acquire`: whom the file named, and who may live, on a machine whose kernel locks for itself."""
        self._target = target
        self._identify = identify
        self._gone = gone
        self._fds: tuple[int, ...] = ()

    def acquire(self, purpose: str) -> None:
        """Take it; holding it already is fine.

        Raises:
            Locked: another process holds it; says who, since when and doing what.
            NselfError: the file can't be made or written.
        """
        if self._fds:
            return
        ensure_nself_dir(self.path.parent.parent)
        for attempt in range(_TRIES):
            if self._try(purpose):
                return
            if attempt + 1 < _TRIES:
                time.sleep(_PAUSE_S)  # someone may only be looking (`owner`), or the file was just replaced
        raise self._locked()

    def release(self) -> None:
        """Give it back; not holding it is fine."""
        if self._fds:
            os.ftruncate(self._fds[0], 0)
        self._close()

    def owner(self) -> LockOwner | None:
        """Who holds it now, None when nobody does (whatever the file says). Creates nothing."""
        held = self._held()
        return held[0].owner if held else None

    def _try(self, purpose: str) -> bool:
        try:
            fd = os.open(self.path, _OPEN | os.O_CREAT, 0o600)
        except OSError as error:
            raise os_error(error, self.path, "lock") from error
        self._fds = (fd,)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise StateFileError("is no regular file.", "Move it away.", where=str(self.path))
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._fds = (fd, directory)
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(fd), os.stat(self.path)):
                raise FileNotFoundError(self.path)
            found = _parse(_content(fd))
            dead = found is not None and self._gone(found.owner)
            self.previous = found.owner if found and dead else None
            self.noted = found.owner if found and not dead else None
            self._write(fd, purpose)
        except (BlockingIOError, FileNotFoundError):
            self._close()
            return False
        except OSError as error:
            self._close()
            raise os_error(error, self.path, "lock") from error
        except BaseException:
            self._close()
            raise
        return True

    def _write(self, fd: int, purpose: str) -> None:
        data = msgspec.json.encode(_Content(self._identify(purpose), self._target)) + b"\n"
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 0)
        if os.pwrite(fd, data, 0) != len(data):
            raise InfrastructureError(
                "cannot write it: the disk is full.", "Free some space there.", where=str(self.path)
            )

    def _close(self) -> None:
        fds, self._fds = self._fds, ()
        for fd in fds:
            os.close(fd)

    def _held(self) -> tuple[_Content] | None:
        """What the holder wrote, None when it is free."""
        try:
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise os_error(error, self.path.parent, "read") from error
        try:
            fcntl.flock(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            return (self._read(),)
        except OSError as error:
            raise os_error(error, self.path, "read") from error
        finally:
            os.close(directory)

    def _read(self) -> _Content:
        """What the holder wrote; it may be writing just now."""
        for _ in range(_TRIES):
            try:
                fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                break
            try:
                found = _parse(_content(fd))
            finally:
                os.close(fd)
            if found:
                return found
            time.sleep(_PAUSE_S)
        return _Content(UNKNOWN)

    def _locked(self) -> NselfError:
        held = self._held()
        content = held[0] if held else _Content(UNKNOWN)
        return refusal(content.owner, content.target, str(self.path))


def _content(fd: int) -> bytes:
    return os.pread(fd, _CONTENT_LIMIT, 0)


def _parse(data: bytes) -> _Content | None:
    """The content, None when there is none or only a part of it."""
    try:
        return msgspec.json.decode(data, type=_Content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
