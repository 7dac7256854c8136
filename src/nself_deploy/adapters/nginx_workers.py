"""nginx's worker processes: which of them accept connections, and which only finish requests."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from nself_deploy.adapters.nginx_control import Control

_WORKER = "nginx: worker process"
_FINISHING = f"{_WORKER} is shutting down"
_STAT = re.compile(r"(\d+) \(.*\) \S (\d+) ", re.DOTALL)
_POLL_S = 0.02


class Worker(msgspec.Struct, frozen=True):
    """A worker process."""

    pid: int
    master: int
    finishing: bool
    """Whether it was told to end and only finishes requests: its title says so from when it accepts no more."""


def parse_workers(processes: Iterable[tuple[str, str]]) -> tuple[Worker, ...]:
    """The workers among processes, given as their `/proc/PID/stat` and title."""
    found = []
    for stat, title in processes:
        numbers = _STAT.match(stat)
        if numbers and title.startswith(_WORKER):
            found.append(Worker(int(numbers[1]), int(numbers[2]), title.startswith(_FINISHING)))
    return tuple(found)


def left_behind(before: Collection[Worker], now: Collection[Worker]) -> set[int]:
    """Workers from before a reload that still accept connections, though their master has new ones; their process ids.

    A master starts new workers first and tells those of before a moment later (0.1 s, more where it is kept from
    running). Until they have heard it, they take requests with the files of before. A master that has no new worker
    did not reload: its workers are another nginx's.
    """
    known = {worker.pid for worker in before}
    reloaded = {worker.master for worker in now if worker.pid not in known}
    return {w.pid for w in now if w.pid in known and not w.finishing and w.master in reloaded}


async def replaced(control: Control, before: Collection[Worker], timeout_s: float) -> bool:
    """Whether nobody from before a reload accepts connections any more, before time is up."""
    end = time.monotonic() + timeout_s
    while left_behind(before, await control.workers()):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def finishing(control: Control) -> int:
    """How many workers of an earlier configuration still finish requests."""
    return sum(worker.finishing for worker in await control.workers())


async def finished(control: Control, timeout_s: float) -> None:
    """Wait for those that finish requests, so long."""
    end = time.monotonic() + timeout_s
    while await finishing(control) and time.monotonic() < end:
        await asyncio.sleep(_POLL_S)
