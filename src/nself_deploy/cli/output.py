"""What people and programs read: lines for a terminal or a log, and JSON."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

import click
import msgspec

from nself_deploy.core.model import StepStatus, Strategy
from nself_deploy.core.plan import Change
from nself_deploy.core.step_lines import StepLine
from nself_deploy.errors import NselfError

if TYPE_CHECKING:
    from nself_deploy.core.document import Document

_COLOURS = {
    StepStatus.DONE: "32",
    StepStatus.FAILED: "31",
    StepStatus.UNHEALTHY: "31",
    StepStatus.RUNNING: "36",
    StepStatus.SKIPPED: "90",
    StepStatus.PENDING: "90",
}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_SIGNS = {"+": "32", "-": "31", "~": "33", "=": "90"}


class Lines:
    """One line per step; on a terminal the running step is shown, counts its seconds, and is replaced by its end."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._colours = self._live and not os.environ.get("NO_COLOR")
        self._quiet = quiet
        self._running = ""
        self._doing = ""
        self._since = 0.0

    def step(self, line: StepLine) -> None:
        """A step changed."""
        if line.status is StepStatus.RUNNING:
            if line.name != self._running:
                self._running, self._doing, self._since = line.name, "", time.monotonic()
            self.tick()
            return
        self._running = ""
        seconds = f" ({line.seconds:.1f} s)" if line.seconds >= 0.05 else ""
        detail = f"  {line.detail}" if line.detail else ""
        self.note(f"{self._mark(line.status)} {line.name}{seconds}{self._paint(detail, '90')}")

    def progress(self, text: str) -> None:
        """What goes on inside the running step; only shown on a terminal."""
        self._doing = " ".join(_CONTROL.sub(" ", text).split())
        self.tick()

    def tick(self) -> None:
        """Show the running step as it is now, in one line of the terminal."""
        if self._quiet or not self._live or not self._running:
            return
        seconds = int(time.monotonic() - self._since)
        waited = f" {seconds} s" if seconds >= 2 else " ..."
        rest = f"{waited}  {self._doing}" if self._doing else waited
        room = self._width() - len(f"[{StepStatus.RUNNING.value}] ")
        name = self._running[: max(room, 0)]
        room -= len(name)
        cut = rest if len(rest) <= room else rest[: max(room - 3, 0)] + "..."[: max(room, 0)]
        self._put(f"\r\033[K{self._mark(StepStatus.RUNNING)} {name}{self._paint(cut, '90')}", end="")

    @contextlib.asynccontextmanager
    async def ticking(self) -> AsyncIterator[None]:
        """Count the seconds of running steps; leaves no unfinished line behind, however it ends."""
        import asyncio

        async def count() -> None:
            while True:
                await asyncio.sleep(1)
                self.tick()

        task = asyncio.ensure_future(count())
        try:
            yield
        finally:
            task.cancel()
            if self._running:
                self._running = ""
                if self._live and not self._quiet:
                    self._put("\r\033[K", end="")

    def note(self, text: str) -> None:
        """A line beside the steps."""
        if not self._quiet:
            start = "\r\033[K" if self._live else ""
            self._put(f"{start}{text}")
            self.tick()

    def title(self, text: str) -> None:
        """A line over others."""
        self.note(self._paint(text, "1"))

    def list(self, words: Iterable[str]) -> None:
        """Indented lines."""
        for line in words:
            self.note(f"  {line}")

    def table(self, rows: Sequence[Sequence[object]], *, colour: str = "90") -> None:
        """Rows of words in columns, the last one as long as it is; it is the explanation (grey)."""
        widths = [max(len(str(row[n])) for row in rows) for n in range(len(rows[0]) - 1)] if rows else []
        for *head, last in rows:
            words = "  ".join(f"{word!s:<{width}}" for word, width in zip(head, widths, strict=True))
            self.note(f"  {words}  {self._paint(str(last), colour)}")

    def plan(self, changes: Iterable[Change], warnings: Iterable[str]) -> None:
        """The changes of a plan, one a line."""
        for change in changes:
            reason = f"  {change.reason}" if change.reason else ""
            sign = self._paint(change.sign, _SIGNS.get(change.sign, "0"))
            self.note(f"  {sign} {change.what}{self._paint(reason, '90')}")
        for warning in warnings:
            self.note(f"  {self._paint('!', '33')} {warning}")

    def diff(self, line: str) -> str:
        """A line of a unified diff, coloured on a terminal."""
        return self._paint(line, {"+": "32", "-": "31", "@": "36"}.get(line[:1], "0"))

    def _width(self) -> int:
        """Columns of the terminal, now: people change them."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def _mark(self, status: StepStatus) -> str:
        return self._paint(f"[{status.value}]", _COLOURS[status])

    def _paint(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours and text else text

    def _put(self, text: str, end: str = "\n") -> None:
        emit(self._stream, text + end)


_LOST: list[str] = []


def emit(stream: TextIO, text: str) -> None:
    """Write, never fail: a deploy is not stopped half-way because nobody reads about it any more."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if not (isinstance(error, BrokenPipeError) or _closed_terminal(stream, error)):
            _LOST.append(error.strerror or str(error))
        with contextlib.suppress(OSError):  # streams without a descriptor have nothing left to flush at the end
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)


def _closed_terminal(stream: TextIO, error: OSError) -> bool:
    """Whether this was a terminal that is gone: nobody misses what is written there."""
    with contextlib.suppress(OSError):
        return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
    return False


def lost_output() -> str:
    """Why something could not be written (not: because its reader went away); empty when all was."""
    return _LOST[0] if _LOST else ""


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    emit(sys.stdout, msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_error(error: NselfError) -> None:
    """The evidence first, then what happened, then what to do. Control characters in it are shown as such."""
    where = f"{error.where}: " if error.where else ""
    lines = [f"  {line}" for line in error.evidence] + [f"error: {where}{error.what}"]
    if error.remedy:
        lines.append(f"  -> {error.remedy}")
    emit(sys.stderr, "".join(f"{printable(line)}\n" for line in lines))


def printable(text: str) -> str:
    """With control characters shown as such."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


@dataclass
class Subject:
    """What a command is about, as far as it is known; an error that comes later is told with it."""

    target: str = "local"
    strategy: str = Strategy.BLUE_GREEN.value
    key: str = field(default="", repr=False)
    """The deploy key of the environment, taken out of it."""


def subject() -> Subject:
    """That of the command that runs."""
    found = click.get_current_context().obj
    return found if isinstance(found, Subject) else Subject()


def error_document(error: NselfError, target: str, strategy: str, steps: tuple[StepLine, ...] = ()) -> Document:
    """The document of something that failed before a run began."""
    from nself_deploy.core.document import Document

    text = str(error).encode(errors="backslashreplace").decode()
    return Document(target, strategy, "", "", steps, 0, success=False, rolled_back=False, final_percent=0, error=text)
