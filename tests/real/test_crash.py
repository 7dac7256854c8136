"""Kills at every boundary of one rollback to a warm slot, the shortest kind of run; `make crash` does all kinds.

And one of a rollback of one service: after its last step but one, when no slot is live on record.
"""

from __future__ import annotations

import sys

import pytest

from tests.crash.__main__ import result_line, run, went_well
from tests.crash.lane import Share
from tests.crash.scenarios import SCENARIOS

pytestmark = pytest.mark.real

PROJECTS = 3
SERVICE_AT = 23


def test_a_rollback_that_is_killed_anywhere_is_put_right_and_users_notice_nothing() -> None:
    scenarios = {s.name: s for s in SCENARIOS}
    shares = [Share(scenarios["rollback-warm"], first, PROJECTS) for first in range(1, PROJECTS + 1)]
    told = run([*shares, Share(scenarios["service-rollback-warm"], SERVICE_AT, only=1)], PROJECTS + 1)
    sys.stdout.write(result_line(told, 0) + "\n")

    assert went_well(told), [lane.problem or [str(k) for k in lane.kills if not k.healed] for lane in told]
    assert sorted(kill.number for lane in told[:-1] for kill in lane.kills) == list(range(1, 21))
    assert [kill.number for kill in told[-1].kills] == [SERVICE_AT]
