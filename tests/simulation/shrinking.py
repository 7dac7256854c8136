"""Looking for histories that fail and for planted faults; making a failing history smaller."""

from __future__ import annotations

import gc

from tests.simulation.history import begun, played
from tests.simulation.mutations import MUTATIONS
from tests.simulation.schedule import Schedule, planned, smaller


def failing(seeds: tuple[int, int]) -> list[tuple[int, str]]:
    """Of the seeds from one number up to another: those with a violation, and the first one of each."""
    gc.set_threshold(100_000, 50, 50)  # a history leaves little behind, and looking for it took a fifth of the time
    found = ((seed, played(planned(seed)).violations) for seed in range(*seeds))
    return [(seed, violations[0]) for seed, violations in found if violations]


def chunks(start: int, count: int, size: int) -> list[tuple[int, int]]:
    """Pieces of so many seeds."""
    return [(first, min(first + size, start + count)) for first in range(start, start + count, size)]


def shrunk(schedule: Schedule) -> Schedule:
    """The smallest schedule that still breaks the same invariant, found by leaving out one thing after the other."""
    kind = _kind(schedule)
    while True:
        less = next((one for one in smaller(schedule) if _kind(one) == kind), None)
        if less is None:
            return schedule
        schedule = less


def _kind(schedule: Schedule) -> str:
    """Which invariant it breaks first."""
    found = played(schedule).violations
    return found[0].partition(":")[0] if found else ""


def found_within(name: str, seeds: int, start: int = 0) -> tuple[int, str]:
    """After how many seeds a planted fault is found (0: it is not), and by what."""
    for seed in range(start, start + seeds):
        schedule = planned(seed)
        begun(schedule.shape, schedule.beginning)  # without the fault
        with MUTATIONS[name]():
            violations = played(schedule).violations
        if violations:
            return seed - start + 1, violations[0]
    return 0, ""
