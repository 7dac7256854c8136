"""The files of judges' records: private, cut where they go on, bounded in number; and what the command says of them."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.judge_record import RECORDS_DIR, RecordFiles
from nself_deploy.app import judge_records, judging
from nself_deploy.app.replaying import replay
from nself_deploy.app.world import World
from nself_deploy.cli import main as program
from nself_deploy.core import record_lines as lines
from nself_deploy.core.recorder import Recorder, opened
from nself_deploy.errors import StateFileError, UsageError
from tests.unit.hardship import a_run
from tests.unit.plans import a_release
from tests.unit.test_replay import a_beginning, traffic

RUN = "20261127T030000-aaaaaa"


def test_a_record_is_private_and_goes_on_where_it_was(tmp_path: Path) -> None:
    records = RecordFiles(tmp_path)
    assert records.read(RUN) is None and records.runs() == ()
    assert records.write(RUN, 0, b"one\ntwo\nthree\n") == 14
    assert records.write(RUN, 4, b"2\n") == 6

    path = tmp_path / RECORDS_DIR / RUN
    assert records.read(RUN) == b"one\n2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_record_that_lost_something_is_not_gone_on_with(tmp_path: Path) -> None:
    records = RecordFiles(tmp_path)
    records.write(RUN, 0, b"one\n")
    with pytest.raises(StateFileError, match="has 4 bytes instead of 9"):
        records.write(RUN, 9, b"two\n")


def test_what_is_no_file_of_ours_is_not_written_to(tmp_path: Path) -> None:
    records, elsewhere = RecordFiles(tmp_path), tmp_path / "elsewhere"
    records.write("other", 0, b"x")
    os.symlink(elsewhere, tmp_path / RECORDS_DIR / RUN)
    with pytest.raises(StateFileError, match="symbolic link"):
        records.write(RUN, 0, b"x")
    with pytest.raises(StateFileError, match="symbolic link"):
        records.read(RUN)
    with pytest.raises(UsageError, match="no id of a run"):
        records.write("../../etc", 0, b"x")
    assert not elsewhere.exists()


def test_the_newest_ones_are_kept(tmp_path: Path) -> None:
    records = RecordFiles(tmp_path)
    for number in range(13):
        records.write(f"20261127T0300{number:02d}-aaaaaa", 0, b"x")
    records.keep(10)

    assert [run[13:15] for run in records.runs()] == [f"{n:02d}" for n in range(3, 13)]
    records.keep(20)
    assert len(records.runs()) == 10


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A project with a journal and a run that is judged."""
    (tmp_path / "compose.yaml").write_text("services:\n  web:\n    image: web:1\n")
    store = Journal.open(tmp_path)
    store.save_release(a_release())
    store.begin(a_run(RUN))
    notes: list[str] = []
    found = SimpleNamespace(root=tmp_path, store=store, judge_records=RecordFiles(tmp_path), note=notes.append)
    found.notes = notes
    return cast("World", found)


def judged(world: World, run: Any, *, seconds: int = 5) -> Recorder:
    begun = a_beginning()
    recorder = Recorder(opened(begun, "salt"), begun)
    for second in range(seconds):
        recorder.feed(traffic(second, second, second + 1.0, 0.0))
        recorder.way(20.0, 100, second + 1.0)
        judging.save(world, run, recorder)
    return recorder


def of(run: Any) -> Any:
    """A run that brings the release `new`."""
    return msgspec.structs.replace(run, plan=msgspec.structs.replace(run.plan, release="new"))


@pytest.fixture
def run(world: World) -> Any:
    found = of(world.store.run(RUN))
    world.store.record(found, "note", "")
    return found


