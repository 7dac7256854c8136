"""What people see: on a real terminal (a pty), and in a file."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import termios
from collections.abc import Callable, Iterator
from typing import TextIO

import pytest

from nself_deploy.cli import output
from nself_deploy.cli.output import Lines
from nself_deploy.core.model import StepStatus
from nself_deploy.core.plan import Change
from nself_deploy.core.step_lines import StepLine

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
RUNNING = StepLine("Health check green", StepStatus.RUNNING)
DONE = StepLine("Health check green", StepStatus.DONE, 8.21, "2 containers healthy after 8.2 s")


class Terminal:
    """A pseudo terminal of some columns; what was written to it."""

    def __init__(self, columns: int) -> None:
        self._reader, writer = pty.openpty()
        self.stream: TextIO = os.fdopen(writer, "w")
        self.resize(columns)

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def text(self) -> str:
        """All that was written since the last call."""
        self.stream.write("\0")
        self.stream.flush()
        read = b""
        while not read.endswith(b"\0"):
            read += os.read(self._reader, 65_536)
        return read[:-1].decode()

    def close(self) -> None:
        self.stream.close()
        os.close(self._reader)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    made = Terminal(60)
    yield made
    made.close()


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass."""
    now = [1000.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])

    def later(seconds: float) -> None:
        now[0] += seconds

    return later


def plain(text: str) -> str:
    return COLOUR.sub("", text)


def painted(text: str) -> list[str]:
    """Each state of the last line, as it can be seen."""
    return [part for part in plain(text).split("\r\x1b[K") if part]


def test_a_step_is_shown_at_once_counts_its_seconds_and_is_replaced(
    terminal: Terminal, wait: Callable[[float], None]
) -> None:
    lines = Lines(terminal.stream)
    lines.step(RUNNING)
    wait(3.4)
    lines.tick()
    lines.progress("web: its healthcheck says starting")
    lines.step(DONE)

    assert painted(terminal.text()) == [
        "[running] Health check green ...",
        "[running] Health check green 3 s",
        "[running] Health check green 3 s  web: its healthcheck sa...",
        "[done] Health check green (8.2 s)  2 containers healthy after 8.2 s\r\n",
    ]


@pytest.mark.parametrize("columns", [10, 28, 40, 61, 200])
def test_progress_never_wraps(columns: int, terminal: Terminal, wait: Callable[[float], None]) -> None:
    lines = Lines(terminal.stream)
    terminal.resize(columns)
    lines.step(StepLine("Start green", StepStatus.RUNNING))
    wait(100)
    lines.progress("#12 [web 4/6] RUN pip install\r\n\x1b[2K\t" + "x" * 150)

    shown = painted(terminal.text())[-1]
    assert len(shown) <= columns
    assert shown.startswith("[running] Start green"[:columns])
    assert "\n" not in shown and "\x1b" not in shown


def test_a_note_does_not_tear_the_running_line(terminal: Terminal) -> None:
    lines = Lines(terminal.stream)
    lines.step(RUNNING)
    lines.note("interrupted: undoing in order")

    assert painted(terminal.text())[1:] == ["interrupted: undoing in order\r\n", "[running] Health check green ..."]


async def test_no_unfinished_line_is_left_behind(terminal: Terminal) -> None:
    lines = Lines(terminal.stream)
    with pytest.raises(RuntimeError):
        async with lines.ticking():
            lines.step(RUNNING)
            raise RuntimeError

    assert terminal.text().endswith("\r\x1b[K")


def test_colours_are_a_matter_of_taste(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    Lines(terminal.stream).step(DONE)
    assert COLOUR.search(terminal.text())

    monkeypatch.setenv("NO_COLOR", "1")
    Lines(terminal.stream).step(DONE)
    assert not COLOUR.search(terminal.text())


@pytest.mark.parametrize("dumb", [True, False])
def test_a_log_gets_whole_lines_only(dumb: bool, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb" if dumb else "xterm")
    stream = terminal.stream if dumb else io.StringIO()
    lines = Lines(stream)
    lines.step(RUNNING)
    lines.progress("web: its healthcheck says starting")
    lines.step(DONE)
    lines.plan([Change("+", "green/web", "web:2"), Change("~", "split")], ["beware"])
    lines.table([("api", "app", "keeps nothing"), ("db", "shared", "image postgres:17")])

    text = terminal.text() if dumb else stream.getvalue()
    assert text.replace("\r\n", "\n").splitlines() == [
        "[done] Health check green (8.2 s)  2 containers healthy after 8.2 s",
        "  + green/web  web:2",
        "  ~ split",
        "  ! beware",
        "  api  app     keeps nothing",
        "  db   shared  image postgres:17",
    ]


def test_quiet_is_silent_for_json(terminal: Terminal) -> None:
    lines = Lines(terminal.stream, quiet=True)
    lines.step(RUNNING)
    lines.progress("x")
    lines.step(DONE)
    lines.note("x")
    lines.plan([Change("~", "split")], ["x"])

    assert terminal.text() == ""
