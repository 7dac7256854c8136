"""How far the router's access log was read, and what was read of it."""

from __future__ import annotations

import msgspec

from nself_deploy.core.evidence import Request


class LogPosition(msgspec.Struct, frozen=True):
    """A place in the log: all before it was read. Inode 0: nothing yet, of a log that was not there."""

    inode: int = 0
    offset: int = 0
    """Bytes already read of the file with that inode."""


class LogRead(msgspec.Struct, frozen=True):
    """What one look at the log gave."""

    requests: tuple[Request, ...]
    position: LogPosition
    """Where the next look begins."""
    skipped: int = 0
    """Lines that were not understood."""
    skipped_bytes: int = 0
    """Their length."""
    size: int = 0
    """Bytes of the file now."""
    problem: str = ""
    """Why the log can't be trusted; empty if it can."""
    cuts: int = 0
    """How often it was emptied since the last look."""
    lost_s: float = 0.0
    """What was written in so many seconds at most was not seen."""
