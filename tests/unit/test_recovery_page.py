"""The tables of docs/recovery.md are what the machine does."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from tests.unit.house import ROOT


def generator() -> ModuleType:
    """tools/gen_recovery.py, which is a script."""
    spec = importlib.util.spec_from_file_location("gen_recovery", ROOT / "tools" / "gen_recovery.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_published_tables_are_current() -> None:
    text = (ROOT / "docs" / "recovery.md").read_text()

    assert generator().page(text) == text, "run: python tools/gen_recovery.py"


def test_every_step_has_its_row_and_every_undo_ends_with_the_records() -> None:
    made = generator()
    for plan in (made.deploy_plan(), made.rollback_plan(), made.canary_plan()):
        rows = made.table(plan)[2:]

        assert {row.split(" | ")[0].removeprefix("| ") for row in rows} == {step.name for step in plan.steps}
        undone = [cell.strip(" |") for row in rows for cell in row.split(" | ")[2:] if "**undo**" in cell]
        assert undone and all(cell.endswith("persist state") for cell in undone)
