"""What a release's record keeps of its migrations."""

from __future__ import annotations

import msgspec


class Hazard(msgspec.Struct, frozen=True):
    """A statement that a release which does not know the migration can't live with."""

    rule: str
    """Which one it is: a key of `migration_rules.RULES`."""
    line: int
    """Counted from 1."""
    statement: str
    """Shortened, on one line."""
    about: tuple[str, ...] = ()
    """What it changes, such as `table:orders`; empty when that is not known."""


class Migration(msgspec.Struct, frozen=True):
    """One file with SQL."""

    path: str
    """In the project's directory."""
    sha256: str
    hazards: tuple[Hazard, ...] = ()
    makes: tuple[str, ...] = ()
    """What it creates, such as `table:orders`, and no earlier statement had: what follows may change it at will."""


Migrations = tuple[Migration, ...]
"""In the order in which they are applied."""
