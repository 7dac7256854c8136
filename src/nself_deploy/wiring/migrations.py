"""Reading a project's migrations: its files, the linter, and what follows from both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nself_deploy.app.world import ReadMigrations, no_migrations
from nself_deploy.core.migration import Migrations


def migrations_of(root: Path, patterns: Sequence[str]) -> ReadMigrations:
    """Reads the files that match these patterns, anew at each call; without patterns there are none."""
    if not patterns:
        return no_migrations

    async def read() -> Migrations:
        from nself_deploy.adapters.migration_files import read_migrations
        from nself_deploy.adapters.squawk import Squawk
        from nself_deploy.core.migration_reading import examined, plain

        files = read_migrations(root, patterns)
        remarks = await Squawk().check([plain(file.text) for file in files])
        return tuple(examined(file, said) for file, said in zip(files, remarks, strict=True))

    return read
