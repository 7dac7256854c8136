"""Commands that change things: deploy (and its plan), rollback, and the end of a standby."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import click

from nself_deploy import wiring
from nself_deploy.app.deploy import Result
from nself_deploy.app.standby import take_lock
from nself_deploy.app.world import World
from nself_deploy.cli.options import common, deploy_options, flags_of
from nself_deploy.cli.output import Lines, error_document, print_error, print_json
from nself_deploy.core.document import (
    PlanDocument,
    SettingLine,
    exit_status,
    plan_document,
    run_document,
    unchanged_document,
)
from nself_deploy.core.model import Strategy
from nself_deploy.core.plan import Plan
from nself_deploy.core.settings import Settings
from nself_deploy.errors import Exit, GateRefused, NselfError, UsageError

AVAILABLE = (Strategy.BLUE_GREEN,)


@click.command(hidden=True)
@click.argument("target", required=False)
@deploy_options
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
@click.option("-y", "--yes", "--force", "yes", is_flag=True, help="Don't ask, also not for prod.")
@common
def run(target: str | None, dry_run: bool, yes: bool, as_json: bool, directory: str, **options: Any) -> int:
    """Bring the present version of the project live."""
    if dry_run:
        return _plan(target, as_json, directory, options)
    flags = {**flags_of(options), "target": target}
    return _changing(flags, directory, as_json, "deploy", yes, lambda w, s, i, c: _deploy(w, s, i, c))


@click.command()
@click.argument("target", required=False)
@deploy_options
@common
def plan(target: str | None, as_json: bool, directory: str, **options: Any) -> int:
    """Show what a deploy would do, and why, without doing it."""
    return _plan(target, as_json, directory, options)


@click.command()
@click.argument("target", required=False)
@click.option("--to", default="", metavar="RELEASE", help="An older release than the previous one (see history).")
@click.option("-y", "--yes", "--force", "yes", is_flag=True, help="Don't ask, also not for prod.")
@deploy_options
@common
def rollback(target: str | None, to: str, yes: bool, as_json: bool, directory: str, **options: Any) -> int:
    """Go back to the previous release: at once while it is warm, else it is started again from its record."""
    from nself_deploy.app import deploy

    flags = {**flags_of(options), "target": target}

    def go(
        world: World, settings: Settings, stop: asyncio.Event, ask: Callable[[Plan], None]
    ) -> Coroutine[Any, Any, Result]:
        return deploy.rollback(world, wiring.timing_of(settings), settings.target, stop, ask, to=to)

    return _changing(flags, directory, as_json, "rollback", yes, go)


@click.command(hidden=True)
@click.argument("seconds", type=float)
@common
def expire_standby(seconds: float, as_json: bool, directory: str) -> int:
    """Wait, then remove a standby whose time is over."""
    from nself_deploy.app.standby import wait_and_expire

    async def go() -> None:
        await asyncio.sleep(seconds)
        async with wiring.open_world(directory, {}, write=True) as opened:
            await wait_and_expire(opened.world, 0)

    asyncio.run(go())
    return int(Exit.OK)


def _deploy(
    world: World, settings: Settings, stop: asyncio.Event, ask: Callable[[Plan], None]
) -> Coroutine[Any, Any, Result]:
    from nself_deploy.app import deploy

    return deploy.deploy(world, wiring.timing_of(settings), settings.target, stop, ask)


def _plan(target: str | None, as_json: bool, directory: str, options: dict[str, Any]) -> int:
    from nself_deploy.app.planning import preview

    async def go() -> tuple[Plan, PlanDocument]:
        async with wiring.open_world(directory, {**flags_of(options), "target": target}, write=False) as opened:
            _strategy_is_available(opened.settings)
            made = await preview(opened.world, opened.timing, opened.settings.target)
            lines = tuple(SettingLine(s.name, s.value, s.origin) for s in opened.settings.listing())
            return made, plan_document(made, opened.world.project, lines)

    made, document = asyncio.run(go())
    if as_json:
        print_json(document)
        return int(Exit.OK)
    lines = Lines(sys.stdout)
    width = max((len(s.name) for s in document.services), default=0)
    lines.note(f"Services of {made.project}:")
    for service in document.services:
        lines.note(f"  {service.name:<{width}}  {service.role:<6}  {service.reason}")
    lines.note("Settings:")
    for setting in document.settings:
        lines.note(f"  {setting.name} = {setting.value} ({setting.origin})")
    lines.note(f"Plan ({made.strategy}, {made.target}):")
    lines.plan(made)
    for step in document.steps:
        lines.note(f"[{step.status.value}] {step.name}")
    return int(Exit.OK)


def _changing(
    flags: dict[str, Any],
    directory: str,
    as_json: bool,
    purpose: str,
    yes: bool,
    use_case: Callable[[World, Settings, asyncio.Event, Callable[[Plan], None]], Coroutine[Any, Any, Result]],
) -> int:
    """Open the project, take the lock, run the use case, say how it went."""
    lines = Lines(sys.stdout, quiet=as_json)
    seen = {"target": str(flags.get("target") or "local"), "strategy": str(flags.get("strategy") or "blue-green")}
    try:
        return asyncio.run(_locked(flags, directory, as_json, purpose, yes, use_case, lines, seen))
    except NselfError as error:
        if as_json:
            print_json(error_document(error, seen["target"], seen["strategy"]))
        raise


async def _locked(
    flags: dict[str, Any],
    directory: str,
    as_json: bool,
    purpose: str,
    yes: bool,
    use_case: Any,
    lines: Lines,
    seen: dict[str, str],
) -> int:

    start, stop = time.monotonic(), asyncio.Event()
    _on_signals(stop, lines)
    async with wiring.open_world(directory, flags, write=True) as opened:
        settings, world = opened.settings, opened.world
        seen.update(target=settings.target, strategy=settings.strategy.value)
        _strategy_is_available(settings)
        world.watcher, world.progress = lines.step, lines.progress
        await take_lock(world, f"{purpose} ({settings.target})")
        try:
            result = await use_case(
                world, settings, stop, lambda made: _gate(made, settings.target, yes, as_json, lines)
            )
        finally:
            world.lock.release()
    duration_ms = int((time.monotonic() - start) * 1000)
    return _report(result, duration_ms, as_json, lines, str(world.root))


def _report(result: Result, duration_ms: int, as_json: bool, lines: Lines, root: str) -> int:
    if result.run is None:
        if as_json:
            print_json(unchanged_document(result.plan, result.before, duration_ms))
        lines.note(f"Unchanged: release {result.plan.release} is live already.")
        return int(Exit.OK)
    run, status = result.run, exit_status(result.run)
    if as_json:
        print_json(run_document(run, result.before, duration_ms))
    if status is Exit.OK:
        wiring.schedule_expiry(result.plan, root)
        lines.note(f"Live: {run.plan.release} in {run.plan.candidate} after {duration_ms / 1000:.1f} s.")
    elif run.failure is not None:
        failure = run.failure
        print_error(NselfError(failure.message, failure.remedy, evidence=failure.evidence))
        where = f"traffic is on {run.plan.live}" if run.plan.live else "nothing is live"
        words = "everything was undone" if run.ended else "not everything could be undone; the next command goes on"
        click.echo(f"  {where}; {words}.", err=True)
    return int(status)


def _gate(made: Plan, target: str, yes: bool, as_json: bool, lines: Lines) -> None:
    """Production asks on a terminal, and refuses without one."""
    lines.plan(made)
    if target != "prod" or yes:
        return
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise GateRefused("prod needs a yes.", "Add --yes when nobody can be asked.")
    if not click.confirm(f"Deploy {made.project} to prod?", default=False):
        raise GateRefused("You said no; nothing was done.")


def _strategy_is_available(settings: Settings) -> None:
    if settings.strategy not in AVAILABLE:
        raise UsageError(
            f"This version can't deploy with the strategy {settings.strategy.value} yet.",
            f"Use --strategy {AVAILABLE[0].value}.",
            where=settings.origins.get("strategy", ""),
        )


def _on_signals(stop: asyncio.Event, lines: Lines) -> None:
    """The first Ctrl-C or SIGTERM undoes in order; the second stops at once. A lost terminal stops nothing."""

    def ask() -> None:
        if stop.is_set():
            os._exit(int(Exit.INTERRUPTED))
        stop.set()
        lines.note("interrupted: undoing in order (again to stop at once)")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
