"""The disk fills up, or the journal is lost, at each part of a deploy: a clear error, and users notice nothing."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.real.faults import (
    UNHURRIED,
    Visitor,
    at_moments,
    check_clean,
    fresh,
    journal_of,
    live_slot,
    no_traceback,
    released,
    tiny,
)
from tests.real.scene import FAST, check_message, nself_argv, refused, with_mounts
from tests.real.stack import Stack

pytestmark = pytest.mark.real

ONCE = (*UNHURRIED, "--standby", "0")
BLOCK = 4096


@pytest.fixture(scope="module")
def site() -> Iterator[Stack]:
    """The tiny project, live with release 1, on a small disk of its own where that can be had."""
    stack = tiny()
    mounted = os.geteuid() == 0
    try:
        if mounted:
            kept = stack.root.parent / "kept"
            shutil.copytree(stack.root, kept)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(stack.root)], check=True)
            shutil.copytree(kept, stack.root, dirs_exist_ok=True)
        stack.nself(*FAST)
        yield stack
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(stack.root)], check=True)
        stack.remove()


def fill(stack: Stack, process: subprocess.Popen[str]) -> None:
    """No byte is left; for a user who may not mount: the process may write no file any more."""
    if os.geteuid() == 0:
        with (stack.root / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space left"):
            while filler.write(bytes(BLOCK)):  # nginx writes its log meanwhile: how much is free nobody knows
                pass
    else:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, 1))


def empty(stack: Stack) -> None:
    (stack.root / "filler").unlink(missing_ok=True)


MOMENTS = {
    "  + {to}/web": False,
    "[done] Configure router": False,
    "[done] Start {to}": False,
    "[done] Move traffic to {to}": True,
    "[done] Health check {to} with the traffic on": True,
    "[done] Drain {live}": True,
}
"""Moment -> whether users are on the new release then."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_disk_that_fills_up(site: Stack, moment: str) -> None:
    before, release = released(site), fresh()
    with Visitor(site) as visitor:
        outcome = at_moments(site, {moment: partial(fill, site)}, *ONCE, RELEASE=release)
        try:
            if outcome.status or not MOMENTS[moment]:  # near the end what is left to write may find room
                check_message(outcome, 2, ".nself/", "the disk is full", "Free some space")
            assert released(site) in ((before, release) if MOMENTS[moment] else (before,)), outcome.text
            assert no_traceback(site.nself("status", check=False)).status == 0
        finally:
            empty(site)
        again = no_traceback(site.nself(*ONCE, RELEASE=before if MOMENTS[moment] else release))
        check_clean(site, before if MOMENTS[moment] else release)
    assert visitor.failed == [], again.text


# The journal.


def gone(path: Path) -> None:
    for file in path.parent.glob("nself.db*"):
        file.unlink()


def cut(path: Path) -> None:
    os.truncate(path, 5000)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize(
    ("damage", "says"),
    [(gone, "was removed or replaced"), (cut, "is damaged"), (emptied, "is damaged")],
)
def test_a_journal_that_is_damaged_during_a_deploy(site: Stack, damage: Callable[[Path], None], says: str) -> None:
    """It is said, nothing is begun anew, users are served; with the journal back, the next deploy clears up.

    SQLite may still have all that was cut off in the file beside it: then the commands after it find it whole.
    """
    before, path, kept = released(site), journal_of(site), site.root / "kept.db"
    release, head = fresh(), path.with_name("audit.head")
    kept_head = head.read_bytes()
    with closing(sqlite3.connect(path)) as now, closing(sqlite3.connect(kept)) as copy:
        now.backup(copy)
    with Visitor(site) as visitor:
        outcome = at_moments(site, {"[done] Start {to}": lambda _: damage(path)}, *ONCE, RELEASE=release)
        check_message(outcome, 1, f"{path}: {says}", "Restore it from a backup")
        for words in (("status",), ("history",), ("resume",), ("abort",), ("rollback",), ()):
            again = no_traceback(site.nself(*words, check=False, RELEASE=release))
            if again.status == 1 and str(path) in again.err:
                check_message(again, 1, str(path), "Restore it from a backup")
            assert released(site) in (before, release)
        assert path.exists() is (damage is not gone)

        for file in path.parent.glob("nself.db*"):
            file.unlink()
        kept.rename(path)
        path.chmod(0o600)
        head.write_bytes(kept_head)
        no_traceback(site.nself(*ONCE, RELEASE=(last := fresh())))
        check_clean(site, last)
    assert visitor.failed == []


def test_a_journal_that_may_not_be_written(site: Stack) -> None:
    path, before = journal_of(site), released(site)
    if os.geteuid() == 0:
        script = f"mount --bind {path} {path}; mount -o remount,ro,bind {path}"
        outcome = site.run(*with_mounts(script, nself_argv(*ONCE)), check=False, RELEASE=fresh())
        looking = site.run(*with_mounts(script, nself_argv("status")), check=False)
        check_message(outcome, 1, str(path), "not writable", "Make it writable for user id")
    else:
        path.chmod(0o400)
        try:
            refused(site, 1, str(path), "not writable", "Make it writable for user id", words=ONCE, RELEASE=fresh())
            looking = site.nself("status", check=False)
        finally:
            path.chmod(0o600)

    assert (looking.status, f"requests go to {live_slot(site)}" in looking.out) == (0, True), looking.text
    check_clean(site, before)
