"""Reading migrations: which files, in which order, and what is wrong with them; the linter that can't be asked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nself_deploy.adapters import migration_files
from nself_deploy.adapters.migration_files import read_migrations
from nself_deploy.adapters.squawk import Squawk
from nself_deploy.core.extension_reader import read_extension
from nself_deploy.errors import ConfigError, InfrastructureError
from nself_deploy.wiring.migrations import migrations_of


def sql(root: Path, name: str, text: str | bytes = "SELECT 1;") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def names(root: Path, *patterns: str) -> list[str]:
    return [file.path for file in read_migrations(root, patterns)]


def refused(root: Path, *patterns: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_migrations(root, patterns)
    assert caught.value.remedy
    return str(caught.value)


def test_they_come_in_the_order_of_the_patterns_then_by_name_and_once(tmp_path: Path) -> None:
    for name in ("db/2.sql", "db/1.sql", "db/more/3.sql", "db/2.txt", "api/9.sql"):
        sql(tmp_path, name)
    (tmp_path / "db/dir.sql").mkdir()

    assert names(tmp_path, "db/*.sql", "**/*.sql") == ["db/1.sql", "db/2.sql", "api/9.sql", "db/more/3.sql"]


def test_content_makes_the_hash(tmp_path: Path) -> None:
    sql(tmp_path, "1.sql", "SELECT 1;")
    (one,) = read_migrations(tmp_path, ["*.sql"])
    sql(tmp_path, "1.sql", "SELECT 2;")
    (two,) = read_migrations(tmp_path, ["*.sql"])

    assert (one.text, two.text) == ("SELECT 1;", "SELECT 2;")
    assert one.sha256 != two.sha256


def test_a_link_inside_of_the_project_is_followed_and_one_out_of_it_is_refused(tmp_path: Path) -> None:
    root, other = tmp_path / "site", tmp_path / "other"
    real, foreign = sql(root, "real.txt"), sql(other, "secret.sql", "password")
    (root / "1.sql").symlink_to(real)
    assert names(root, "*.sql") == ["1.sql"]

    (root / "2.sql").symlink_to(foreign)
    assert "2.sql: is a link to a place out of the project." in refused(root, "*.sql")
    (root / "2.sql").unlink()
    (root / "all").symlink_to(other)
    assert "all/secret.sql: is a link to a place out of the project." in refused(root, "all/*.sql")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b"SELECT 1;\n\xff\xfe"), "1.sql:2: is not UTF-8."),
        (lambda path: path.symlink_to("gone.sql"), "1.sql: can't be read: No such file or directory."),
        (lambda path: path.symlink_to("1.sql"), "1.sql: can't be read: "),
        (os.mkfifo, "1.sql: is no regular file."),
        (lambda path: path.write_bytes(b" " * (migration_files.MAX_BYTES + 1)), "1.sql: is larger than 1 MiB."),
    ],
)
def test_a_file_that_cant_be_used_is_named(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    make(tmp_path / "1.sql")

    assert words in refused(tmp_path, "*.sql")


def test_too_many_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        sql(tmp_path, f"{number}.sql")
    monkeypatch.setattr(migration_files, "MAX_FILES", 3)

    assert "More than 3 files" in refused(tmp_path, "*.sql")


@pytest.mark.parametrize("pattern", ["*.sql", "db/[", "x\0y"])
def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    assert "x-nself-deploy.migrations: " in refused(tmp_path, pattern)


@pytest.mark.parametrize(
    "patterns", [["/etc/*.sql"], ["../*.sql"], ["db/../../*.sql"], ["db/.."], [""], "db/*.sql", [1]]
)
def test_a_setting_that_leads_out_of_the_project_or_is_no_list_is_refused(patterns: object) -> None:
    with pytest.raises(ConfigError, match="migrations"):
        read_extension({"x-nself-deploy": {"migrations": patterns}})


def test_a_setting_is_taken_as_it_is() -> None:
    patterns = ["db/*.sql", "db/v..2/**/*.sql", "..up/*.sql"]

    assert read_extension({"x-nself-deploy": {"migrations": patterns}}).project.migrations == tuple(patterns)


async def test_names_that_a_program_might_misread_are_no_danger(tmp_path: Path) -> None:
    for name in ("--help.sql", "[a-z]*.sql", "a b'\n.sql", "é.sql"):
        sql(tmp_path, f"db/{name}", "DROP TABLE a;")
    sql(tmp_path, ".squawk.toml", 'excluded_rules = ["ban-drop-table"]')
    found = await migrations_of(tmp_path, ["db/*.sql"])()

    assert found is not None
    assert [len(migration.hazards) for migration in found] == [1, 1, 1, 1]
    assert await migrations_of(tmp_path, [])() is None


def program(tmp_path: Path, script: str) -> str:
    path = tmp_path / "linter"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo broken >&2; exit 3", "squawk did not say what is in the migrations: broken."),
        ("exit 0", "squawk did not say what is in the migrations: status 0."),
        ("echo '[{\"file\": 1}]'", "squawk did not say what is in the migrations: status 0."),
        ("sleep 60", "squawk did not finish within 0.5 s, and was stopped."),
    ],
)
async def test_a_linter_that_does_not_answer_is_no_harmless_migration(tmp_path: Path, script: str, words: str) -> None:
    with pytest.raises(InfrastructureError) as caught:
        await Squawk(program(tmp_path, script), timeout_s=0.5 if "sleep" in script else 60).check(["SELECT 1;"])

    assert caught.value.what == words
    assert caught.value.remedy


async def test_without_the_program_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InfrastructureError, match=r"nself-deploy\[migrations\]"):
        await Squawk(str(tmp_path / "none")).check(["SELECT 1;"])
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match=r"which is not here.*nself-deploy\[migrations\]"):
        await Squawk().check(["SELECT 1;"])
    assert await Squawk().check([]) == []


async def test_very_many_statements_are_read() -> None:
    began = time.monotonic()
    (said,) = await Squawk().check(["ALTER TABLE a ADD COLUMN b int;\n" * 20_000])

    assert len(said) >= 20_000, time.monotonic() - began
