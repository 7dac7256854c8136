"""What a deploy would do, without doing it: nothing is built, pulled or written."""

from __future__ import annotations

from nself_deploy.app import observe, recording
from nself_deploy.app.world import World
from nself_deploy.core.model import PinnedImage, Release, Role
from nself_deploy.core.plan import Plan, Timing, plan_blue_green
from nself_deploy.core.release import GitInfo, make_release

UNKNOWN = "sha256:unknown"


async def preview(world: World, timing: Timing, target: str) -> Plan:
    """The plan of a deploy with what is known now; images that would be built count as new."""
    recording.check_states(world, target)
    facts = await observe.observe(world)
    release = await _release(world)
    known = world.store.release_by_fingerprint(release.fingerprint)
    return plan_blue_green(world.project, known or release, facts, timing, target)


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
    return make_release(
        world.project,
        images,
        now=world.clock.now(),
        git=GitInfo(commit, dirty) if commit else None,
        user=world.user,
        file_hashes=world.files.file_hashes(world.project),
    )
