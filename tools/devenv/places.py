"""Where the development tools keep what they fetch, build and run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


class DevenvError(Exception):
    """Something a person has to know: what happened, to what, what to do. Shown without a traceback."""


def say(text: str) -> None:
    """Tell the person at the terminal what goes on (stderr: stdout belongs to the result)."""
    print(f"devenv: {text}", file=sys.stderr, flush=True)


def cache_dir() -> Path:
    """The project's own cache directory, created on first use."""
    own = os.environ.get("NSELF_DEV_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(own) if own else Path(base) / "nself-deploy"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def run_dir() -> Path:
    """The private directory of the running engine: one for each user of the machine, whatever the cache directory is.

    Two engines in one network would destroy each other's rules. The path is short: a socket's may have 107 bytes only.
    """
    base = Path("/run") if os.access("/run", os.W_OK) else Path(tempfile.gettempdir())
    path = base / f"nself-dev-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise DevenvError(f"{path} belongs to another user: remove it")
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel lets go of it when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path]:
    """Give an empty directory beside `target`, and rename it to `target` once the block has succeeded."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    work.chmod(0o755)
    try:
        yield work
        if target.exists():
            shutil.rmtree(target)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
