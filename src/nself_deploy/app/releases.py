"""Making a release: images are built or pulled, and pinned by id; the same content is the same release."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import msgspec

from nself_deploy.app.lifecycle import plain_containers
from nself_deploy.app.world import World
from nself_deploy.core.migration import Migrations
from nself_deploy.core.model import PinnedImage, Release, Role, Service
from nself_deploy.core.release import GitInfo, image_tag, make_release
from nself_deploy.errors import ImageError


async def make(world: World, migrations: Migrations | None = None) -> Release:
    """Build and pull what the app and job services need, pin it, and find or save the release.

    Raises:
        ImageError: an image can't be had; names the key, and nothing was changed.
    """
    services = [s for s in world.project.services.values() if s.role in (Role.APP, Role.JOB)]
    building = [s.name for s in services if s.builds]
    if building:
        world.progress(f"building {', '.join(building)}")
        with _named(world, building, "build"):
            await world.compose.build(str(world.root), world.project.files, building, world.progress)
    images = {}
    for service in services:
        with _named(world, [service.name], "image"):
            images[service.name] = await _pin(world, service)
    return await save(world, images, migrations)


@contextlib.contextmanager
def _named(world: World, services: Sequence[str], key: str) -> Iterator[None]:
    """An image that can't be had is one of these services': the error gets the place."""
    try:
        yield
    except ImageError as error:
        files = ", ".join(os.path.relpath(file, world.root) for file in world.project.files)
        keys = ", ".join(f"services.{name}.{key}" for name in services)
        raise ImageError(error.what, error.remedy, where=f"{files}: {keys}", evidence=error.evidence) from error


async def save(world: World, images: dict[str, PinnedImage], migrations: Migrations | None = None) -> Release:
    """The release of the project with these images: a known one when nothing differs, else a new record."""
    commit, dirty = world.git
    made = make_release(
        world.project,
        images,
        now=world.clock.now(),
        git=GitInfo(commit, dirty) if commit else None,
        user=world.user,
        file_hashes=world.files.file_hashes(world.project),
    )
    release = world.store.release_by_fingerprint(made.fingerprint)
    if release is None:
        release = msgspec.structs.replace(made, created_on=world.host, settings=world.settings, migrations=migrations)
        world.store.save_release(release)
    for name, image in images.items():
        await world.engine.tag(image.id, image_tag(world.project.name, name, release.id))
    return release


async def adopt(world: World) -> Release | None:
    """The release of a plain stack as it runs now: its images by id, today's configuration; None if it is partial."""
    containers = {c.service: c for c in await plain_containers(world)}
    images = {}
    for service in world.project.services.values():
        if service.role not in (Role.APP, Role.JOB):
            continue
        container, ref = containers.get(service.name), _ref(world, service)
        found = await world.engine.image(container.image_id if container else ref)
        if found is None or (container is None and service.role is Role.APP):
            return None
        images[service.name] = PinnedImage(found.id, ref, built=service.builds)
    return await save(world, images)


async def _pin(world: World, service: Service) -> PinnedImage:
    ref = _ref(world, service)
    if not service.builds and service.pull_policy not in ("never", "missing", "if_not_present"):
        return await _pulled(world, service, ref)
    found = await world.engine.image(ref)
    if found is None and not service.builds and service.pull_policy != "never":
        found = await world.engine.pull(ref, world.progress)
    if found is None:
        raise ImageError(
            f"The image {ref} of service {service.name} is not on the engine.",
            "Build or pull it, or allow pulling (pull_policy).",
        )
    return PinnedImage(found.id, ref, found.digests[0] if found.digests else "", built=service.builds)


async def _pulled(world: World, service: Service, ref: str) -> PinnedImage:
    """Ask the registry; when it can't be asked an image that is here will do, and the user is told."""
    try:
        found = await world.engine.pull(ref, world.progress)
    except ImageError as error:
        local = await world.engine.image(ref)
        if local is None:
            raise
        world.progress(f"{service.name}: no registry could be asked for {ref} ({error.what}); the local image is used")
        found = local
    return PinnedImage(found.id, ref, found.digests[0] if found.digests else "")


def _ref(world: World, service: Service) -> str:
    """The image's name; Compose's own default for services that are built without one."""
    return service.image or f"{world.project.name}-{service.name}"
