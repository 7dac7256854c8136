"""What the commands of `release` do: open the project, take the lock, run the use case, say how it went."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from nself_deploy import wiring
from nself_deploy.app import deploy as use_cases
from nself_deploy.app.locking import held, is_warm
from nself_deploy.app.planning import preview
from nself_deploy.app.result import Result
from nself_deploy.app.standby import recorded, wait_and_expire
from nself_deploy.app.waiting import waited
from nself_deploy.app.world import World
from nself_deploy.cli.output import Lines, print_json
from nself_deploy.cli.showing import show_plan
from nself_deploy.cli.telling import check, gate, needs_yes, on_signals, report
from nself_deploy.core.model import Strategy
from nself_deploy.core.plan import Plan
from nself_deploy.core.plan_document import PlanDocument, SettingLine, plan_document
from nself_deploy.core.settings import Settings
from nself_deploy.errors import Exit, UsageError
from nself_deploy.wiring.counting import confirmed

UseCase = Callable[[wiring.Opened, asyncio.Event, Callable[[Plan], None]], Awaitable[Result]]


def plan(flags: dict[str, Any], directory: str, *, as_json: bool, force_migration: bool = False) -> int:
    """Print what a deploy would do."""
    check(wiring.check_flags(flags))

    async def go() -> PlanDocument:
        async with wiring.open_world(directory, flags, write=False) as opened:
            check(opened.settings)
            _check_canary(opened.settings)
            made = await preview(opened.world, opened.wanted(force_migration=force_migration))
            settings = tuple(SettingLine(s.name, s.value, s.origin) for s in opened.settings.listing())
            return plan_document(made, opened.world.project, settings)

    document = asyncio.run(go())
    if as_json:
        print_json(document)
    else:
        show_plan(document, Lines(sys.stdout))
    return int(Exit.OK)


def deploy(
    flags: dict[str, Any],
    directory: str,
    *,
    as_json: bool,
    yes: bool,
    keep_failed: bool = False,
    force_migration: bool = False,
    wait_s: float = 0.0,
) -> int:
    """Bring the present version live."""

    async def go(opened: wiring.Opened, stop: asyncio.Event, ask: Callable[[Plan], None]) -> Result:
        wanted = opened.wanted(keep_failed=keep_failed, force_migration=force_migration)
        return await use_cases.deploy(opened.world, wanted, stop, ask)

    return _changing(flags, directory, "deploy", go, as_json=as_json, yes=yes, hold=Hold(wait_s))


def rollback(
    flags: dict[str, Any],
    directory: str,
    *,
    as_json: bool,
    yes: bool,
    to: str,
    wait_s: float = 0.0,
    force_migration: bool = False,
) -> int:
    """Go back to the previous release, or to the one named."""

    async def go(opened: wiring.Opened, stop: asyncio.Event, ask: Callable[[Plan], None]) -> Result:
        world, target, asked = opened.world, opened.settings.target, confirmed(opened.world, ask)
        return await use_cases.rollback(
            world, opened.timing, target, stop, asked, to=to, force_migration=force_migration
        )

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
    check(given)
    needs_yes(given.target, as_json=as_json, yes=yes)
    lines = Lines(sys.stdout, quiet=as_json)
    start = time.monotonic()

    async def go() -> tuple[Result, str]:
        stop = asyncio.Event()
        on_signals(stop, lines)
        async with wiring.open_world(directory, flags, write=True) as opened, lines.ticking():
            settings, world = opened.settings, opened.world
            on_signals(stop, lines, world.store.unfinished)
            check(settings)
            _check_canary(settings)
            world.watcher, world.progress, world.note = lines.step, lines.progress, lines.note
            words, target = f"{purpose} ({settings.target})", settings.target
            async with held(world, words, target, stop, wait_s=hold.wait_s, warm=hold.warm(world)):
                result = await use_case(
                    opened, stop, lambda made: gate(made, settings.target, lines, as_json=as_json, yes=yes)
                )
            return await waited(world, result, target, stop), str(world.root)

    result, root = asyncio.run(go())
    return report(result, int((time.monotonic() - start) * 1000), root, lines, as_json=as_json)


def _check_canary(settings: Settings) -> None:
    """Nothing is asked for that would have no effect."""
    if settings.strategy is Strategy.CANARY:
        return
    fields = ["initial_percent", "steps", "soak_minutes"] + ([] if settings.bake_s else ["error_threshold_pct"])
    idle = next((settings.place(field) for field in fields if settings.origins.get(field) == "flag"), "")
    if idle:
        what = f"{idle} has no effect with the strategy {settings.strategy}."
        raise UsageError(what, "Add --strategy canary, or leave it out.", where=idle)
