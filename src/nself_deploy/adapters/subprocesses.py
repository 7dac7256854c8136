"""Running another program: argument lists, bounded time, bounded output, in a process group of its own.

Its own group, so that Ctrl-C in the terminal reaches us alone: we decide whether the program stops half-way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import msgspec

MAX_LINE = 500
KEPT_LINES = 400
KILL_AFTER_S = 5.0
_PR_SET_PDEATHSIG = 1


class Finished(msgspec.Struct, frozen=True):
    """A program that ended by itself."""

    status: int
    out: bytes
    """All that it wrote to stdout, when that was asked for."""
    lines: tuple[str, ...]
    """The last lines of stdout (unless kept whole) and stderr, in the order of arrival."""
    errors: tuple[str, ...]
    """The last lines of stderr alone."""


class OutputTooLarge(Exception):
    """stdout was to be kept whole, and is larger than allowed."""


async def run(
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    timeout_s: float,
    keep_bytes: int = 0,
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    """Run a program to its end.

    Args:
        argv: program and arguments; never a secret, the process list shows them.
        timeout_s: after that it is stopped, with all that it started.
        keep_bytes: keep stdout whole, up to that many bytes; 0: as lines.
        on_line: told of every line as it comes.

    Raises:
        TimeoutError: it took longer; it is stopped.
        OutputTooLarge: it wrote more than `keep_bytes`; it is stopped.
        OSError: it can't be started.
    """
    process = await _start(argv, cwd, env)
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    errors: deque[str] = deque(maxlen=KEPT_LINES)

    def both(line: str) -> None:
        lines.append(line)
        if on_line is not None:
            on_line(line)

    def error(line: str) -> None:
        errors.append(line)
        both(line)

    if process.stdout is None or process.stderr is None:
        raise OSError("no pipes to the program")
    out = _read_whole(process, process.stdout, keep_bytes) if keep_bytes else _read_lines(process.stdout, both)
    readers = [asyncio.ensure_future(out), asyncio.ensure_future(_read_lines(process.stderr, error))]
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.wait(readers)
            status = await process.wait()
    finally:
        await _stop_group(process)
        _, pending = await asyncio.wait(readers, timeout=KILL_AFTER_S)
        for reader in pending:  # a program in another group still has the pipe
            reader.cancel()
    whole, _ = (reader.result() for reader in readers)
    return Finished(status, whole, tuple(lines), tuple(errors))


async def _start(argv: Sequence[str], cwd: str, env: Mapping[str, str]) -> asyncio.subprocess.Process:
    """Start it whole or not at all: who is cancelled meanwhile ends the program with all that it started."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_ends_with_us(),  # it calls the kernel, and nothing of Python's that takes a lock
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):  # it can't be started
            await _stop_group(await starting)
        raise


def _ends_with_us() -> Callable[[], None] | None:
    """What a new process does first: ask the kernel for SIGTERM when we are killed.

    It would go on creating containers behind the back of the next command, which puts right what we left.
    """
    import ctypes

    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None  # another kernel
    us = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != us:  # killed in between
            os._exit(1)

    return ask


async def _read_whole(process: asyncio.subprocess.Process, stream: asyncio.StreamReader, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while chunk := await stream.read(1 << 16):
        size += len(chunk)
        if size > limit:
            parts.clear()
            _signal(process, signal.SIGTERM)
        else:
            parts.append(chunk)
    if size > limit:
        raise OutputTooLarge
    return b"".join(parts)


async def _read_lines(stream: asyncio.StreamReader, on_line: Callable[[str], None]) -> bytes:
    rest = b""
    while chunk := await stream.read(1 << 16):
        *whole, rest = (rest + chunk).split(b"\n")
        rest = rest[: 8 * MAX_LINE]
        for line in whole:
            on_line(line.decode(errors="replace").rstrip()[:MAX_LINE])
    if rest:
        on_line(rest.decode(errors="replace").rstrip()[:MAX_LINE])
    return b""


async def _stop_group(process: asyncio.subprocess.Process) -> None:
    """End the program and what it started: asked first, then forced. Nothing to do when it ended by itself."""
    if process.returncode is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal(process, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(process.wait()), KILL_AFTER_S)
            return


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
