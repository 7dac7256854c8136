"""The migration job: bring the tables up to date, record the run, exit.

Files are applied in order and once each; running the job again changes nothing.
"""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import asyncpg

from api.stores import OUTAGES, database_arguments
from common.release import this_release

log = logging.getLogger("migrate")

DIRECTORY = Path(__file__).parent / "migrations"
LOCK_KEY = 7_304_211  # any number; two jobs at once wait for each other on it
ATTEMPTS = 20
PAUSE_SECONDS = 0.5

BOOKKEEPING = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS migration_runs (
    id bigserial PRIMARY KEY, release text NOT NULL, applied integer NOT NULL,
    ran_at timestamptz NOT NULL DEFAULT now());
"""


async def connect() -> asyncpg.Connection:
    """A connection, tried for some seconds: the database may be restarting."""
    arguments: dict[str, Any] = database_arguments()
    for _ in range(ATTEMPTS - 1):
        try:
            return await asyncpg.connect(**arguments)
        except OUTAGES as error:
            log.warning("no database yet: %s", error)
            await asyncio.sleep(PAUSE_SECONDS)
    return await asyncpg.connect(**arguments)


async def migrate() -> int:
    """Apply what is missing; how many files that were."""
    database = await connect()
    try:
        # Held until the connection closes; the second of two jobs waits here.
        await database.execute("SELECT pg_advisory_lock($1)", LOCK_KEY, timeout=60)
        await database.execute(BOOKKEEPING)
        done = {row["version"] for row in await database.fetch("SELECT version FROM schema_migrations")}
        missing = [path for path in sorted(DIRECTORY.glob("*.sql")) if version_of(path) not in done]
        for path in missing:
            async with database.transaction():
                await database.execute(path.read_text(encoding="utf-8"))
                await database.execute(
                    "INSERT INTO schema_migrations (version, name) VALUES ($1, $2)", version_of(path), path.stem
                )
            log.info("applied %s", path.name)
        await database.execute(
            "INSERT INTO migration_runs (release, applied) VALUES ($1, $2)", this_release().name, len(missing)
        )
        return len(missing)
    finally:
        await database.close()


def version_of(path: Path) -> int:
    """002_items.sql is version 2."""
    return int(path.name.split("_")[0])


def main() -> int:
    """Exit status 0 if the tables are up to date."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        applied = asyncio.run(migrate())
    except (*OUTAGES, asyncpg.PostgresError) as error:
        log.error("the tables could not be brought up to date: %s: %s", type(error).__name__, error)
        return 1
    log.info("up to date, %d applied", applied)
    return 0


if __name__ == "__main__":
    sys.exit(main())
