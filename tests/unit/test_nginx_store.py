"""Split directories on disk: complete, and mended where they are while nginx looks at them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nself_deploy.adapters.nginx_store import RouterStore
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.nginx_flags import split_files

TENTH = Split(Slot.GREEN, Slot.BLUE, 10)


@pytest.fixture
def store(tmp_path: Path) -> RouterStore:
    made = RouterStore(tmp_path / "router")
    made.prepare()
    made.point(TENTH)
    return made


def flags(store: RouterStore) -> list[str]:
    """The flag files that nginx finds now."""
    return sorted(f"{p.parent.name}/{p.name}" for p in (store.directory / "current").glob("*/*"))


def test_a_split_has_its_flags(store: RouterStore) -> None:
    assert flags(store) == sorted(split_files(TENTH))
    assert store.split() == TENTH


@pytest.mark.parametrize("lost", [["g/live"], ["g/10", "g/99"]])
def test_what_is_missing_is_added_in_place(store: RouterStore, lost: list[str]) -> None:
    """A directory from before testers could choose is in use: it must not be away for a moment."""
    before = (store.directory / "current").resolve()
    inode = before.stat().st_ino
    for name in lost:
        (before / name).unlink()
    store.ensure_split(TENTH)

    assert flags(store) == sorted(split_files(TENTH))
    assert before.stat().st_ino == inode


def test_one_with_too_much_or_with_nothing_is_made_anew(store: RouterStore) -> None:
    place = (store.directory / "current").resolve()
    (place / "g" / "00").touch()
    store.ensure_split(TENTH)
    assert flags(store) == sorted(split_files(TENTH))

    for path in [*place.glob("*/*"), *place.glob("*")]:
        path.unlink() if path.is_file() else path.rmdir()
    store.ensure_split(TENTH)
    assert flags(store) == sorted(split_files(TENTH))
    assert [path.name for path in place.parent.iterdir() if path.name.startswith((".new", ".old"))] == []
