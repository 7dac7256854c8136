"""Whether it is shown that the candidate is good enough: the proof that a promotion needs, and a step before it.

"Not good enough" is: an error rate of the objective or more, and `most` times as many errors as the live slot or more.
The proof has the value of two tests that doubt this, half each, as it is now: not the highest that it ever was.
One request per client and ten seconds is counted, the first.
"""

from __future__ import annotations

from functools import lru_cache
from math import exp, log

import msgspec

from nself_deploy.core.clients import Clients
from nself_deploy.core.mixture import Factors, spaced

MIN_REQUESTS, MIN_CLIENTS = 100, 30
FAR = 1 << 40
"""So many requests are never there."""


@lru_cache(maxsize=32)
def better_rates(limit: float) -> Factors:
    """Alternatives: rates below the limit, the more the nearer to it, where a proof is hardest."""
    return spaced(limit / 50.0, limit / 1.3)


@lru_cache(maxsize=32)
def _weights(limit: float) -> tuple[tuple[float, float], ...]:
    """What a failed and what a good request say for each of these rates (logarithms of ratios)."""
    return tuple((log(rate / limit), log(1.0 - rate) - log(1.0 - limit)) for rate in better_rates(limit))


def log_proof_below(limit: float, requests: int, failed: int) -> float:
    """The evidence (logarithm) that an error rate is below `limit`, from independent requests."""
    good = requests - failed
    return log_mean([failed * bad + good * well for bad, well in _weights(limit)])


def log_mean(terms: list[float]) -> float:
    """The logarithm of the mean of values given as logarithms."""
    top = max(terms)
    return top + log(sum(exp(term - top) for term in terms) / len(terms)) if top > float("-inf") else top


def needed_rate(percent: int, objective: float) -> float:
    """The error rate that the candidate must be proved to be below before it gets this share of the clients."""
    if percent <= 25:
        return max(objective, 0.20)
    return max(objective, 0.05) if percent <= 50 else objective


class Trials(msgspec.Struct):
    """Requests to the candidate that stand for themselves."""

    requests: int = 0
    failed: int = 0
    clients: set[int] = msgspec.field(default_factory=set)
    """The first distinct ones, `MIN_CLIENTS` at most."""
    seen: Clients = msgspec.field(default_factory=Clients)
    """Within the present ten seconds."""

    def renew(self) -> None:
        """Ten seconds are over: every client may count again."""
        self.seen = Clients()

    def add(self, client: int, *, failed: bool) -> None:
        """A request to the candidate."""
        if not self.seen.first(client):
            return
        self.requests += 1
        self.failed += failed
        if len(self.clients) < MIN_CLIENTS:
            self.clients.add(client)

    def log_proof_alone(self, limit: float) -> float:
        """The evidence (logarithm) that the error rate is below the limit, without a comparison."""
        return log_proof_below(limit, self.requests, self.failed)

    def log_proof(self, limit: float, log_relative: float) -> float:
        """The proof's value (logarithm); `log_relative` is that of the reverse comparison with the live slot."""
        return log_mean([self.log_proof_alone(limit), log_relative])

    def more_needed(self, limit: float, beta: float, log_relative: float | None) -> int:
        """How many good requests are missing for the proof, if nothing fails any more; None: without a comparison."""
        wanted = -log(beta)

        def proved(more: int) -> bool:
            alone = log_proof_below(limit, self.requests + more, self.failed)
            return (alone if log_relative is None else log_mean([alone, log_relative])) >= wanted

        high = 1
        while not proved(high) and high < FAR:
            high *= 2
        low = -1 if high == 1 else high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if proved(middle) else (middle, high)
        return max(high, MIN_REQUESTS - self.requests if log_relative is not None else 0, 0)
