"""The machine: time, user, host, boot, and the project's git commit."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

from nself_deploy.app.ports import LockOwner
from nself_deploy.core.state import format_time

GIT_TIMEOUT_S = 5.0

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_GIT = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false")


class SystemClock:
    """The machine's clock."""

    def now(self) -> str:
        """UTC, RFC 3339 with milliseconds, ending in Z."""
        return format_time(datetime.now(UTC))

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def user_name() -> str:
    """Who runs this command: the person behind `sudo` if there is one, else the user of the process."""
    uid = os.geteuid()
    behind = os.environ.get("SUDO_USER", "") if uid == 0 else ""
    if behind:
        return behind
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def host_name() -> str:
    """The name of this machine."""
    return socket.gethostname()


def boot_id() -> str:
    """A word that changes with every boot, empty where the kernel has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def lock_owner(purpose: str) -> LockOwner:
    """The running process, as the owner of a lock."""
    return LockOwner(user_name(), host_name(), os.getpid(), boot_id(), purpose, SystemClock().now())


async def git_info(directory: str | os.PathLike[str], timeout_s: float = GIT_TIMEOUT_S) -> tuple[str, bool]:
    """The commit of the project's directory and whether files in it differ from that commit (new ones included).

    `("", False)` without git, outside a repository, before the first commit, or when git takes longer than `timeout_s`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            commit = (await _git(directory, 64, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")).strip()
            if not commit:
                return "", False
            changed = await _git(directory, 1, "status", "--porcelain", "--", ".", ":(exclude).nself")
    except TimeoutError:
        return "", False
    return commit, bool(changed)


async def _git(directory: str | os.PathLike[str], limit: int, *args: str) -> str:
    """The first `limit` bytes that git prints, empty when it fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            *_GIT,
            "-C",
            os.fspath(directory),
            *args,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except (FileNotFoundError, PermissionError):
        return ""
    assert process.stdout is not None
    try:
        try:
            printed = await process.stdout.readexactly(limit)
        except asyncio.IncompleteReadError as end:
            printed = end.partial
            if await process.wait() != 0:
                return ""
        return printed.decode("utf-8", "replace")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
