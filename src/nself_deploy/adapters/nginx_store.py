"""The router's directory on disk: versions of the generated files, split directories, the two links, the secret.

    tree -> trees/<version>     what nginx reads at a reload or start
    current -> splits/<name>    what nginx reads at every request
    splits/<name>/g/NN, p/NN    flag files: bucket NN (or what testers ask for) goes to green, to plain
    splits/<name>/s/<slot>      what fails on that slot is answered by the other one
    secret, address.json        private
    log/                        nginx writes our access log here

All changes are durable when a call returns, and both links change by one rename.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from nself_deploy.adapters.durable_files import ensure_dir, os_error, read_bounded, sync_dir, write_atomic
from nself_deploy.core.model import Split
from nself_deploy.core.nginx_flags import LINK, READABLE, RECORDING, split_files
from nself_deploy.errors import StateFileError

_SECRET = re.compile(rb"[0-9a-f]{64}")
LOG_LIMIT = 64 << 20
"""Bytes of the access log from which it is put aside (one old one is kept)."""
_PORTS = range(20000, 30000)
READ_LIMIT = 16 << 20
"""Bytes of one generated file."""


class Seen(msgspec.Struct, frozen=True):
    """Where the router answered our probes last."""

    address: str = ""
    """`ip:port`."""
    mounted: bool = True
    container: str = ""
    port: int = 0
    """The probe port that was chosen for a host's nginx."""


