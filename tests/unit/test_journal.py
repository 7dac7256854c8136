"""The journal keeps what it acknowledged and gives back what was put in."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nself_deploy.adapters.journal import Entry, EntryKind, Journal
from nself_deploy.core.machine import Done, Failed, Failure, Interrupt, Run, advance
from nself_deploy.core.model import PinnedImage, Release, Role, Service, Slot
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from nself_deploy.errors import InfrastructureError, StateFileError
from tests.unit.hardship import a_run, in_child, kill_at_random, on_small_disk, victims

NOW = "2026-11-22T21:30:00.000Z"
LIVE = SlotRecord("r2", SlotRole.LIVE, NOW)
STANDBY = SlotRecord("r1", SlotRole.STANDBY, NOW, "2026-11-22T21:40:00.000Z")


def opened(root: Path, *, create: bool = True) -> Journal:
    return Journal.open(root, create=create, now=lambda: NOW)


def a_release(name: str, fingerprint: str = "f1") -> Release:
    api = Service("api", Role.APP, "neither shared nor a job", {"environment": {"A": "$$x"}}, image="api:1")
    return Release(name, fingerprint, NOW, {"api": api}, {"api": PinnedImage("sha256:1", "api:1")}, {}, {}, {}, {}, ())


def ended(run: Run, event: Done | Failed | Interrupt) -> Run:
    """The run after `event`, and after every undo or step that follows has worked."""
    run, _ = advance(run, event)
    while not run.ended:
        run, _ = advance(run, Done())
    return run


def test_a_run_is_written_step_by_step_and_read_back(tmp_path: Path) -> None:
    run = a_run()
    with opened(tmp_path) as journal:
        journal.begin(run)
        assert journal.unfinished() == run
        assert journal.record(run, "intent", "step-0") == 1
        after, _ = advance(run, Done(0.5, "all good"))
        assert journal.record(after, "outcome", "step-0", "all good") == 2

    with opened(tmp_path, create=False) as journal:
        assert journal.run("run-1") == journal.unfinished() == after
        assert journal.history() == [after]
        assert journal.entries("run-1") == [
            Entry(1, NOW, EntryKind.INTENT, "step-0", '{"do":"remove-slot","slot":"green"}', ""),
            Entry(2, NOW, EntryKind.OUTCOME, "step-0", "", "all good"),
        ]
        assert journal.run("none") is None and journal.entries("none") == []


@pytest.mark.parametrize(
    "event", [Done(), Failed(Failure("web answered 503")), Interrupt()], ids=["done", "failed", "interrupted"]
)
def test_a_run_that_ended_is_not_unfinished(tmp_path: Path, event: Done | Failed | Interrupt) -> None:
    with opened(tmp_path) as journal:
        first, second = a_run("run-1"), a_run("run-2")
        journal.begin(first)
        journal.begin(second)
        end = ended(second, event)
        journal.finish(end, {Slot.GREEN: LIVE})
        assert journal.unfinished() == first and journal.all_unfinished() == [first]
        journal.finish(ended(first, event))
        assert journal.unfinished() is None
        assert [run.id for run in journal.history()] == ["run-2", "run-1"]
        assert [run.id for run in journal.history(1)] == ["run-2"]
        assert journal.slots() == {Slot.GREEN: LIVE}


def test_a_run_begins_once_and_before_it_is_recorded(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        with pytest.raises(ValueError, match="never began"):
            journal.record(a_run(), "note", "")
        journal.begin(a_run())
        with pytest.raises(ValueError, match="has begun already"):
            journal.begin(a_run())
        with pytest.raises(ValueError, match="guess"):
            journal.record(a_run(), "guess", "")
        assert journal.entries("run-1") == []


def test_slots_are_recorded_together_with_the_run_or_not_at_all(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.begin(a_run())
        journal.record(a_run(), "outcome", "step-0", slots={Slot.BLUE: LIVE, Slot.GREEN: STANDBY})
        journal.set_slots({Slot.GREEN: LIVE})
        assert journal.slots() == {Slot.BLUE: LIVE, Slot.GREEN: LIVE}
        with pytest.raises(ValueError, match="never began"):
            journal.record(a_run("other"), "outcome", "step-0", slots={Slot.BLUE: STANDBY})
        assert journal.slots() == {Slot.BLUE: LIVE, Slot.GREEN: LIVE}


def test_releases_are_immutable_and_found_by_content(tmp_path: Path) -> None:
    first, again, other = a_release("r1"), a_release("r2"), a_release("r3", "f3")
    with opened(tmp_path) as journal:
        for release in (first, again, other, first):
            journal.save_release(release)
        assert journal.release("r1") == first and journal.release("none") is None
        assert journal.release_by_fingerprint("f1") == again and journal.release_by_fingerprint("none") is None
        assert journal.releases() == [other, again, first] and journal.releases(1) == [other]
        with pytest.raises(ValueError, match="with other content"):
            journal.save_release(msgspec.structs.replace(first, git_dirty=True))


def test_addresses_are_replaced_as_a_whole(tmp_path: Path) -> None:
    before = {("default", "api", 1): 2, ("default", "api", 2): 3, ("back", "api", 1): 2}
    after = {("default", "api", 1): 3, ("default", "web", 1): 2}
    with opened(tmp_path) as journal:
        journal.save_addresses(before)
        assert journal.addresses() == before
        journal.save_addresses(after)
        with pytest.raises(ValueError, match="the same address"):
            journal.save_addresses({("default", "api", 1): 2, ("default", "web", 1): 2})
        assert journal.addresses() == after


def test_words_are_remembered(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        assert journal.meta("secret") == ""
        journal.set_meta("secret", "a")
        journal.set_meta("secret", "b")
    with opened(tmp_path) as journal:
        assert journal.meta("secret") == "b"


def test_a_transaction_is_one_write(tmp_path: Path) -> None:
    with opened(tmp_path) as journal, opened(tmp_path, create=False) as reader:
        with journal.transaction():
            journal.set_meta("a", "1")
            journal.begin(a_run())
            assert reader.meta("a") == "" and reader.history() == []
        assert reader.meta("a") == "1" and reader.history() == [a_run()]
        with pytest.raises(FileNotFoundError), journal.transaction():
            journal.set_meta("a", "2")
            os.stat(tmp_path / "none")
        assert journal.meta("a") == reader.meta("a") == "1"


def test_reading_makes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path, create=False) as journal:
        assert journal.unfinished() is None and journal.history() == [] and journal.slots() == {}
        assert journal.releases() == [] and journal.addresses() == {} and journal.meta("x") == ""
        with pytest.raises(RuntimeError, match="not open for writing"):
            journal.begin(a_run())
    with pytest.raises(RuntimeError, match="is closed"):
        journal.history()

    assert list(tmp_path.iterdir()) == []


def test_a_reader_leaves_no_files_and_writes_no_byte(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.set_meta("a", "1")
    path = tmp_path / ".nself/nself.db"
    before = path.read_bytes()
    with opened(tmp_path, create=False) as reader:
        assert reader.meta("a") == "1"
        with pytest.raises(RuntimeError, match="not open for writing"):
            reader.set_meta("a", "2")

    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["nself.db"]


def test_all_its_files_are_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with opened(tmp_path) as journal:
            journal.begin(a_run())
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / ".nself").iterdir()}
    finally:
        os.umask(old)

    assert modes == {"nself.db": 0o600, "nself.db-wal": 0o600, "nself.db-shm": 0o600}


def test_every_commit_is_synced_to_the_disk(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        assert journal._db is not None
        assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    run, chance, last = a_run(), random.Random(11), 0
    with opened(tmp_path) as journal:
        journal.begin(run)

    def work(acknowledge: Callable[[int], None]) -> None:
        journal = opened(tmp_path)
        number = last
        while True:
            number += 1
            slots = {Slot.BLUE: SlotRecord(str(number), SlotRole.LIVE, NOW)}
            state = msgspec.structs.replace(run, completed_at=str(number))
            assert journal.record(state, "note", str(number), "x" * 300, slots=slots) == number
            acknowledge(number)

    for _ in range(60):
        acknowledged = kill_at_random(work, chance)
        with opened(tmp_path) as journal:
            found = [entry.seq for entry in journal.entries("run-1")]
            whole = journal.run("run-1")
            slots = journal.slots()
        count = len(found)
        assert found == list(range(1, count + 1))
        assert max(last, acknowledged) <= count <= max(last, acknowledged) + 1
        if count:
            assert whole is not None and whole.completed_at == slots[Slot.BLUE].release == str(count)
        last = count
    assert last > 60


def test_a_maker_that_is_killed_leaves_no_half_made_journal(tmp_path: Path) -> None:
    chance = random.Random(3)
    for number in range(40):
        root = tmp_path / str(number)
        root.mkdir()

        def work(acknowledge: Callable[[int], None], root: Path = root) -> None:
            opened(root).close()

        with victims(1, work, 0):
            for _ in range(chance.randrange(0, 60_000)):
                pass
        with opened(root) as journal:
            assert journal.history() == []
            journal.set_meta("a", "1")
        assert [p.name for p in (root / ".nself").iterdir()] == ["nself.db"]


def test_two_makers_end_with_one_journal(tmp_path: Path) -> None:
    def work(acknowledge: Callable[[int], None]) -> None:
        with opened(tmp_path) as journal:
            for number in range(1, 31):
                journal.set_meta(f"{os.getpid()} {number}", "x")
                acknowledge(number)
        acknowledge(31)

    with victims(4, work, 31) as makers, opened(tmp_path) as journal:
        assert all(journal.meta(f"{maker.pid} {number}") == "x" for maker in makers for number in range(1, 31))


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    def work() -> str:
        free = on_small_disk(tmp_path, 2 << 20)
        journal, acknowledged = opened(tmp_path), 0
        journal.begin(a_run())
        with pytest.raises(InfrastructureError) as caught:
            while acknowledged < 10_000:
                acknowledged = journal.record(a_run(), "note", "", "x" * 20_000)
        journal.close()
        free()
        with opened(tmp_path) as journal:
            assert len(journal.entries("run-1")) == acknowledged > 3
            assert journal.record(a_run(), "note", "") == acknowledged + 1
        return f"{int(caught.value.exit_status)} {caught.value}"

    outcome = in_child(work)
    assert outcome.startswith(f"returned 2 {tmp_path}/.nself/nself.db: cannot "), outcome
    assert "the disk is full" in outcome and "Free some space" in outcome


def test_no_room_for_a_new_journal(tmp_path: Path) -> None:
    def work() -> str:
        free = on_small_disk(tmp_path, 32 * 1024)
        with pytest.raises(InfrastructureError, match="the disk is full") as caught:
            opened(tmp_path)
        assert list((tmp_path / ".nself").iterdir()) == []
        free()
        return str(caught.value)

    outcome = in_child(work)
    assert outcome.startswith(f"returned {tmp_path}/.nself/nself.db: cannot create it"), outcome


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_journal_that_is_taken_away_in_use_is_noticed(tmp_path: Path, how: str) -> None:
    path = tmp_path / ".nself/nself.db"
    with opened(tmp_path) as journal:
        journal.begin(a_run())
        copy = path.read_bytes()
        path.unlink()
        if how == "replaced":
            path.write_bytes(copy)
        with pytest.raises(StateFileError, match="removed or replaced while in use"):
            journal.record(a_run(), "intent", "step-0")
