"""How a release is watched when the traffic has just been moved to it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from nself_deploy.app import lifecycle, proving
from nself_deploy.app.world import World
from nself_deploy.core.model import Slot
from nself_deploy.errors import Unhealthy
from tests.unit.clocks import Clock
from tests.unit.plans import a_release

SECONDS = 2.0


class Looks:
    """Each look takes so long; the release breaks within the first one, so that only later ones see it."""

    def __init__(self, clock: Clock, took_s: float, *, breaks: bool) -> None:
        self.began: list[float] = []
        self._clock, self._took_s, self._breaks = clock, took_s, breaks

    async def healthy(self, *_: Any) -> None:
        self.began.append(self._clock.seconds)
        if self._breaks and len(self.began) > 1:
            raise Unhealthy("web in green is not healthy: it stopped and was restarted.")

    async def routes(self, *_: Any) -> None:
        self._clock.seconds += self._took_s


@pytest.mark.parametrize("took_s", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("breaks", [False, True])
async def test_what_breaks_while_a_look_takes_long_is_seen(
    took_s: float, breaks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    looks, start = Looks(clock, took_s, breaks=breaks), clock.seconds
    monkeypatch.setattr(proving, "await_healthy", looks.healthy)
    monkeypatch.setattr(proving, "prove_routes", looks.routes)
    world = cast("World", SimpleNamespace(clock=clock))
    watched = lifecycle.watch_live(world, a_release("two"), Slot.GREEN, SECONDS)

    if breaks:
        with pytest.raises(Unhealthy):
            await watched
        assert len(looks.began) == 2
    else:
        said = await watched
        assert f"({len(looks.began)} looks)" in said
        assert looks.began[-1] >= start + SECONDS > looks.began[-2]
