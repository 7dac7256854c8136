"""Files are written whole or not at all, are private, and every refusal says what to do."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nself_deploy.adapters.durable_files import (
    create_temp,
    ensure_dir,
    ensure_nself_dir,
    os_error,
    read_bounded,
    temp_name,
    write_atomic,
)
from nself_deploy.errors import ConfigError, Exit, InfrastructureError, StateFileError
from tests.unit.hardship import in_child, kill_at_random, on_small_disk, victims


@pytest.fixture
def shared_dir() -> Iterator[Path]:
    """A directory that every user can pass through (pytest's own are private)."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_a_file_has_its_mode_and_content_and_leaves_nothing_else(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        write_atomic(tmp_path / "a.json", b"private")
        write_atomic(tmp_path / "b.conf", b"public", 0o644)
    finally:
        os.umask(old)

    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {"a.json": 0o600, "b.conf": 0o644}
    assert read_bounded(tmp_path / "a.json") == b"private"


def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    fsync, rename = os.fsync, os.rename

    def seen_fsync(fd: int) -> None:
        seen.append(f"fsync {'directory' if stat.S_ISDIR(os.fstat(fd).st_mode) else os.fstat(fd).st_size}")
        fsync(fd)

    def seen_rename(source: Path, target: Path) -> None:
        seen.append(f"rename to {target.name}")
        assert source.parent == target.parent
        rename(source, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "rename", seen_rename)
    write_atomic(tmp_path / "a.json", b"12345")

    assert seen == ["fsync 5", "rename to a.json", "fsync directory"]


def test_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path, chance = tmp_path / "a.json", random.Random(7)
    last = 0

    def work(acknowledge: Callable[[int], None]) -> None:
        number = last
        while True:
            number += 1
            write_atomic(path, b"%d\n" % number * 5000)
            acknowledge(number)

    for _ in range(60):
        acknowledged = kill_at_random(work, chance)
        lines = (read_bounded(path) or b"").split()
        assert len(set(lines)) <= 1 and len(lines) in (0, 5000)
        found = int(lines[0]) if lines else 0
        assert max(last, acknowledged) <= found <= max(last, acknowledged) + 1
        last = found

    write_atomic(path, b"end")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_living_writers_file_is_no_leftover(tmp_path: Path) -> None:
    mine, dead = temp_name(tmp_path / "a.json"), temp_name(tmp_path / "a.json")
    fd = create_temp(mine)
    os.close(create_temp(dead))
    write_atomic(tmp_path / "a.json", b"1")
    names = {p.name for p in tmp_path.iterdir()}
    os.close(fd)

    assert names == {"a.json", mine.name}


def test_many_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"

    def work(acknowledge: Callable[[int], None]) -> None:
        for number in range(1, 201):
            write_atomic(path, b"%d" % (number % 10) * 1000)
            acknowledge(number)
        signal.pause()

    with victims(3, work, 200) as writers:
        content = read_bounded(path) or b""
        assert len(content) == 1000 and len(set(content)) == 1
        assert [writer.kill() for writer in writers] == [200, 200, 200]


def test_a_full_disk_keeps_the_old_content_and_says_so(tmp_path: Path) -> None:
    def work() -> str:
        free = on_small_disk(tmp_path, 128 * 1024)
        write_atomic(tmp_path / "a.json", b"old")
        with pytest.raises(InfrastructureError) as caught:
            write_atomic(tmp_path / "a.json", b"x" * 200_000)
        assert read_bounded(tmp_path / "a.json") == b"old"
        assert not [p.name for p in tmp_path.iterdir() if "tmp" in p.name]
        free()
        write_atomic(tmp_path / "a.json", b"new")
        assert read_bounded(tmp_path / "a.json") == b"new"
        return f"{int(caught.value.exit_status)} {caught.value}"

    outcome = in_child(work)
    assert outcome.startswith(f"returned 2 {tmp_path}/a.json: cannot write it: the disk is full"), outcome
    assert "Free some space" in outcome


def test_a_directory_without_rights(shared_dir: Path) -> None:
    (shared_dir / "a.json").write_bytes(b"old")
    (shared_dir / "a.json").chmod(0o400)
    shared_dir.chmod(0o555)

    written = in_child(lambda: write_atomic(shared_dir / "a.json", b"new"), unprivileged=True)
    made = in_child(lambda: ensure_nself_dir(shared_dir), unprivileged=True)
    shared_dir.chmod(0o755)

    assert written.startswith(f"ConfigError 1 {shared_dir}/a.json: cannot write it: not writable"), written
    assert made.startswith(f"ConfigError 1 {shared_dir}/.nself: cannot create it: not writable"), made
    assert (shared_dir / "a.json").read_bytes() == b"old"
    assert [p.name for p in shared_dir.iterdir()] == ["a.json"]


def test_a_file_that_may_not_be_read(shared_dir: Path) -> None:
    (shared_dir / "a.json").write_bytes(b"old")
    (shared_dir / "a.json").chmod(0o000)

    outcome = in_child(lambda: read_bounded(shared_dir / "a.json"), unprivileged=True)

    assert outcome.startswith(f"ConfigError 1 {shared_dir}/a.json: cannot read it: not readable"), outcome


@pytest.mark.parametrize("made", ["link", "dangling link", "directory", "fifo"])
def test_nothing_but_a_regular_file_is_read_or_replaced(tmp_path: Path, made: str) -> None:
    path, other = tmp_path / "a.json", tmp_path / "other"
    if made == "link":
        other.write_bytes(b"theirs")
    if "link" in made:
        path.symlink_to(other)
    elif made == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)

    uses: list[Callable[[], object]] = [lambda: write_atomic(path, b"x"), lambda: read_bounded(path)]
    for use in uses:
        with pytest.raises(StateFileError) as caught:
            use()
        assert str(caught.value).startswith(f"{path}: ") and "Move it away" in str(caught.value)
    assert not other.exists() or other.read_bytes() == b"theirs"


