"""Old releases go: the names that keep their images, then their files and records. Images in use stay."""

from __future__ import annotations

from nself_deploy.app.world import World
from nself_deploy.core.release import image_tag
from nself_deploy.core.retention import superfluous
from nself_deploy.errors import NselfError

LIMIT = 10_000
RUNS = 1_000
"""Runs that are looked at for when a release was used last."""


async def prune(world: World) -> str:
    """Remove releases beyond those that are kept; what can't be removed now is tried after the next deploy.

    The caller holds the lock, and no run is unfinished. Nothing is raised: the deploy before it has succeeded.

    Returns what was done, in words; empty when there was nothing to do.
    """
    try:
        return await _prune(world)
    except NselfError as error:
        return f"old releases are still there: {error.what}"


async def _prune(world: World) -> str:
    needed = {record.release for record in world.store.slots().values() if record.release}
    found = superfluous(world.store.releases(LIMIT), world.store.history(RUNS), needed, world.keep_releases)
    gone = 0
    for release in found:
        names = [image_tag(world.project.name, service, release.id) for service in sorted(release.images)]
        if all([await world.engine.untag(name) for name in names]):
            world.files.forget_release(release.id)
            world.store.forget_release(release.id)
            gone += 1
    if not gone:
        return ""
    return f"{gone} old release{'s' if gone != 1 else ''} removed; the newest {world.keep_releases} are kept"
