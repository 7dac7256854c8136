"""A program that we started ends with us, also when we are killed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

PROGRAM = """
import asyncio, sys
from nself_deploy.adapters.subprocesses import run

async def main():
    words = ["sh", "-c", "echo $$ > pid.new && mv pid.new pid; trap 'echo ended > end; exit 0' TERM; sleep 60 & wait"]
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
