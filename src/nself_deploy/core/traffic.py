"""How much traffic there is, as a plan depends on it."""

from __future__ import annotations

import msgspec


class Traffic(msgspec.Struct, frozen=True):
    """What users asked for on all slots together."""

    per_s: float
    """Requests per second."""
    failed: float
    """The part of them that failed, 0 to 1."""
    trials_per_s: float
    """The same per second, when a client counts once in ten seconds."""
    clients: int = 0
    """How many there were; 0: not known."""
    seconds: float = 0.0
    """How long it was watched."""
    until: float = 0.0
    """The end of that time, in seconds since 1970."""

    @classmethod
    def even(cls, per_s: float, failed: float) -> Traffic:
        """So many requests per second, each of a client of its own."""
        return cls(per_s, failed, per_s)
