"""The users of the shop: thousands of clients, told apart by their browser, who ask evenly and send nothing twice."""

from __future__ import annotations

from dataclasses import dataclass

from tests.load import Kind, Limits, LoadMix, Stream

RATE = 50.0
"""Requests per second."""
PEOPLE = 3000
TIMEOUT_S = 10.0
"""So long a user waits for an answer."""
LONGEST_S = 1500.0


@dataclass(frozen=True)
class Sort:
    """One sort of requests."""

    name: str
    kind: Kind
    path: str
    share: float
    route: str
    seconds: float
    """How long the shop takes for it, about."""


SORTS = (
    Sort("pages", Kind.GET, "/whoami", 0.3, "web:8000", 0.003),
    Sort("searches", Kind.GET, "/slow?seconds=0.04", 0.3, "web:8000", 0.043),
    Sort("posts", Kind.POST, "/echo", 0.2, "web:8000", 0.004),
    Sort("orders", Kind.GET, "/api/orders/count?prefix=none", 0.2, "api:9000", 0.006),
)
"""`orders` alone needs the database."""


def crowd(timeout_s: float = TIMEOUT_S, people: int = PEOPLE) -> LoadMix:
    """The load of so many people, bounded; each waits `timeout_s` for an answer, and a minute to be connected."""
    streams = tuple(
        Stream(
            sort.kind,
            sort.path,
            share=sort.share,
            name=sort.name,
            timeout_s=timeout_s,
            people=people,
            headers={"User-Agent": "person {person}"},
        )
        for sort in SORTS
    )
    limits = Limits(duration_s=LONGEST_S, requests=int(RATE * LONGEST_S), connect_timeout_s=min(60.0, timeout_s))
    return LoadMix(streams, RATE, limits)
