"""The audit trail in the journal: with the run's end or not at all, exactly once, never changed, across crashes."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nself_deploy.adapters import journal_audit
from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.journal_schema import MIGRATIONS, open_database
from nself_deploy.core import audit
from nself_deploy.core.audit import Anchor, AuditEvent
from nself_deploy.core.machine import Done, Resumed, Run, advance
from nself_deploy.errors import InfrastructureError, StateFileError
from tests.unit.hardship import a_run, in_child, kill_at_random, victims

NOTE = audit.lock_taken_over("prod", "ada on one (process 7)", "deploy", "2026-11-22T20:00:00.000Z", "it ended")


def anchor_of(root: Path) -> Path:
    return root / ".nself/audit.head"


def anchored(root: Path) -> Anchor:
    return msgspec.json.decode(anchor_of(root).read_bytes(), type=Anchor)


def verified(journal: Journal) -> tuple[int, tuple[audit.Finding, ...]]:
    """How many events there are, and what is wrong."""
    report = journal.audit.verify()
    return report.events, report.findings


def to_the_end(journal: Journal, run: Run, event: Done | Resumed) -> Run:
    """Walk a run as the runner does."""
    while not run.ended:
        run, _ = advance(run, event)
        journal.record(run, "outcome", "")
        event = Done()
    return run


def test_the_end_of_a_run_is_one_event(tmp_path: Path) -> None:
    with Journal.open(tmp_path, actor="ada@one") as journal:
        run = a_run()
        journal.begin(run)
        assert journal.events() == []
        end = to_the_end(journal, run, Done())
        journal.finish(end)
        journal.record(end, "note", "")
        (event,) = journal.events()

    assert (event.id, event.number, event.actor, event.triggered_by) == ("run-1-deploy", 1, "ada@one", "command")
    assert anchored(tmp_path) == Anchor(1, event.hash)
    assert stat.S_IMODE(anchor_of(tmp_path).stat().st_mode) == 0o600


def test_a_run_that_another_process_ended_says_so(tmp_path: Path) -> None:
    with Journal.open(tmp_path, actor="ada@one") as journal:
        journal.begin(a_run())
    with Journal.open(tmp_path, actor="bob@one") as journal:
        to_the_end(journal, a_run(), Resumed())
        (event,) = journal.events()

    assert (event.outcome, event.actor, event.triggered_by) == ("failed", "bob@one", "recovery")
    assert event.error == "the process that ran this deploy ended"


def test_an_event_and_the_runs_end_are_one_write(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal, Journal.open(tmp_path, create=False) as reader:
        journal.begin(a_run())
        with pytest.raises(FileNotFoundError), journal.transaction():
            to_the_end(journal, a_run(), Done())
            assert len(journal.events()) == 1 and reader.events() == []
            os.stat(tmp_path / "none")
        assert journal.events() == [] and journal.unfinished() == a_run()
        assert not anchor_of(tmp_path).exists()
        to_the_end(journal, a_run(), Done())
        assert len(reader.events()) == 1 and reader.unfinished() is None
        assert verified(journal) == (1, ())


def test_notes_have_ids_of_their_own(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        first, second = journal.add_event(NOTE), journal.add_event(NOTE)
        again = journal.add_event(first)
        assert journal.events() == [second, first]
        assert journal.events(1) == [second]
        assert journal.audit.event(first.id) == first and journal.audit.event("none") is None

    assert again == first and first.id != second.id and first.id.startswith("lock-take-over-")
    assert (second.number, second.previous_hash) == (2, first.hash)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_events SET document = 'x'", "UPDATE audit_events SET number = 9", "DELETE FROM audit_events"],
)
def test_the_database_refuses_to_change_events(tmp_path: Path, statement: str) -> None:
    with Journal.open(tmp_path) as journal:
        journal.add_event(NOTE)
    db = sqlite3.connect(tmp_path / ".nself/nself.db")
    with pytest.raises(sqlite3.IntegrityError, match="audit events are never"):
        db.execute(statement)
    db.close()


def test_reading_a_project_without_a_journal_makes_nothing(tmp_path: Path) -> None:
    with Journal.open(tmp_path, create=False) as journal:
        assert journal.events() == []
        assert verified(journal) == (0, ())

    assert list(tmp_path.iterdir()) == []


def test_a_journal_of_version_1_keeps_its_runs(tmp_path: Path) -> None:
    (tmp_path / ".nself").mkdir()
    runs = [a_run("run-1"), a_run("run-2")]
    while not runs[0].ended:
        runs[0], _ = advance(runs[0], Done())
    db = open_database(tmp_path / ".nself/nself.db", True, MIGRATIONS[:1])
    assert db is not None
    for run, state in zip(runs, ("done", "running"), strict=True):
        values = (run.id, "deploy", run.started_at, run.started_at, state, msgspec.json.encode(run).decode())
        db.execute(
            "INSERT INTO runs (run_id, kind, started_at, updated_at, state, document) VALUES (?, ?, ?, ?, ?, ?)", values
        )
    db.close()

    for create in (False, True):
        with Journal.open(tmp_path, create=create) as journal:
            assert journal.history() == runs[::-1] and journal.unfinished() == runs[1]
            assert journal.events() == [] and verified(journal) == (0, ())
    with Journal.open(tmp_path) as journal:
        to_the_end(journal, runs[1], Resumed())
        assert [event.id for event in journal.events()] == ["run-2-deploy"]
        assert verified(journal) == (1, ())


def test_a_killed_process_leaves_each_end_once(tmp_path: Path) -> None:
    chance, last = random.Random(5), 0

    def work(acknowledge: Callable[[int], None]) -> None:
        with Journal.open(tmp_path) as journal:
            number = len(journal.history(100_000))
            while True:
                number += 1
                run = a_run(f"run-{number}", 1)
                journal.begin(run)
                to_the_end(journal, run, Done())
                acknowledge(number)

    for _ in range(30):
        acknowledged = kill_at_random(work, chance)
        with Journal.open(tmp_path, create=False) as reader:
            assert reader.audit.verify().findings == ()
            ended = [run.id for run in reader.history(100_000) if run.ended]
            assert [event.metadata["run"] for event in reader.events(100_000)] == ended
            assert len(ended) >= acknowledged
        with Journal.open(tmp_path) as journal:
            for run in journal.all_unfinished():
                to_the_end(journal, run, Resumed())
            runs = [run.id for run in journal.history(100_000)]
            assert [event.metadata["run"] for event in journal.events(100_000)] == runs
            assert verified(journal) == (len(runs), ())
        assert len(runs) >= max(last, acknowledged)
        last = len(runs)
    assert last > 30
    assert anchored(tmp_path).count == last


def test_a_process_that_dies_before_the_anchor_is_written_is_no_damage(tmp_path: Path) -> None:
    def die(monkey: pytest.MonkeyPatch) -> None:
        with Journal.open(tmp_path) as journal:
            monkey.setattr(journal_audit, "write_atomic", lambda *_: os._exit(0))
            journal.add_event(NOTE)

    for count in range(3):
        with pytest.MonkeyPatch.context() as monkey:
            assert in_child(lambda monkey=monkey: die(monkey)) == ""
        with Journal.open(tmp_path) as journal:
            assert verified(journal) == (2 * count + 1, ())
            assert (anchored(tmp_path).count if count else 0) == 2 * count
            event = journal.add_event(NOTE)
        assert anchored(tmp_path) == Anchor(2 * count + 2, event.hash)


def test_an_anchor_that_cannot_be_written_is_made_good_before_the_next_event(tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise InfrastructureError("cannot write it: the disk is full.")

    with Journal.open(tmp_path) as journal, pytest.MonkeyPatch.context() as monkey:
        monkey.setattr(journal_audit, "write_atomic", fail)
        journal.add_event(NOTE)
        assert verified(journal) == (1, ())
        with pytest.raises(InfrastructureError, match="the disk is full"):
            journal.add_event(NOTE)
        assert len(journal.events()) == 1
        monkey.undo()
        journal.add_event(NOTE)
        assert verified(journal) == (2, ())
        assert anchored(tmp_path).count == 2


def test_many_writers_and_a_reader_see_a_whole_trail_all_the_time(tmp_path: Path) -> None:
    def work(acknowledge: Callable[[int], None]) -> None:
        with Journal.open(tmp_path) as journal:
            for number in range(1, 16):
                journal.add_event(NOTE)
                acknowledge(number)

    Journal.open(tmp_path).close()
    with victims(3, work, 1) as writers, Journal.open(tmp_path, create=False) as reader:
        seen = 0
        while seen < 45:
            seen, wrong = verified(reader)
            assert wrong == ()
        for writer in writers:
            writer.wait_for(15)

    assert anchored(tmp_path).count == 45


def test_what_does_not_fit_is_never_overwritten(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        for _ in range(3):
            journal.add_event(NOTE)
        first = journal.events()[-1]
    db = sqlite3.connect(tmp_path / ".nself/nself.db")
    triggers = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")]
    with db:
        for name in ("audit_events_stay", "audit_events_last"):
            db.execute(f"DROP TRIGGER {name}")
        db.execute("DELETE FROM audit_events WHERE number > 1")
        head = msgspec.json.encode(audit.Head(1, first.hash, 0)).decode()
        db.execute("UPDATE meta SET value = ? WHERE key = 'audit'", (head,))
        for sql in triggers:
            db.execute(sql)
    db.close()
    with Journal.open(tmp_path) as journal:
        assert [f.number for f in journal.audit.verify().findings] == [2]
        for _ in range(3):
            journal.add_event(NOTE)
        assert verified(journal) == (4, (audit.Finding(3, "is not the one that the anchor knows."),))


@pytest.mark.parametrize("made", ["directory", "link", "text", "removed"])
def test_an_anchor_that_is_none_stops_no_deploy_and_is_found(tmp_path: Path, made: str) -> None:
    with Journal.open(tmp_path) as journal:
        journal.add_event(NOTE), journal.add_event(NOTE)
    anchor_of(tmp_path).unlink()
    if made == "directory":
        anchor_of(tmp_path).mkdir()
    elif made == "link":
        anchor_of(tmp_path).symlink_to(tmp_path / "elsewhere")
    elif made == "text":
        anchor_of(tmp_path).write_text("forty-two")
    with Journal.open(tmp_path) as journal:
        journal.add_event(NOTE)
        count, wrong = verified(journal)

    assert count == 3 and len(wrong) == 1 and "anchor" in wrong[0].what
    assert not (tmp_path / "elsewhere").exists()


def test_a_damaged_end_is_said_before_a_run_begins(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.set_meta("audit", "nonsense")
        with pytest.raises(StateFileError, match="the record of the audit trail's end can't be read"):
            journal.begin(a_run())
        assert journal.history() == []
        ((number, what),) = [(f.number, f.what) for f in journal.audit.verify().findings]

    assert number == 0 and "can't be read" in what


def test_a_table_that_is_gone_is_said_before_a_run_begins(tmp_path: Path) -> None:
    Journal.open(tmp_path).close()
    db = sqlite3.connect(tmp_path / ".nself/nself.db")
    db.execute("DROP TABLE audit_events")
    db.close()
    with Journal.open(tmp_path) as journal:
        with pytest.raises(InfrastructureError, match="no such table: audit_events"):
            journal.begin(a_run())
        assert journal.history() == []


def test_an_event_that_cannot_be_read_names_the_command_that_says_why(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.add_event(NOTE)
    db = sqlite3.connect(tmp_path / ".nself/nself.db")
    with db:
        db.execute("INSERT INTO audit_events VALUES (2, 'x', 'y', '{}')")
    db.close()
    with (
        Journal.open(tmp_path) as journal,
        pytest.raises(StateFileError, match="audit event 2 can't be read") as caught,
    ):
        journal.events()

    assert "nself deploy audit verify" in caught.value.remedy


def test_an_event_without_words_is_an_event(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        event = journal.add_event(AuditEvent("", "", ""))
        assert journal.events() == [event]
