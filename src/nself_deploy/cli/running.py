"""What the commands of `release` do: open the project, take the lock, run the use case, say how it went."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click

from nself_deploy import wiring
from nself_deploy.app import deploy as use_cases
from nself_deploy.app.deploy import Result
from nself_deploy.app.locking import held, is_warm
from nself_deploy.app.planning import preview
from nself_deploy.app.recovery import parked_error
from nself_deploy.app.standby import recorded, wait_and_expire
from nself_deploy.app.world import World
from nself_deploy.cli.group import DeployGroup
from nself_deploy.cli.output import Lines, emit, print_error, print_json, subject
from nself_deploy.cli.showing import show_forecast, show_plan
from nself_deploy.cli.waiting import waited
from nself_deploy.core.document import (
    PlanDocument,
    SettingLine,
    exit_status,
    plan_document,
    run_document,
    unchanged_document,
)
from nself_deploy.core.forecast import outlook
from nself_deploy.core.machine import Outcome, Phase, Run
from nself_deploy.core.model import StepStatus, Strategy
from nself_deploy.core.plan import Plan
from nself_deploy.core.settings import Settings
from nself_deploy.errors import Exit, GateRefused, NselfError, UsageError

AVAILABLE = (Strategy.BLUE_GREEN, Strategy.CANARY)
ENDING = (signal.SIGINT, signal.SIGTERM)
STOPPED = "Stopped at once. nself deploy status shows what is left; the next command puts it right.\n"
TARGETS = ("local", "staging", "prod")

UseCase = Callable[[wiring.Opened, asyncio.Event, Callable[[Plan], None]], Awaitable[Result]]


def plan(flags: dict[str, Any], directory: str, *, as_json: bool) -> int:
    """Print what a deploy would do."""
    _check(wiring.check_flags(flags))

    async def go() -> PlanDocument:
        async with wiring.open_world(directory, flags, write=False) as opened:
            _check(opened.settings)
            _check_canary(opened.settings)
            made = await preview(opened.world, opened.wanted())
            settings = tuple(SettingLine(s.name, s.value, s.origin) for s in opened.settings.listing())
            return plan_document(made, opened.world.project, settings)

    document = asyncio.run(go())
    if as_json:
        print_json(document)
    else:
        show_plan(document, Lines(sys.stdout))
    return int(Exit.OK)


def deploy(
    flags: dict[str, Any], directory: str, *, as_json: bool, yes: bool, keep_failed: bool = False, wait_s: float = 0.0
) -> int:
    """Bring the present version live."""

    async def go(opened: wiring.Opened, stop: asyncio.Event, ask: Callable[[Plan], None]) -> Result:
        return await use_cases.deploy(opened.world, opened.wanted(keep_failed=keep_failed), stop, ask)

    return _changing(flags, directory, "deploy", go, as_json=as_json, yes=yes, hold=Hold(wait_s))


def rollback(flags: dict[str, Any], directory: str, *, as_json: bool, yes: bool, to: str, wait_s: float = 0.0) -> int:
    """Go back to the previous release, or to the one named."""

    async def go(opened: wiring.Opened, stop: asyncio.Event, ask: Callable[[Plan], None]) -> Result:
        return await use_cases.rollback(opened.world, opened.timing, opened.settings.target, stop, ask, to=to)

    hold = Hold(wait_s, lambda world: is_warm(world, to))
    return _changing(flags, directory, "rollback", go, as_json=as_json, yes=yes, hold=hold)


def expire_standby(seconds: float, directory: str) -> int:
    """Wait without holding anything, then remove a standby whose time is over."""
    with contextlib.closing(wiring.open_store(directory)) as store:
        waited_for = recorded(store)

    async def go() -> None:
        await asyncio.sleep(seconds)
        async with wiring.open_world(directory, {}, write=True) as opened:
            await wait_and_expire(opened.world, 0, opened.settings.target, waited_for)

    asyncio.run(go())
    return int(Exit.OK)


@dataclass(frozen=True)
class Hold:
    """How a command takes the lock."""

    wait_s: float = 0.0
    warm: Callable[[World], bool] = lambda world: False
    """Whether it goes on without an engine that can't be asked."""


