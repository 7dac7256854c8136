"""A canary judged once more, from its record: whether all that was decided comes out as it did then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import msgspec

from nself_deploy.core import record_lines as lines
from nself_deploy.core.canary import Session
from nself_deploy.core.evidence import RULES
from nself_deploy.core.recorder import opened, told

_SAID = get_args(lines.Said)
_WRONG = (ValueError, TypeError, LookupError, ArithmeticError, AssertionError)
"""What a judge says to calls that nobody made."""


class Difference(msgspec.Struct, frozen=True):
    """The first line that is not as it should be."""

    line: int
    """Counts from 1."""
    recorded: str
    computed: str


class Replayed(msgspec.Struct):
    """What became of a record."""

    lines: int = 0
    requests: int = 0
    decisions: int = 0
    """What was compared: verdicts with their evidence, and what was decided."""
    verdict: str = ""
    """The last one."""
    whole: bool = False
    """Whether the record says that it has all."""
    note: str = ""
    """What has to be known about it."""
    difference: Difference | None = None


def replayed(data: bytes) -> Replayed:
    """Judge again what is on record.

    It ends at the first difference; what is behind a line that says that the record is full is not looked at.
    """
    found = Replayed()
    _Replay(found).through(data.splitlines(keepends=True))
    return found


class _Replay:
    def __init__(self, found: Replayed) -> None:
        self._found = found
        self._session: Session | None = None

    def through(self, pieces: Iterable[bytes]) -> None:
        found = self._found
        for piece in pieces:
            if not piece.endswith(b"\n"):
                found.note = "its last line is not whole"
                return
            found.lines += 1
            try:
                line = lines.decoded(piece)
            except ValueError as error:
                self._differs(piece, f"no line of a record: {error}")
                return
            if isinstance(line, lines.Ended):
                found.whole = True
                return
            if isinstance(line, lines.Full):
                found.note = f"it was full after {found.requests} requests, and says nothing of what came then"
                return
            try:
                self._take(line, piece)
            except _WRONG as error:
                self._differs(piece, f"no judge was told that: {error!r}")
            if found.difference is not None:
                return

    def _take(self, line: lines.Begun | lines.Requests | lines.Told | lines.Said, piece: bytes) -> None:
        found = self._found
        if isinstance(line, lines.Begun):
            if line.form != lines.FORM or line.rules != RULES:
                found.note = "another version of this program made it, with other rules"
            self._session = opened(line)
            return
        session = self._session
        if session is None:
            raise ValueError("it does not begin with a judge")
        if isinstance(line, lines.Requests):
            requests = lines.unpacked(line, session.began, tuple(session.judge.routes))
            found.requests += len(requests)
            session.feed(requests)
            return
        again = told(session, line)
        if isinstance(again, _SAID):
            found.decisions += 1
            found.verdict = (session if session.bake is None else session.bake).verdict.value
        if again != line:
            self._differs(piece, lines.encoded([again]).decode().strip())

    def _differs(self, piece: bytes, computed: str) -> None:
        recorded = piece.decode(errors="backslashreplace").strip()
        self._found.difference = Difference(self._found.lines, recorded[:400], computed[:400])
