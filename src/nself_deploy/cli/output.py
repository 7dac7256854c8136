"""What people and programs read: lines for a terminal or a log, and JSON."""

from __future__ import annotations

import sys
from typing import TextIO

import msgspec

from nself_deploy.core.document import Document, StepLine
from nself_deploy.core.model import StepStatus
from nself_deploy.core.plan import Plan
from nself_deploy.errors import NselfError

_COLOURS = {
    StepStatus.DONE: "32",
    StepStatus.FAILED: "31",
    StepStatus.UNHEALTHY: "31",
    StepStatus.RUNNING: "36",
    StepStatus.SKIPPED: "90",
    StepStatus.PENDING: "90",
}
_SIGNS = {"+": "32", "-": "31", "~": "33", "=": "90"}


class Lines:
    """One line per step; on a terminal the running step is shown at once and replaced by its end."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._quiet = quiet
        self._open = ""

    def step(self, line: StepLine) -> None:
        """A step changed."""
        if self._quiet:
            return
        if line.status is StepStatus.RUNNING:
            self._open = f"{self._mark(line.status)} {line.name}"
            if self._live:
                self._put(f"\r\033[K{self._open} ...", end="")
            return
        self._open = ""
        seconds = f" ({line.seconds:.1f} s)" if line.seconds >= 0.05 else ""
        detail = f"  {line.detail}" if line.detail else ""
        start = "\r\033[K" if self._live else ""
        self._put(f"{start}{self._mark(line.status)} {line.name}{seconds}{self._paint(detail, '90')}")

    def progress(self, text: str) -> None:
        """What goes on inside the running step; only shown on a terminal."""
        if self._quiet or not self._live:
            return
        width = 100
        self._put(f"\r\033[K{self._open} {self._paint(text[:width], '90')}", end="")

    def note(self, text: str) -> None:
        """A line beside the steps."""
        if not self._quiet:
            start = "\r\033[K" if self._live else ""
            self._put(f"{start}{text}")

    def plan(self, plan: Plan) -> None:
        """The changes of a plan, one a line."""
        for change in plan.changes:
            reason = f"  {change.reason}" if change.reason else ""
            self.note(
                f"  {self._paint(change.sign, _SIGNS.get(change.sign, '0'))} {change.what}{self._paint(reason, '90')}"
            )
        for warning in plan.warnings:
            self.note(f"  {self._paint('!', '33')} {warning}")

    def diff(self, line: str) -> str:
        """A line of a unified diff, coloured on a terminal."""
        return self._paint(line, {"+": "32", "-": "31", "@": "36"}.get(line[:1], "0"))

    def _mark(self, status: StepStatus) -> str:
        return self._paint(f"[{status.value}]", _COLOURS[status])

    def _paint(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._live and text else text

    def _put(self, text: str, end: str = "\n") -> None:
        self._stream.write(text + end)
        self._stream.flush()


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    sys.stdout.flush()


def print_error(error: NselfError) -> None:
    """The evidence first, then what happened, then what to do."""
    for line in error.evidence:
        sys.stderr.write(f"  {line}\n")
    where = f"{error.where}: " if error.where else ""
    sys.stderr.write(f"error: {where}{error.what}\n")
    if error.remedy:
        sys.stderr.write(f"  -> {error.remedy}\n")
    sys.stderr.flush()


def error_document(error: NselfError, target: str, strategy: str, steps: tuple[StepLine, ...] = ()) -> Document:
    """The document of something that failed before a run began."""
    return Document(
        target, strategy, "", "", steps, 0, success=False, rolled_back=False, final_percent=0, error=str(error)
    )
