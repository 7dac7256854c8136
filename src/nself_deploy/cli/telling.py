"""Around commands that change things: what is checked and asked before, signals, and how it is told how they ended.

Light to import: what only few of them need is imported when it is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator

import click

from nself_deploy import wiring
from nself_deploy.app.result import Result
from nself_deploy.cli.group import DeployGroup
from nself_deploy.cli.output import Lines, emit, print_error, print_json, printable, subject
from nself_deploy.core.machine import Outcome, Phase, Run
from nself_deploy.core.model import StepStatus, Strategy
from nself_deploy.core.plan import Plan
from nself_deploy.core.settings import Settings
from nself_deploy.errors import Exit, GateRefused, NselfError, UsageError

AVAILABLE = (Strategy.BLUE_GREEN, Strategy.CANARY)
ENDING = (signal.SIGINT, signal.SIGTERM)
STOPPED = "Stopped at once. nself deploy status shows what is left; the next command puts it right.\n"
TARGETS = ("local", "staging", "prod")


def report(result: Result, duration_ms: int, root: str, lines: Lines, *, as_json: bool) -> int:
    """Print how it ended; the exit status."""
    from nself_deploy.core.document import run_document, unchanged_document

    if result.run is None:
        if as_json:
            print_json(unchanged_document(result.plan, result.before, duration_ms))
        return int(Exit.OK)
    if as_json:
        print_json(run_document(result.run, result.before, duration_ms))
    return int(tell_result(result, root, lines, f" after {duration_ms / 1000:.1f} s"))


def tell_result(result: Result, root: str, lines: Lines, after: str = "") -> Exit:
    """Say how a run ended, or why it waits; its exit status."""
    run = result.run
    if run is None:
        return Exit.OK
    from nself_deploy.core.document import exit_status

    status = exit_status(run)
    if run.left:
        _tell_left(run, lines, after)
    elif status is Exit.OK:
        wiring.schedule_expiry(result.plan, root)
        lines.note(f"Live: {run.plan.release} in {run.plan.candidate}{after}.")
    elif run.waits:
        from nself_deploy.app.recovery import parked_error

        print_error(parked_error(run))
    elif run.failure is not None:
        failure = run.failure
        print_error(NselfError(failure.message, failure.remedy, evidence=failure.evidence))
        where = f"traffic is on {run.plan.live}" if run.plan.live else "nothing is live"
        words = "everything was undone" if run.ended else "not everything could be undone; the next command goes on"
        emit(sys.stderr, f"  {where}; {words}{_kept(run)}.\n")
    return status


def _tell_left(run: Run, lines: Lines, after: str) -> None:
    """Users are back, and something is left to do."""
    step, failure = run.current(), run.failure
    assert step is not None
    assert failure is not None
    lines.note(f"Users are back on {run.plan.release} in {run.plan.candidate}{after}.")
    words = f"{step.name!r} and what follows wait: {failure.message}"
    emit(sys.stderr, f"  {printable(words)}\n  -> nself deploy resume does it, or the next deploy.\n")


def _kept(run: Run) -> str:
    """Where a candidate is that was kept."""
    begun = any(s.key == "start" and s.status is not StepStatus.SKIPPED for s in run.steps)
    kept = run.ended and run.outcome is Outcome.FAILED and run.plan.keep_failed and begun
    return f"; the containers in {run.plan.candidate} were kept, without traffic" if kept else ""


def needs_yes(target: str, *, as_json: bool, yes: bool) -> bool:
    """Whether a person has to be asked; refused where there is nobody to ask."""
    if target != "prod" or yes:
        return False
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise GateRefused("prod needs a yes.", "Add --yes when nobody can be asked.")
    return True


def gate(made: Plan, target: str, lines: Lines, *, as_json: bool, yes: bool) -> None:
    """Show what will be done; production asks."""
    lines.plan(made.changes, made.warnings)
    if made.judged:
        from nself_deploy.cli.showing import show_expected

        show_expected(made, lines)
    if needs_yes(target, as_json=as_json, yes=yes):
        with default_signals():
            agreed = click.confirm(f"Deploy {made.project} to prod?", default=False)
        if not agreed:
            raise GateRefused("You said no; nothing was done.")


@contextlib.contextmanager
def default_signals() -> Iterator[None]:
    """While a question waits there is nothing to undo: Ctrl-C and SIGTERM end the program at once."""
    ours = {number: signal.getsignal(number) for number in ENDING}
    loop = signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(loop)


def check(settings: Settings) -> None:
    """What is asked for can be done by this version."""
    about = subject()
    about.target, about.strategy = settings.target, settings.strategy.value
    if settings.strategy not in AVAILABLE:
        raise UsageError(
            f"This version can't deploy with the strategy {settings.strategy.value} yet.",
            f"Use --strategy {' or '.join(AVAILABLE)}.",
            where=settings.place("strategy"),
        )
    if settings.target not in TARGETS:
        commands = [name for name in DeployGroup.lazy if name not in ("run", "expire-standby")]
        raise UsageError(
            f"There is no command and no target {settings.target!r}.",
            f"{_meant(settings.target, commands)}Targets: {', '.join(TARGETS)}. Commands: {', '.join(commands)}.",
        )


def _meant(word: str, commands: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, [*commands, *TARGETS], n=1)
    return f"Did you mean {near[0]}? " if near else ""


def on_signals(stop: asyncio.Event, lines: Lines, under_way: Callable[[], Run | None] = lambda: None) -> None:
    """The first Ctrl-C or SIGTERM undoes in order; the second stops at once. A lost terminal stops nothing.

    `under_way` gives the run that the journal has, for words that are true.
    """

    def ask() -> None:
        if stop.is_set():
            emit(sys.stderr, STOPPED)
            os._exit(int(Exit.INTERRUPTED))
        stop.set()
        lines.note(f"interrupted: {_answer(under_way)} (again to stop at once)")

    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, ask)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)


def _answer(under_way: Callable[[], Run | None]) -> str:
    """What a request to stop leads to."""
    run = None
    with contextlib.suppress(NselfError):  # a journal that can't be read stops the run by itself
        run = under_way()
    if run is not None and run.phase is Phase.PARKED:
        return "it stays parked"
    if run is not None and run.committed:
        return "what has proved itself is finished"
    return "the undoing goes on" if run is not None and run.phase is Phase.UNDO else "undoing in order"
