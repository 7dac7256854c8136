"""A journal that is damaged, newer, foreign, gone or not accessible is refused by name, and never made anew."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.journal_schema import MIGRATIONS, open_database
from nself_deploy.errors import StateFileError
from tests.unit.hardship import NOBODY, a_run, in_child


@pytest.fixture
def project() -> Iterator[Path]:
    """A project with a journal, in a place that every user can reach."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        with Journal.open(name) as journal:
            journal.begin(a_run())
            for number in range(40):
                journal.record(a_run(), "note", str(number), "x" * 500)
        yield Path(name)


def journal_of(root: Path) -> Path:
    return root / ".nself/nself.db"


def read_everything(root: Path, *, create: bool) -> object:
    with Journal.open(root, create=create) as journal:
        journal.slots(), journal.addresses(), journal.releases(), journal.meta("x"), journal.unfinished()
        return len(journal.history()), len(journal.entries("run-1"))


@pytest.mark.parametrize("create", [True, False])
def test_a_journal_cut_anywhere_is_refused_and_left_as_it_is(project: Path, create: bool) -> None:
    path = journal_of(project)
    whole = path.read_bytes()
    edges = {n + d for n in range(0, len(whole), 4096) for d in (-1, 0, 1)} | set(range(0, len(whole), 997))
    for length in sorted(n for n in edges | set(range(130)) if 0 <= n < len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(StateFileError) as caught:
            read_everything(project, create=create)
        assert str(caught.value).startswith(f"{path}: is "), length
        assert caught.value.remedy
        assert path.read_bytes() == whole[:length], length

    path.write_bytes(whole)
    assert read_everything(project, create=create) == (1, 40)


@pytest.mark.parametrize("data", [b"\0" * 8192, b"{}", b"x" * 8192, b"SQLite format 3\0" + b"\xff" * 5000])
def test_what_is_no_journal_is_refused_and_left_as_it_is(project: Path, data: bytes) -> None:
    path = journal_of(project)
    path.write_bytes(data)
    for create in (True, False):
        with pytest.raises(StateFileError) as caught:
            read_everything(project, create=create)
        assert str(caught.value).startswith(f"{path}: is ")

    assert path.read_bytes() == data


def test_damage_inside_is_met_when_it_is_read(project: Path) -> None:
    path = journal_of(project)
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 200] = b"\xa5" * 200
    path.write_bytes(data)
    with pytest.raises(StateFileError) as caught:
        read_everything(project, create=True)

    assert str(caught.value).startswith(f"{path}: is damaged")


def test_a_record_that_is_no_run_is_named(project: Path) -> None:
    db = sqlite3.connect(journal_of(project))
    with db:
        db.execute("UPDATE runs SET document = '{\"id\": 7}'")
    db.close()
    with pytest.raises(StateFileError, match="the record of run run-1 can't be read"):
        read_everything(project, create=False)


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".nself").mkdir()
    db = sqlite3.connect(journal_of(tmp_path))
    db.execute("CREATE TABLE t (a)")
    db.close()
    for create in (True, False):
        with pytest.raises(StateFileError, match="a database of another program"):
            Journal.open(tmp_path, create=create)


def test_a_newer_journal_is_answered_with_an_upgrade(project: Path) -> None:
    newer = (*MIGRATIONS, "CREATE TABLE later (a); INSERT INTO later VALUES (1);")
    db = open_database(journal_of(project), True, newer)
    assert db is not None
    db.close()
    for create in (True, False):
        with pytest.raises(StateFileError, match="newer version") as caught:
            Journal.open(project, create=create)
        assert caught.value.remedy == "Upgrade nself-deploy on this machine."


def test_an_older_journal_is_migrated_by_a_writer_and_only_seen_migrated_by_a_reader(project: Path) -> None:
    path = journal_of(project)
    newer = (*MIGRATIONS, "CREATE TABLE later (a); INSERT INTO later SELECT count(*) FROM journal_entries;")
    before = path.read_bytes()

    for write in (False, True):
        db = open_database(path, write, newer)
        assert db is not None
        assert db.execute("SELECT a FROM later").fetchone() == (40,)
        db.close()
        assert (path.read_bytes() == before) is not write


