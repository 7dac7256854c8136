"""Many events while PostgreSQL and who delivers to it are killed again and again: `make audit-drill`.

It ends with `RESULT events=… server_kills=… deliverer_kills=… rows=… in_order=… twice=… chain=…`.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nself_deploy.core.audit_table import TABLE
from tests.real.audit_scene import init, nself, numbers, project_in, renewed, started, write
from tests.real.postgres_parts import Server

FOLLOW = (sys.executable, "-m", "nself_deploy.cli.main", "deploy", "audit", "deliver", "--follow", "-C")
BROKEN = f"""
    SELECT id FROM (SELECT id, metadata ->> 'hash' AS hash, metadata ->> 'document' AS document,
        metadata ->> 'previous_hash' AS said,
        lag(metadata ->> 'hash') OVER (ORDER BY (metadata ->> 'number')::int) AS before FROM {TABLE}) AS chain
    WHERE said <> before OR encode(sha256(convert_to(document, 'UTF8')), 'hex') <> hash"""
PAUSES_S = (0.0, 0.2, 0.6, 1.2, 2.0)
LIMIT_S = 120.0


class Deliverer:
    """A process that follows the trail, and is started anew when it was killed."""

    def __init__(self, project: Path) -> None:
        self._words = [*FOLLOW, str(project)]
        self._process = self._started()

    def kill(self) -> None:
        self.end()
        self._process = self._started()

    def end(self) -> None:
        self._process.kill()
        self._process.wait(LIMIT_S)

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def drill(server: Server, project: Path, events: int, kills: int, chance: random.Random) -> bool:
    """Write and kill by turns, wait for the rest, and tell; whether all is well."""
    init(project, server.dsn())
    deliverer = Deliverer(project)
    turns = [deliverer.kill] * kills + [lambda: (server.kill(), server.start())] * kills
    chance.shuffle(turns)
    began, share = time.monotonic(), events // len(turns)
    in_order = True
    try:
        for number, turn in enumerate(turns):
            write(project, share if number else events - share * (len(turns) - 1))
            time.sleep(chance.choice(PAUSES_S))  # no wait for something: chance says in which moment it dies
            turn()
            found = numbers(server)
            in_order = in_order and found == list(range(1, len(found) + 1))
            print(f"{number + 1:>3} of {len(turns)} kills, {len(found)} rows", file=sys.stderr)
    finally:
        deliverer.end()
    nself(project, "deliver")
    found = numbers(server)
    ((twice,),) = server.rows(f"SELECT count(*) - count(DISTINCT id) FROM {TABLE}")
    whole = not server.rows(BROKEN)
    right = in_order and found == list(range(1, events + 2)) and not twice and whole
    print(
        f"RESULT events={events + 1} server_kills={kills} deliverer_kills={kills} rows={len(found)} "
        f"in_order={in_order} twice={twice} chain={'whole' if whole else 'broken'} "
        f"seconds={time.monotonic() - began:.0f}"
    )
    return right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=30, help="of the server, and as many of who delivers")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="nself-audit-") as directory,
        started() as server,
        project_in(Path(directory)) as project,
    ):
        right = drill(renewed(server), project, options.events, options.kills, random.Random(options.seed))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
