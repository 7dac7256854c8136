"""Two operators on two machines start 50 deploys at once: one runs at a time, the others wait or are refused.

Both work in one shared directory whose file system has no locks between machines, so that the lock on the engine alone
keeps them apart.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.real.scene import tiny
from tests.real.stack import ROOT, Stack, docker

pytestmark = pytest.mark.real

QUICK = ("--min-uptime", "1s", "--drain", "1s", "--standby", "0", "--health-timeout", "240s")
EACH = 25
WAITING = 2
"""Of each operator's deploys: how many have patience."""
OPERATORS = ("one", "two")


def start(stack: Stack, machine: str) -> subprocess.Popen[str]:
    """All deploys of one operator."""
    there = {"machine": machine, "flock": False, "times": EACH, "waiting": WAITING}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.real.elsewhere", json.dumps(there), *QUICK, "-C", str(stack.root)],
        cwd=stack.root,
        env=stack.environment(PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def spans(stack: Stack) -> list[tuple[str, str, str]]:
    """Begin, end and state of every run, by its journal; the oldest first."""
    query = """
        SELECT min(e.at), max(e.at), r.state FROM runs r JOIN journal_entries e ON e.run_id = r.run_id
        GROUP BY r.run_id ORDER BY 1
    """
    with closing(sqlite3.connect(f"file:{stack.root}/.nself/nself.db?mode=ro", uri=True)) as database:
        return list(database.execute(query))


def test_fifty_deploys_at_once_run_one_after_the_other() -> None:
    stack = tiny()
    try:
        stack.nself(*QUICK)
        running = [start(stack, machine) for machine in OPERATORS]
        ended = [tuple(end) for one in running for end in json.loads(one.communicate(timeout=1800)[0])]
        done, refused = ([words for status, words in ended if status == code] for code in (0, 6))

        assert len(done) + len(refused) == len(ended) == 2 * EACH, [end for end in ended if end[0] not in (0, 6)]
        assert len(done) >= 2 * WAITING and refused
        assert all("is busy with 'deploy (local)'" in words and " on " in words for words in refused)
        assert not [line for _, words in ended for line in words.splitlines() if "taken over" in line]
        found = spans(stack)
        assert [state for *_, state in found] == ["done"] * (1 + len(done))
        assert all(earlier[1] < later[0] for earlier, later in itertools.pairwise(found)), found
        check_end(stack, len(found))
    finally:
        stack.remove()


def check_end(stack: Stack, runs: int) -> None:
    """Nothing was lost and nothing is left: history, one live slot, what users get, locks."""
    history = stack.nself("history", "--json").json
    assert [run["outcome"] for run in history] == ["done"] * runs
    status = stack.nself("status", "--json").json
    assert sorted(slot["role"] for slot in status["slots"]) == ["empty", "live"]
    assert status["under_way"] is None and not status["holder"]
    live = next(slot for slot in status["slots"] if slot["role"] == "live")
    assert live["release"] == history[0]["release"] and live["containers"] == live["healthy"] == 1
    assert sum(map(len, stack.slots().values())) == 1
    environment = stack.containers(f"{stack.name}-{live['slot']}")[0]["Config"]["Env"]
    release = next(word.partition("=")[2] for word in environment if word.startswith("RELEASE="))
    assert stack.get("/")[2].decode() == f"release {release}\n"
    assert docker("volume", "ls", "--quiet", "--filter", f"name={stack.name}-nself").split() == []
