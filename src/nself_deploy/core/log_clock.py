"""Times of the log are wall time, and that may jump; evidence needs time that only goes on.

A line is placed by its own time, counted from the beginning of the deployment. That holds as long as the wall clock
runs like a clock, so it is watched in two ways: against the machine's steady clock, from look to look, and in the log
itself, whose lines are written in the order of their times but for moments. When it jumped, nothing is corrected: what
was measured meanwhile can't be trusted, and that is said once. From then on the new time is taken as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

JUMP_S = 2.0
"""The wall clock may be off by so much from one look to the next, as one that is being corrected slowly is."""
DISORDER_S = 5.0
"""A line may be so much older than one before it, or newer than the clock."""


class Tick(msgspec.Struct, frozen=True):
    """Both clocks of the machine at one moment (seconds)."""

    wall: float
    """Since the epoch."""
    steady: float
    """Since some moment; never goes back."""


class LogClock(msgspec.Struct):
    """What is known about the clock that stamps the lines."""

    newest: float = 0.0
    """The latest time of a line."""
    back: float = 0.0
    """How far a line was behind it, at most, when that is too far."""
    tick: Tick | None = None

    def lines(self, times: Sequence[float]) -> None:
        """Lines with these times follow."""
        newest, limit = self.newest, self.newest - DISORDER_S
        for time in times:
            if time > newest:
                newest, limit = time, time - DISORDER_S
            elif time < limit:
                self.back = max(self.back, newest - time)
                newest, limit = time, time - DISORDER_S
        self.newest = newest

    def looked(self, now: Tick) -> str:
        """The log was read at this moment; what is wrong with the clock since the last time, or nothing."""
        before, self.tick = self.tick, now
        back, self.back = self.back, 0.0
        jump = (now.wall - before.wall) - (now.steady - before.steady) if before else 0.0
        ahead = self.newest - now.wall
        if abs(jump) > JUMP_S:
            self.newest = min(self.newest, now.wall)
            return f"the machine's clock jumped by {jump:+.1f} s"
        if back:
            return f"the clock that stamps the access log went back by {back:.1f} s"
        if ahead > DISORDER_S:
            self.newest = now.wall
            return f"the clock that stamps the access log is {ahead:.1f} s ahead of this machine's"
        return ""
