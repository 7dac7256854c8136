"""Which Compose files a project has, and where our override goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nself_deploy.adapters.project_files import (
    ASIDE,
    BASE_NAMES,
    MARK,
    OVERRIDE_NAMES,
    added_router,
    find_project_files,
    is_ours,
    plan_override,
    write_override,
)
from nself_deploy.errors import ConfigError, Exit

MODEL = {"services": {"web": {"deploy": {"replicas": 0}}, "edge": {"networks": {"default": None}}}}


def _files(root: Path, *names: str, text: str = "services: {}\n") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def _found(root: Path, **env: str) -> list[str]:
    return [os.path.relpath(file, root) for file in find_project_files(root, env).files]


@pytest.mark.parametrize("index", range(len(BASE_NAMES)))
def test_the_first_of_the_usual_names_wins(tmp_path: Path, index: int) -> None:
    _files(tmp_path, *BASE_NAMES[index:])

    assert _found(tmp_path) == [BASE_NAMES[index]]


@pytest.mark.parametrize("index", range(len(OVERRIDE_NAMES)))
def test_the_first_of_the_usual_overrides_comes_with_it(tmp_path: Path, index: int) -> None:
    _files(tmp_path, "docker-compose.yml", *OVERRIDE_NAMES[index:])

    assert _found(tmp_path) == ["docker-compose.yml", OVERRIDE_NAMES[index]]


def test_compose_file_names_them_instead(tmp_path: Path) -> None:
    _files(tmp_path, "compose.yaml", "a.yml", "deploy/b.yml")
    (tmp_path / ".env").write_text("# files\nexport COMPOSE_FILE='a.yml:deploy/b.yml' # two\nSECRET=x\n")

    assert _found(tmp_path) == ["a.yml", "deploy/b.yml"]
    assert find_project_files(tmp_path, {}).origin == ".env"
    assert _found(tmp_path, COMPOSE_FILE="deploy/b.yml") == ["deploy/b.yml"]
    assert _found(tmp_path, COMPOSE_FILE="a.yml;compose.yaml", COMPOSE_PATH_SEPARATOR=";") == ["a.yml", "compose.yaml"]


def test_variables_in_compose_file(tmp_path: Path) -> None:
    _files(tmp_path, "base.yml", "prod.yml")
    (tmp_path / ".env").write_text('STAGE=prod\nCOMPOSE_FILE="base.yml|${STAGE}.yml"\nCOMPOSE_PATH_SEPARATOR=|\n')

    assert _found(tmp_path) == ["base.yml", "prod.yml"]
    (tmp_path / ".env").write_text("COMPOSE_FILE=base.yml:${STAGE:-prod}.yml\n")
    with pytest.raises(ConfigError, match="default or a condition") as caught:
        find_project_files(tmp_path, {})
    assert caught.value.where == ".env: COMPOSE_FILE"


def test_no_compose_file_names_the_directory_and_the_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_project_files(tmp_path, {})

    assert caught.value.where == str(tmp_path)
    assert all(name in caught.value.what for name in BASE_NAMES)
    assert caught.value.exit_status is Exit.USAGE


def test_what_is_no_directory_or_no_file(tmp_path: Path) -> None:
    _files(tmp_path, "file")
    (tmp_path / "d" / "compose.yaml").mkdir(parents=True)
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "compose.yaml").symlink_to("gone.yaml")

    for root, words in (("nowhere", "not a directory"), ("file", "not a directory"), ("d", "is a directory"),
                        ("l", "does not exist")):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            find_project_files(tmp_path / root, {})
    with pytest.raises(ConfigError, match="does not exist") as caught:
        find_project_files(tmp_path, {"COMPOSE_FILE": "gone.yml"})
    assert caught.value.where == str(tmp_path / "gone.yml")


@pytest.mark.parametrize(
    ("base", "override"),
    [
        ("docker-compose.yml", "docker-compose.override.yml"),
        ("compose.yaml", "compose.override.yaml"),
        ("docker-compose.yaml", "docker-compose.override.yaml"),
    ],
)
def test_the_override_is_named_after_the_base_and_is_never_the_users(tmp_path: Path, base: str, override: str) -> None:
    _files(tmp_path, base)
    path = write_override(tmp_path, MODEL, {})
    found = find_project_files(tmp_path, {})

    assert path == tmp_path / override
    assert path.read_text().startswith(MARK)
    assert is_ours(path)
    assert found.files == (str(tmp_path / base),)
    assert found.override == str(path)
    assert not (tmp_path / ".env").exists()
    assert sorted(os.listdir(tmp_path)) == sorted([base, override])


def test_writing_again_changes_nothing_until_the_model_does(tmp_path: Path) -> None:
    _files(tmp_path, "compose.yaml")
    path = write_override(tmp_path, MODEL, {})
    before = path.stat()
    write_override(tmp_path, MODEL, {})

    assert path.stat().st_ino == before.st_ino
    write_override(tmp_path, {"services": {}}, {})
    assert path.stat().st_ino != before.st_ino
    assert "replicas" not in path.read_text()


def test_with_an_override_of_the_users_own_ours_goes_aside(tmp_path: Path) -> None:
    _files(tmp_path, "docker-compose.yml", "docker-compose.override.yml", text="services: {web: {image: a}}\n")
    (tmp_path / ".env").write_text("A=1\r\n# kept\n\nB='x y'")
    (tmp_path / ".env").chmod(0o640)
    plan = plan_override(tmp_path, {})
    path = write_override(tmp_path, MODEL, {})
    found = find_project_files(tmp_path, {})

    names = "docker-compose.yml:docker-compose.override.yml:.nself/compose.nself.yaml"
    assert path == tmp_path / ASIDE
    assert plan.env_line == f"COMPOSE_FILE={names}"
    text = (tmp_path / ".env").read_bytes().decode()
    assert text.startswith("A=1\r\n# kept\n\nB='x y'\n# nself-deploy")
    assert text.endswith(f"\nCOMPOSE_FILE={names}\n")
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o640
    assert [os.path.basename(file) for file in found.files] == ["docker-compose.yml", "docker-compose.override.yml"]
    assert found.override == str(path)
    assert plan_override(tmp_path, {}).env_line == "", "a second time there is nothing to edit"
    assert (tmp_path / "docker-compose.override.yml").read_text() == "services: {web: {image: a}}\n"


def test_a_compose_file_line_is_changed_in_its_place(tmp_path: Path) -> None:
    _files(tmp_path, "a.yml", "b.yml")
    (tmp_path / ".env").write_text("X=1\nCOMPOSE_FILE=a.yml;b.yml\nCOMPOSE_PATH_SEPARATOR=;\n")
    write_override(tmp_path, MODEL, {})

    line = "COMPOSE_FILE=a.yml;b.yml;.nself/compose.nself.yaml"
    assert (tmp_path / ".env").read_text() == f"X=1\n{line}\nCOMPOSE_PATH_SEPARATOR=;\n"
    assert find_project_files(tmp_path, {}).override == str(tmp_path / ASIDE)


def test_a_compose_file_of_the_environment_is_left_to_the_user(tmp_path: Path) -> None:
    _files(tmp_path, "a.yml")
    env = {"COMPOSE_FILE": "a.yml"}
    plan = plan_override(tmp_path, env)

    assert write_override(tmp_path, MODEL, env) == tmp_path / ASIDE
    assert "a.yml:.nself/compose.nself.yaml" in plan.advice
    assert not (tmp_path / ".env").exists()


@pytest.mark.parametrize("theirs", ["compose.override.yml", "docker-compose.override.yaml"])
def test_a_later_override_of_the_users_moves_ours(tmp_path: Path, theirs: str) -> None:
    _files(tmp_path, "docker-compose.yml")
    ours = write_override(tmp_path, MODEL, {})
    _files(tmp_path, theirs)

    assert _found(tmp_path) == ["docker-compose.yml", theirs]
    assert write_override(tmp_path, MODEL, {}) == tmp_path / ASIDE
    assert not ours.exists()
    assert _found(tmp_path) == ["docker-compose.yml", theirs]


@pytest.mark.parametrize("env_file", ["env_file: .env", "env_file: [{path: ./.env}]", "env_file:\n      - .env"])
def test_a_shared_env_file_is_not_edited(tmp_path: Path, env_file: str) -> None:
    text = f"services:\n  web:\n    image: !reset a\n    {env_file}\n"
    _files(tmp_path, "compose.yaml", "compose.override.yaml", text=text)
    (tmp_path / ".env").write_text("A=1\n")
    with pytest.raises(ConfigError, match="web gets its variables from .env"):
        write_override(tmp_path, MODEL, {})

    assert (tmp_path / ".env").read_text() == "A=1\n"
    assert not (tmp_path / ASIDE).exists()


def test_a_file_that_is_not_ours_is_never_overwritten(tmp_path: Path) -> None:
    _files(tmp_path, "a.yml", ".nself/compose.nself.yaml", text="services: {}\n")
    with pytest.raises(ConfigError, match="didn't generate it"):
        write_override(tmp_path, MODEL, {"COMPOSE_FILE": "a.yml"})

    assert (tmp_path / ASIDE).read_text() == "services: {}\n"


def test_the_added_router_is_read_back(tmp_path: Path) -> None:
    _files(tmp_path, "compose.yaml")
    router = {"image": "nginx:1.30", "labels": {"nself.deploy.role": "router"}, "ports": ["80:80"]}

    assert added_router(tmp_path, {}) is None
    path = write_override(tmp_path, {"services": {"web": {"scale": 0}, "nself-router": router}}, {})
    assert added_router(tmp_path, {}) == ("nself-router", router)
    path.write_text(f"{MARK}\n- broken\n")
    with pytest.raises(ConfigError, match="not what nself-deploy wrote"):
        added_router(tmp_path, {})
