"""When nothing is in flight to a slot any more."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from nself_deploy.app.traffic import QUIET_S, drain
from nself_deploy.app.world import World
from nself_deploy.core.model import Slot
from tests.unit.clocks import Clock


def a_world(clock: Clock, left: Callable[[float], int]) -> World:
    """With so many requests in flight so many seconds after the move."""

    async def in_flight(slot: Slot) -> int:
        return left(clock.seconds)

    router = SimpleNamespace(in_flight=in_flight)
    return cast("World", SimpleNamespace(clock=clock, router=router, progress=lambda words: None))


@pytest.mark.parametrize("late_s", [0.06, 0.12, 0.2])
async def test_a_request_that_is_counted_late_is_waited_for(late_s: float) -> None:
    clock = Clock()
    said = await drain(a_world(clock, lambda s: int(late_s <= s < 2.0)), Slot.BLUE, 30.0, keep=True)

    assert "nothing in flight" in said and clock.seconds >= 2.0 + QUIET_S - 0.1


async def test_it_ends_soon_after_the_last_one_and_takes_no_longer_than_it_may() -> None:
    clock = Clock()
    said = await drain(a_world(clock, lambda s: 0), Slot.BLUE, 30.0, keep=True)
    assert said == f"nothing in flight after {clock.seconds:.1f} s"
    assert QUIET_S <= clock.seconds <= QUIET_S + 0.1

    clock = Clock()
    said = await drain(a_world(clock, lambda s: 3), Slot.BLUE, 1.0, keep=False)
    assert said == "3 or more still in flight after 1 s: closed with their containers"