@pytest.fixture
def say(world: World, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def said(*words: str) -> tuple[int, str, str]:
        status = program.main(["deploy", "replay", *words, "-C", str(world.root)])
        return (status, *capsys.readouterr())

    return said


def test_the_journal_forgets_a_record_that_is_gone(world: World, run: Any) -> None:
    assert world.judge_records is not None
    for number in range(12):
        again = msgspec.structs.replace(run, id=f"20261127T0300{number:02d}-aaaaaa")
        judged(world, again, seconds=1)
        judging.forget(world, again)

    with contextlib.closing(sqlite3.connect(world.root / ".nself" / "nself.db")) as journal:
        known = [key for (key,) in journal.execute("SELECT key FROM meta WHERE key LIKE 'judge-record:%'")]
        left = [key for (key,) in journal.execute("SELECT key FROM meta WHERE value = ''")]
    assert sorted(known) == [judge_records.closed_key(one) for one in world.judge_records.runs()]
    assert len(known) == 10 and not left


def test_a_run_is_replayed_while_it_runs_and_when_it_has_ended(world: World, run: Any) -> None:
    judged(world, run)
    assert world.judge_records is not None
    going = replay(world.store, world.judge_records, "new")
    judging.forget(world, run)
    over = replay(world.store, world.judge_records, "new")

    assert going.identical and (going.runs[0].whole, going.runs[0].note) == (False, "the run has not ended")
    assert over.identical and (over.runs[0].whole, over.runs[0].note) == (True, "")
    assert over.runs[0].decisions == 10 and over.runs[0].requests > 100
    assert not world.store.meta(judging.session_key(RUN))


def test_the_command_says_that_all_is_identical(world: World, run: Any, say: Callable[..., Any]) -> None:
    judged(world, run)
    judging.forget(world, run)
    status, out, err = say("new")

    assert (status, err) == (0, "")
    assert "identical  inconclusive, 10 decisions from" in out and RUN in out
    document = json.loads(say("new", "--json")[1])
    assert document["identical"] and document["runs"][0]["difference"] is None


def test_every_byte_that_is_changed_is_found(world: World, run: Any, say: Callable[..., Any]) -> None:
    judged(world, run, seconds=2)
    judging.forget(world, run)
    path = world.root / RECORDS_DIR / RUN
    record = path.read_bytes()
    for at in range(0, len(record), max(1, len(record) // 40)):
        path.write_bytes(record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :])
        status, _, err = say("new", "--json")
        assert status == 4 and f".nself/canary/{RUN}" in err, at
    path.write_bytes(record[:-8])
    assert say("new")[0] == 4


def test_the_first_line_that_differs_is_shown(world: World, run: Any, say: Callable[..., Any]) -> None:
    judged(world, run)
    judging.forget(world, run)
    path = world.root / RECORDS_DIR / RUN
    path.write_bytes(path.read_bytes().replace(b'"wait"', b'"back"', 1))
    status, out, err = say("new")

    assert status == 4
    assert 'decided:  ["way",1.0,20.0,100,"back",""]' in out and 'computed: ["way",1.0,20.0,100,"wait",""]' in out
    assert "does not come out of its record" in err and "->" in err
    document = json.loads(say("new", "--json")[1])
    assert not document["identical"] and document["runs"][0]["difference"]["line"] == 3


def test_what_is_not_there_is_said_with_what_to_do(world: World, run: Any, say: Callable[..., Any]) -> None:
    status, _, err = say("new")
    assert status == 1 and "is not on record" in err and "the newest 10 records" in err
    status, _, err = say("nonsense")
    assert status == 1 and "There is no release 'nonsense'" in err and "history" in err


def test_a_record_that_is_full_says_so(
    world: World, run: Any, say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LIMIT", 3000)
    recorder = judged(world, run, seconds=8)
    judging.forget(world, run)
    status, out, _ = say("new")

    assert status == 0 and "it was full after" in out
    assert recorder.session.unrecorded and recorder.session.recorded < 3100


def test_a_record_that_can_not_be_written_hinders_nobody(world: World, run: Any, say: Callable[..., Any]) -> None:
    recorder = judged(world, run)
    path = world.root / RECORDS_DIR / RUN
    path.write_bytes(path.read_bytes()[:100])
    recorder.way(20.0, 100, 50.0)
    judging.save(world, run, recorder)
    judging.save(world, run, recorder)

    assert len(world.notes) == 1 and "can't be replayed" in world.notes[0]  # type: ignore[attr-defined]
    assert recorder.taken() == b""
    assert say("new")[0] == 4
    judging.forget(world, run)
    assert not world.store.meta(judging.session_key(RUN))


def test_a_canary_without_a_record_goes_on_without(world: World, run: Any) -> None:
    begun = a_beginning()
    judging.save(world, run, Recorder(opened(begun, "salt")))
    session = judging.load(world, run)
    assert session is not None and session.unrecorded
    judge_records.close(world, run, session)
    assert world.judge_records is not None and world.judge_records.runs() == ()