def test_reading_is_bounded_and_a_missing_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 101)

    assert read_bounded(tmp_path / "none") is None
    assert read_bounded(tmp_path / "no" / "directory") is None
    assert read_bounded(tmp_path / "big", 101) == b"x" * 101
    with pytest.raises(StateFileError, match="larger than 100 bytes"):
        read_bounded(tmp_path / "big", 100)


def test_directories_get_exactly_their_mode(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    ensure_dir(tmp_path / "there")
    ensure_dir(tmp_path / "a" / "b", 0o711)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "there")

    assert [stat.S_IMODE((tmp_path / p).stat().st_mode) for p in ("there", "a", "a/b")] == [0o700, 0o711, 0o711]
    for name in ("file", "link", "file/below"):
        with pytest.raises(StateFileError):
            ensure_dir(tmp_path / name)


def test_a_project_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for name in ("none", "file"):
        with pytest.raises(ConfigError, match="is no directory"):
            ensure_nself_dir(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert stat.S_IMODE(ensure_nself_dir(tmp_path).stat().st_mode) == 0o711


@pytest.mark.parametrize(
    ("code", "kind", "status", "words"),
    [
        (errno.ENOSPC, InfrastructureError, Exit.INFRASTRUCTURE, "the disk is full"),
        (errno.EDQUOT, InfrastructureError, Exit.INFRASTRUCTURE, "the disk is full"),
        (errno.EROFS, ConfigError, Exit.USAGE, "not writable"),
        (errno.EACCES, ConfigError, Exit.USAGE, "not writable"),
        (errno.EIO, InfrastructureError, Exit.INFRASTRUCTURE, "Check the disk"),
        (errno.ELOOP, StateFileError, Exit.USAGE, "symbolic link"),
    ],
)
def test_what_the_system_says_becomes_an_error_of_ours(
    code: int, kind: type[Exception], status: Exit, words: str
) -> None:
    error = os_error(OSError(code, os.strerror(code)), "some/file", "write")

    assert type(error) is kind
    assert error.exit_status is status
    assert str(error).startswith("some/file: ") and words in str(error)
