"""Interrupted runs that earlier versions left behind: each is found, decided about and brought to an end."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from nself_deploy.adapters.journal import JOURNAL_FILE, Journal
from nself_deploy.adapters.journal_schema import MIGRATIONS
from nself_deploy.core import effects as do
from nself_deploy.core import machine
from nself_deploy.core.canary import Session
from nself_deploy.core.evidence import Request
from nself_deploy.core.journal_records import EntryKind
from nself_deploy.core.machine import Outcome, Phase, Run, advance
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.recovery import Standing, Wish, decide
from tests.unit.house import ROOT

JOURNALS = ROOT / "tests/journals"
FROZEN = sorted(JOURNALS.glob("*/*/*.sql"))
MEETINGS = ((Wish.RESUME, True), (Wish.ABORT, True), (Wish.ONWARD, False))
"""Who meets the run, and whether its candidate is healthy: both ways on, and the one of the next deploy."""
KINDS = {"first-deploy", "deploy", "warm-rollback", "cold-rollback", "adoption"}
LATER = {"canary"}
"""Kinds that the first schema's version did not have."""


def thaw(file: Path, root: Path) -> Path:
    """The project with this journal."""
    path = root / JOURNAL_FILE
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(file.read_text())
    return root


def split_of(run: Run) -> Split | None:
    """Where the link sends requests: what the last move that is done says."""
    plan = run.plan
    forward = plan.steps if run.phase is Phase.UNDO else plan.steps[: run.position]
    undone = run.undo[: run.position] if run.phase is Phase.UNDO else ()
    parked = (plan.park,) if run.phase is Phase.PARKED and run.parking and run.parking.back and plan.park else ()
    moved = [s.effect.split for s in (*forward, *undone, *parked) if isinstance(s.effect, do.MoveTraffic)]
    return moved[-1] if moved else Split.all_to(plan.live) if plan.live else None


def to_the_end(journal: Journal, run: Run, event: machine.Event) -> tuple[Run, list[do.Effect]]:
    """As the runner does it, when every effect works."""
    seen: list[do.Effect] = []
    run, effects = advance(run, event)
    while effects:
        step = run.current()
        assert step is not None
        seen += effects
        journal.record(run, EntryKind.INTENT, step.key)
        run, effects = advance(run, machine.Done(0.1, "done"))
        journal.record(run, EntryKind.OUTCOME, step.key)
    return run, seen


def test_each_version_has_left_every_kind_of_run_at_every_step() -> None:
    assert {p.name for p in JOURNALS.iterdir() if p.is_dir() and p.name[0].isdigit()} >= {"0.1.0"}
    schemas = {p.name for p in (JOURNALS / "0.1.0").iterdir()}
    assert schemas >= {"schema-1", "schema-2", "schema-3"}
    for directory in {p.parent for p in FROZEN}:
        steps = {p.stem for p in directory.iterdir()}
        kinds = KINDS if directory.name == "schema-1" else KINDS | LATER
        assert {name for name in kinds if f"{name}-00-begin" in steps} == kinds
        assert len(steps) >= 60 and any("undo-move" in name for name in steps)


def test_the_newest_journals_are_of_this_versions_schema() -> None:
    versions = {int(p.parent.name.removeprefix("schema-")) for p in FROZEN}
    assert max(versions) == len(MIGRATIONS), "record this version's journals: tests/journals/README.md"


@pytest.mark.parametrize("file", FROZEN, ids=lambda p: f"{p.parent.parent.name}/{p.parent.name}/{p.stem}")
def test_an_interrupted_run_of_an_earlier_version_is_put_right(file: Path, tmp_path: Path) -> None:
    before = file.read_text()
    for number, (wish, healthy) in enumerate(MEETINGS):
        root = thaw(file, tmp_path / str(number))
        with Journal.open(root, create=False) as reader:
            seen = reader.unfinished()
            assert seen is not None and reader.release(seen.plan.release) is not None
        with Journal.open(root) as journal:
            run = journal.unfinished()
            assert run == seen and file.name.startswith(run.id.partition("-")[2])
            split = split_of(run)
            decision = decide(run, Standing(split, healthy), wish)
            check_session(journal, run)
            if decision.waits:
                assert file.stem.endswith("parked") and wish is Wish.ONWARD
                continue
            event = machine.Resumed(decision.finish, "ann" if wish is Wish.ABORT else "", again=decision.again)
            ended, effects = to_the_end(journal, run, event)
            if ended.waits:  # parking is finished before anything else
                assert file.stem.endswith("-park") and effects == [do.MoveTraffic(Split.all_to(Slot.BLUE))]
                continue

            assert journal.unfinished() is None and journal.history() == [ended]
            aborted = ["abort"] if wish is Wish.ABORT else []
            assert [e.event_type for e in reversed(journal.events())] == [*aborted, run.plan.kind.value]
            assert {e.metadata["run"] for e in journal.events()} == {run.id}
            assert journal.slots() and journal.addresses() and len(journal.releases()) == 3
        check_end(run, ended, effects, split, finish=decision.finish)
    assert file.read_text() == before


def check_session(journal: Journal, run: Run) -> None:
    """What was known of a canary that has had a share can be read, and goes on."""
    text = journal.meta(f"canary:{run.id}")
    if run.plan.analysis is not None and run.percent:
        session = msgspec.json.decode(text, type=Session)
        ours, theirs, bad, their_bad = session.judge.requests
        session.feed((Request(6.5, 77, True, True, session.percent / 100),))
        session.judge.advance(7.0)
        assert tuple(session.judge.requests) == (ours + 1, theirs, bad + 1, their_bad)


def check_end(run: Run, ended: Run, effects: list[do.Effect], split: Split | None, *, finish: bool) -> None:
    """Users end on the slot that is right, and the end is written down last."""
    moves = [e.split for e in effects if isinstance(e, do.MoveTraffic)]
    right = run.plan.candidate if finish else run.plan.live
    assert (ended.outcome is Outcome.DONE) is finish
    assert isinstance(effects[-1], do.Record) and effects[-1].live is right
    if right is not None:
        assert (moves[-1] if moves else split) == Split.all_to(Slot(right))
