"""What the real candidates are measured by: the simulation of their users, and the table."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from ruamel.yaml import YAML

from nself_deploy.core.extension_reader import read_extension
from tests.load.candidates import trial
from tests.load.candidates.__main__ import result_line, row
from tests.load.candidates.expected import simulated
from tests.load.candidates.kinds import CANDIDATES, named
from tests.load.candidates.trial import Tried
from tests.real.stack import Stack

RUNS = 20


@pytest.mark.parametrize("name", ["100 %", "posts"])
def test_the_times_that_are_written_down_are_those_of_the_simulation(name: str) -> None:
    candidate = named(name)

    found = simulated(candidate, RUNS)

    assert found.median == pytest.approx(candidate.found.median, rel=0.5, abs=0.5)
    assert found.longest <= candidate.found.longest


def test_what_is_simulated_has_its_times() -> None:
    assert all(c.found.median > 0 for c in CANDIDATES if c.simulated)
    assert all(c.onset_s < c.found.median < c.found.longest for c in CANDIDATES if c.simulated)


def test_a_candidate_that_is_not_found_is_an_error() -> None:
    with pytest.raises(ValueError, match="healthy: (pass|inconclusive)"):
        simulated(named("healthy"), 1)


def test_the_result_counts_what_is_as_expected() -> None:
    found = [
        Tried("healthy", verdict="pass", status=0),
        Tried("healthy", verdict="fail", status=5, wrong=["exit 5"]),
        Tried("20 %", verdict="fail", status=5, seconds=7.25, by_us=2, wrong=["2 requests failed because of us"]),
    ]

    assert result_line(found) == "RESULT candidates=3 as_expected=1 healthy_promoted=1/2 failed_by_us=2"
    assert row(found[2]).splitlines()[0].split() == ["20", "%", "fail", "5", "7.2", "0", "0", "0", "0", "2"]
    assert row(found[2]).splitlines()[1] == "    NOT AS EXPECTED: 2 requests failed because of us"


def test_a_candidate_has_its_settings_while_it_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "docker-compose.yml"
    file.write_text("services: {}\n")
    stack, seen = cast("Stack", SimpleNamespace(root=tmp_path)), []

    def tried(*_: object) -> Tried:
        seen.append(read_extension(YAML(typ="safe").load(file.read_text())).project.analysis)
        return Tried("one")

    monkeypatch.setattr(trial, "_tried", tried)
    for name in ("killed twice, database away", "posts"):
        trial.tried(stack, named(name), "new")

    assert [keys.alpha if keys else None for keys in seen] == [1e-7, None]
    assert file.read_text() == "services: {}\n"
