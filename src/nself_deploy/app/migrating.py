"""Migrations at the gate: what a new release's do to the live one, and what the live one's do to an older release.

Nothing is imported for it as long as no release has migrations: a way back does not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nself_deploy.core.model import Release, Slot
from nself_deploy.core.plan import Change, Plan
from nself_deploy.core.slot_records import live_slot

if TYPE_CHECKING:
    from nself_deploy.app.stores import Store
    from nself_deploy.core.migration import Migrations
    from nself_deploy.core.migrations import Difference

replace = msgspec.structs.replace

_PLAIN = "the plain stack"


def early(store: Store, found: Migrations | None, *, force: bool) -> None:
    """Refuse before a long build what would be refused after it.

    Raises:
        GateRefused: a pending migration breaks the live release, and nobody accepted that.
    """
    slots = store.slots()
    live = live_slot(slots)
    if not found or force or live is None or live is Slot.PLAIN:
        return  # what a plain stack is, is not known yet
    record = store.release(slots[live].release)
    if record is None:
        return
    from nself_deploy.core.migrations import difference, refusal

    new = difference(found, record.migrations)
    if new.breaks:
        raise refusal(new, record.id)


def passed(store: Store, plan: Plan, release: Release, *, force: bool) -> Plan:
    """The plan of a deploy with what is to be said of its migrations.

    Raises:
        GateRefused: they break the live release, and nobody accepted that.
    """
    found = _pending(store, plan, release)
    if found is None:
        return plan
    if found.breaks and not force:
        from nself_deploy.core.migrations import refusal

        raise refusal(found, _live(plan))
    return _described(plan, found)


def previewed(store: Store, plan: Plan, release: Release, *, force: bool) -> Plan:
    """The same for `plan`, which tells of a refusal."""
    found = _pending(store, plan, release)
    if found is None:
        return plan
    described = _described(plan, found)
    if not found.breaks or force:
        return described
    from nself_deploy.core.migrations import refusal

    error = refusal(found, _live(plan))
    words = f"the deploy would be refused: {error.what} {error.remedy.removesuffix(' Nothing was done.')}"
    return replace(described, override=(), warnings=(*described.warnings, words))


def passed_back(store: Store, plan: Plan, release: Release, *, force: bool) -> Plan:
    """The plan of a way back to `release` with what is to be said of migrations since.

    Raises:
        GateRefused: the release can't live with them, and nobody accepted that.
    """
    left = store.release(plan.previous_release) if plan.previous_release else None
    if left is None or not left.migrations:
        return plan
    from nself_deploy.core.migrations import difference, lines, listed, refusal_back

    found = difference(left.migrations, release.migrations)
    if not found.new:
        return plan
    if found.breaks and not force:
        raise refusal_back(found, left.id, release.id)
    stays = Change("=", f"migrations of {left.id}", f"stay applied: {listed(found.new)}")
    broken = lines(found.breaks)
    return replace(plan, changes=(*plan.changes, stays), warnings=(*plan.warnings, *broken), override=broken)


def _pending(store: Store, plan: Plan, release: Release) -> Difference | None:
    """What the release brings; None when that is nothing, or there is nobody whom it could break."""
    if plan.unchanged or plan.live is None or not release.migrations:
        return None
    from nself_deploy.core.migrations import difference

    live = store.release(plan.previous_release) if plan.previous_release else None
    found = difference(release.migrations, live.migrations if live else None)
    return found if found.new else None


def _described(plan: Plan, found: Difference) -> Plan:
    from nself_deploy.core.migrations import lines, listed

    line = Change("+", f"migrations: {listed(found.new)}", "not in the live release")
    edited = (f"{path} was changed after it was part of the live release" for path in found.changed)
    broken = lines(found.breaks)
    return replace(plan, changes=(*plan.changes, line), warnings=(*plan.warnings, *edited, *broken), override=broken)


def _live(plan: Plan) -> str:
    return plan.previous_release or _PLAIN
