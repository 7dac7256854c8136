"""What the simulation of verdicts claims: goals that are missed are told, the last line, tables and pictures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from benchmarks.judging import plots
from benchmarks.judging.cells import RATES, Outcome, Size, cells
from benchmarks.judging.goals import false_rollbacks, missed, result
from benchmarks.judging.report import tables

HEALTHY = [Outcome("healthy", "both 3 %", rate, 1000, failed) for rate, failed in ((2.0, 0.001), (50.0, 0.003))]
SICK = [
    Outcome(kind, world, rate, 100, 1.0, median=5.0 / (1.0 + at), p95=9.0, users=4.0, least=(5.0 / (1.0 + at), 9.0))
    for at, rate in enumerate(RATES)
    for world in ("1% errors", "2% errors", "5% errors", "20% errors", "100% errors")
    for kind in ("sick", "Flagger, 60 s, threshold 5", "Argo, 60 s, failureLimit 0")
]
SPLIT = [Outcome("split", "right", 50.0, 1000, 0.0), Outcome("split", "2 times the share", 50.0, 1000, 1.0, median=3.0)]


def test_healthy_candidates_are_counted_by_world_over_all_rates_of_requests() -> None:
    assert false_rollbacks(HEALTHY) == {"both 3 %": (pytest.approx(0.002), 2000)}
    assert missed(HEALTHY) == ["both 3 %: 0.200% false rollbacks of 2000, 0.1% at most"]
    assert missed([HEALTHY[0]]) == []


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (Outcome("starved", "healthy, 0.1 %", 0.5, 1000, 0.0, passed=0.002, unproved=2), "2 promoted without evidence"),
        (Outcome("sick", "2% errors", 10.0, 1000, 0.9, passed=0.1), "10.00% promoted, 0.1% at most"),
        (Outcome("healthy", "healthy, 0.1 %", 50.0, 1000, 0.0, passed=0.5), "50.0% promoted, 99% at least"),
        (Outcome("split", "right", 50.0, 1000, 0.01), "1.00% false alarms, 0.1% at most"),
        (
            Outcome("sick", "5% errors", 50.0, 1000, 1.0, median=18.0, p95=42.0, users=5.0, least=(17.9, 41.0)),
            "p95 41.0, 40 at most",
        ),
        (Outcome("slow", "times x 2", 200.0, 1000, 0.0), "median never, 3 at most"),
    ],
)
def test_a_goal_that_is_missed_is_told(outcome: Outcome, told: str) -> None:
    assert [line for line in missed([outcome]) if line.endswith(told)] != []


def test_the_last_line_has_the_worst_world() -> None:
    wanted = "RESULT false_rollback_max=0.00200 median_20pct_50rps=1.7 promoted_without_evidence=0"

    assert result([*HEALTHY, *SICK]) == wanted
    assert "median_20pct_50rps=never" in result(HEALTHY)


def test_every_world_has_ten_thousand_healthy_candidates() -> None:
    found: dict[str, int] = {}
    for cell in cells(Size()):
        if cell.kind == "healthy":
            found[cell.world] = found.get(cell.world, 0) + cell.runs

    assert {world for world, runs in found.items() if runs < 10_000} == {"better, few clients come back"}
    assert len(found) > 6


def test_tables_and_pictures_say_what_came_of_it(tmp_path: Path) -> None:
    outcomes = [*HEALTHY, *SICK, *SPLIT]
    (tmp_path / "outcomes.json").write_bytes(msgspec.json.encode(outcomes))
    plots.main(str(tmp_path / "outcomes.json"), str(tmp_path / "images"))
    pictures = {path.stem: path.read_text() for path in (tmp_path / "images").iterdir()}

    assert "| both 3 % | 2000 | 0.200% |" in tables(outcomes)
    assert set(pictures) == {f"verdict-{name}" for name in ("evidence", "found", "traffic", "users", "endings")}
    for text in pictures.values():
        ET.fromstring(text)
    assert "Flagger" in pictures["verdict-found"] and "Kayenta" not in pictures["verdict-found"]
