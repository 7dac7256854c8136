"""What `rollback` does: at once while the previous release is warm, else as a deploy.

Nothing is imported before users are back that they would only wait for.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from nself_deploy import wiring
from nself_deploy.app.locking import held_here
from nself_deploy.app.result import Result
from nself_deploy.app.way_back import back_at_once
from nself_deploy.cli.output import Lines
from nself_deploy.cli.telling import check, gate, needs_yes, on_signals, report
from nself_deploy.wiring.counting import completed
from nself_deploy.wiring.way_back import deployed_to, open_way_back


def rollback(
    flags: dict[str, Any], directory: str, *, as_json: bool, yes: bool, to: str, wait_s: float, force_migration: bool
) -> int:
    """Go back to the previous release, or to the one named; where the last deploy was for, if no target is given."""
    if flags.get("target") is None:
        flags = {**flags, "target": deployed_to(directory)}
    given = wiring.check_flags(flags)
    check(given)
    needs_yes(given.target, as_json=as_json, yes=yes)
    lines, start = Lines(sys.stdout, quiet=as_json), time.monotonic()

    async def go() -> tuple[Result, str] | None:
        stop = asyncio.Event()
        on_signals(stop, lines)
        async with open_way_back(directory, flags) as ajar, lines.ticking():
            if ajar is None:
                return None
            world, settings, complete = ajar.world, ajar.settings, ajar.complete
            on_signals(stop, lines, world.store.unfinished)
            world.watcher, world.progress, world.note = lines.step, lines.progress, lines.note
            async with held_here(
                world, f"rollback ({settings.target})", settings.target, stop, wait_s=wait_s
            ) as on_engine:
                result = await back_at_once(
                    world,
                    wiring.timing_of(settings),
                    settings.target,
                    stop,
                    lambda made: gate(made, settings.target, lines, as_json=as_json, yes=yes),
                    completed(world, lambda: complete(on_engine)),
                    to=to,
                    force_migration=force_migration,
                )
            return (result, str(world.root)) if result else None

    found = asyncio.run(go())
    if found is None:
        from nself_deploy.cli import running

        return running.rollback(
            flags, directory, as_json=as_json, yes=yes, to=to, wait_s=wait_s, force_migration=force_migration
        )
    result, root = found
    return report(result, int((time.monotonic() - start) * 1000), root, lines, as_json=as_json)
