"""An event loop whose time passes only while there is nothing to do: no test depends on how busy the machine is.

For tests in which everybody who talks over sockets lives in the one loop. A time limit is over when nothing at all
happened for that long: not because the process had to wait for the processor between a question and its answer.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LOOK_S: Final = 0.25
"""Nothing that was sent on loopback is under way for that long: longer pauses need not be waited for."""


class _Selector(selectors.DefaultSelector):
    """Counts the time that passed without an event."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(timeout if timeout is None else min(timeout, LOOK_S))
        if not events and timeout is not None and timeout > 0:
            self.passed += timeout
        return events


class PatientLoop(asyncio.SelectorEventLoop):
    """Seconds from 1000."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return 1000.0 + self._clock.passed


def patiently(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it to its end in such a loop."""
    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        return runner.run(coroutine)


def patient(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The same for a test."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        patiently(test(*args, **kwargs))

    return run
