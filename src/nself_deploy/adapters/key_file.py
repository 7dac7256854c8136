"""A file that holds a deploy key or another secret, made by the user: read only when nobody else can."""

from __future__ import annotations

import os
import stat

from nself_deploy.adapters.durable_files import os_error
from nself_deploy.errors import ConfigError

READ_LIMIT = 4096
"""Bytes; a key has less than a hundred."""


def read_key_file(path: str, holds: str = "deploy key") -> str:
    """The first line of the file, without white space around it.

    Args:
        path: the file.
        holds: what it is there for, in messages.

    Raises:
        ConfigError: it is missing, no plain file, another user's, readable by others, or holds no key.
        NselfError: it can't be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ConfigError("There is no such file.", f"Name the file that holds the {holds}.", where=path) from None
    except OSError as error:
        raise os_error(error, path, "read") from error
    try:
        found = os.fstat(fd)
        _refuse_shared(path, found, holds)
        text = os.read(fd, READ_LIMIT).decode("utf-8", "replace")
    except OSError as error:
        raise os_error(error, path, "read") from error
    finally:
        os.close(fd)
    line = text.strip().partition("\n")[0].strip()
    if not line:
        raise ConfigError(f"holds no {holds}.", "Write it there, alone.", where=path)
    return line


def _refuse_shared(path: str, found: os.stat_result, holds: str) -> None:
    """Refuse a file that others could read or have written."""
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError("is no plain file.", "Write it into a file; --key - reads a key from a pipe.", where=path)
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError("belongs to another user.", f"Make a copy of your own, with mode 600 ({path}).", where=path)
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        what = f"holds a {holds}, and others may open it (mode {mode:03o})."
        raise ConfigError(what, f"chmod 600 {path}", where=path)
