"""Files and functions stay small enough to be read at once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.unit.house import python_files, shown

FILE_LINES = 400
FUNCTION_LINES = 60
TOPS = ("src", "tests", "tools", "benchmarks")


def too_long(path: Path) -> list[str]:
    """What in this file is too long."""
    text = path.read_text()
    found = []
    if (lines := text.count("\n")) > FILE_LINES:
        found.append(f"{shown(path)}: {lines} lines")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                found.append(f"{shown(path)}:{node.lineno}: {node.name} has {lines} lines")
    return found


@pytest.mark.parametrize("top", TOPS)
def test_nothing_is_too_long(top: str) -> None:
    paths = python_files(top)

    assert paths
    assert not [complaint for path in paths for complaint in too_long(path)]


def test_what_is_too_long_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.unit.house.ROOT", tmp_path)
    path = tmp_path / "long.py"
    path.write_text("async def f() -> None:\n" + "    pass\n" * 60 + "x = 1\n" * 340)

    assert too_long(path) == ["long.py: 401 lines", "long.py:1: f has 61 lines"]
