"""Processes that write the journal and the state files are killed a thousand times at random moments."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.state_files import StateFiles
from nself_deploy.core.machine import Done, advance
from nself_deploy.core.model import Slot
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from nself_deploy.core.state import BlueGreenState, StrategyState
from tests.unit.hardship import Victim, a_run

KILLS = 1000
PROJECTS = 50
"""Each is written to by one process at a time."""
AT_ONCE = 5
NOW = "2026-11-22T21:30:00.000Z"


def opened(root: Path) -> Journal:
    return Journal.open(root, now=lambda: NOW)


def one_run(journal: Journal, states: StateFiles, number: int) -> None:
    """A whole run, written as the runner and the last effect write it; what is there already is not written again."""
    name = f"run-{number}"
    if journal.run(name) is None:
        journal.begin(a_run(name, steps=1))
    run = journal.run(name)
    assert run is not None
    if not run.ended:
        journal.record(run, "intent", "step-0")
        slots = {Slot.BLUE: SlotRecord(str(number), SlotRole.LIVE, NOW)}
        journal.record(advance(run, Done())[0], "outcome", "step-0", "x" * 300, slots=slots)
    states.save_blue_green(BlueGreenState(active=Slot.BLUE, blue_version=str(number)))
    states.save_deploy(StrategyState(error=str(number)))


def worker(root: Path, last: int) -> Callable[[Callable[[int], None]], None]:
    """Runs after `last`, each acknowledged when it is written; then it waits for its end."""

    def work(acknowledge: Callable[[int], None]) -> None:
        journal, states = opened(root), StateFiles(root)
        for number in range(last + 1, last + 6):
            one_run(journal, states, number)
            acknowledge(number)
        signal.pause()

    return work


def check(root: Path, acknowledged: int) -> int:
    """All can be read, nothing that was acknowledged is missing, nothing is there twice or half; the last whole run."""
    with opened(root) as journal:
        history, events, slots = journal.history(10_000), journal.events(10_000), journal.slots()
        unfinished, report = journal.all_unfinished(), journal.audit.verify()
        entries = journal.entries(history[0].id) if history else []
    whole = [run for run in history if run.ended]
    count = len(whole)
    assert [run.id for run in reversed(history)] == [f"run-{n}" for n in range(1, len(history) + 1)]
    assert acknowledged <= count <= acknowledged + 1 and len(unfinished) <= 1 and len(history) <= count + 1
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert [event.metadata["run"] for event in events] == [run.id for run in whole]
    assert (report.events, report.findings) == (count, ())
    assert not count or slots[Slot.BLUE].release == str(count)

    states = StateFiles(root)
    blue_green, deploy = states.load_blue_green().blue_version or "0", states.load_deploy().error or "0"
    assert acknowledged <= int(deploy) <= int(blue_green) <= count
    return int(deploy)


def kill_all(done: dict[Path, int], chance: random.Random) -> None:
    """A process for each of these projects, all at once, each killed somewhere; `done` is brought up to date."""
    crowd: dict[Path, Victim] = {}
    try:
        for root, last in done.items():
            crowd[root] = Victim(worker(root, last))
        for root, victim in crowd.items():
            victim.wait_for(chance.randrange(0, 3))
            for _ in range(chance.randrange(0, 60_000)):  # somewhere inside the next write
                pass
            done[root] = check(root, max(done[root], victim.kill()))
    finally:
        for victim in crowd.values():
            victim.close()


def test_a_thousand_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    roots, chance, done = [tmp_path / str(n) for n in range(PROJECTS)], random.Random(5), dict[Path, int]()
    for root in roots:
        root.mkdir()
    for _ in range(KILLS // PROJECTS):
        for first in range(0, PROJECTS, AT_ONCE):
            group = {root: done.get(root, 0) for root in roots[first : first + AT_ONCE]}
            kill_all(group, chance)
            done.update(group)
    assert sum(done.values()) > KILLS / 2

    for root, last in done.items():
        with opened(root) as journal:
            one_run(journal, StateFiles(root), last + 1)  # which may be whole already
            one_run(journal, StateFiles(root), last + 2)
        assert check(root, last + 2) == last + 2
    assert [path.name for path in tmp_path.rglob("*.tmp")] == []
