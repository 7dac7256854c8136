"""Canaries in the simulated world: what is asked for, and the access log that the users leave."""

from __future__ import annotations

import msgspec

from nself_deploy.app.ports import LogView
from nself_deploy.core.analysis import Analysis, LatencyKeys
from nself_deploy.core.evidence import Request
from nself_deploy.core.log_position import LogPosition, LogRead
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.pauses import Limit, Then
from nself_deploy.core.plan_canary import Canary, Stage
from tests.simulation.things import Thing
from tests.simulation.world import EPOCH, SimWorld

ANALYSIS = Analysis(slo_error_rate=0.05, soak_s=8.0, max_soak_s=30.0, latency=LatencyKeys(cuts=()))
CANARY = Canary((Stage(50, 8.0), Stage(100)), ANALYSIS)
"""Half of the clients, and an objective that is proved within seconds."""
PAUSED = msgspec.structs.replace(CANARY, stages=(Stage(50, 8.0, True), Stage(100)), pause=Limit(20.0, Then.RESUME))
"""The same with a pause that ends."""
BAKE_S = 3.0
RATE = 40
"""Requests per second."""
CLIENTS = 200


class SimLog:
    """The `RequestLog` port: one line per request, by where requests really went."""

    def __init__(self, world: SimWorld, view: LogView) -> None:
        self._world = world
        self._view = view
        self._wall_offset = world.wall_offset

    def end(self) -> LogPosition:
        return LogPosition(1, int(self._world.now * RATE))

    def read(self, position: LogPosition) -> LogRead:
        end = self.end()
        if self._world.wall_offset != self._wall_offset:
            self._wall_offset = self._world.wall_offset
            return LogRead((), end, size=end.offset, problem="the machine's clock jumped")
        served = {slot: self._serves(slot) for slot in Slot}
        requests = [self._request(n, served) for n in range(position.offset, end.offset)]
        return LogRead(tuple(r for r in requests if r is not None), end, size=end.offset)

    def _request(self, number: int, served: dict[Slot, bool]) -> Request | None:
        """None too near to a move."""
        time, client = number / RATE, (number * 77) % CLIENTS
        if any(abs(time - at) < 0.1 for at, _ in self._world.splits):
            return None
        candidate = self._view.candidate
        split = self._split(time)
        share = split.percent_of(candidate) / 100
        there = client * 100 < CLIENTS * split.percent_of(candidate)
        slot = candidate if there else candidate.other
        at = EPOCH + self._world.wall_offset + time - self._view.began
        return Request(max(0.0, at), (client * 2654435761) % (1 << 32), there, not served[slot], share)

    def _split(self, time: float) -> Split:
        before = self._view.moves[0].split
        return next((split for at, split in reversed(self._world.splits) if at <= time), before)

    def _serves(self, slot: Slot) -> bool:
        now = self._world.now
        return all(
            any(isinstance(place, Thing) and place.serves(now) for place in places)
            for places in self._world.servers(slot).values()
        )
