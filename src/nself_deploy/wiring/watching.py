"""A watch of service level objectives from its first word to its end: what it needs, and how it rolls back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nself_deploy import wiring
from nself_deploy.adapters.watch_lock import WatchLock
from nself_deploy.app.log_keeping import release_log
from nself_deploy.app.slo_asking import ready
from nself_deploy.app.slo_guard import End, Guard
from nself_deploy.app.slo_watch import SloWatch
from nself_deploy.core.extension import KEY
from nself_deploy.core.rollback import Request, ServiceRollback
from nself_deploy.core.slo import HOW, Objective
from nself_deploy.core.slo_check import check_routes, objectives_from
from nself_deploy.errors import UsageError
from nself_deploy.wiring.service_rollback import By, Outcome, Told, execute, hear


@dataclass
class Watched:
    """How a watch ended."""

    end: End
    rollback: Outcome | None
    """The last rollback, if there was one."""


async def watch(directory: str, texts: Sequence[str], seconds: float | None, told: Told) -> Watched:
    """Watch the objectives of the project's file, or those given, and roll back a release that burns their budget.

    Args:
        directory: the project's.
        texts: objectives that are given instead of the file's.
        seconds: how long; None: for good.
        told: who is told what goes on, and asked to stop.

    Raises:
        UsageError: an objective that makes no sense, none at all, or nothing to watch.
        ConfigError: an objective that can never be measured.
        Locked: another watch runs.
        NselfError: the project, its journal or its log can't be read.
    """
    given = objectives_from(texts)
    async with wiring.open_world(directory, {}, write=True) as opened:
        world = opened.world
        objectives = _objectives(given, world.objectives)
        check_routes(objectives, world.project.routes)
        await ready(world, objectives)
        world.watcher, world.progress, world.note = told.watcher, told.progress, told.note
        rollbacks: list[Outcome] = []

        async def roll_back(request: Request) -> ServiceRollback:
            outcome = await execute(str(world.root), request, "", told, By(own=True))
            rollbacks.append(outcome)
            if outcome.result is not None and not outcome.state.error:
                wiring.schedule_expiry(outcome.result.plan, outcome.root)
            hear(outcome)
            return outcome.state

        with WatchLock(world.root):
            slo = SloWatch(world, objectives)
            try:
                end = await Guard(world, slo, roll_back).run(seconds, told.stop)
            finally:
                await slo.close()
                await release_log(world)
        return Watched(end, rollbacks[-1] if rollbacks else None)


def _objectives(given: tuple[Objective, ...], own: tuple[Objective, ...]) -> tuple[Objective, ...]:
    if not given and not own:
        where = f"Write them to the Compose file ({KEY}: slo), or give --objective. {HOW}"
        raise UsageError("There is no objective to watch.", where)
    return given or own