def test_a_migration_that_fails_changes_nothing(project: Path) -> None:
    path = journal_of(project)
    with pytest.raises(Exception, match="no such table"):
        open_database(path, True, (*MIGRATIONS, "CREATE TABLE later (a); INSERT INTO nowhere VALUES (1);"))

    assert read_everything(project, create=True) == (1, 40)
    db = open_database(path, True, (*MIGRATIONS, "CREATE TABLE later (a);"))
    assert db is not None
    db.close()


@pytest.mark.parametrize("trace", ["nself.db-wal", "releases/r1"])
def test_a_journal_that_is_gone_is_no_new_beginning(project: Path, trace: str) -> None:
    journal_of(project).unlink()
    (project / ".nself" / trace).mkdir(parents=True)
    for create in (True, False):
        with pytest.raises(StateFileError, match="is gone, but") as caught:
            Journal.open(project, create=create)
        assert "Restore it from a backup" in caught.value.remedy

    assert not journal_of(project).exists()


def test_an_empty_releases_directory_is_a_beginning(tmp_path: Path) -> None:
    (tmp_path / ".nself/releases").mkdir(parents=True)
    Journal.open(tmp_path).close()

    assert journal_of(tmp_path).exists()


def test_a_second_name_from_a_maker_that_died_goes_away(project: Path) -> None:
    os.link(journal_of(project), project / ".nself/.nself.db.nself-0123456789ab.tmp")
    assert read_everything(project, create=True) == (1, 40)

    assert [p.name for p in (project / ".nself").iterdir()] == ["nself.db"]


@pytest.mark.parametrize("made", ["directory", "link"])
def test_something_else_in_its_place_is_refused(project: Path, made: str) -> None:
    path = journal_of(project)
    path.rename(project / "moved.db")
    if made == "link":
        path.symlink_to(project / "moved.db")
    else:
        path.mkdir()
    with pytest.raises(StateFileError, match="Move it away"):
        Journal.open(project)


def test_a_user_without_rights_is_told_so(project: Path) -> None:
    if os.geteuid() != 0:
        journal_of(project).chmod(0o000)
    for create in (True, False):
        outcome = in_child(partial(read_everything, project, create=create), unprivileged=True)
        assert outcome.startswith(f"ConfigError 1 {journal_of(project)}: cannot "), outcome


def test_a_read_only_directory_can_be_read_and_not_written(project: Path) -> None:
    directory = project / ".nself"
    if os.geteuid() == 0:
        os.chown(journal_of(project), NOBODY, NOBODY)
    directory.chmod(0o555)

    read = in_child(lambda: read_everything(project, create=False), unprivileged=True)
    written = in_child(lambda: Journal.open(project).set_meta("a", "1"), unprivileged=True)
    directory.chmod(0o700)

    assert read == "returned (1, 40)", read
    assert written.startswith("ConfigError 1 ") and "not writable" in written, written
    assert [p.name for p in directory.iterdir()] == ["nself.db"]


def test_a_project_directory_without_rights(project: Path) -> None:
    shutil.rmtree(project / ".nself")
    project.chmod(0o555)
    outcome = in_child(lambda: Journal.open(project), unprivileged=True)
    project.chmod(0o755)

    assert outcome.startswith(f"ConfigError 1 {project}/.nself: cannot create it: not writable"), outcome


def test_opening_and_reading_is_quick(project: Path) -> None:
    times = []
    for _ in range(20):
        start = time.process_time()
        with Journal.open(project, create=False) as journal:
            journal.unfinished(), journal.slots(), journal.meta("x")
        times.append(time.process_time() - start)

    assert min(times) < 0.010  # of the processor's time: how busy the machine is does not count
