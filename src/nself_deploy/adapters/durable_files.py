"""Small files of ours: written whole or not at all, durable when the call returns, private from the first byte.

The other adapters that keep something on disk use these; no `OSError` leaves them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from pathlib import Path

from nself_deploy.errors import ConfigError, InfrastructureError, NselfError, StateFileError

READ_LIMIT = 1 << 20
"""Bytes; no JSON file of ours comes near."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
_ATTEMPTS = 5
_TEMP_MARK = ".nself-"
_TEMP_END = ".tmp"


def os_error(error: OSError, path: Path | str, doing: str) -> NselfError:
    """The error to raise for `error`, met while `doing` (`write`, `read`, `lock` ...) `path`."""
    code, reason, where = error.errno or 0, error.strerror or str(error), str(path)
    if code in _FULL:
        what = f"cannot {doing} it: the disk is full ({reason})."
        return InfrastructureError(what, "Free some space there, then run the same command again.", where=where)
    if code == errno.ELOOP:
        return _not_ours(where, "is a symbolic link")
    if code in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return _not_ours(where, f"is in the way: cannot {doing} it ({reason})")
    if code in _NOT_WRITABLE:
        verb = "readable" if doing == "read" else "writable"
        remedy = f"Make it {verb} for user id {os.geteuid()}, or run the command as the user who owns the project."
        return ConfigError(f"cannot {doing} it: not {verb} ({reason}).", remedy, where=where)
    return InfrastructureError(f"cannot {doing} it: {reason}.", "Check the disk that it is on.", where=where)


def _not_ours(where: str, what: str) -> StateFileError:
    return StateFileError(f"{what}, where nself-deploy keeps a private file of its own.", "Move it away.", where=where)


def ensure_dir(path: Path, mode: int = 0o700) -> None:
    """Have a directory at `path` with exactly `mode`; one that its owner made read-only stays so.

    It is made durably, with missing parents, which get the same mode.

    Raises:
        StateFileError: something else is there, or a symbolic link.
        NselfError: it can't be made (disk full, not writable).
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        _make_dir(path, mode)
        return
    except OSError as error:
        raise os_error(error, path, "read") from error
    if not stat.S_ISDIR(found.st_mode):
        raise _not_ours(str(path), "is not a directory")
    read_only = not found.st_mode & stat.S_IWUSR  # somebody meant it
    if stat.S_IMODE(found.st_mode) != mode and found.st_uid == os.geteuid() and not read_only:
        try:
            os.chmod(path, mode)
        except OSError as error:
            raise os_error(error, path, "change the mode of") from error


def ensure_nself_dir(project_root: str | os.PathLike[str]) -> Path:
    """The project's `.nself` directory, made when missing (0711: nginx's workers pass through it).

    Raises:
        ConfigError: there is no such project directory, or it isn't writable.
        NselfError: it can't be made.
    """
    root = Path(project_root)
    try:
        is_there = stat.S_ISDIR(os.stat(root).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_there = False
    except OSError as error:
        raise os_error(error, root, "read") from error
    if not is_there:
        raise ConfigError("is no directory.", "Name the directory of the Compose file.", where=str(root))
    ensure_dir(root / ".nself", 0o711)
    return root / ".nself"


def _make_dir(path: Path, mode: int) -> None:
    if path.parent != path and not os.path.lexists(path.parent):
        _make_dir(path.parent, mode)
    try:
        os.mkdir(path, 0o700)
        os.chmod(path, mode)  # mkdir's mode is cut by the umask
        sync_dir(path.parent)
    except FileExistsError:
        ensure_dir(path, mode)
    except OSError as error:
        raise os_error(error, path, "create") from error


def sync_dir(path: Path) -> None:
    """Make the names in a directory durable.

    Raises:
        OSError: as the system says.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_bounded(path: Path, limit: int = READ_LIMIT) -> bytes | None:
    """The content of a regular file of at most `limit` bytes; None when there is no such file.

    Raises:
        StateFileError: it is larger, a symbolic link, or no regular file.
        NselfError: it can't be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise os_error(error, path, "read") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise _not_ours(str(path), "is no regular file")
        with os.fdopen(fd, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise os_error(error, path, "read") from error
    finally:
        os.close(fd)
    if len(data) > limit:
        raise StateFileError(
            f"is larger than {limit} bytes: not written by nself-deploy.", "Move it away.", where=str(path)
        )
    return data


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by a file with `data`.

    Readers see the old content or the new one, and the new one survives a power cut once this returns. The directory
    must exist. Leftovers of writers that died are removed.

    Raises:
        StateFileError: `path` is a symbolic link or no regular file.
        NselfError: disk full, not writable; the old content is still there then.
    """
    refuse_special(path)
    try:
        _remove_leftovers(path)
        for _ in range(_ATTEMPTS):
            if _write_once(path, data, mode):
                return
    except OSError as error:
        raise os_error(error, path, "write") from error
    raise InfrastructureError(
        "something keeps removing our temporary files.", "Look who writes there.", where=str(path.parent)
    )


def refuse_special(path: Path) -> bool:
    """Whether a regular file is at `path`; a missing one is fine.

    Raises:
        StateFileError: a symbolic link, directory or device is there.
        NselfError: it can't be looked at.
    """
    try:
        found = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise os_error(error, path, "read") from error
    if not stat.S_ISREG(found):
        raise _not_ours(str(path), "is a symbolic link" if stat.S_ISLNK(found) else "is no regular file")
    return True


def temp_name(path: Path) -> Path:
    """A fresh name beside `path` that the next writer of `path` recognises as a leftover."""
    return path.with_name(f".{path.name}{_TEMP_MARK}{secrets.token_hex(6)}{_TEMP_END}")


def create_temp(path: Path) -> int:
    """Open a new empty 0600 file, marked as in use for as long as the returned descriptor is open.

    Raises:
        OSError: as the system says.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _write_once(path: Path, data: bytes, mode: int) -> bool:
    """False when another writer took our new file for a leftover, before we could mark it as in use."""
    temp = temp_name(path)
    fd = create_temp(temp)
    try:
        if os.fstat(fd).st_nlink == 0:
            return False
        os.fchmod(fd, mode)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
        os.rename(temp, path)
        sync_dir(path.parent)
    except BaseException:
        # The file was renamed already when it is the directory that could not be synced.
        temp.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    return True


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` that no living process writes."""
    start = f".{path.name}{_TEMP_MARK}"
    with os.scandir(path.parent) as found:
        names = [entry.path for entry in found if entry.name.startswith(start) and entry.name.endswith(_TEMP_END)]
    for name in names:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, PermissionError):  # gone, or another user's: it is in nobody's way
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Path(name).unlink(missing_ok=True)
        except BlockingIOError:
            continue
        finally:
            os.close(fd)


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` whose writers died.

    Raises:
        NselfError: the directory can't be read or written.
    """
    try:
        _remove_leftovers(path)
    except OSError as error:
        raise os_error(error, path.parent, "clean") from error
