"""Looking only: the releases that are kept, and what is known of each."""

from __future__ import annotations

import msgspec

from nself_deploy.app.stores import Store
from nself_deploy.core.model import PinnedImage, Release, Setting


class ReleaseStatus(msgspec.Struct, frozen=True):
    """A release that can be gone back to."""

    id: str
    created_at: str
    """UTC, RFC 3339."""
    created_by: str
    created_on: str
    """Name of the machine; empty when it was made by a version that did not keep it."""
    slot: str
    """Where it is now, empty when it is in no slot."""
    role: str
    """What it is there: live, standby, candidate or empty."""
    git_commit: str
    git_dirty: bool
    images: dict[str, PinnedImage]
    """By service."""
    settings: tuple[Setting, ...]
    """Of the deploy that made it."""
    migrations: tuple[str, ...] | None
    """Paths of those that it contains; None when that is not on record."""


def release_list(store: Store, limit: int) -> list[ReleaseStatus]:
    """Releases, newest first."""
    places = {record.release: (slot.value, record.role.value) for slot, record in store.slots().items()}
    return [_status(release, *places.get(release.id, ("", ""))) for release in store.releases(limit)]


def _status(release: Release, slot: str, role: str) -> ReleaseStatus:
    return ReleaseStatus(
        release.id,
        release.created_at,
        release.created_by,
        release.created_on,
        slot,
        role,
        release.git_commit,
        release.git_dirty,
        release.images,
        release.settings,
        None if release.migrations is None else tuple(m.path for m in release.migrations),
    )
