"""Thousands of histories without a violation, the same each time; and planted faults that are found."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing import get_context

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulation import schedule
from tests.simulation.history import played
from tests.simulation.mutations import MUTATIONS
from tests.simulation.process import CALL_FAULTS, Fault
from tests.simulation.schedule import Command, Schedule, planned
from tests.simulation.shop import Shape
from tests.simulation.shrinking import chunks, failing, found_within, shrunk

SEEDS = 5_000
CHUNK = 125
PROCESSES = 2
ENOUGH = 1_500
"""Seeds within which each planted fault is found."""

REGRESSIONS = {
    "single services are handed back to a plain stack without a release": Schedule(
        1,
        Shape(single=True),
        "plain",
        (Command("deploy", "good", faults=(Fault(1, "person-removes-container"), Fault(1, "lost", step="handover"))),),
    ),
    "a network goes between its step and the start of the slot": Schedule(
        1,
        Shape(),
        "live",
        (Command("deploy", "good", faults=(Fault(1, "person-removes-network", 1, "router"),)),),
    ),
    "the release of the standby is deployed again": Schedule(
        1, Shape(), "standby", (Command("rollback"), Command("deploy"))
    ),
    "the link goes before the router's step, long after a plain stack was adopted": Schedule(
        1,
        Shape(),
        "plain",
        (
            Command("deploy", "good"),
            Command("deploy", "good", faults=(Fault(2, "person-removes-link", step="networks"),)),
        ),
    ),
    "the link goes between the router's files and the reload that makes it count": Schedule(
        1, Shape(), "plain", (Command("deploy", "good", faults=(Fault(4, "person-removes-link", step="router"),)),)
    ),
    "the new version is stopped when only the end is missing": Schedule(
        1,
        Shape(standby=False),
        "live",
        (
            Command(
                "deploy",
                "good",
                faults=(Fault(2, "person-stops-container", 3, "drain"), Fault(2, "refuse", step="drain")),
            ),
            Command("abort"),
        ),
    ),
    "the old slot is linked again while it is being removed": Schedule(
        1,
        Shape(replicas=2, standby=False),
        "live",
        (
            Command(
                "deploy",
                "good",
                faults=(Fault(1, "person-removes-link", step="watch"), Fault(1, "kill-after", step="retire")),
            ),
        ),
    ),
    "the new version is stopped between the look at it and its second start": Schedule(
        1,
        Shape(),
        "live",
        (
            Command("deploy", "good", faults=(Fault(2, "kill-before", step="move"),)),
            Command("deploy", faults=(Fault(5, "person-stops-container", 2),)),
        ),
    ),
}


def test_no_history_breaks_what_must_hold() -> None:
    with get_context("spawn").Pool(PROCESSES) as pool:
        found = [one for some in pool.imap(failing, chunks(0, SEEDS, CHUNK)) for one in some]

    assert not found, "\n".join(f"seed {seed}: {violation}" for seed, violation in found)


@pytest.mark.parametrize("what", REGRESSIONS)
def test_a_history_that_broke_something_once(what: str) -> None:
    assert played(REGRESSIONS[what]).violations == ()


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_planted_fault_is_found(name: str) -> None:
    seeds, what = found_within(name, ENOUGH)

    assert seeds, f"{name} was not found within {ENOUGH} seeds"
    assert what.startswith("invariant")


def test_a_history_is_the_same_each_time() -> None:
    seeds = range(40, 60)
    here = [played(planned(seed)).digest for seed in seeds]
    program = (
        "from tests.simulation.history import played; from tests.simulation.schedule import planned; "
        f"print(*(played(planned(seed)).digest for seed in reversed(range({seeds.start}, {seeds.stop}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )

    assert [int(word) for word in done.stdout.split()] == here[::-1]


def test_a_schedule_can_be_written_and_read_again() -> None:
    assert all(schedule.read(schedule.words(planned(seed))) == planned(seed) for seed in range(50))


def test_a_failing_history_is_made_smaller() -> None:
    with MUTATIONS["reversed_colours"]():
        seed = next(s for s in range(50) if played(planned(s)).violations and len(planned(s).commands) > 1)
        less = shrunk(planned(seed))

        assert played(less).violations
    assert len(less.commands) == 1 and not less.commands[0].faults and less.shape == Shape()


FAULTS = st.builds(
    Fault,
    at=st.integers(0, 60),
    kind=st.sampled_from((*CALL_FAULTS, *schedule.SHOCKS)),
    arg=st.integers(0, 5),
    step=st.sampled_from(("", *sorted(set(schedule.STEPS)))),
)
COMMANDS = st.builds(
    Command,
    kind=st.sampled_from(schedule.COMMANDS),
    version=st.sampled_from(("", *schedule.VERSIONS)),
    setting=st.integers(0, 2),
    faults=st.lists(FAULTS, max_size=3).map(tuple),
    second=st.sampled_from(("", *schedule.COMMANDS)),
    elsewhere=st.booleans(),
    waits=st.booleans(),
    second_after=st.sampled_from((0.0, 0.3, 2.5)),
    second_faults=st.lists(FAULTS, max_size=1).map(tuple),
    pause=st.sampled_from((1.0, 20.0, 45.0)),
)
SCHEDULES = st.builds(
    Schedule,
    salt=st.integers(0, 3),
    shape=st.builds(
        Shape,
        replicas=st.integers(1, 2),
        single=st.booleans(),
        job=st.booleans(),
        checked=st.booleans(),
        waits=st.booleans(),
        standby=st.booleans(),
    ),
    beginning=st.sampled_from(schedule.BEGINNINGS),
    commands=st.lists(COMMANDS, min_size=1, max_size=3).map(tuple),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(SCHEDULES)
def test_no_schedule_breaks_what_must_hold(one: Schedule) -> None:
    assert played(one).violations == ()
