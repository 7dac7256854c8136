"""The user's own nginx files: found where the router reads them, changed so that a running nginx sees the change."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from nself_deploy.adapters.durable_files import os_error, sync_dir, write_atomic
from nself_deploy.core.model import HostRouter
from nself_deploy.core.nginx_config import Sources
from nself_deploy.errors import ConfigError

MAIN = "/etc/nginx/nginx.conf"
MAX_BYTES = 1 << 20
MAX_FILES = 500
_INCLUDE = re.compile(r"^\s*include\s+[\"']?([^;\"'\s]+)", re.MULTILINE)


class NginxFiles:
    """Text files by the path under which nginx reads them."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._hosts: dict[str, Path] = {}
        """Path as nginx sees it -> file on this machine."""
        self._single: set[str] = set()
        """Files that are mounted one by one: they must keep their inode."""

    def of_container(self, mounts: Mapping[str, str]) -> Sources:
        """What a container reads through its bind mounts (container path -> path on this machine).

        Raises:
            ConfigError: a file can't be read.
        """
        for target, source in sorted(mounts.items()):
            path = Path(source)
            if path.is_dir():
                for found in _below(path):
                    self._hosts[f"{target}/{found.relative_to(path)}"] = found
            elif path.is_file():
                self._hosts[target] = path
                self._single.add(target)
        return self._sources(MAIN)

    def of_host(self, host: HostRouter) -> Sources:
        """What an nginx of this machine reads, from its main file on.

        Raises:
            ConfigError: the main file or one that it includes can't be read.
        """
        main = os.path.join(host.prefix, host.config) if host.prefix else host.config
        if not Path(main).is_file():
            raise ConfigError(
                "There is no such nginx file.", "Name it under x-nself-deploy.router.host.config.", where=main
            )
        base = Path(main).parent
        waiting = [Path(main)]
        while waiting:
            path = waiting.pop()
            if str(path) in self._hosts or len(self._hosts) >= MAX_FILES:
                continue
            self._hosts[str(path)] = path
            for pattern in _INCLUDE.findall(_read(path)):
                waiting += [Path(p) for p in sorted(glob.glob(os.path.join(base, pattern))) if Path(p).is_file()]
        return self._sources(main)

    def write(self, path: str, text: str) -> None:
        """Change one file: by one rename, or in place where a container holds on to the file itself.

        Raises:
            NselfError: it can't be written.
        """
        target = Path(os.path.realpath(self._hosts[path]))
        data = text.encode("utf-8", "surrogateescape")
        if path not in self._single:
            write_atomic(target, data, target.stat().st_mode & 0o777)
            return
        try:
            with target.open("r+b") as stream:
                stream.write(data)
                stream.truncate()
                stream.flush()
                os.fsync(stream.fileno())
            sync_dir(target.parent)
        except OSError as error:
            raise os_error(error, target, "write") from error

    def _sources(self, main: str) -> Sources:
        files = {path: _read(found) for path, found in sorted(self._hosts.items())}
        return Sources(main, files, {path: self._shown(found) for path, found in self._hosts.items()})

    def _shown(self, path: Path) -> str:
        relative = os.path.relpath(path, self._root)
        return str(path) if relative.startswith("..") else relative


def _below(directory: Path) -> Iterable[Path]:
    found = [p for p in sorted(directory.rglob("*")) if p.is_file() and p.stat().st_size <= MAX_BYTES and _is_text(p)]
    return found[:MAX_FILES]


def _is_text(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return b"\0" not in stream.read(4096)
    except OSError as error:
        raise os_error(error, path, "read") from error


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError("The file is too large for an nginx configuration.", "Split it.", where=str(path))
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise os_error(error, path, "read") from error
