"""What is left below a project's `.nself` of writers and commands that were killed: found, and removed when asked.

Paths are relative to the project. Nothing but what was found as a leftover is ever removed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nself_deploy.adapters.durable_files import os_error, read_bounded
from nself_deploy.core.model import Slot
from nself_deploy.errors import NselfError, UsageError

_TEMP = re.compile(r"\..+\.nself-[0-9a-f]{12}\.tmp")
_LINK = re.compile(r"\.(current|tree)\.[0-9a-f]{8}")
_SPLIT = re.compile(r"\.(new|old)-[0-9a-f]{8}")
_RELEASE = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")
_SLOT_FILE = re.compile(r"compose\.(blue|green)\.yaml")
_RELEASES, _ROUTER, _LOCK = Path(".nself/releases"), Path(".nself/router"), Path(".nself/lock")


class _Lock(msgspec.Struct):
    owner: dict[str, object] = {}


class LeftoverFiles:
    """The leftovers of one project."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def temp_files(self) -> tuple[str, ...]:
        """Half-written files, links and directories whose writers died."""
        return tuple(sorted({*self._half_written(), *self._drafts()}))

    def release_dirs(self) -> dict[str, bool]:
        """Release id -> whether nothing is in its directory but the files that we write."""
        return {
            path.name: bool(_RELEASE.fullmatch(path.name))
            and not path.is_symlink()
            and path.is_dir()
            and all(_SLOT_FILE.fullmatch(p.name) or _TEMP.fullmatch(p.name) for p in _entries(path))
            for path in _entries(self._root / _RELEASES)
        }

    def slot_files(self) -> tuple[tuple[str, Slot], ...]:
        """Release and slot of each compiled Compose file."""
        return tuple(
            (directory.name, Slot(found[1]))
            for directory in _entries(self._root / _RELEASES)
            if directory.is_dir()
            for path in _entries(directory)
            if (found := _SLOT_FILE.fullmatch(path.name))
        )

    def traceback(self) -> str:
        """Where a traceback was kept, empty when none was."""
        path = Path(".nself/traceback.txt")
        return str(path) if (self._root / path).exists() else ""

    def last_owner(self) -> str:
        """Who is written into the lock's file, in words; empty when nobody is."""
        try:
            data = read_bounded(self._root / _LOCK) or b""
            owner = msgspec.json.decode(data, type=_Lock).owner if data.strip() else {}
        except (NselfError, msgspec.MsgspecError, UnicodeDecodeError):
            return ""  # a part of it: the next one who takes the lock writes it anew
        if not owner.get("pid"):
            return ""
        words = f"{owner.get('user')} on {owner.get('host')} (process {owner['pid']})"
        return f"{words}, {owner.get('purpose')!r} since {owner.get('since')}"

    def remove(self, path: str) -> None:
        """Remove a leftover; one that is gone is fine.

        Raises:
            UsageError: it is none.
            NselfError: it can't be removed.
        """
        place = self._root / path
        is_release = place.parent == self._root / _RELEASES and self.release_dirs().get(place.name, False)
        if not os.path.lexists(place):
            return
        if path not in self.temp_files() and not is_release:
            raise UsageError(f"{path} is no leftover of ours.", "Remove it yourself if nobody needs it.")
        try:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        except OSError as error:
            raise os_error(error, place, "remove") from error

    def _half_written(self) -> Iterator[str]:
        """Temporary files of durable writes, here and anywhere below `.nself`, that no living process holds."""
        places = [self._root, *(Path(at) for at, *_ in os.walk(self._root / ".nself"))]
        for place in places:
            for path in _entries(place):
                if _TEMP.fullmatch(path.name) and _is_free(path):
                    yield str(path.relative_to(self._root))

    def _drafts(self) -> Iterator[str]:
        """What was to become a link or a split directory of the router."""
        router = self._root / _ROUTER
        for place, pattern in ((router, _LINK), (router / "splits", _SPLIT)):
            yield from (str(p.relative_to(self._root)) for p in _entries(place) if pattern.fullmatch(p.name))


def _entries(directory: Path) -> list[Path]:
    """What is in a directory, by name; nothing when there is none.

    Raises:
        NselfError: it can't be read.
    """
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise os_error(error, directory, "read") from error


def _is_free(path: Path) -> bool:
    """Whether no living process writes it: writers hold a lock on their file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # gone, or none that we wrote
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
