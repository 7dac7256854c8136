"""What the router adapter needs from an nginx process, wherever it runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from nself_deploy.adapters.nginx_workers import Worker


class Build(msgspec.Struct, frozen=True):
    """What `nginx -V` says."""

    version: tuple[int, ...]
    prefix: str = ""
    pid_path: str = ""
    http_log_path: str = ""


class Control(Protocol):
    """A way to reach one nginx. Everything raises RouterError or EngineError only."""

    @property
    def mounted(self) -> bool:
        """Whether it reads our directory itself."""

    @property
    def mounts(self) -> dict[str, str]:
        """Where files that it names are on this machine: destination -> source; empty when it names them as we do."""

    @property
    def container_id(self) -> str:
        """Its container, empty on the host."""

    async def find(self) -> bool:
        """Look where it is now; whether it runs."""

    def addresses(self) -> list[str]:
        """Where its probe server may answer, `ip:port`; known after `find`."""

    async def build(self) -> Build:
        """Version and compiled-in paths."""

    async def check(self) -> tuple[bool, str]:
        """`nginx -t`: whether it accepts its files, and its words."""

    async def reload(self) -> None:
        """Tell it to load its files."""

    async def reopen(self) -> None:
        """Tell it to open its log files anew."""

    async def remove_copy(self, name: str) -> None:
        """Take a copied file away again, when it doesn't read our directory itself."""

    async def workers(self) -> tuple[Worker, ...]:
        """Its worker processes; none when it doesn't run."""

    async def copy_files(self, files: dict[str, bytes], links: dict[str, str]) -> None:
        """Put copies where it reads, when it doesn't read our directory itself. Paths are relative to our directory."""

    async def owner(self) -> int | None:
        """User id of the master process where it isn't root."""

    async def last_words(self) -> tuple[str, ...]:
        """The end of its log, for a person."""


def parse_build(text: str) -> Build:
    """The output of `nginx -V`; version () when it isn't nginx's."""
    found = re.search(r"nginx version: \S*?/(\d+(?:\.\d+)*)", text)
    options = dict(re.findall(r"--([a-z-]+)=('[^']*'|\S+)", text))
    return Build(
        version=tuple(int(part) for part in found[1].split(".")) if found else (),
        prefix=options.get("prefix", ""),
        pid_path=options.get("pid-path", ""),
        http_log_path=options.get("http-log-path", ""),
    )
