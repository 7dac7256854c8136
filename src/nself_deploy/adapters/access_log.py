"""The router's access log as nginx writes it: read from a position on, also over a rotation.

A file is known by its inode. When another one has its name, what is left of it is read first, wherever in the directory
it is now, and then the files that came after it. nginx's workers go on writing to a file that was put aside until each
of them has opened the new one: it is left only when nobody has written to it for a moment.

A file may also be copied and emptied (logrotate's `copytruncate`). What was written between the last look that saw
its end and that moment is lost; how long that was is known as long as one process looks on, and said.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

from nself_deploy.adapters.durable_files import os_error
from nself_deploy.core.log_clock import Tick
from nself_deploy.core.log_line import LINE_LIMIT, Batch, LineReader, Rules
from nself_deploy.core.log_position import LogPosition, LogRead
from nself_deploy.errors import ConfigError

NAME = "access.log"
CHUNK = 4 << 20
"""Bytes that are read at a time."""
_TAIL = 512
"""Bytes before a position by which it is known that they are still there: a line with its time."""
_CLOCK_TRIES, _MOMENT_S = 20, 0.1
QUIET_S = 2.0
"""A file that was put aside is finished when it was not written to for so long."""


def both_clocks() -> Tick:
    """The time now, by both clocks of this machine.

    They are read within a moment: a process that stood still between them would seem to have seen the clock jump.
    """
    tries = 0
    while True:
        before, wall, after = time.monotonic(), time.time(), time.monotonic()
        tries += 1
        if after - before <= _MOMENT_S or tries == _CLOCK_TRIES:
            return Tick(wall, before)


class AccessLog:
    """The `RequestLog` port."""

    def __init__(self, directory: Path, rules: Callable[[], Rules], clock: Callable[[], Tick] = both_clocks) -> None:
        """Read the log in `directory` (`.nself/router/log` of the project); nothing is looked at yet.

        Args:
            directory: where nginx writes it, as we see it.
            rules: how lines are to be understood now; asked at every look.
            clock: the time.
        """
        self._directory = directory
        self._path = directory / NAME
        self._rules = rules
        self._clock = clock
        self._reader: LineReader | None = None
        self._followed: Rules | None = None
        self._seen = _Seen()

    def end(self) -> LogPosition:
        """The end of its last whole line; the beginning when there is no log yet."""
        try:
            self._list()
            with _Opened(self._path) as file:
                return LogPosition(file.inode, file.last_newline())
        except FileNotFoundError:
            return LogPosition()
        except OSError as error:
            raise os_error(error, error.filename or self._path, "read") from error

    def read(self, position: LogPosition) -> LogRead:
        """What was added since; see the port."""
        now = self._clock().steady
        try:
            found = self._added(position)
        except FileNotFoundError:
            return LogRead((), position)  # it got another name this moment; the next look finds it
        except ConfigError as error:
            return LogRead((), position, problem=str(error))
        except OSError as error:
            return LogRead((), position, problem=str(os_error(error, error.filename or self._path, "read")))
        lost_s, problem = self._lost(found, now)
        batch = self._understood(found.data)
        return LogRead(
            batch.requests,
            found.position,
            batch.skipped + found.skipped,
            batch.skipped_bytes + found.skipped_bytes,
            found.size,
            found.problem or problem or batch.problem,
            int(found.cut),
            lost_s,
        )

    def _lost(self, found: _Added, now: float) -> tuple[float, str]:
        """How many seconds of a log that was cut are missing at most; what is wrong when that is not known."""
        before, self._seen = self._seen.ended, _Seen(found.position, found.tail, now if found.whole else None)
        if not found.cut:
            if not found.whole:
                self._seen.ended = before
            return 0.0, ""
        if before is None:
            return 0.0, f"{self._path} was cut while it was read, and what it lost is not known."
        return max(0.0, now - before), ""

    def _understood(self, data: bytes) -> Batch:
        rules = self._rules()
        if self._reader is None:
            self._reader = LineReader(rules)
        elif rules != self._followed:
            self._reader.follow(rules)
        self._followed = rules
        return self._reader.read(data, self._clock())

    def _added(self, position: LogPosition) -> _Added:
        """Whole lines from the file of the position, or from the one after it when that one is finished."""
        left = _Added(b"", position)
        while True:
            path = self._where(left.position.inode)
            if path is None:
                start = self._inode()
                problem = left.problem
                if left.position.inode and not problem:
                    problem = f"{self._path} was replaced while it was read, and the rest of the old one is gone."
                left = msgspec.structs.replace(left, position=LogPosition(start), problem=problem)
                path = self._path
                if not start:
                    return left
            with _Opened(path) as file:
                if left.position.inode not in (0, file.inode):
                    continue  # it got another name this moment
                tail = self._seen.tail if self._seen.position == left.position else b""
                found = file.lines(left.position.offset, tail).after(left)
                following = self._following(path)
                if found.data or path == self._path or following is None or not file.finished():
                    return found
                if (rest := file.size - found.position.offset) > 0:
                    found = msgspec.structs.replace(found, skipped=found.skipped + 1)
                    found = msgspec.structs.replace(found, skipped_bytes=found.skipped_bytes + rest)
            left = msgspec.structs.replace(found, position=LogPosition(following))

    def _where(self, inode: int) -> Path | None:
        """The file with this inode, wherever it is now."""
        if not inode:
            return None
        if self._inode() == inode:
            return self._path
        return next((self._directory / name for name, known in self._list().items() if known == inode), None)

    def _following(self, path: Path) -> int | None:
        """The inode of the file that was written after this one, which was put aside; None if there is none yet."""
        number = path.name.removeprefix(f"{NAME}.")
        if number.isdecimal() and int(number) > 1:
            known = self._list().get(f"{NAME}.{int(number) - 1}")
            if known:
                return known
        return self._inode() or None

    def _inode(self) -> int:
        """That of the log that has the name now; 0 if there is none."""
        try:
            return self._path.stat().st_ino
        except FileNotFoundError:
            return 0

    def _list(self) -> dict[str, int]:
        with os.scandir(self._directory) as entries:
            return {entry.name: entry.inode() for entry in entries if entry.name.startswith(NAME)}


def newest_lines(directory: Path, limit: int) -> bytes:
    """Whole lines from the end of the log in `directory` and of the one that was put aside; up to `limit` bytes.

    Nothing where there is no log, or none that can be read.
    """
    parts: list[bytes] = []
    for name in (NAME, f"{NAME}.1"):
        with contextlib.suppress(OSError, ConfigError), _Opened(directory / name) as file:
            parts.insert(0, file.newest(limit - sum(map(len, parts))))
    return b"".join(parts)


class _Added(msgspec.Struct, frozen=True):
    """Whole lines, and where they end."""

    data: bytes
    position: LogPosition
    skipped: int = 0
    skipped_bytes: int = 0
    size: int = 0
    problem: str = ""
    cut: bool = False
    """The file does not have any more what was read of it before."""
    whole: bool = False
    """They reach to the end of what is written, but for a line that is not whole."""
    tail: bytes = b""
    """The last bytes before the position."""

    def after(self, before: _Added) -> _Added:
        """With what was skipped and wrong before."""
        return msgspec.structs.replace(
            self,
            skipped=self.skipped + before.skipped,
            skipped_bytes=self.skipped_bytes + before.skipped_bytes,
            problem=before.problem or self.problem,
            cut=before.cut or self.cut,
        )


class _Seen(msgspec.Struct):
    """What one process knows of the log beside the position."""

    position: LogPosition = LogPosition()
    tail: bytes = b""
    ended: float | None = None
    """When its end was last seen (seconds of the steady clock)."""


class _Opened:
    """A log file, opened for reading."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> Self:
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._stat = os.fstat(self._fd)
        if not stat.S_ISREG(self._stat.st_mode):
            os.close(self._fd)
            raise ConfigError("is no file.", "Remove it: nginx makes a new one when it starts.", where=str(self._path))
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @property
    def inode(self) -> int:
        return self._stat.st_ino

    @property
    def size(self) -> int:
        return self._stat.st_size

    def finished(self) -> bool:
        """Whether nobody writes to it any more. A time in the future is one of before the clock was put back."""
        return not 0.0 <= time.time() - self._stat.st_mtime < QUIET_S

    def last_newline(self) -> int:
        """The place after its last whole line, near the end."""
        start = max(0, self.size - LINE_LIMIT)
        data = os.pread(self._fd, self.size - start, start)
        return start + data.rfind(b"\n") + 1 if b"\n" in data else self.size

    def newest(self, limit: int) -> bytes:
        """Whole lines from its end."""
        start = max(0, self.size - max(0, limit))
        data = os.pread(self._fd, self.size - start, start)
        first = data.find(b"\n") + 1 if start else 0
        return data[first : data.rfind(b"\n") + 1]

    def lines(self, offset: int, tail: bytes) -> _Added:
        """Whole lines from here on, or from the beginning when it was cut. What has no end and is too long is skipped.

        Args:
            offset: where to begin.
            tail: what has to be before that, as far as it is known.
        """
        cut = offset > self.size or os.pread(self._fd, len(tail), offset - len(tail)) != tail
        offset = 0 if cut else offset
        data = os.pread(self._fd, CHUNK, offset)
        whole = data[: data.rfind(b"\n") + 1]
        rest = len(data) - len(whole)
        skipped = rest if not whole and rest > LINE_LIMIT else 0
        position = LogPosition(self.inode, offset + len(whole) + skipped)
        end = (b"" if cut else tail) + data[: len(whole) + skipped]
        reached = len(data) < CHUNK
        return _Added(whole, position, int(skipped > 0), skipped, self.size, "", cut, reached, end[-_TAIL:])