def _changing(
    flags: dict[str, Any], directory: str, purpose: str, use_case: UseCase, *, as_json: bool, yes: bool, hold: Hold
) -> int:
    given = wiring.check_flags(flags)
    _check(given)
    _needs_yes(given.target, as_json=as_json, yes=yes)
    lines = Lines(sys.stdout, quiet=as_json)
    start = time.monotonic()

    async def go() -> tuple[Result, str]:
        stop = asyncio.Event()
        on_signals(stop, lines)
        async with wiring.open_world(directory, flags, write=True) as opened, lines.ticking():
            settings, world = opened.settings, opened.world
            on_signals(stop, lines, world.store.unfinished)
            _check(settings)
            _check_canary(settings)
            world.watcher, world.progress, world.note = lines.step, lines.progress, lines.note
            words, target = f"{purpose} ({settings.target})", settings.target
            async with held(world, words, target, stop, wait_s=hold.wait_s, warm=hold.warm(world)):
                result = await use_case(
                    opened, stop, lambda made: _gate(made, settings.target, lines, as_json=as_json, yes=yes)
                )
            return await waited(world, result, target, stop), str(world.root)

    result, root = asyncio.run(go())
    return _report(result, int((time.monotonic() - start) * 1000), root, lines, as_json=as_json)


def _report(result: Result, duration_ms: int, root: str, lines: Lines, *, as_json: bool) -> int:
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
    status = exit_status(run)
    if status is Exit.OK:
        wiring.schedule_expiry(result.plan, root)
        lines.note(f"Live: {run.plan.release} in {run.plan.candidate}{after}.")
    elif run.waits:
        print_error(parked_error(run))
    elif run.failure is not None:
        failure = run.failure
        print_error(NselfError(failure.message, failure.remedy, evidence=failure.evidence))
        where = f"traffic is on {run.plan.live}" if run.plan.live else "nothing is live"
        words = "everything was undone" if run.ended else "not everything could be undone; the next command goes on"
        emit(sys.stderr, f"  {where}; {words}{_kept(run)}.\n")
    return status


def _kept(run: Run) -> str:
    """Where a candidate is that was kept."""
    begun = any(s.key == "start" and s.status is not StepStatus.SKIPPED for s in run.steps)
    kept = run.ended and run.outcome is Outcome.FAILED and run.plan.keep_failed and begun
    return f"; the containers in {run.plan.candidate} were kept, without traffic" if kept else ""


def _needs_yes(target: str, *, as_json: bool, yes: bool) -> bool:
    """Whether a person has to be asked; refused where there is nobody to ask."""
    if target != "prod" or yes:
        return False
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise GateRefused("prod needs a yes.", "Add --yes when nobody can be asked.")
    return True


def _gate(made: Plan, target: str, lines: Lines, *, as_json: bool, yes: bool) -> None:
    """Show what will be done; production asks."""
    lines.plan(made.changes, made.warnings)
    if (expected := outlook(made)) is not None:
        show_forecast(expected, lines)
    if _needs_yes(target, as_json=as_json, yes=yes):
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


def _check(settings: Settings) -> None:
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


def _check_canary(settings: Settings) -> None:
    """Nothing is asked for that would have no effect."""
    if settings.strategy is Strategy.CANARY:
        return
    fields = ["initial_percent", "steps", "soak_minutes"] + ([] if settings.bake_s else ["error_threshold_pct"])
    idle = next((settings.place(field) for field in fields if settings.origins.get(field) == "flag"), "")
    if idle:
        what = f"{idle} has no effect with the strategy {settings.strategy}."
        raise UsageError(what, "Add --strategy canary, or leave it out.", where=idle)


def _meant(word: str, commands: list[str]) -> str:
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
