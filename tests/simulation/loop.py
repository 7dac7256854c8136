"""An event loop whose time jumps: when nothing is ready, it is the time of the next timer at once."""

from __future__ import annotations

import asyncio
from typing import Any


class Stuck(Exception):
    """Everybody waits, and nothing will ever happen."""


class _Jump:
    """In the place of a selector: nothing ever arrives from outside, so waiting means jumping."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck("nothing is scheduled any more")
        self._loop.now += timeout
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Seconds from 0. Timers of one moment run in the order in which they were set."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector = _Jump(self)
        self._clock_resolution = 1e-6
        self.set_exception_handler(lambda loop, context: None)  # what a dead process leaves behind is looked at by us

    def time(self) -> float:
        return self.now

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in a system call that would have to be woken."""
