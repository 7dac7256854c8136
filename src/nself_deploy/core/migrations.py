"""Which migrations are new to a release, and which statements of them it can't live with. Pure, and light to import."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nself_deploy.core.migration import Hazard, Migration, Migrations
from nself_deploy.core.migration_rules import rule_of
from nself_deploy.errors import GateRefused

SHOWN = 10
"""So many statements are named in a refusal."""


class Breakage(msgspec.Struct, frozen=True):
    """A statement of a migration, and what it does to a release that doesn't know it."""

    path: str
    hazard: Hazard

    @property
    def words(self) -> str:
        """For people."""
        rule = rule_of(self.hazard.rule)
        statement = f" {self.hazard.statement}" if self.hazard.statement else ""
        return f"{self.path}:{self.hazard.line}:{statement} - {rule.breaks}; better: {rule.remedy}"


class Difference(msgspec.Struct, frozen=True):
    """What one release's migrations do to another release."""

    new: Migrations = ()
    """Those that the other one does not have with this content."""
    changed: tuple[str, ...] = ()
    """Paths of those that it has with other content."""
    breaks: tuple[Breakage, ...] = ()
    known: bool = True
    """Whether it is on record which migrations the other one has."""


def difference(migrations: Migrations, others: Migrations | None) -> Difference:
    """What migrations do to users of a release that has these `others`; None: it is not on record which ones."""
    known = {migration.path: migration.sha256 for migration in others or ()}
    new = tuple(m for m in migrations if known.get(m.path) != m.sha256)
    changed = tuple(m.path for m in new if m.path in known)
    return Difference(new, changed, breakages(new), others is not None)


def breakages(migrations: Sequence[Migration]) -> tuple[Breakage, ...]:
    """Their statements that are dangerous; what is done to a thing that one of them made before is not."""
    made, found = set[str](), list[Breakage]()
    for migration in migrations:
        found += (Breakage(migration.path, h) for h in migration.hazards if not h.about or not made.issuperset(h.about))
        made.update(migration.makes)
    return tuple(found)


def lines(found: Sequence[Breakage]) -> tuple[str, ...]:
    """What breaks, for people: not more than a screen."""
    more = len(found) - SHOWN
    return (*(b.words for b in found[:SHOWN]), *((f"and {more} more",) if more > 0 else ()))


def refusal(found: Difference, live: str) -> GateRefused:
    """Why a deploy is refused."""
    what = f"{_statements(found)} of pending migrations would break release {live}, which serves users meanwhile"
    if not found.known:
        what += "; it is not on record which migrations that one has, so all of them count as pending"
    remedy = (
        "Deploy in two releases: first one that works with both schemas, then the one with this migration; "
        "or go on with --force-migration. Nothing was done."
    )
    return GateRefused(f"{what}.", remedy, evidence=lines(found.breaks))


def refusal_back(found: Difference, live: str, to: str) -> GateRefused:
    """Why a rollback is refused."""
    what = f"Release {to} can't live with {_statements(found)} of migrations that came with {live}"
    what += ", and migrations are never undone"
    if not found.known:
        what += f"; it is not on record which migrations {to} has, so all of them count"
    remedy = (
        "Mend forward with a new release, or restore by hand what that one needs; or go on with "
        "nself deploy rollback --force-migration. Nothing was done."
    )
    return GateRefused(f"{what}.", remedy, evidence=lines(found.breaks))


def _statements(found: Difference) -> str:
    count = len(found.breaks)
    return "1 statement" if count == 1 else f"{count} statements"


def listed(migrations: Sequence[Migration]) -> str:
    """Their names, for people: not more than a line."""
    names = [migration.path for migration in migrations]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
