"""What is imported when: the budget of a cold start, the layers, and what the library offers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nself_deploy
from nself_deploy import api
from tests.unit.house import ROOT

ENGINE = {"aiodocker", "aiohttp", "psycopg", "rich"}
"""Heavy: only what asks the container engine, another server or a database may import them."""
PARSERS = {"crossplane", "ruamel.yaml", "sqlite3", "asyncio"}
"""Not needed to give help, or to complain about a wrong word."""

RUN = """
import json, sys
from nself_deploy.cli.main import main
status = main(sys.argv[1:])
print(json.dumps([status, sorted(sys.modules)]), file=sys.stderr)
"""


def fresh(code: str, *words: str, cwd: Path) -> list[object]:
    """Run code in a fresh interpreter; the JSON in its last line on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=cwd, capture_output=True, text=True, timeout=300, check=True
    )
    answer = json.loads(done.stderr.splitlines()[-1])
    assert isinstance(answer, list)
    return answer


@pytest.mark.parametrize(
    ("words", "status", "forbidden"),
    [
        ("--help", 0, ENGINE | PARSERS),
        ("--version", 0, ENGINE | PARSERS),
        ("deploy --help", 0, ENGINE | PARSERS),
        ("deploy status --help", 0, ENGINE | PARSERS),
        ("deploy rollback --help", 0, ENGINE | PARSERS),
        ("deploy serve --help", 0, ENGINE | PARSERS),
        ("deploy --bogus", 1, ENGINE | PARSERS),
        ("deploy history", 0, ENGINE | {"crossplane"}),
        ("deploy history --json", 0, ENGINE | {"crossplane"}),
        ("deploy history --releases", 0, ENGINE | {"crossplane"}),
        ("deploy audit --help", 0, ENGINE | PARSERS),
        ("deploy audit init --sql", 0, ENGINE | PARSERS),
        ("deploy audit status", 0, ENGINE | {"crossplane"}),
        ("deploy audit list", 0, ENGINE | {"crossplane"}),
        ("deploy replay nothing", 1, ENGINE | {"crossplane"}),
    ],
)
def test_a_command_imports_only_what_it_needs(words: str, status: int, forbidden: set[str], tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {web: {image: web}}\n")
    ended, modules = fresh(RUN, *words.split(), cwd=tmp_path)

    assert ended == status
    assert isinstance(modules, list)
    assert forbidden.intersection(modules) == set()


@pytest.mark.parametrize(
    "module",
    ["nself_deploy", "nself_deploy.api", "nself_deploy.wiring", "nself_deploy.cli.running", "nself_deploy.cli.back"],
)
def test_the_engine_is_imported_at_the_first_question_to_it(module: str, tmp_path: Path) -> None:
    code = "import importlib, json, sys; importlib.import_module(sys.argv[1]); "
    code += "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"

    assert ENGINE.intersection(map(str, fresh(code, module, cwd=tmp_path))) == set()


WAITED_FOR = {"cli.back": "nself_deploy.cli.back", "with a key": "nself_deploy.wiring.service_rollback"}
"""What a way back to a warm release imports before users are back, by a person and by a machine."""
LATE = {
    "adapters": ("compose", "docker_client", "docker_engine", "judge_record", "nginx_files", "project_files", "probe"),
    "app": ("deploy", "executor", "judging", "lifecycle", "pausing", "ports", "recovery", "stores", "traffic"),
    "cli": ("running", "showing"),
    "core": (
        "canary",
        "extension",
        "forecast",
        "log_line",
        "migration_rules",
        "migrations",
        "nginx_names",
        "nginx_tree",
        "plan_document",
        "record_lines",
        "routing",
        "traffic_log",
        "verdict",
    ),
}
"""Rooms that only a deploy, a judge or the rest of a run needs."""


@pytest.mark.parametrize("module", WAITED_FOR.values(), ids=WAITED_FOR)
def test_a_way_back_waits_for_no_parser_and_for_nothing_of_a_deploy(module: str, tmp_path: Path) -> None:
    code = "import importlib, json, sys; importlib.import_module(sys.argv[1]); "
    code += "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    loaded = {str(m) for m in fresh(code, module, cwd=tmp_path)}
    late = {f"nself_deploy.{layer}.{room}" for layer, rooms in LATE.items() for room in rooms}

    assert not loaded & {"ruamel.yaml", "ngxparse", "crossplane", "difflib", "shutil", "zlib", "lzma", *ENGINE}
    assert not loaded & late


def test_the_package_is_imported_without_the_house(tmp_path: Path) -> None:
    code = "import json, sys, nself_deploy; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    loaded = [str(m) for m in fresh(code, cwd=tmp_path)]

    assert [m for m in loaded if m.startswith("nself_deploy")] == ["nself_deploy"]


def test_the_public_names_are_these() -> None:
    assert nself_deploy.__all__ == [
        "DEPLOY_STATE_FILE",
        "AuditEvent",
        "BlueGreenConfig",
        "BlueGreenResult",
        "CanaryConfig",
        "CanaryResult",
        "DeployStep",
        "NselfError",
        "RollbackConfig",
        "RollbackResult",
        "RollbackUIState",
        "StepStatus",
        "Strategy",
        "StrategyState",
        "UsageError",
        "__version__",
        "execute_rollback",
        "load_deploy_state",
        "load_rollback_result",
        "run_blue_green",
        "run_canary",
        "save_deploy_state",
    ]


@pytest.mark.parametrize("name", [n for n in nself_deploy.__all__ if n != "__version__"])
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(nself_deploy, name)

    assert isinstance(value, str) or value.__doc__
    assert name in dir(nself_deploy)
    assert name in api.__all__ or issubclass(value, nself_deploy.NselfError)


def test_a_name_that_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = nself_deploy.nonsense


CONTRACTS = {
    "Arrows point down only": ("core/planted_up.py", "import nself_deploy.app.deploy\n"),
    "Adapters do not know each other": ("adapters/probe.py", "import nself_deploy.adapters.lock\n"),
    "The core does no I/O, keeps no time and rolls no dice": ("core/planted_io.py", "import socket\n"),
    "Docker and HTTP libraries stay in their adapters": ("app/planted_library.py", "import aiohttp\n"),
}


def lint(directory: Path) -> tuple[int, dict[str, str]]:
    """Check the contracts on the copy of the package in `directory`: exit status, and contract -> KEPT or BROKEN."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], cwd=directory, capture_output=True, text=True, timeout=300, check=False
    )
    lines = [
        (line.rpartition(" ")[0], line.rpartition(" ")[2])
        for line in done.stdout.splitlines()
        if line.endswith((" KEPT", " BROKEN"))
    ]
    return done.returncode, dict(lines)


def test_every_contract_of_the_layers_breaks_when_it_is_broken(tmp_path: Path) -> None:
    compiled = shutil.ignore_patterns("__pycache__")  # other tests write there meanwhile
    shutil.copytree(ROOT / "src" / "nself_deploy", tmp_path / "nself_deploy", ignore=compiled)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    assert lint(tmp_path) == (0, dict.fromkeys(CONTRACTS, "KEPT"))

    for place, code in CONTRACTS.values():
        path = tmp_path / "nself_deploy" / place
        path.write_text((path.read_text() if path.exists() else "") + "\n" + code)

    assert lint(tmp_path) == (1, dict.fromkeys(CONTRACTS, "BROKEN"))
