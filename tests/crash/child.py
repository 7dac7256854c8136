"""`nself deploy …` in a process that kills itself (SIGKILL) at one boundary: `… child PLACE FILE WRITES deploy WORDS`.

A boundary is a moment between two things that a run writes down or does: before the run is in the journal, after that
(which is before the first intent), after each intent, after each effect (that worked or not), and after each outcome
(which is before the next intent: nothing happens between the two). Each one that is reached is a line of the file.
PLACE is the boundary's number, or its name. With WRITES (1, else 0) there are more of them: `tests/crash/writes.py`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from nself_deploy.adapters.journal import Journal
from nself_deploy.app import way_back
from nself_deploy.app.executor import Executor
from nself_deploy.app.world import World
from nself_deploy.cli.main import run
from nself_deploy.core.effects import Effect, MoveTraffic, ProbeWarm
from nself_deploy.core.machine import Run
from tests.crash.writes import wrap_writes


def kills_itself_at(place: str, file: str) -> Callable[[str], None]:
    """What is called at each boundary."""
    passed = 0

    def reached(name: str) -> None:
        nonlocal passed
        passed += 1
        with open(file, "a") as lines:
            lines.write(f"{name}\n")
        if place in (str(passed), name):
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def wrap(reached: Callable[[str], None]) -> None:
    """Have the boundaries reported by what every command works with."""
    begin, record, perform = Journal.begin, Journal.record, Executor.perform

    def begin_wrapped(self: Journal, run: Run, slots: Any = None) -> None:
        reached("before the run")
        begin(self, run, slots)
        reached("after the run's begin")

    def record_wrapped(self: Journal, run: Run, kind: str, step: str, *rest: Any, **named: Any) -> int:
        seq = record(self, run, kind, step, *rest, **named)
        if kind in ("intent", "outcome"):
            reached(f"after the {kind} of {step}")
        return seq

    async def perform_wrapped(self: Executor, effect: Effect, run: Run) -> str:
        step = run.current()
        try:
            return await perform(self, effect, run)
        finally:
            reached(f"after the effect of {step.key if step else ''}")

    first = way_back.first_effects

    async def first_wrapped(world: World, effect: ProbeWarm | MoveTraffic, run: Run, *, fresh: bool) -> str:
        step = run.current()
        try:
            return await first(world, effect, run, fresh=fresh)
        finally:
            reached(f"after the effect of {step.key if step else ''}")

    way_back.first_effects = first_wrapped
    Journal.begin = begin_wrapped  # type: ignore[method-assign]
    Journal.record = record_wrapped  # type: ignore[assignment]
    Executor.perform = perform_wrapped  # type: ignore[method-assign]


if __name__ == "__main__":
    at_boundary = kills_itself_at(sys.argv[1], sys.argv[2])
    wrap(at_boundary)
    if sys.argv[3] == "1":
        wrap_writes(at_boundary)
    sys.argv[1:4] = []
    run()
