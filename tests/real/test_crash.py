"""Kills at every boundary of one rollback to a warm slot, the shortest kind of run; `make crash` does all kinds."""

from __future__ import annotations

import sys

import pytest

from tests.crash.__main__ import result_line, run, went_well
from tests.crash.lane import Share
from tests.crash.scenarios import SCENARIOS

pytestmark = pytest.mark.real

PROJECTS = 3


def test_a_rollback_that_is_killed_anywhere_is_put_right_and_users_notice_nothing() -> None:
    (scenario,) = (s for s in SCENARIOS if s.name == "rollback-warm")
    told = run([Share(scenario, first, PROJECTS) for first in range(1, PROJECTS + 1)], PROJECTS)
    sys.stdout.write(result_line(told, 0) + "\n")

    assert went_well(told), [lane.problem or [str(k) for k in lane.kills if not k.healed] for lane in told]
    assert sorted(kill.number for lane in told for kill in lane.kills) == list(range(1, 21))
