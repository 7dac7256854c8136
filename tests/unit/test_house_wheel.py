"""The wheel, as users install it: in an environment without the tools of development."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import nself_deploy
from tests.unit.house import ROOT

IMPORT_ALL = """
import importlib, pkgutil, nself_deploy
for module in pkgutil.walk_packages(nself_deploy.__path__, "nself_deploy."):
    importlib.import_module(module.name)
    print(module.name)
"""


def run(*words: str | Path, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program; its output."""
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, "UV_NO_PROGRESS": "1", "UV_LINK_MODE": "copy", "UV_PYTHON_DOWNLOADS": "never", **env},
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def must(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.args}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def uv() -> str:
    return must(run("tools/uv-path")).strip()


@pytest.fixture(scope="module")
def wheel(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    must(
        run(
            uv,
            "build",
            "--quiet",
            "--wheel",
            "--offline",
            "--no-build-isolation",
            "--python",
            sys.executable,
            "-o",
            out,
        )
    )
    [found] = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(uv: str, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel and its pinned requirements; its directory of programs."""
    place = tmp_path_factory.mktemp("user") / "venv"
    must(run(uv, "venv", "--quiet", "--python", sys._base_executable, place))
    python = place / "bin" / "python"
    pinned = [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", "requirements/runtime.txt"]
    if run(*pinned, "--offline").returncode:  # what the set-up fetched is in uv's cache, unless somebody cleared it
        index = run(sys.executable, "-m", "pip", "config", "get", "global.index-url").stdout.strip()
        must(run(*pinned, **({"UV_DEFAULT_INDEX": index} if index else {})))
    must(run(uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel))
    return place / "bin"


def test_the_wheel_has_what_users_and_type_checkers_need(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("/METADATA"))).decode()

    assert "nself_deploy/py.typed" in names
    assert any(n.endswith("/licenses/LICENSE") for n in names)
    assert not [n for n in names if n.startswith(("tests", "tools", "examples"))]
    assert "License-Expression: MIT" in metadata
    assert metadata.split("\n\n", 1)[1].strip() == (ROOT / "README.md").read_text().strip()


def test_every_module_is_imported_without_the_tools_of_development(installed: Path, tmp_path: Path) -> None:
    modules = must(run(installed / "python", "-c", IMPORT_ALL, cwd=tmp_path)).split()

    assert "nself_deploy.adapters.docker_engine" in modules
    assert len(modules) > 90
    assert run(installed / "python", "-c", "import pytest", cwd=tmp_path).returncode == 1


def test_the_programs_speak(installed: Path, tmp_path: Path) -> None:
    version = f"nself-deploy, version {nself_deploy.__version__}\n"

    assert must(run(installed / "nself", "--version", cwd=tmp_path)) == version
    assert must(run(installed / "nself-deploy", "--version", cwd=tmp_path)) == version
    assert "Options of a deploy:" in must(run(installed / "nself", "deploy", "--help", cwd=tmp_path))


def test_a_deploy_in_an_empty_directory_says_what_is_missing(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "nself-deploy", "plan", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path}: There is no Compose file")
    assert "Traceback" not in done.stderr
