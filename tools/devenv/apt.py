"""Packages of any Debian suite from the machine's own mirror, fetched and unpacked without installing anything.

The apt state used here is private to the cache; the machine's own is only read. Signatures are checked.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from places import DevenvError, cache_dir, locked, say

OLDEST_SUITE = "bookworm"  # its libraries run on every Debian that the project supports
LISTS_MAX_AGE_S = 24 * 3600
APT_TIMEOUT_S = 600
_APT_DIR = Path("/etc/apt")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_INSTALL = ("--yes", "--no-install-recommends")
_NOT_WANTED = ("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/share/info/*")


@dataclass(frozen=True)
class Mirror:
    """Where this machine takes Debian from, and the keyring that vouches for it."""

    uri: str
    keyring: str


def _stanzas(text: str) -> Iterable[dict[str, str]]:
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if line.strip() and not line.startswith("#")]
        pairs = (line.split(":", 1) for line in lines if ":" in line and not line[0].isspace())
        yield {key.strip().lower(): value.strip() for key, value in pairs}


def _deb822_mirrors(text: str) -> Iterable[tuple[Mirror, list[str]]]:
    for stanza in _stanzas(text):
        uris = stanza.get("uris", "").split()
        if uris and "deb" in stanza.get("types", "").split() and stanza.get("enabled", "yes") != "no":
            yield Mirror(uris[0], stanza.get("signed-by") or str(_KEYRING)), stanza.get("suites", "").split()


def _one_line_mirrors(text: str) -> Iterable[tuple[Mirror, list[str]]]:
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s", line.strip() + " ")
        if match:
            options = dict(word.split("=", 1) for word in (match[1] or "").split() if "=" in word)
            yield Mirror(match[2], options.get("signed-by", str(_KEYRING))), [match[3]]


def find_mirror() -> Mirror:
    """Read the machine's own apt sources for the Debian mirror that it uses."""
    codename = _os_release().get("VERSION_CODENAME", "")
    if shutil.which("apt-get") is None or not codename:
        raise DevenvError("nothing can be set up here, this is no Debian machine: install Docker Engine and Compose v2")
    wanted = {codename, "stable", "testing"}
    for path in sorted(
        [*_APT_DIR.glob("sources.list.d/*.sources"), *_APT_DIR.glob("sources.list.d/*.list"), _APT_DIR / "sources.list"]
    ):
        if not path.is_file():
            continue
        reader = _deb822_mirrors if path.suffix == ".sources" else _one_line_mirrors
        for mirror, suites in reader(path.read_text(encoding="utf-8")):
            if wanted & set(suites) and Path(mirror.keyring).is_file():
                return mirror
    raise DevenvError(f"{_APT_DIR} has no mirror for {codename}: add one, or install Docker Engine and Compose v2")


def _os_release() -> dict[str, str]:
    path = Path("/etc/os-release")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    release = {key: "".join(shlex.split(value)) for key, value in found.items()}
    return release if release.get("ID") == "debian" else {}


@dataclass(frozen=True)
class Source:
    """Packages of one suite; with `closure`, all that they depend on as well."""

    suite: str
    packages: tuple[str, ...]
    closure: bool = True


def unpack_from(sources: Sequence[Source], root: Path, leave_out: tuple[str, ...] = ()) -> list[str]:
    """Fetch and unpack packages into `root`, but those whose file name starts with one of `leave_out`.

    Returns the file names, which carry the versions. The package files themselves are not kept.
    """
    with locked(cache_dir() / "apt" / "lock"):
        names = []
        for source in sources:
            suite = Suite(source.suite)
            files = [
                file
                for file in suite.fetch(source.packages, closure=source.closure)
                if not file.name.startswith(leave_out)
            ]
            _unpack(files, root)
            names += [file.name for file in files]
            suite.forget_archives()
    return names


class Suite:
    """One Debian suite, with an apt state of its own below the cache directory. Not for two processes at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._root = cache_dir() / "apt" / name

    def fetch(self, packages: Sequence[str], *, closure: bool) -> list[Path]:
        """Download `packages` (with all that they depend on, if `closure`); return the package files."""
        self._refresh()
        archives = self._root / "cache" / "archives"
        if closure:
            files = self._names(packages)
            self._apt("install", "--download-only", *_INSTALL, *packages)
            return [archives / name for name in files]
        self._apt("download", *packages, cwd=archives)
        return [max(archives.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime_ns) for name in packages]

    def forget_archives(self) -> None:
        """Remove the downloaded package files: what was made from them is kept elsewhere."""
        shutil.rmtree(self._root / "cache" / "archives", ignore_errors=True)

    def _names(self, packages: Sequence[str]) -> list[str]:
        empty = self._root / "nothing"
        (empty / "partial").mkdir(parents=True, exist_ok=True)
        output = self._apt("install", "--print-uris", *_INSTALL, *packages, archives=empty)
        return re.findall(r"^'[^']+' (\S+\.deb) \d+ \S+$", output, re.MULTILINE)

    def _refresh(self) -> None:
        for part in ("lists/partial", "cache/archives/partial"):
            (self._root / part).mkdir(parents=True, exist_ok=True)
        (self._root / "status").touch()
        mirror = find_mirror()
        line = f"deb [signed-by={mirror.keyring}] {mirror.uri} {self.name} main\n"
        sources, stamp = self._root / "sources.list", self._root / "updated"
        same = sources.is_file() and sources.read_text(encoding="utf-8") == line
        if same and stamp.is_file() and time.time() - stamp.stat().st_mtime < LISTS_MAX_AGE_S:
            return
        sources.write_text(line, encoding="utf-8")
        say(f"reading the package lists of Debian's {self.name}")
        self._apt("update", "--error-on=any")
        stamp.touch()

    def _apt(self, *words: str, archives: Path | None = None, cwd: Path | None = None) -> str:
        settings = {
            "Dir::Etc::sourcelist": self._root / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": self._root / "lists",
            "Dir::State::status": self._root / "status",
            "Dir::Cache": self._root / "cache",
            "Dir::Cache::archives": archives or self._root / "cache" / "archives",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Dpkg::Use-Pty": "0",
        }
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        argv = ["apt-get", "-q", *options, *words]
        environ = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=APT_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            wanted = " ".join(words)
            raise DevenvError(
                f"apt-get {wanted} failed for Debian's {self.name}:\n{done.stderr.strip()[-2000:]}\n"
                "check that the mirror in the machine's apt sources can be reached, then try again"
            )
        return done.stdout


def _unpack(packages: Iterable[Path], root: Path) -> None:
    """Unpack package files into `root`, following the links that are already there (/bin -> usr/bin)."""
    for package in packages:
        reader = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE)
        argv = ["tar", "-x", "-C", str(root), "--keep-directory-symlink", "--no-same-owner", "--same-permissions"]
        done = subprocess.run([*argv, *(f"--exclude={one}" for one in _NOT_WANTED)], stdin=reader.stdout, check=False)
        if reader.stdout:
            reader.stdout.close()
        if reader.wait() or done.returncode:
            raise DevenvError(f"{package.name} could not be unpacked: remove {package.parent} and try again")
