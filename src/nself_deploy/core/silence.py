"""A candidate that lets its requests wait. The access log can't tell: a request is in it only when it has ended.

So two things are compared from one moment on: the live slot's clients who came and were answered since, and the
candidate's, none of whom was while more and more requests are in flight to it. Clients are divided by chance, so each
of the former had the chance `share` to be one of the latter. What takes long on both slots (a download, a stream, a
WebSocket) is not answered on the live slot either in that time, and proves nothing.
"""

from __future__ import annotations

from math import log

import msgspec

from nself_deploy.core.clients import Clients
from nself_deploy.core.evidence import Incident, Request, Trouble
from nself_deploy.core.nginx_flags import LADDER

HANG_S = 5.0
"""A candidate that answers nothing for so long hangs, or for twice as long as the live slot's slowest hundredth."""
HANG_MOST_S = 60.0
QUIET_S = 1.0
_LIVE_ANSWERS = 10
"""So long, and for so many answers of the live slot, silence is nothing to ask about."""
CHANCE = 1e-4
"""The chance that a candidate as quick as the live slot is silent for so many clients."""
_GROWN = 4


class Silence(msgspec.Struct):
    """What is known since the candidate's last good answer. Times are those of the requests."""

    answered: float = 0.0
    """When that was."""
    live: int = 0
    """Good answers of the live slot since."""
    since: float | None = None
    """Since when requests are known to wait."""
    most: int = 0
    """So many may have waited already then."""
    clients: Clients = msgspec.field(default_factory=Clients)
    """The live slot's clients who came since then, and were answered."""

    def request(self, request: Request) -> None:
        """One that has ended, on either slot."""
        if request.failed:
            return
        if request.candidate:
            self.begin(request.at)
            return
        self.live += 1
        if self.since is not None and request.seconds is not None and request.at - request.seconds >= self.since:
            self.clients.first(request.client)

    def begin(self, at: float) -> None:
        """The candidate has answered, or got another share."""
        self.answered, self.live, self.since = at, 0, None

    def due(self, at: float) -> bool:
        """Whether it is time to ask how many requests are in flight to the candidate."""
        return self.since is not None or (at - self.answered >= QUIET_S and self.live >= _LIVE_ANSWERS)

    def waiting(self, at: float, in_flight: int, share: float, slowest_s: float) -> Incident | None:
        """What follows from so many in flight (a rung of `LADDER`, or 0).

        Args:
            share: the candidate's, between 0 and 1.
            slowest_s: of hundred answers of the live slot, the slowest took so long; 0 when that is not known.
        """
        if not in_flight:
            self.since = None
            return None
        if self.since is None:
            self.since, self.most, self.clients = at, 2 * in_flight - 1, Clients()
            return Incident(at, True, Trouble.SILENT, detail=f"{in_flight} or more requests wait for it")
        waited, clients = at - self.since, len(self.clients)
        grown = in_flight - self.most >= _GROWN or in_flight >= LADDER[-1]
        long = waited >= min(max(HANG_S, 2 * slowest_s), HANG_MOST_S)
        if not (grown and long and clients * log(1.0 - share) <= log(CHANCE)):
            return None
        detail = (
            f"{in_flight} or more requests wait for it, and none was answered for {at - self.answered:.1f} s, "
            f"while {clients} clients came to the live slot and were answered"
        )
        return Incident(at, True, Trouble.HANGING, detail=detail)
