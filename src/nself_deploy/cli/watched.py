"""What `watch` does: watch, say how it went."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence

from nself_deploy.app.slo_guard import STEP, progress
from nself_deploy.cli.output import Lines, emit, print_error, print_json
from nself_deploy.cli.telling import ENDING, STOPPED
from nself_deploy.core.document import run_document
from nself_deploy.core.model import StepStatus, Strategy
from nself_deploy.core.rollback import RollbackUIState
from nself_deploy.core.slo import Pace
from nself_deploy.core.step_lines import StepLine
from nself_deploy.core.watch_document import WatchDocument, alert_line, objective_lines
from nself_deploy.errors import Exit, NselfError
from nself_deploy.wiring.service_rollback import Told
from nself_deploy.wiring.watching import Watched
from nself_deploy.wiring.watching import watch as run


def watch(directory: str, texts: Sequence[str], for_s: float | None, *, as_json: bool) -> int:
    """Watch until it ends; the exit status."""
    lines, start = Lines(sys.stdout, quiet=as_json), time.monotonic()
    found = asyncio.run(_watch(directory, texts, for_s, lines))
    status = status_of(found, timed=for_s is not None)
    if as_json:
        print_json(document_of(found, status, round((time.monotonic() - start) * 1000)))
    state = found.end.state
    if status == Exit.PARKED and found.end.helpless:
        print_error(NselfError(f"An alert fires: {found.end.helpless}.", "Look at it: nself deploy status"))
    elif status == Exit.PARKED:
        what = f"Not every objective can be judged: {found.end.unmeasured}."
        print_error(NselfError(what, "Make Prometheus answer, or watch longer."))
    elif found.rollback is not None and state is not None and state.error:
        print_error(NselfError(state.error, found.rollback.remedy, evidence=found.rollback.evidence))
    elif state is not None:
        lines.note(f"{state.ui_state.value}: {state.service} in {state.environment}, back on {state.prior_version}")
    return int(status)


async def _watch(directory: str, texts: Sequence[str], for_s: float | None, lines: Lines) -> Watched:
    start = time.monotonic()
    told = Told(lines.step, lines.progress, lines.note)
    _on_signals(told.stop, lines)
    async with lines.ticking():
        found = await run(directory, texts, for_s, told)
        words = _words(found)
        lines.step(StepLine(STEP, StepStatus.DONE, time.monotonic() - start, words))
    return found


def _on_signals(stop: asyncio.Event, lines: Lines) -> None:
    """The first Ctrl-C or SIGTERM ends the watch, or undoes its rollback in order; the second stops at once."""

    def ask() -> None:
        if stop.is_set():
            emit(sys.stderr, STOPPED)
            os._exit(int(Exit.INTERRUPTED))
        stop.set()
        lines.note("the watch ends (again to stop at once)")

    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, ask)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)


def _words(found: Watched) -> str:
    return f"{'stopped; ' if found.end.stopped else ''}{progress(found.end.standings, None)}"


def status_of(found: Watched, *, timed: bool) -> Exit:
    """The exit status; a watch for good that is stopped has done what it was for."""
    end = found.end
    if end.state is not None and end.state.ui_state is RollbackUIState.POPULATED and timed:
        return Exit.FAILED
    if end.stopped:
        return Exit.INTERRUPTED if timed else Exit.OK
    if not end.helpless:
        return Exit.PARKED if timed and end.unmeasured else Exit.OK
    return Exit(end.state.exit_status) if end.state is not None and end.state.error == end.helpless else Exit.PARKED


def document_of(found: Watched, status: Exit, duration_ms: int) -> WatchDocument:
    """The document that is printed."""
    end, result = found.end, found.rollback.result if found.rollback else None
    state, run = end.state, result.run if result else None
    made = run_document(run, result.before if result else (), duration_ms) if run else None
    return WatchDocument(
        target=state.environment if state else "local",
        strategy=made.strategy if made else Strategy.BLUE_GREEN.value,
        release=end.release,
        previous_release=made.previous_release if made else "",
        steps=made.steps if made else (),
        duration_ms=duration_ms,
        success=status is Exit.OK,
        rolled_back=made is not None and made.success,
        final_percent=made.final_percent if made else 100,
        error=_error(found, status),
        objectives=objective_lines(end.standings),
        alerts=tuple(alert_line(told.alert, told.at, firing=told.firing) for told in end.alerts),
        ui_state=state.ui_state if state else None,
        service=state.service if state else "",
        prior_version=state.prior_version if state else "",
        audit_event_id=state.audit_event_id if state else "",
    )


def _error(found: Watched, status: Exit) -> str:
    end = found.end
    if status is Exit.OK:
        return ""
    if status is Exit.FAILED and end.state is not None and not end.state.error:
        burnt = next((told.alert.words for told in reversed(end.alerts) if told.alert.windows.pace is Pace.FAST), "")
        return f"rolled back to {end.state.prior_version}: {burnt}"
    return (end.state.error if end.state is not None else "") or end.helpless or _unproved(found, status)


def _unproved(found: Watched, status: Exit) -> str:
    return f"no data: {found.end.unmeasured}" if status is Exit.PARKED else "stopped before its time"
