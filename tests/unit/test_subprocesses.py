"""A program that we started ends with us, also when we are killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, sys
from nself_deploy.adapters.subprocesses import run

async def main():
    words = ["sh", "-c", "echo $$ > pid.new && mv pid.new pid; trap 'echo ended > end; exit 0' TERM; sleep 60 & wait"]
    await run(words, cwd=sys.argv[1], env={"PATH": "/usr/bin:/bin"}, timeout_s=60)

asyncio.run(main())
"""


async def _written(path: Path) -> str:
    async with asyncio.timeout(60):
        while not path.exists() or not path.read_text():
            await asyncio.sleep(0.02)
    return path.read_text().strip()


async def test_a_program_is_told_when_we_are_killed(tmp_path: Path) -> None:
    ours = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)])
    try:
        assert int(await _written(tmp_path / "pid")) > 0
    finally:
        ours.kill()
        ours.wait()

    assert await _written(tmp_path / "end") == "ended"
