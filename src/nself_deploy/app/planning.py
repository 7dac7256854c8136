"""What a deploy would do, without doing it: nothing is built, pulled or written."""

from __future__ import annotations

import msgspec

from nself_deploy.app import migrating, observe
from nself_deploy.app.states import check_states
from nself_deploy.app.watching import unix_now
from nself_deploy.app.world import World
from nself_deploy.core.model import PinnedImage, Project, Release, Role, Strategy
from nself_deploy.core.plan import Facts, Plan, Timing
from nself_deploy.core.plan_canary import Canary, plan_canary, plan_directly
from nself_deploy.core.release import GitInfo, make_release
from nself_deploy.core.traffic import Traffic
from nself_deploy.core.traffic_log import traffic_of

UNKNOWN = "sha256:unknown"
LOG_BYTES = 8 << 20
"""So much of the access log tells how much traffic there is."""


class Wanted(msgspec.Struct, frozen=True):
    """How a release takes over."""

    strategy: Strategy
    timing: Timing
    target: str
    canary: Canary
    force_migration: bool = False
    """Whether it goes on with migrations that break the live release."""


def make_plan(project: Project, release: Release, facts: Facts, wanted: Wanted, traffic: Traffic | None = None) -> Plan:
    """The plan of a deploy with the strategy that is asked for; `traffic` as far as it is known."""
    if wanted.strategy is not Strategy.CANARY:
        return plan_directly(project, release, facts, wanted.timing, wanted.target, wanted.canary)
    canary = msgspec.structs.replace(wanted.canary, traffic=traffic)
    return plan_canary(project, release, facts, wanted.timing, wanted.target, canary)


def traffic_seen(world: World, wanted: Wanted) -> Traffic | None:
    """What users asked for lately, if the log was kept and a canary is wanted."""
    if wanted.strategy is not Strategy.CANARY:
        return None
    return traffic_of(world.recent_log(LOG_BYTES), unix_now(world))


async def preview(world: World, wanted: Wanted) -> Plan:
    """The plan of a deploy with what is known now; images that would be built count as new."""
    check_states(world, wanted.target)
    facts = await observe.observe(world)
    release = await _release(world)
    known = world.store.release_by_fingerprint(release.fingerprint)
    made = known or release
    plan = make_plan(world.project, made, facts, wanted, traffic_seen(world, wanted))
    return migrating.previewed(world.store, plan, made, force=wanted.force_migration)


async def _release(world: World) -> Release:
    images = {}
    for service in world.project.services.values():
        if service.role not in (Role.APP, Role.JOB):
            continue
        ref = service.image or f"{world.project.name}-{service.name}"
        found = None if service.builds else await world.engine.image(ref)
        note = " (will be built)" if service.builds else "" if found else " (will be pulled)"
        images[service.name] = PinnedImage(found.id if found else UNKNOWN, ref + note)
    commit, dirty = world.git
    made = make_release(
        world.project,
        images,
        now=world.clock.now(),
        git=GitInfo(commit, dirty) if commit else None,
        user=world.user,
        file_hashes=world.files.file_hashes(world.project),
    )
    return msgspec.structs.replace(made, migrations=await world.migrations())
