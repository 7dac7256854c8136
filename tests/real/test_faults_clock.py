"""Somebody sets the wall clock, during deploys and between them: nothing depends on what it says."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nself_deploy.adapters.journal import Journal
from nself_deploy.core.model import Slot
from nself_deploy.core.slot_records import SlotRole
from tests.real.contract import moment
from tests.real.faults import (
    UNHURRIED,
    Visitor,
    at_moments,
    check_clean,
    fresh,
    live_slot,
    no_traceback,
    released,
    tiny,
)
from tests.real.scene import FAST
from tests.real.stack import Stack, wait_for

pytestmark = pytest.mark.real

HOUR = 3600
STANDBY_S = 8
SHIFTED = Path(__file__).parent / "shifted"


@pytest.fixture(scope="module")
def site() -> Iterator[Stack]:
    """The tiny project, live with release 1, and with a clock of its own (right, at first)."""
    stack = tiny()
    try:
        clock = stack.root.parent / "clock"
        stack.env |= {"PYTHONPATH": f"{SHIFTED}:{Path.cwd()}", "NSELF_TEST_CLOCK": str(clock)}
        set_clock(stack, 0)
        stack.nself(*FAST)
        yield stack
    finally:
        stack.remove()


def set_clock(stack: Stack, wrong_by_s: int) -> None:
    """In one step for whoever reads it."""
    draft = stack.root.parent / "clock.draft"
    draft.write_text(str(wrong_by_s))
    draft.rename(stack.env["NSELF_TEST_CLOCK"])


def started_at(stack: Stack) -> list[str]:
    return [run["started_at"] for run in stack.nself("history", "--json").json]


@pytest.mark.parametrize(
    ("before", "during", "undone"),
    [(-2 * HOUR, -5 * HOUR, False), (-5 * HOUR, 9 * HOUR, False), (9 * HOUR, -9 * HOUR, True)],
    ids=["back and further back", "forward during it", "back while it is undone"],
)
def test_a_deploy_under_a_clock_that_steps(site: Stack, before: int, during: int, undone: bool) -> None:
    old, release, earlier = released(site), fresh(), started_at(site)
    set_clock(site, before)
    with Visitor(site) as visitor:

        def step(deploy: subprocess.Popen[str]) -> None:
            set_clock(site, during)
            if undone:
                deploy.terminate()

        acts = {"[done] Start {to}": step}
        outcome = no_traceback(at_moments(site, acts, *UNHURRIED, "--standby", "0", RELEASE=release))
        assert outcome.status == (130 if undone else 0), outcome.text
        check_clean(site, old if undone else release)
    assert visitor.failed == []

    runs = started_at(site)
    assert (len(runs), runs[1:]) == (len(earlier) + 1, earlier)  # the newest first, whatever their times say
    with Journal.open(site.root, create=False) as journal:
        ids = [run.id for run in journal.history(100)]
        assert len(set(ids)) == len(ids)
        numbers = [entry.seq for entry in journal.entries(ids[0])]
        assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("step_s", [-HOUR, HOUR], ids=["back", "forward"])
def test_the_standby_ends_when_its_time_is_over_and_not_before(site: Stack, step_s: int) -> None:
    """The clock is set after the last word of it was written, and before who ends it begins to wait."""
    set_clock(site, 0)
    old, release = live_slot(site), fresh()
    acts = {"[done] Persist state": lambda _: set_clock(site, step_s)}
    assert at_moments(site, acts, *FAST, "--standby", f"{STANDBY_S}s", RELEASE=release).status == 0

    wait_for(lambda: site.slots()[old] == [], "the end of the standby")
    wait_for(lambda: ended_at(site, old), "the word about it")
    assert ended_at(site, old) - began_at(site) - step_s >= STANDBY_S
    wait_for(lambda: site.nself("status", "--json").json["holder"] == "", "the end of the lock")
    check_clean(site, release)


def began_at(stack: Stack) -> float:
    """When the last deploy made a standby, by the clock on the wall (seconds since 1970)."""
    with closing(Journal.open(stack.root, create=False)) as journal:
        entries = journal.entries(journal.history(1)[0].id)
    return next(moment(e.at).timestamp() for e in entries if "keep-warm" in e.effect)


def ended_at(stack: Stack, slot: str) -> float:
    """When the slot was empty by the same clock; 0 before."""
    with closing(Journal.open(stack.root, create=False)) as journal:
        record = journal.slots()[Slot(slot)]
    return moment(record.since).timestamp() if record.role is SlotRole.EMPTY else 0.0
