"""One holder at a time; the kernel gives the lock back when the holder dies; a refusal names the holder."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nself_deploy.adapters import system
from nself_deploy.adapters.lock import LOCK_FILE, FileLock
from nself_deploy.app.ports import LockOwner
from nself_deploy.errors import Exit, Locked, StateFileError
from tests.unit.hardship import Victim, in_child, victims


def lock(root: Path, target: str = "local") -> FileLock:
    return FileLock(root, target, system.lock_owner)


@contextmanager
def holder(root: Path, *, with_child: bool = False) -> Iterator[Victim]:
    """A process that has the lock (and started a program, whose pid is its second number)."""

    def work(acknowledge: Callable[[int], None]) -> None:
        lock(root).acquire("deploy blue-green")
        acknowledge(1)
        if with_child:
            program = [sys.executable, "-c", "import signal; signal.alarm(60); signal.pause()"]
            acknowledge(subprocess.Popen(program, close_fds=False).pid)
        signal.pause()

    with victims(1, work, 2 if with_child else 1) as (victim,):
        yield victim


def test_it_is_held_until_it_is_given_back(tmp_path: Path) -> None:
    mine, other = lock(tmp_path), lock(tmp_path)
    assert mine.owner() is None
    mine.acquire("deploy")
    mine.acquire("deploy")
    owner = other.owner()
    assert owner is not None and (owner.pid, owner.purpose) == (os.getpid(), "deploy")
    with pytest.raises(Locked):
        other.acquire("rollback")
    mine.release()
    mine.release()
    assert other.owner() is None
    other.acquire("rollback")
    assert other.previous is None
    other.release()


def test_a_refusal_says_who_since_when_doing_what_and_what_to_do(tmp_path: Path) -> None:
    with holder(tmp_path) as victim:
        owner = lock(tmp_path).owner()
        with pytest.raises(Locked) as caught:
            lock(tmp_path).acquire("rollback")

    assert owner == LockOwner(
        system.user_name(),
        system.host_name(),
        victim.pid,
        system.boot_id(),
        "deploy blue-green",
        owner.since if owner else "",
        system.machine_id(),
        system.pid_space(),
        owner.started if owner else "",
    )
    assert owner.started and owner.started != system.process_started(os.getpid())
    assert caught.value.exit_status is Exit.LOCKED and caught.value.retryable
    for word in (owner.user, owner.host, str(owner.pid), owner.since, "deploy blue-green", "local", LOCK_FILE):
        assert word in str(caught.value)
    assert f"end process {victim.pid}" in caught.value.remedy


def test_a_dead_holder_holds_nothing_and_is_known_to_the_next(tmp_path: Path) -> None:
    with holder(tmp_path) as victim:
        pass
    next_one = lock(tmp_path)

    assert json.loads((tmp_path / LOCK_FILE).read_text())["owner"]["pid"] == victim.pid
    assert next_one.owner() is None
    next_one.acquire("deploy")
    assert next_one.previous is not None and next_one.previous.pid == victim.pid
    next_one.release()


def test_programs_that_the_holder_started_do_not_keep_it(tmp_path: Path) -> None:
    with holder(tmp_path, with_child=True) as victim:
        started = victim.kill()
    try:
        os.kill(started, 0)
        assert lock(tmp_path).owner() is None
        lock(tmp_path).acquire("deploy")
    finally:
        os.kill(started, signal.SIGKILL)


def test_removing_the_file_lets_nobody_in(tmp_path: Path) -> None:
    mine = lock(tmp_path)
    mine.acquire("deploy")
    (tmp_path / LOCK_FILE).unlink()

    assert lock(tmp_path).owner() is not None
    with pytest.raises(Locked, match="another process works on this project"):
        lock(tmp_path).acquire("deploy")
    mine.release()
    lock(tmp_path).acquire("deploy")


def test_one_of_many_gets_it_at_any_time(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")

    def work(acknowledge: Callable[[int], None]) -> None:
        taken = 0
        while taken < 20:
            mine = lock(tmp_path)
            try:
                mine.acquire("count")
            except Locked:
                continue
            (tmp_path / "count").write_text(str(int((tmp_path / "count").read_text()) + 1))
            mine.release()
            taken += 1
            acknowledge(taken)
        signal.pause()

    with victims(4, work, 20) as takers:
        assert [taker.kill() for taker in takers] == [20] * 4
    assert (tmp_path / "count").read_text() == "80"


def test_looking_never_makes_it_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = lock(tmp_path)
    mine.acquire("deploy")
    mine.release()
    looking = os.open(tmp_path / ".nself", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)  # what `owner` does, for a moment
    monkeypatch.setattr(time, "sleep", lambda seconds: fcntl.flock(looking, fcntl.LOCK_UN))

    assert lock(tmp_path).owner() is None
    mine.acquire("deploy")
    mine.release()
    os.close(looking)


def test_looking_creates_nothing(tmp_path: Path) -> None:
    assert lock(tmp_path).owner() is None
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        lock(tmp_path).acquire("deploy")
    finally:
        os.umask(old)

    assert stat.S_IMODE((tmp_path / LOCK_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"\xff" * 10_000, b"[]", b'{"owner": 1}'])
def test_what_the_file_says_decides_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".nself").mkdir()
    (tmp_path / LOCK_FILE).write_bytes(content)
    mine = lock(tmp_path)

    assert mine.owner() is None
    mine.acquire("deploy")
    assert mine.previous is None
    assert json.loads((tmp_path / LOCK_FILE).read_text())["owner"]["pid"] == os.getpid()


@pytest.mark.parametrize("made", ["link", "directory", "fifo"])
def test_something_else_in_its_place_is_refused(tmp_path: Path, made: str) -> None:
    (tmp_path / ".nself").mkdir()
    path = tmp_path / LOCK_FILE
    if made == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif made == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(StateFileError, match="Move it away"):
        lock(tmp_path).acquire("deploy")
    assert not (tmp_path / "elsewhere").exists()


def test_a_user_without_rights_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = lock(tmp_path)
    mine.acquire("deploy")
    mine.release()
    tmp_path.chmod(0o555)
    (tmp_path / LOCK_FILE).chmod(0o400)
    monkeypatch.chdir(tmp_path)  # the parents of a test's directory are private
    outcome = in_child(lambda: lock(Path(".")).acquire("deploy"), unprivileged=True)
    tmp_path.chmod(0o755)

    assert outcome.startswith("ConfigError 1 .nself/lock: cannot lock it: not writable"), outcome
