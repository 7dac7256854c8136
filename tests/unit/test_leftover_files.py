"""What killed writers leave: found whatever it is, removed when asked, and nothing else ever is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nself_deploy.adapters.durable_files import create_temp, temp_name, write_atomic
from nself_deploy.adapters.leftover_files import LeftoverFiles
from nself_deploy.core.model import Slot
from nself_deploy.errors import UsageError

RELEASE = "20261122T210000-0123abcd"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for place in ("releases", "router/splits/blue", "state"):
        (tmp_path / ".nself" / place).mkdir(parents=True)
    (tmp_path / ".nself/router/current").symlink_to("splits/blue")
    write_atomic(tmp_path / ".nself/state/deploy.json", b"{}")
    return tmp_path


def test_nothing_is_left_of_writers_that_ended_well(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    for place in (root, tmp_path_factory.mktemp("no-project")):
        found = LeftoverFiles(place)

        assert (found.temp_files(), found.release_dirs(), found.slot_files()) == ((), {}, ())
        assert (found.traceback(), found.last_owner()) == ("", "")


def test_what_a_killed_writer_left_is_found_and_removed(root: Path) -> None:
    places = (root / "compose.override.yaml", root / ".nself/state/deploy.json", root / ".nself/nself.db")
    temps = [temp_name(path) for path in places]
    for temp in temps:
        os.close(create_temp(temp))
    (root / ".nself/router/.current.01234567").symlink_to("splits/green")
    (root / ".nself/router/splits/.old-01234567/g").mkdir(parents=True)
    found = LeftoverFiles(root)
    names = found.temp_files()

    assert len(names) == 5
    for name in names:
        found.remove(name)
        found.remove(name)
    assert found.temp_files() == ()
    assert (root / ".nself/router/current").readlink() == Path("splits/blue")
    assert (root / ".nself/state/deploy.json").read_bytes() == b"{}"


def test_what_a_living_writer_has_open_is_none(root: Path) -> None:
    temp = temp_name(root / ".nself/state/deploy.json")
    fd = create_temp(temp)
    try:
        assert LeftoverFiles(root).temp_files() == ()
        with pytest.raises(UsageError):
            LeftoverFiles(root).remove(str(temp.relative_to(root)))
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", [".mine.tmp", "deploy.json.nself-0123456789ab.tmp", ".x.nself-0123456789AB.tmp"])
def test_files_that_only_look_like_them_are_left_alone(root: Path, name: str) -> None:
    (root / ".nself" / name).write_text("")

    assert LeftoverFiles(root).temp_files() == ()


@pytest.mark.parametrize("path", [".nself/nself.db", "compose.yaml", ".nself/releases/mine", "../outside", ".nself"])
def test_nothing_else_is_ever_removed(root: Path, path: str) -> None:
    for place in (root / ".nself/nself.db", root / "compose.yaml", root.parent / "outside"):
        place.write_text("")
    (root / ".nself/releases/mine").mkdir()
    (root / ".nself/releases/mine/notes").write_text("")

    with pytest.raises(UsageError, match="no leftover of ours"):
        LeftoverFiles(root).remove(path)
    assert (root / path).exists()


def test_directories_of_releases(root: Path) -> None:
    releases = root / ".nself/releases"
    for name in (RELEASE, "20261122T210000-0123abce", "mine"):
        (releases / name).mkdir()
    (releases / RELEASE / "compose.green.yaml").write_text("")
    (releases / "20261122T210000-0123abce/notes").write_text("")
    (releases / "20261122T210000-0123abcf").symlink_to(releases / RELEASE)
    found = LeftoverFiles(root)

    assert found.release_dirs() == {
        RELEASE: True,
        "20261122T210000-0123abce": False,
        "20261122T210000-0123abcf": False,
        "mine": False,
    }
    assert (RELEASE, Slot.GREEN) in found.slot_files()
    found.remove(f".nself/releases/{RELEASE}")
    assert not (releases / RELEASE).exists()


@pytest.mark.parametrize(("text", "words"), [("", ""), ("{", ""), ("{}", ""), ("null", "")])
def test_a_lock_that_says_nothing(root: Path, text: str, words: str) -> None:
    (root / ".nself/lock").write_text(text)

    assert LeftoverFiles(root).last_owner() == words


def test_the_owner_that_a_lock_still_names(root: Path) -> None:
    owner = {"user": "ada", "host": "vps", "pid": 12, "boot_id": "b", "purpose": "deploy", "since": "2026"}
    (root / ".nself/lock").write_text(json.dumps({"owner": owner, "target": "local"}))

    assert LeftoverFiles(root).last_owner() == "ada on vps (process 12), 'deploy' since 2026"
