"""Whether the process of a lock's owner is there: by its id and its start, whoever's it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from nself_deploy.adapters import system
from nself_deploy.adapters.lock import FileLock
from nself_deploy.core.lock_rules import LockOwner
from tests.unit.hardship import in_child

ME = system.lock_owner("deploy")


def test_a_process_is_known_by_its_start_as_well() -> None:
    assert system.is_there(ME.pid, ME.started)
    assert not system.is_there(ME.pid, str(int(ME.started) - 1))


def test_a_process_that_ended_is_gone_also_before_its_parent_asked() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    started = system.process_started(process.pid)
    assert system.is_there(process.pid, started)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not system.is_there(process.pid, started)
    process.wait()
    assert not system.is_there(process.pid, started)


def test_another_users_process_is_there() -> None:
    def look() -> None:
        assert system.is_there(ME.pid, ME.started)

    assert in_child(look, unprivileged=True) == "returned None"


def test_a_process_that_hides_is_taken_for_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(pid: int) -> str:
        raise FileNotFoundError(pid)

    monkeypatch.setattr(system, "process_started", hidden)
    assert system.is_there(ME.pid, ME.started)


def test_a_machine_without_an_id_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "machine-id"
    monkeypatch.setattr(system, "_MACHINE_ID", path)
    assert system.machine_id() == ""
    path.write_text("\n")
    assert system.machine_id() == ""
    path.write_text("abc\n")
    first = system.machine_id()
    assert len(first) == 32 and "abc" not in first
    path.write_text("abd\n")
    assert system.machine_id() != first


def _other(**fields: str | int) -> LockOwner:
    return msgspec.structs.replace(ME, **fields)


def test_only_of_this_machine_we_know_that_an_owner_died() -> None:
    assert not system.is_gone(ME)
    assert system.is_gone(_other(started="1"))
    assert system.is_gone(_other(boot_id="another", started="1"))
    assert not system.is_gone(_other(machine="another", started="1"))


def test_only_an_owner_known_to_be_dead_is_the_previous_one(tmp_path: Path) -> None:
    for owner, dead in ((_other(started="1"), True), (_other(machine="another"), False)):
        lock = FileLock(tmp_path, "local", lambda purpose, owner=owner: owner)
        lock.acquire("deploy")
        lock._close()  # as the kernel does for one that died
        following = FileLock(tmp_path, "local", system.lock_owner, system.is_gone)
        following.acquire("deploy")
        assert following.previous == (owner if dead else None)
        following.release()
