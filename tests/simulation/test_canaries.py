"""Canaries in the simulated world: killed at every point, with every kind of candidate, parked and decided about."""

from __future__ import annotations

import pytest

from tests.simulation.history import Report, played
from tests.simulation.process import Fault
from tests.simulation.schedule import VERSIONS, Command, Schedule
from tests.simulation.shop import Shape
from tests.simulation.store import SimRecords

POINTS = 95
"""More than a canary has."""


def play(*commands: Command, shape: Shape | None = None, beginning: str = "live") -> Report:
    report = played(Schedule(1, shape or Shape(), beginning, commands), verbose=True)
    assert report.violations == (), commands
    return report


def ends(report: Report, process: str) -> str:
    """How a process ended, in the words of the log."""
    said = [line.partition(f"{process}: ")[2] for line in report.log if f"{process}: " in line]
    return next((words for words in reversed(said) if words.startswith(("ended", "Parked", "nothing"))), "")


@pytest.mark.parametrize("then", ["resume", "abort", "canary", "deploy"])
@pytest.mark.parametrize("kind", ["kill-before", "kill-after"])
def test_killed_at_any_point_it_is_put_right(then: str, kind: str) -> None:
    found: set[str] = set()
    for at in range(1, POINTS, 2 if kind == "kill-after" else 1):
        shape = Shape(single=at % 3 == 0, job=at % 4 == 0, replicas=1 + (at % 5 == 0))
        report = play(Command("canary", "good", faults=(Fault(at, kind),)), Command(then, pause=2.0), shape=shape)
        found.add(ends(report, "p1")[:10])

    assert "ended done" in found
    assert ("ended inte" in found) is (then == "abort")


def test_a_record_that_is_gone_on_with_at_its_end_does_not_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told and not saved is told again: it must not be there twice."""

    def appended(self: SimRecords, run_id: str, _at: int, data: bytes) -> int:
        self._records[run_id] = self._records.get(run_id, b"") + data
        self._process.touch(f"record of {run_id}", lambda: None)
        return len(self._records[run_id])

    monkeypatch.setattr(SimRecords, "write", appended)
    resume = Command("resume", pause=2.0)
    kills = [Command("canary", "good", faults=(Fault(at, "kill-after", 0, "judge:50"),)) for at in range(2, 6)]
    reports = [played(Schedule(1, Shape(), "live", (kill, resume))) for kill in kills]

    assert any("does not replay" in found for report in reports for found in report.violations)


@pytest.mark.parametrize("kind", ["kill-before", "kill-after"])
def test_no_kill_skips_a_planned_pause(kind: str) -> None:
    """Killed before it is on record or after that: it is made, once, before all users are moved."""
    for at in range(8, 16):
        kill = Fault(at, kind, 0, "judge:50")
        report = play(Command("paused", "good", faults=(kill,)), Command("resume", pause=2.0))
        moved = next(n for n, line in enumerate(report.log) if "intent move" in line)
        pauses = [n for n, line in enumerate(report.log) if "outcome judge:50 parked: paused at 50 %" in line]

        assert len(pauses) == 1, at
        assert pauses[0] < moved, at


@pytest.mark.parametrize("fault", ["interrupt", "engine-down", "disk-full", "person-restarts-router", "clock-back"])
def test_what_happens_in_a_pause_leaves_users_served(fault: str) -> None:
    for at in (5, 12):
        play(Command("paused", "good", faults=(Fault(at, fault, 1, "judge:50"),)), Command("abort", pause=20.0))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_kind_of_candidate_ends_with_users_served(version: str) -> None:
    report = play(Command("canary", version), Command("abort", pause=2.0))

    assert ends(report, "p0").startswith("ended done" if version in ("good", "slow", "bad-job") else "ended failed"), (
        ends(report, "p0")
    )


@pytest.mark.parametrize("beginning", ["fresh", "plain", "live", "standby"])
def test_it_begins_anywhere(beginning: str) -> None:
    assert ends(play(Command("canary", "good"), beginning=beginning), "p0").startswith("ended done")


def test_a_clock_that_is_set_back_before_anybody_reads_the_log_is_noticed() -> None:
    report = play(Command("canary", "good", faults=(Fault(1, "clock-back", 2, "split:50"),)), Command("abort"))

    assert any("move traffic to blue" in line and " p0: " in line for line in report.log)


@pytest.mark.parametrize(("then", "end"), [("resume", "ended done"), ("abort", "ended interrupted")])
def test_a_measurement_that_went_wrong_parks_it_until_a_person_decides(then: str, end: str) -> None:
    jump = Fault(1, "clock-back", 0, "judge:50")
    report = play(Command("canary", "good", faults=(jump,)), Command("deploy", pause=2.0), Command(then, pause=2.0))

    assert ends(report, "p1").startswith("Parked"), ends(report, "p1")
    assert ends(report, "p2").startswith(end), ends(report, "p2")
    assert any("move traffic to blue" in line and " p0: " in line for line in report.log)


@pytest.mark.parametrize("step", ["split:50", "judge:50", "move", "bake"])
@pytest.mark.parametrize("fault", ["interrupt", "engine-down", "disk-full", "person-restarts-router"])
def test_what_happens_around_it_leaves_users_served(step: str, fault: str) -> None:
    play(Command("canary", "good", faults=(Fault(1, fault, 1, step),)), Command("abort", pause=20.0))