class RouterStore:
    """The files below `.nself/router`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._splits = directory / "splits"

    def prepare(self) -> None:
        """Make the directories; nginx's workers (another user) must be able to read them."""
        for path in (self.directory, self.directory / "trees", self._splits, self.directory / "log"):
            ensure_dir(path, 0o755)
        readable = self.directory / READABLE
        if not readable.exists():
            write_atomic(readable, b"", 0o644)

    def secret(self) -> str:
        """The path token of the probe server, made at the first call."""
        path = self.directory / "secret"
        found = read_bounded(path)
        if found is None:
            ensure_dir(self.directory, 0o755)
            found = secrets.token_hex(32).encode()
            write_atomic(path, found, 0o600)
        if not _SECRET.fullmatch(found):
            raise StateFileError("is damaged.", "Remove it; the next deploy makes a new one.", where=str(path))
        return found.decode()

    def seen(self) -> Seen:
        """What address.json says; nothing known when it is missing."""
        path = self.directory / "address.json"
        found = read_bounded(path)
        if found is None:
            return Seen()
        try:
            return msgspec.json.decode(found, type=Seen)
        except msgspec.MsgspecError as error:
            raise StateFileError("is damaged.", "Remove it; it is written again.", where=str(path)) from error

    def remember(self, seen: Seen) -> None:
        """Write address.json if it says something else."""
        if self.seen() != seen:
            ensure_dir(self.directory, 0o755)
            write_atomic(self.directory / "address.json", msgspec.json.encode(seen), 0o600)

    def host_port(self, project: str) -> int:
        """The probe port on this machine: chosen once, then always the same."""
        seen = self.seen()
        if seen.port:
            return seen.port
        import socket
        import zlib

        start = zlib.crc32(f"{project}\0{self.directory}".encode()) % len(_PORTS)
        for step in range(len(_PORTS)):
            port = _PORTS[(start + step) % len(_PORTS)]
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) != 0:
                    self.remember(msgspec.structs.replace(seen, port=port))
                    return port
        raise StateFileError("no port is free on 127.0.0.1.", "Name one under x-nself-deploy.router.probe_port.")

    def split(self) -> Split | None:
        """What the link says; None when there is none."""
        try:
            target = os.readlink(self.directory / "current")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise os_error(error, self.directory / "current", "read") from error
        try:
            return Split.parse(target.removeprefix("splits/"))
        except ValueError as error:
            where = self.directory / "current"
            raise StateFileError(
                f"points at {target!r}, which is no split: nginx sends all requests to blue.",
                f"See with docker ps which slot runs, and point it there: ln -sfn splits/blue {where} (or green).",
                where=str(where),
            ) from error

    def ensure_split(self, split: Split) -> None:
        """The directory of a split is there and complete. What is missing is added to one in use."""
        target = self._splits / split.name
        wanted = sorted(split_files(split))
        try:
            if target.is_dir():
                found = sorted(f"{p.parent.name}/{p.name}" for p in target.glob("*/*"))
                if found == wanted:
                    return
                if found and set(found) < set(wanted):
                    self._fill(target, set(wanted) - set(found))
                    return
                os.rename(target, self._splits / f".old-{secrets.token_hex(4)}")
            draft = self._splits / f".new-{secrets.token_hex(4)}"
            self._fill(draft, wanted)
            os.rename(draft, target)
            sync_dir(self._splits)
            self._remove(path for path in self._splits.iterdir() if path.name.startswith((".new-", ".old-")))
        except OSError as error:
            raise os_error(error, target, "write") from error

    @staticmethod
    def _fill(directory: Path, names: Collection[str]) -> None:
        """Empty files in a directory and those below it, which are made if they are not there."""
        for path in (directory, *(directory / kind for kind in sorted({name.split("/")[0] for name in names}))):
            if not path.is_dir():
                path.mkdir()
                path.chmod(0o755)
        for name in names:
            os.close(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        for path in (*(p for p in directory.iterdir()), directory):
            sync_dir(path)

    def point(self, split: Split) -> None:
        """From now on requests are split like this: one rename."""
        self.ensure_split(split)
        self._link("current", f"splits/{split.name}")

    def record(self, *, on: bool) -> bool:
        """Keep the access log from now on, or no longer; whether it was put aside, so that nginx must reopen it."""
        flag = self.directory / RECORDING
        try:
            if on and not flag.exists():
                write_atomic(flag, b"", 0o644)
            elif not on:
                flag.unlink(missing_ok=True)
            return self._put_log_aside()
        except OSError as error:
            raise os_error(error, flag, "write") from error

    def recording(self) -> bool:
        """Whether the access log is kept now."""
        return (self.directory / RECORDING).exists()

    def _put_log_aside(self) -> bool:
        log = self.directory / "log" / "access.log"
        if not log.exists() or log.stat().st_size <= LOG_LIMIT:
            return False
        os.replace(log, log.with_suffix(".log.1"))
        sync_dir(log.parent)
        return True

    def tree_files(self) -> dict[str, str]:
        """The generated files that nginx reads at its next start; empty before the first install."""
        target = self.tree_version()
        if not target:
            return {}
        directory = self.directory / target
        try:
            return {path.name: path.read_text(encoding="utf-8") for path in sorted(directory.glob("*.conf"))}
        except (OSError, UnicodeDecodeError) as error:
            if not isinstance(error, OSError):
                raise StateFileError("is damaged.", "Remove it and deploy again.", where=str(directory)) from error
            raise os_error(error, directory, "read") from error

    def tree_version(self) -> str:
        """Where the link to the files points, empty when there is none."""
        try:
            return os.readlink(self.directory / LINK)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise os_error(error, self.directory / LINK, "read") from error

    def write_tree(self, files: Mapping[str, str], owner: int | None = None) -> str:
        """Write a version of the files beside the others; its place, for `point_tree`.

        Args:
            owner: user id of nginx's master where that isn't root: it must be able to read the private file.
        """
        from nself_deploy.core.nginx_tree import PRIVATE, fingerprint

        name = f"trees/{fingerprint(files)[:16]}"
        directory = self.directory / name
        ensure_dir(directory, 0o755)
        for file, text in files.items():
            if read_bounded(directory / file, READ_LIMIT) != text.encode():
                write_atomic(directory / file, text.encode(), 0o600 if file in PRIVATE else 0o644)
            if owner is not None and file in PRIVATE:
                try:
                    os.chown(directory / file, owner, -1)
                except OSError as error:
                    raise os_error(error, directory / file, "give nginx's user") from error
        return name

    def point_tree(self, version: str) -> None:
        """Nginx reads this version at its next reload or start; an empty one takes the link away."""
        if version:
            self._link(LINK, version)
            return
        try:
            (self.directory / LINK).unlink(missing_ok=True)
        except OSError as error:
            raise os_error(error, self.directory / LINK, "remove") from error

    def forget_trees(self, keep: str) -> None:
        """Remove all other versions of the files."""
        self._remove(
            p for p in (self.directory / "trees").iterdir() if f"trees/{p.name}" not in (keep, self.tree_version())
        )

    def _link(self, name: str, target: str) -> None:
        link = self.directory / name
        draft = self.directory / f".{name}.{secrets.token_hex(4)}"
        try:
            if os.path.islink(link) and os.readlink(link) == target:
                return
            os.symlink(target, draft)
            os.replace(draft, link)
            sync_dir(self.directory)
            for leftover in self.directory.glob(f".{name}.*"):
                leftover.unlink(missing_ok=True)
        except OSError as error:
            raise os_error(error, link, "write") from error

    @staticmethod
    def _remove(paths: Iterable[Path]) -> None:
        found = list(paths)
        if not found:
            return
        import shutil  # with all that it can pack: not for a move, which leaves nothing behind

        for path in found:
            shutil.rmtree(path, ignore_errors=True)


def split_copy(split: Split) -> tuple[dict[str, bytes], dict[str, str]]:
    """A split's files and the link to their directory, for a container that doesn't see ours."""
    directory = f"splits/{split.name}"
    return {f"{directory}/{name}": b"" for name in [".keep", *split_files(split)]}, {"current": directory}
