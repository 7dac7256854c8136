"""An event loop whose time jumps: when nothing is ready, it is the time of the next timer at once."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any


class Stuck(Exception):
    """Everybody waits, and nothing will ever happen."""


class Call:
    """What asyncio's handles are, without what only real loops need."""

    __slots__ = ("args", "callback", "context", "dropped")

    _source_traceback = None
    """The base class of the loop asks for it."""

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.dropped = False

    def cancel(self) -> None:
        """Don't do it."""
        self.dropped = True

    def cancelled(self) -> bool:
        """Whether it is not done."""
        return self.dropped


class VirtualLoop(asyncio.BaseEventLoop):
    """Seconds from 0. Timers of one moment run in the order in which they were set."""

    _ready: deque[Call]
    _scheduled: list[tuple[float, int, Call]]
    _stopping: bool

    get_debug = staticmethod(bool)
    """No; asked so often that it is not asked of a function in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._timers = 0
        self.set_exception_handler(lambda loop, context: None)  # what a dead process leaves behind is looked at by us

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Call:
        """As the base class does it, without its checks for a loop that is closed or used from another thread."""
        call = Call(callback, args, context)
        self._ready.append(call)
        return call

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Call:
        """The same for a timer."""
        call = Call(callback, args, context)
        self._timers += 1
        heapq.heappush(self._scheduled, (when, self._timers, call))
        return call

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: object = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """The same for a task; no name is made up for it."""
        return asyncio.Task(coro, loop=self, name=str(name or ""), context=context)

    def _run_once(self) -> None:
        """All that is ready, and when nothing is, the next timer: nothing ever arrives from outside."""
        ready = self._ready
        while not self._stopping:
            if not ready:
                self._next_timers()
            for _ in range(len(ready)):
                call = ready.popleft()
                if not call.dropped:
                    _do(call)

    def _next_timers(self) -> None:
        ready, timers = self._ready, self._scheduled
        while timers and timers[0][2].dropped:
            heapq.heappop(timers)
        if not timers:
            raise Stuck("nothing is scheduled any more")
        self.now = now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= now:
            ready.append(heapq.heappop(timers)[2])

    def _write_to_self(self) -> None:
        """Nobody sleeps in a system call that would have to be woken."""


def _do(call: Call) -> None:
    try:
        if call.context is None:
            call.callback(*call.args)
        else:
            call.context.run(call.callback, *call.args)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:  # as above
        return
