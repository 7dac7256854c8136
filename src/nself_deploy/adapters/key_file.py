"""A file that holds a deploy key, made by the user: read only when nobody else can."""

from __future__ import annotations

import os
import stat

from nself_deploy.adapters.durable_files import os_error
from nself_deploy.errors import ConfigError

READ_LIMIT = 4096
"""Bytes; a key has less than a hundred."""


def read_key_file(path: str) -> str:
    """The first line of the file, without white space around it.

    Raises:
        ConfigError: it is missing, no plain file, another user's, readable by others, or holds no key.
        NselfError: it can't be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ConfigError("There is no such file.", "Name the file that holds the deploy key.", where=path) from None
    except OSError as error:
        raise os_error(error, path, "read") from error
    try:
        found = os.fstat(fd)
        _refuse_shared(path, found)
        text = os.read(fd, READ_LIMIT).decode("utf-8", "replace")
    except OSError as error:
        raise os_error(error, path, "read") from error
    finally:
        os.close(fd)
    line = text.strip().partition("\n")[0].strip()
    if not line:
        raise ConfigError("holds no deploy key.", "Write the key into it, alone.", where=path)
    return line


def _refuse_shared(path: str, found: os.stat_result) -> None:
    """Refuse a file that others could read or have written."""
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError("is no plain file.", "Use --key - to read a key from a pipe.", where=path)
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError("belongs to another user.", f"Make a copy of your own, with mode 600 ({path}).", where=path)
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        what = f"holds a deploy key, and others may open it (mode {mode:03o})."
        raise ConfigError(what, f"chmod 600 {path}", where=path)
