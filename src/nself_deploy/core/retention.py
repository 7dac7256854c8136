"""Which releases are kept: those that are needed, and those that were used last. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nself_deploy.core.machine import Run
    from nself_deploy.core.model import Release

KEEP = 10
"""How many releases are kept, unless the project says otherwise."""


def superfluous(
    releases: Sequence[Release], history: Iterable[Run], needed: Collection[str], keep: int = KEEP
) -> list[Release]:
    """Releases that may go, oldest first.

    Args:
        releases: all that are on record, newest first.
        history: runs, newest first.
        needed: ids that are never among them: what is in a slot, and what an unfinished run is about.
        keep: how many are kept.
    """
    used: dict[str, None] = {}
    for run in history:
        used |= dict.fromkeys(name for name in (run.plan.release, run.plan.previous_release) if name)
    place = {name: n for n, name in enumerate(used)}
    ordered = sorted(releases, key=lambda release: place.get(release.id, len(place)))  # stable: then the newest first
    needed_first = [r for r in ordered if r.id in needed] + [r for r in ordered if r.id not in needed]
    return [r for r in reversed(needed_first[max(keep, 0) :]) if r.id not in needed]
