"""The machine: time, user, host, boot, and the project's git commit."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pwd
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

from nself_deploy.core.lock_rules import LockOwner, in_sight
from nself_deploy.core.moments import Moment
from nself_deploy.core.state import format_time

GIT_TIMEOUT_S = 5.0

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MACHINE_ID = Path("/etc/machine-id")
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
        return _BOOT_ID.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def machine_id() -> str:
    """A word for this machine that stays the same over boots, empty where the system has none. Not the id itself."""
    try:
        known = _MACHINE_ID.read_bytes().strip()
    except OSError:
        return ""
    return hashlib.sha256(b"nself-deploy " + known).hexdigest()[:32] if known else ""


def moment() -> Moment:
    """Now, by the wall clock and by the time since the machine's boot."""
    return Moment(SystemClock().now(), boot_id(), time.clock_gettime(time.CLOCK_BOOTTIME))


def pid_space() -> str:
    """A word for the processes that ours is counted among: a container has its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def process_started(pid: int) -> str:
    """When a process started, in the kernel's count; empty when it has ended.

    Raises:
        OSError: there is none, or it can't be seen.
    """
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    state, *fields = text.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def is_there(pid: int, started: str) -> bool:
    """Whether the process with this id and start runs; one that hides is taken for it."""
    try:
        return process_started(pid) == started
    except (FileNotFoundError, ProcessLookupError):
        return _answers(pid)
    except PermissionError:
        return True


def _answers(pid: int) -> bool:
    """Whether there is a process with this id: other users' may not be listed."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def lock_owner(purpose: str) -> LockOwner:
    """The running process, as the owner of a lock."""
    pid = os.getpid()
    return LockOwner(
        user_name(),
        host_name(),
        pid,
        boot_id(),
        purpose,
        SystemClock().now(),
        machine_id(),
        pid_space(),
        _own_start(pid),
    )


def _own_start(pid: int) -> str:
    try:
        return process_started(pid)
    except OSError:
        return ""  # no /proc: others can't look for us either


def is_gone(owner: LockOwner) -> bool:
    """Whether an owner who was on this machine has died; of one on another we don't know."""
    here = lock_owner("")
    return owner.machine == here.machine and not (in_sight(owner, here) and is_there(owner.pid, owner.started))


class LocalMachine:
    """What a lock asks of this machine."""

    def owner(self, purpose: str) -> LockOwner:
        """Ourselves."""
        return lock_owner(purpose)

    def is_there(self, pid: int, started: str) -> bool:
        """Whether a process with this id and start runs."""
        return is_there(pid, started)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def since_boot(self) -> float:
        """The same, with the time in which the machine slept."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


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
