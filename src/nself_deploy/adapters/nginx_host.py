"""An nginx that runs on the machine itself: its program, its process, its workers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from nself_deploy.adapters.nginx_control import Build, parse_build
from nself_deploy.adapters.nginx_workers import Worker, parse_workers
from nself_deploy.core.model import HostRouter
from nself_deploy.errors import ConfigError, RouterError

_TEST_S = 30.0
_OUTPUT_LIMIT = 20_000


class HostControl:
    """nginx as a program of this machine."""

    mounted = True

    def __init__(self, host: HostRouter, probe_address: str) -> None:
        self._host = host
        self._address = probe_address
        self._build: Build | None = None

    async def find(self) -> bool:
        """Whether the master process runs."""
        return await self._master() is not None

    @property
    def mounts(self) -> dict[str, str]:
        """It names files as this machine does."""
        return {}

    @property
    def container_id(self) -> str:
        """A process of the machine has none."""
        return ""

    def addresses(self) -> list[str]:
        """Where its probe server may answer."""
        return [self._address]

    async def build(self) -> Build:
        """Version and compiled-in paths."""
        if self._build is None:
            status, words = await self._run("-V")
            if status:
                raise RouterError(
                    f"{self._host.bin} -V failed: {words}", "Name nginx's program under x-nself-deploy.router.host.bin."
                )
            self._build = parse_build(words)
        return self._build

    async def check(self) -> tuple[bool, str]:
        """`nginx -t`: whether it accepts its files, and its words."""
        status, words = await self._run(*self._where(), "-t", "-q")
        return status == 0, words

    async def reload(self) -> None:
        """Tell the master to load its files."""
        if self._host.pid_file:
            pid = await self._master()
            if pid is None:
                raise RouterError("nginx is not running.", "Start it, then deploy again.")
            try:
                os.kill(pid, signal.SIGHUP)
            except PermissionError as error:
                raise RouterError(
                    f"not allowed to signal nginx (process {pid}).", "Run the command as root."
                ) from error
            return
        status, words = await self._run(*self._where(), "-s", "reload")
        if status:
            raise RouterError(f"nginx -s reload failed: {words}", "Run the command as the user who may reload nginx.")

    async def reopen(self) -> None:
        """Tell the master to open its log files anew."""
        pid = await self._master()
        if pid is not None:
            try:
                os.kill(pid, signal.SIGUSR1)
            except PermissionError as error:
                raise RouterError(
                    f"not allowed to signal nginx (process {pid}).", "Run the command as root."
                ) from error

    async def remove_copy(self, name: str) -> None:
        """It reads our directory itself."""

    async def workers(self) -> tuple[Worker, ...]:
        """Its worker processes; none when it doesn't run."""
        master = await self._master()
        return () if master is None else tuple(w for w in parse_workers(_processes()) if w.master == master)

    async def copy_files(self, files: dict[str, bytes], links: dict[str, str]) -> None:
        """It reads our directory itself."""

    async def owner(self) -> int | None:
        """The master of a machine's nginx is root, or the user who deploys."""
        return None

    async def last_words(self) -> tuple[str, ...]:
        """Its error log is where the user put it."""
        return ()

    async def _master(self) -> int | None:
        path = self._host.pid_file or await self._pid_path()
        return _nginx_of(Path(path))

    async def _pid_path(self) -> str:
        build = await self.build()
        value = _configured_pid(self._host.config) or build.pid_path or "logs/nginx.pid"
        return str(Path(self._host.prefix or build.prefix or "/") / value)

    def _where(self) -> list[str]:
        return ["-c", self._host.config, *(["-p", self._host.prefix] if self._host.prefix else [])]

    async def _run(self, *words: str) -> tuple[int, str]:
        try:
            process = await asyncio.create_subprocess_exec(
                self._host.bin,
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            raise RouterError(
                f"{self._host.bin} can't be started: {error.strerror}.",
                "Install nginx, or name its program under x-nself-deploy.router.host.bin.",
            ) from error
        try:
            async with asyncio.timeout(_TEST_S):
                output, _ = await process.communicate()
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise RouterError(
                f"{self._host.bin} {' '.join(words)} took longer than {_TEST_S:g} s.", "Look what it waits for."
            ) from error
        return process.returncode or 0, output.decode("utf-8", "replace")[:_OUTPUT_LIMIT].strip()


def _processes() -> Iterator[tuple[str, str]]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                stat, title = (path / "stat").read_bytes(), (path / "cmdline").read_bytes()
            except OSError:  # it ended meanwhile
                continue
            yield stat.decode("utf-8", "replace"), title.decode("utf-8", "replace")


def _nginx_of(pid_file: Path) -> int | None:
    """The process in a pid file, if it is an nginx."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    except PermissionError as error:
        raise ConfigError("not readable.", "Run the command as root.", where=str(pid_file)) from error
    return pid if b"nginx" in title else None


def _configured_pid(config: str) -> str:
    """What the main file says under `pid`, empty when it says nothing."""
    from nself_deploy.core.nginx_syntax import top_level_value  # a parser that moves and questions don't need

    try:
        text = Path(config).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError as error:
        remedy = "Name nginx's main file under x-nself-deploy.router.host.config."
        raise ConfigError("there is no such file.", remedy, where=config) from error
    except OSError as error:
        raise ConfigError(f"not readable: {error.strerror}.", "Run the command as root.", where=config) from error
    return top_level_value(text, "pid", config)
