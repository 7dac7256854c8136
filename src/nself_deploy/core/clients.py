"""Who has been counted already, in bounded memory: every client counts once, however often it comes.

A client is a number that its key and the deployment's salt were hashed to, so its bits are even. When too many have
been seen, half of all possible clients are left out from then on, by a bit of the number: whether a client counts
depends neither on its slot nor on what happens to it, so nothing is distorted; a part of very much evidence is lost.
"""

from __future__ import annotations

import msgspec

LIMIT = 4096
"""Clients that one sample holds, about 45 KB as JSON."""
_BITS = 0xFFFF_FFFF


class Clients(msgspec.Struct):
    """The clients seen so far (32 bits of each)."""

    seen: set[int] = msgspec.field(default_factory=set)
    halvings: int = 0
    limit: int = LIMIT

    def first(self, client: int) -> bool:
        """Note a client; whether it is to be counted now, which it is at most once."""
        key, seen = client & _BITS, self.seen
        if key in seen or (self.halvings and key & ((1 << self.halvings) - 1)):
            return False
        seen.add(key)
        if len(seen) > self.limit:
            self._halve()
        return True

    def _halve(self) -> None:
        while len(self.seen) > self.limit:
            self.halvings += 1
            left_out = (1 << self.halvings) - 1
            self.seen = {kept for kept in self.seen if not kept & left_out}

    def settled(self, client: int) -> bool:
        """Whether a client has been counted, or is left out."""
        key = client & _BITS
        return key in self.seen or bool(key & ((1 << self.halvings) - 1))

    def copy(self) -> Clients:
        """The same once more, which goes on by itself."""
        return Clients(set(self.seen), self.halvings, self.limit)

    def __contains__(self, client: int) -> bool:
        return client & _BITS in self.seen

    def __len__(self) -> int:
        """About how many clients there were; exact up to the limit."""
        return len(self.seen) << self.halvings
