"""Root file systems of images, from unpacked packages: what a recipe says, and what every image needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apt import Source
from archive import ImageConfig, Owner
from places import DevenvError

FILES = Path(__file__).resolve().parent / "files"


@dataclass(frozen=True)
class User:
    """A user (with a group of the same name) that the image has."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True)
class Recipe:
    """One image: the names it gets, what is unpacked into it, and what is done to the files then."""

    names: tuple[str, ...]
    sources: tuple[Source, ...]
    config: ImageConfig
    prepare: Callable[[Path], None]
    users: tuple[User, ...] = ()
    leave_out: tuple[str, ...] = ()
    owners: Mapping[str, Owner] = field(default_factory=dict)
    inputs: Callable[[], str] = str  # what it takes from the machine, as text

    @property
    def key(self) -> str:
        """A short name for this recipe that changes with it."""
        return re.sub(r"[^a-z0-9.]+", "-", self.names[0])


def skeleton(root: Path) -> None:
    """Make the directories and links that every root file system starts with."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("dev", "etc", "proc", "root", "run", "sys", "tmp", "var/lib", "var/log", "var/tmp", "usr/local/bin"):
        (root / name).mkdir(parents=True)
    (root / "var/run").symlink_to("/run")
    (root / "tmp").chmod(0o1777)
    (root / "var/tmp").chmod(0o1777)


def finish(root: Path, recipe: Recipe) -> None:
    """Do what the packages' own scripts would have done: accounts, certificates, links, the library cache."""
    masters = root / "usr/share/base-passwd"
    accounts = (masters / "passwd.master").read_text() if masters.is_dir() else "root:*:0:0:root:/root:/bin/sh\n"
    groups = (masters / "group.master").read_text() if masters.is_dir() else "root:*:0:\n"
    for user in recipe.users:
        accounts += f"{user.name}:x:{user.uid}:{user.gid}::{user.home}:/bin/sh\n"
        groups += f"{user.name}:x:{user.gid}:\n"
    (root / "etc/passwd").write_text(accounts.replace(":*:", ":x:"), encoding="utf-8")
    (root / "etc/group").write_text(groups.replace(":*:", ":x:"), encoding="utf-8")
    names = [line.split(":")[0] for line in accounts.splitlines()]
    (root / "etc/shadow").write_text("".join(f"{name}:*:19675:0:99999:7:::\n" for name in names), encoding="utf-8")
    (root / "etc/shadow").chmod(0o640)
    if (root / "usr/bin/mawk").exists():
        (root / "usr/bin/awk").symlink_to("mawk")
    authorities = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    if authorities:
        set_certificates(root, "".join(one.read_text(encoding="ascii") for one in authorities))
    if recipe.sources and (root / "usr/sbin/ldconfig").exists():
        shutil.rmtree(root / "var/cache", ignore_errors=True)
        (root / "var/cache/ldconfig").mkdir(parents=True)
        run(["/sbin/ldconfig", "-X", "-r", str(root)])
    recipe.prepare(root)


def set_certificates(root: Path, bundle: str) -> None:
    """Make `bundle` (PEM) the certificates that OpenSSL and everything built on it trust in the image."""
    target = root / "etc/ssl/certs/ca-certificates.crt"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(bundle, encoding="utf-8")
    link = root / "usr/lib/ssl/cert.pem"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to("/etc/ssl/certs/ca-certificates.crt")


def run(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> str:
    """Run a program of the machine; its output, or an error that shows what it said."""
    done = subprocess.run(
        argv,
        env=dict(environ) if environ else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DevenvError(f"{argv[0]} failed: {(done.stderr or done.stdout).strip()[-1000:]}")
    return done.stdout


def script(root: Path, source: str, target: str) -> None:
    """Copy one of our files into the image as an executable."""
    path = root / target
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(FILES / source, path)
    path.chmod(0o755)


def busybox_links(root: Path) -> None:
    """A link for each of busybox's commands that the image has no program of its own for."""
    program = next(path for path in (root / "usr/bin/busybox", root / "bin/busybox") if path.exists())
    for path in run([str(program), "--list-full"]).split():
        link = root / path
        link.parent.mkdir(parents=True, exist_ok=True)
        if not any(os.path.lexists(root / "usr" / place / link.name) for place in ("bin", "sbin")):
            link.symlink_to("/usr/bin/busybox")
