"""Real hard conditions for code that writes files: killed processes, a full disk, a user without rights."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import select
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nself_deploy.core import effects as do
from nself_deploy.core.machine import Begin, Run, advance, new_run
from nself_deploy.core.model import Slot, Strategy
from nself_deploy.core.plan import Kind, Plan, Step
from nself_deploy.errors import NselfError

NOBODY = 65534
LIMIT_S = 120.0
"""No child may need longer."""

_NEW_MOUNTS, _PRIVATE_RECURSIVE = 0x00020000, (1 << 18) | (1 << 14)


def a_run(run_id: str = "run-1", steps: int = 3) -> Run:
    """A run at its first step."""
    plan = Plan(
        kind=Kind.DEPLOY,
        strategy=Strategy.BLUE_GREEN,
        target="local",
        project="shop",
        release="r2",
        previous_release="r1",
        live=Slot.BLUE,
        candidate=Slot.GREEN,
        steps=tuple(Step(f"step-{n}", f"Step {n}", do.RemoveSlot(Slot.GREEN)) for n in range(steps)),
    )
    return advance(new_run(run_id, plan, "2026-11-22T21:00:00.000Z"), Begin())[0]


def outcome_of(function: Callable[[], object]) -> str:
    """`returned VALUE`, or `ErrorName STATUS MESSAGE` for one of our errors, or a traceback for another."""
    try:
        return f"returned {function()}"
    except NselfError as error:
        return f"{type(error).__name__} {int(error.exit_status)} {error}"
    except BaseException:
        return traceback.format_exc()


def in_child(function: Callable[[], object], *, unprivileged: bool = False) -> str:
    """The outcome of `function` in a process of its own, as a user without rights if asked for."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if unprivileged and os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os.write(writing, outcome_of(function).encode()[:60_000])
        finally:
            os._exit(0)
    os.close(writing)
    try:
        return _read_all(reading)
    finally:
        _end(pid)
        os.close(reading)


def _read_all(fd: int) -> str:
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([fd], [], [], LIMIT_S)
        assert ready, "the child hangs"
        part = os.read(fd, 65536)
        if not part:
            return b"".join(parts).decode()
        parts.append(part)


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def on_small_disk(directory: Path, size: int) -> Callable[[], None]:
    """From here on this (child) process finds only `size` bytes of disk in `directory`, until the result is called.

    A small tmpfs of its own where mounting is allowed, else a limit on the size of each file.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={size}".encode()
    if (
        libc.unshare(_NEW_MOUNTS) == 0
        and libc.mount(b"none", b"/", None, _PRIVATE_RECURSIVE, None) == 0
        and libc.mount(b"none", os.fsencode(directory), b"tmpfs", 0, options) == 0
    ):
        filler = directory / "filler"
        filler.write_bytes(b"x" * (size // 4))
        return filler.unlink
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


class Victim:
    """A process that runs `work(acknowledge)` until it is killed; what it acknowledged must survive."""

    def __init__(self, work: Callable[[Callable[[int], None]], None]) -> None:
        self._reading, writing = os.pipe()
        self._alive = True
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.alarm(int(2 * LIMIT_S))  # whatever happens to the test
                work(lambda number: _acknowledge(writing, number))
            except BaseException:
                os.write(writing, b"-1\n" + traceback.format_exc().encode())
            finally:
                os._exit(0)
        os.close(writing)
        self._seen = b""

    def wait_for(self, count: int) -> None:
        """Until it has acknowledged `count` times."""
        while self._seen.count(b"\n") < count:
            ready, _, _ = select.select([self._reading], [], [], LIMIT_S)
            assert ready, "it hangs"
            part = os.read(self._reading, 65536)
            assert part, "it ended by itself"
            self._seen += part

    def kill(self) -> int:
        """SIGKILL; the last number that it acknowledged, 0 for none."""
        self._alive = False
        _end(self.pid)
        self._seen += _read_all(self._reading).encode()
        os.close(self._reading)
        numbers = self._seen.split(b"\n")
        assert b"-1" not in numbers, self._seen.decode()
        return int(numbers[-2]) if len(numbers) > 1 else 0

    def close(self) -> None:
        """Kill it if that was not done."""
        if self._alive:
            self.kill()


@contextmanager
def victims(count: int, work: Callable[[Callable[[int], None]], None], acknowledged: int) -> Iterator[list[Victim]]:
    """So many of them, each of which has acknowledged so often; none lives on."""
    made = [Victim(work) for _ in range(count)]
    try:
        for victim in made:
            victim.wait_for(acknowledged)
        yield made
    finally:
        for victim in made:
            victim.close()


def kill_at_random(work: Callable[[Callable[[int], None]], None], chance: random.Random) -> int:
    """Run `work` in a process and kill it somewhere; the last number that it acknowledged."""
    with victims(1, work, chance.randrange(0, 12)) as (victim,):
        for _ in range(chance.randrange(0, 60_000)):  # somewhere inside the next write
            pass
        return victim.kill()


def _acknowledge(fd: int, number: int) -> None:
    os.write(fd, b"%d\n" % number)
