"""The judge's fast parts give the very numbers of the plain formulas, to the last bit."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nself_deploy.core import absolute, comparison
from nself_deploy.core.analysis import Analysis, LatencyKeys
from nself_deploy.core.clients import Clients
from nself_deploy.core.evidence import Request
from nself_deploy.core.mixture import Factors, Mixture, rate_factors, ratio_factors, spaced
from nself_deploy.core.verdict import Judge
from nself_deploy.core.windows import WINDOW_S, Counts


def plain_multiply(mixture: Mixture, factors: Factors) -> None:
    mixture.parts = [part * factor for part, factor in zip(mixture.parts, factors, strict=True)]
    top = max(mixture.parts)
    if top > 2.0**512:
        mixture._shift(512)
    elif top < 2.0**-512 and (mixture.exponent > 0 or (mixture.waiting == 0.0 and top > 0.0)):
        mixture._shift(-512)


def plain_first(clients: Clients, client: int) -> bool:
    key = client & 0xFFFF_FFFF
    if key in clients.seen or key & ((1 << clients.halvings) - 1):
        return False
    clients.seen.add(key)
    while len(clients.seen) > clients.limit:
        clients.halvings += 1
        clients.seen = {kept for kept in clients.seen if not kept & ((1 << clients.halvings) - 1)}
    return True


def plain_add_both(counts: Counts, *indexes: int) -> None:
    for index in indexes:
        counts.total[index] += 1
        counts.recent[index] += 1
        counts.rows[counts.second % WINDOW_S][index] += 1


def history(seed: int, failing: float, worse: float, clients: int) -> list[Request]:
    """Up to five minutes, with shares that change and clients that come back."""
    rng, at, found = random.Random(seed), 0.0, []
    for number in range(3000):
        at += rng.expovariate(rng.choice((5.0, 40.0, 40.0)))
        share = (0.1, 0.25, 0.5)[number // 1000]
        client = rng.randrange(clients) * 2654435761 % 2**32
        candidate = client / 2**32 < share
        failed = rng.random() < failing * (worse if candidate else 1.0)
        seconds = None if failed else rng.lognormvariate(-3.0, 0.5)
        found.append(Request(at, client, candidate, failed, share, rng.choice(("api", "web", "")), seconds))
    return found


def judged(requests: list[Request], *, random_split: bool) -> bytes:
    """All that is known after each thousand requests."""
    analysis = Analysis(alpha=1e-9, slo_error_rate=0.5, latency=LatencyKeys((0.5, 0.9), warmup_s=1.0))
    judge = Judge.begin(analysis, ("api", "web"), random_split=random_split)
    found = b""
    for number, request in enumerate(requests):
        judge.request(request)
        if number % 1000 == 999:
            found += msgspec.json.encode(judge, order="sorted")
            found += repr(
                (judge.absolute.log_value, judge.log_accept, judge.overall.comparison.mixture.log_value)
            ).encode()
    return found


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.01, 0.3, 0.6]),
    st.sampled_from([0.0, 1.0, 1.5]),
    st.sampled_from([30, 3000, 10**9]),
    st.booleans(),
)
def test_random_histories_have_the_numbers_of_the_plain_formulas(
    seed: int, failing: float, worse: float, clients: int, random_split: bool
) -> None:
    requests = history(seed, failing, worse, clients)
    fast = judged(requests, random_split=random_split)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mixture, "multiply", plain_multiply)
        patch.setattr(Clients, "first", plain_first)
        patch.setattr(Counts, "add_both", plain_add_both)
        patch.setattr(
            comparison,
            "_accept_factors",
            lambda share, most: ratio_factors(share, spaced(most / 20.0, most / 1.3), most),
        )
        patch.setattr(absolute, "_worth", lambda objective: rate_factors(objective, spaced(1.5 * objective, 0.9)))
        plain = judged(requests, random_split=random_split)

    assert fast == plain
