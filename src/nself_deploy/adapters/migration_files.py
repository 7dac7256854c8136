"""The files of migrations in a project's directory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from nself_deploy.core.migration_reading import File
from nself_deploy.errors import ConfigError

MAX_FILES = 2000
MAX_BYTES = 1 << 20
"""Of one file."""
MAX_ALL_BYTES = 16 << 20
_PLACE = "x-nself-deploy.migrations"


def read_migrations(root: Path, patterns: Sequence[str]) -> tuple[File, ...]:
    """The files that match, those of the first pattern first, each pattern's by name.

    Raises:
        ConfigError: a pattern matches nothing, or too much; a file is not in the project, too large, or no text.
    """
    found: dict[str, File] = {}
    size = 0
    for pattern in patterns:
        for path in _matches(root, pattern):
            name = str(path.relative_to(root))
            if name in found:
                continue
            data = _read(root, path, name)
            size += len(data)
            if len(found) >= MAX_FILES or size > MAX_ALL_BYTES:
                what = f"More than {MAX_FILES:,} files, or {MAX_ALL_BYTES >> 20} MiB, are migrations."
                raise ConfigError(what, "Let the patterns match fewer files.", where=_PLACE)
            found[name] = File(name, hashlib.sha256(data).hexdigest(), _text(data, name))
    return tuple(found.values())


def _matches(root: Path, pattern: str) -> list[Path]:
    try:
        paths = sorted(_files(root, pattern))
    except (OSError, ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"{pattern!r} can't be looked for: {error}.", "Write it as `db/*.sql`.", where=_PLACE
        ) from None
    if not paths:
        what = f"No file matches {pattern!r}."
        raise ConfigError(what, "Correct it, or leave it out while there are no migrations.", where=_PLACE)
    return paths


def _files(root: Path, pattern: str) -> Iterator[Path]:
    """What matches and is no directory; one more than is possible is enough."""
    count = 0
    for path in root.glob(pattern):
        if not path.is_dir():
            count += 1
            yield path
        if count > MAX_FILES:
            return


def _read(root: Path, path: Path, name: str) -> bytes:
    remedy = "Keep migrations as plain files in the project's directory."
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(root.resolve()):
            raise ConfigError("is a link to a place out of the project.", remedy, where=name)
        if not real.is_file():
            raise ConfigError("is no regular file.", remedy, where=name)
        with open(os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, RuntimeError) as error:  # a ring of links is a RuntimeError
        reason = error.strerror if isinstance(error, OSError) else "its links go in a circle"
        raise ConfigError(f"can't be read: {reason}.", "Correct it, or its permissions.", where=name) from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"is larger than {MAX_BYTES >> 20} MiB.", "Keep data out of migrations.", where=name)
    return data


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8.", "Save it as UTF-8.", where=f"{name}:{line}") from error
