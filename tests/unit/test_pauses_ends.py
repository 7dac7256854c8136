"""A canary that is parked already, and the end that its pause is given."""

from __future__ import annotations

import pytest

from nself_deploy.app import pausing
from nself_deploy.app.pausing import limit_pause
from nself_deploy.core.pauses import Limit, Then
from nself_deploy.errors import UsageError
from tests.unit.test_pauses import Waiting, begun, ended, paused_run


def test_a_parked_run_is_given_an_end() -> None:
    waiting = Waiting(paused_run(None))
    run = limit_pause(waiting.world, waiting.run, Limit(60.0, Then.RESUME))

    assert waiting.run == run and run.parking is not None and run.parking.expiry is not None
    assert not pausing.due(waiting.world, run)
    waiting.now += 60.0
    assert pausing.due(waiting.world, run) == run.parking.expiry
    run = limit_pause(waiting.world, run, Limit(0.0))
    assert run.parking is not None and run.parking.expiry is None
    assert [event.reason for event in waiting.told] == [
        "it waits for 1m, then resume",
        "it waits until somebody decides",
    ]
    assert {event.event_type for event in waiting.told} == {"pause"}
    with pytest.raises(UsageError, match="no share of the traffic"):
        limit_pause(Waiting(paused_run(None, back=True)).world, paused_run(None, back=True), Limit(1.0, Then.PROMOTE))
    gone = Waiting(ended(paused_run(None)))
    with pytest.raises(UsageError, match="not parked any more"):
        limit_pause(gone.world, gone.run, Limit(60.0))


def test_what_is_done_at_the_end_can_be_changed_alone() -> None:
    waiting = Waiting(paused_run(Then.ABORT))
    waiting.now += 600.0
    run = limit_pause(waiting.world, waiting.run, Limit(0.0, Then.RESUME), same_end=True)

    assert run.parking is not None and run.parking.expiry == begun(Then.RESUME)


def test_a_pause_without_an_end_does_not_keep_it() -> None:
    waiting = Waiting(paused_run(None))
    with pytest.raises(UsageError, match="no end at which to resume it"):
        limit_pause(waiting.world, waiting.run, Limit(0.0, Then.RESUME), same_end=True)
    run = limit_pause(waiting.world, waiting.run, Limit(60.0, Then.RESUME), same_end=True)  # the project's end

    assert run.parking is not None and run.parking.expiry is not None
    assert run.parking.expiry.limit == Limit(60.0, Then.RESUME)
