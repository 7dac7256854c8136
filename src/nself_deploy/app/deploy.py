"""The use cases that change things: deploy, rollback, and putting right what was interrupted."""

from __future__ import annotations

import asyncio

import msgspec

from nself_deploy.app import measuring, migrating, observe, releases, retention, standby
from nself_deploy.app.executor import Executor
from nself_deploy.app.planning import Wanted, make_plan, traffic_seen
from nself_deploy.app.recovery import Recovered, recover
from nself_deploy.app.result import Confirm, Result
from nself_deploy.app.runner import carry_out, stoppable
from nself_deploy.app.states import check_states
from nself_deploy.app.world import World
from nself_deploy.core import machine
from nself_deploy.core.document import unchanged_step
from nself_deploy.core.machine import Run
from nself_deploy.core.migration import Migrations
from nself_deploy.core.model import Release, Slot, StepStatus
from nself_deploy.core.plan import NO_CAUSE, Cause, Facts, Plan, Timing, plan_rollback
from nself_deploy.core.recovery import Wish
from nself_deploy.core.release import image_tag
from nself_deploy.core.step_lines import StepLine
from nself_deploy.errors import NselfError, UsageError


async def deploy(world: World, wanted: Wanted, interrupted: asyncio.Event, confirm: Confirm) -> Result:
    """Bring the project's present version live.

    Raises:
        Parked: an earlier deploy waits for a person.
        GateRefused: migrations break the live release, and nobody accepted that.
        NselfError: before anything was changed for users (configuration, state files, images, lock, engine).
    """
    check_states(world, wanted.target)
    await world.engine.info()
    unfinished = world.store.unfinished()
    if unfinished is None or not unfinished.committed:
        observe.check_link(world)  # what had proved itself gets its requests back with the rest
    await world.router.observe()  # what is wrong with it is better said before a long build than after it
    migrations = await world.migrations()
    earlier = await _put_right(world, interrupted)
    migrating.early(world.store, migrations, force=wanted.force_migration)  # likewise
    await standby.expire(world)
    release, built = await stoppable(_timed_release(world, migrations), interrupted)
    facts = await _adopted(world, await observe.observe(world))
    plan = make_plan(world.project, release, facts, wanted, traffic_seen(world, wanted))
    if plan.unchanged:
        nothing = unchanged_step(plan, built.seconds)
        world.watcher(nothing)
        return Result(plan, None, (*earlier, nothing))
    world.watcher(built)
    plan = migrating.passed(world.store, plan, release, force=wanted.force_migration)
    await measuring.ready(world, plan)  # better said before a candidate is started than after it
    confirm(plan)
    run = await _run(world, plan, interrupted)
    if run.outcome is machine.Outcome.DONE and (words := await retention.prune(world)):
        world.note(words)
    return Result(plan, run, (*earlier, built))


async def rollback(
    world: World,
    timing: Timing,
    target: str,
    interrupted: asyncio.Event,
    confirm: Confirm,
    *,
    to: str = "",
    cause: Cause = NO_CAUSE,
    force_migration: bool = False,
) -> Result:
    """Back to the previous release, or to `to`.

    Raises:
        GateRefused: that release can't live with a migration since, and nobody accepted that.
        UsageError: there is nothing to go back to, or no such release.
        StateFileError: a state file can't be understood.
    """
    check_states(world, target)
    earlier = await _put_right(world, interrupted)
    facts = await observe.observe(world)
    release = _rollback_release(world, facts, to)
    plan = msgspec.structs.replace(plan_rollback(world.project, release, facts, timing, target), cause=cause)
    plan = migrating.passed_back(world.store, plan, release, force=force_migration)
    if not facts.standby_warm or facts.standby_release != release.id:
        await _images_are_here(world, release)
    confirm(plan)
    return Result(plan, await _run(world, plan, interrupted), earlier)


async def resume(world: World, interrupted: asyncio.Event) -> Result | None:
    """Finish an interrupted run if that is possible, else undo it; None when there is none. A canary may wait again.

    Raises:
        NselfError: it can't be put right now.
    """
    run = world.store.unfinished()
    if run is not None and run.phase is machine.Phase.PARKED:
        await measuring.ready(world, run.plan)
    return _result(await recover(world, interrupted, Wish.RESUME))


async def abort(world: World, interrupted: asyncio.Event) -> Result | None:
    """Undo an interrupted run if that is possible, else finish it; None when there is none. Raises like `resume`."""
    return _result(await recover(world, interrupted, Wish.ABORT))


async def _put_right(world: World, interrupted: asyncio.Event) -> tuple[StepLine, ...]:
    """What an earlier command left unfinished."""
    found = await recover(world, interrupted, Wish.ONWARD)
    return (found.line,) if found else ()


def _result(found: Recovered | None) -> Result | None:
    return Result(found.run.plan, found.run, (found.line,)) if found else None


async def _run(world: World, plan: Plan, interrupted: asyncio.Event) -> Run:
    return await carry_out(world, plan, interrupted, Executor(world).perform)


async def _timed_release(world: World, migrations: Migrations | None) -> tuple[Release, StepLine]:
    """The release, and its step: told only when there is something to deploy, else nothing was done."""
    start = world.clock.monotonic()
    name = "Build and pin images"
    world.watcher(StepLine(name, StepStatus.RUNNING))
    try:
        release = await releases.make(world, migrations)
    except NselfError as error:
        world.watcher(StepLine(name, StepStatus.FAILED, world.clock.monotonic() - start, error.what))
        raise
    return release, StepLine(name, StepStatus.DONE, round(world.clock.monotonic() - start, 3), f"release {release.id}")


async def _adopted(world: World, facts: Facts) -> Facts:
    """A plain stack that is live is given a release of its own, so that there is something to go back to."""
    if facts.live is not Slot.PLAIN or facts.live_release:
        return facts
    release = await releases.adopt(world)
    return msgspec.structs.replace(facts, live_release=release.id) if release else facts


def _rollback_release(world: World, facts: Facts, to: str) -> Release:
    if to:
        release = world.store.release(to)
        if release is None:
            known = ", ".join(r.id for r in world.store.releases(5)) or "none"
            raise UsageError(f"There is no release {to!r}.", f"The newest are: {known}.")
    else:
        release = _previous(world, facts)
    if release.id == facts.live_release:
        raise UsageError(f"Release {release.id} is live already.", "Name another one with --to.")
    return release


def _previous(world: World, facts: Facts) -> Release:
    if facts.standby is not None:
        release = world.store.release(facts.standby_release)
        if release is not None:
            return release
    for run in world.store.history(50):
        done = run.outcome is machine.Outcome.DONE and run.plan.release == facts.live_release
        release = world.store.release(run.plan.previous_release) if done and run.plan.previous_release else None
        if release is not None and release.id != facts.live_release:
            return release
    raise UsageError(
        "There is no previous release to go back to.", "Deploy a second time first, or name one with --to."
    )


async def _images_are_here(world: World, release: Release) -> None:
    """What somebody removed is pulled again, by digest; else it is said before anything begins."""
    for name, image in sorted(release.images.items()):
        if await world.engine.image(image.id) is not None:
            continue
        what = f"The image of {name} in release {release.id} ({image.ref}) is not on the engine any more"
        remedy = "Choose another release with --to, or build it again and deploy."
        if not image.digest:
            raise UsageError(f"{what}, and it came from no registry.", remedy)
        found = await world.engine.pull(image.digest, world.progress)
        if found.id != image.id:
            raise UsageError(f"{what}; the registry has another one under its digest.", remedy)
        await world.engine.tag(image.id, image_tag(world.project.name, name, release.id))
