"""Programs from Debian, unpacked in the cache and run from there: nothing is installed on the machine.

A part is one line of the table below. Its files come from one suite (with or without all that they depend on);
the C library is always the machine's own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apt import OLDEST_SUITE, Source, unpack_from
from places import DevenvError, building, cache_dir, locked, say

_FROM_THE_MACHINE = (
    "libc6_",
    "libgcc-s1_",
    "gcc-",
    "libc-gconv-modules-extra_",
    "debconf_",
    "perl",
    "adduser_",
    "passwd_",
)


@dataclass(frozen=True)
class Part:
    """What to fetch, and the program in it that a person wants to run."""

    sources: tuple[Source, ...]
    program: str = ""


_HELPERS = Source(OLDEST_SUITE, ("runc", "iptables", "libsystemd0"))
_CLIENT = ("docker-cli", "docker-compose", "docker-buildx")
_SERVER = ("docker.io", "containerd", "tini")
_DATABASE = ("postgresql-15", "libpq5", "tzdata")
"""Not all that it depends on: the compiler for queries, which tests don't use, is larger than all the rest."""
_DATABASE_LIBRARIES = (
    "libaudit1",
    "libcap-ng0",
    "libcap2",
    "libcom-err2",
    "libffi8",
    "libgcrypt20",
    "libgmp10",
    "libgnutls30",
    "libgpg-error0",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libicu72",
    "libidn2-0",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "liblz4-1",
    "liblzma5",
    "libnettle8",
    "libp11-kit0",
    "libpam0g",
    "libsasl2-2",
    "libssl3",
    "libstdc++6",
    "libsystemd0",
    "libtasn1-6",
    "libunistring2",
    "libxml2",
    "libzstd1",
    "zlib1g",
)

PARTS = {
    "nginx-1.22": Part((Source(OLDEST_SUITE, ("nginx",)),), "usr/sbin/nginx"),
    "docker-registry": Part((Source(OLDEST_SUITE, ("docker-registry",)),), "usr/bin/docker-registry"),
    "postgresql": Part(
        (Source(OLDEST_SUITE, (*_DATABASE, *_DATABASE_LIBRARIES), closure=False),), "usr/lib/postgresql/15/bin"
    ),
    "prometheus": Part((Source(OLDEST_SUITE, ("prometheus",), closure=False),), "usr/bin/prometheus"),
    "alertmanager": Part(
        (Source(OLDEST_SUITE, ("prometheus-alertmanager",), closure=False),), "usr/bin/prometheus-alertmanager"
    ),
    "openssl": Part((Source(OLDEST_SUITE, ("openssl",)),), "usr/bin/openssl"),
    "wrk": Part((Source(OLDEST_SUITE, ("wrk",)),), "usr/bin/wrk"),
    "pip-wheel": Part((Source(OLDEST_SUITE, ("python3-pip-whl",), closure=False),), "usr/share/python-wheels"),
    "engine-trixie": Part((Source("trixie", _CLIENT + _SERVER, closure=False), _HELPERS)),
    "engine-forky": Part((Source("forky", _CLIENT + _SERVER, closure=False), _HELPERS)),
}


def part_root(name: str) -> Path:
    """The directory with the unpacked files of a part; fetched if they are not there yet."""
    if name not in PARTS:
        raise DevenvError(f"there is no part {name!r}: choose one of {', '.join(sorted(PARTS))}")
    part = PARTS[name]
    root = cache_dir() / "parts" / name
    made_from = root / ".made-from"
    with locked(root.with_name(f"{name}.lock")):
        if made_from.is_file() and made_from.read_text(encoding="utf-8").splitlines()[0] == repr(part):
            return root
        say(f"fetching {name} from Debian")
        with building(root) as work:
            files = unpack_from(part.sources, work, _FROM_THE_MACHINE)
            (work / ".made-from").write_text("\n".join([repr(part), *files]) + "\n", encoding="utf-8")
    return root


def library_path(root: Path) -> str:
    """The value of LD_LIBRARY_PATH with which the programs below `root` find their libraries."""
    found = [*root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu")]
    return ":".join(str(path) for path in found)


def part_program(name: str) -> Path:
    """The path of the program that a part stands for; a wrapper that sets the library path where it has libraries."""
    root = part_root(name)
    program = root / PARTS[name].program
    if program.is_dir():
        return program
    if not PARTS[name].program or not program.exists():
        raise DevenvError(f"the part {name} has no program of its own; its files are in {root}")
    libraries = library_path(root)
    if not libraries:
        return program
    wrapper = root / ".run" / program.name
    if not wrapper.exists():
        write_script(wrapper, [f"LD_LIBRARY_PATH='{libraries}'", "export LD_LIBRARY_PATH", f"exec '{program}' \"$@\""])
    return wrapper


def write_script(path: Path, lines: Sequence[str]) -> None:
    """Write an executable shell script, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text("\n".join(["#!/bin/sh", *lines]) + "\n", encoding="utf-8")
    draft.chmod(0o755)
    shutil.move(draft, path)
