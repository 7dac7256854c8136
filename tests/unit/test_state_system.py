"""What is asked of this machine: time, names, git."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import time
from pathlib import Path

import pytest

from nself_deploy.adapters import system


def git(directory: Path, *args: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@localhost", "-C", str(directory), *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "project").mkdir()
    (tmp_path / "project/a").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "a")
    return tmp_path / "project"


def info(directory: Path, timeout_s: float = 240.0) -> tuple[str, bool]:
    return asyncio.run(system.git_info(directory, timeout_s))


def test_a_clean_project_has_its_commit(repository: Path) -> None:
    assert info(repository) == (git(repository, "rev-parse", "HEAD"), False)


def test_only_changes_in_the_project_count_and_not_our_own_files(repository: Path) -> None:
    (repository / ".nself").mkdir()
    (repository / ".nself/nself.db").touch()
    (repository.parent / "beside").touch()
    assert info(repository)[1] is False
    (repository / "new").touch()
    assert info(repository)[1] is True
    (repository / "new").unlink()
    (repository / "a").write_text("2")
    assert info(repository)[1] is True


def test_without_a_commit_a_repository_or_git_there_is_none(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, bare = tmp_path_factory.mktemp("fresh"), tmp_path_factory.mktemp("bare")
    git(fresh, "init", "-q")

    assert info(fresh) == info(bare) == info(bare / "none") == ("", False)
    monkeypatch.setenv("PATH", str(bare))
    assert info(repository) == ("", False)


def test_a_git_that_hangs_is_not_waited_for_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "git"
    program.write_text(f"#!/bin/sh\necho $$ > {program}.new && mv {program}.new {tmp_path}/pid\nexec sleep 600\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    start, timeout_s = time.monotonic(), 0.25
    while not (tmp_path / "pid").exists():  # on a busy machine it may be ended before its first word
        timeout_s *= 2
        assert info(tmp_path, timeout_s) == ("", False)

    assert time.monotonic() - start < 300
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_clock() -> None:
    clock = system.SystemClock()
    before = clock.monotonic()
    asyncio.run(clock.sleep(0.01))

    assert clock.monotonic() - before >= 0.009
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", clock.now())


def test_the_owner_of_a_lock_is_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = system.lock_owner("deploy")

    assert (owner.pid, owner.purpose) == (os.getpid(), "deploy")
    assert owner.user and owner.host
    assert owner.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if os.geteuid() == 0:
        monkeypatch.setenv("SUDO_USER", "alice")
        assert system.user_name() == "alice"
