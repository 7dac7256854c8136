"""A program that we started ends with us, also when we are killed, and whenever its call is cancelled."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nself_deploy.adapters.subprocesses import run

PROGRAM = """
import asyncio, sys
from nself_deploy.adapters.subprocesses import run

async def main():
    words = ["sh", "-c", "trap 'echo ended > end; exit 0' TERM; echo $$ > pid.new && mv pid.new pid; sleep 60 & wait"]
    await run(words, cwd=sys.argv[1], env={"PATH": "/usr/bin:/bin"}, timeout_s=60)

asyncio.run(main())
"""


def _written(path: Path) -> str:
    start, never = time.monotonic(), threading.Event()
    while not path.exists() or not path.read_text():
        assert time.monotonic() - start < 60, f"{path.name} never came"
        never.wait(0.02)
    return path.read_text().strip()


def test_a_program_is_told_when_we_are_killed(tmp_path: Path) -> None:
    ours = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)])
    try:
        assert int(_written(tmp_path / "pid")) > 0
    finally:
        ours.kill()
        ours.wait()

    assert _written(tmp_path / "end") == "ended"


async def test_one_that_is_just_being_started_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, running, go_on = asyncio.create_subprocess_exec, asyncio.Event(), asyncio.Event()

    async def slowly(*words: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await create(*words, **options)
        await asyncio.to_thread(_written, tmp_path / "child")
        running.set()
        await go_on.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)
    words = ["sh", "-c", "sleep 600 & echo $! > child.new && mv child.new child; wait"]
    call = asyncio.create_task(run(words, cwd=str(tmp_path), env={"PATH": "/usr/bin:/bin"}, timeout_s=600))
    await running.wait()
    call.cancel()
    asyncio.get_running_loop().call_soon(go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await call

    child = int(_written(tmp_path / "child"))
    try:
        await asyncio.to_thread(_ended, child)
    finally:
        if _lives(child):
            os.kill(child, signal.SIGKILL)


async def test_a_program_that_can_not_be_started_is_no_hindrance_to_a_cancelled_call(tmp_path: Path) -> None:
    for turns in range(8):
        call = asyncio.create_task(run([str(tmp_path / "none")], cwd="/", env={}, timeout_s=60))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises((asyncio.CancelledError, FileNotFoundError)):
            await call


def _lives(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _ended(pid: int) -> None:
    start, never = time.monotonic(), threading.Event()
    while _lives(pid):
        assert time.monotonic() - start < 60, "it goes on"
        never.wait(0.02)
