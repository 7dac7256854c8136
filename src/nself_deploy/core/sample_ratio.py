"""Whether the split is what it says: the share of new clients that the candidate got, against the share it was given.

If it is not, nothing that is concluded from the split is worth anything. Each client is counted once per deployment,
on the slot where it was first seen.
"""

from __future__ import annotations

from math import log

import msgspec

from nself_deploy.core.clients import Clients

CONCENTRATION = 1000.0
"""Of the mixture around the share: the higher, the smaller the faults that it looks for."""


class SampleRatio(msgspec.Struct):
    """Two-sided test with a Beta mixture around the share, anew after each move of the split (values multiply)."""

    clients: Clients = msgspec.field(default_factory=Clients)
    share: float = 0.0
    candidate: int = 0
    live: int = 0
    """Counted since the share is in force."""
    log_value: float = 0.0
    total_candidate: int = 0
    total_live: int = 0

    def add(self, client: int, share: float, *, candidate: bool) -> None:
        """A request of a client while the candidate was given `share` of them."""
        if not 0.0 < share < 1.0 or not self.clients.first(client):
            return
        if share != self.share:
            self.share, self.candidate, self.live = share, 0, 0
        given, seen = (share, self.candidate) if candidate else (1.0 - share, self.live)
        known = self.candidate + self.live
        self.log_value += log((CONCENTRATION * given + seen) / ((CONCENTRATION + known) * given))
        if candidate:
            self.candidate += 1
            self.total_candidate += 1
        else:
            self.live += 1
            self.total_live += 1
