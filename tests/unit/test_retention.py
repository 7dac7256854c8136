"""Which releases go: never what is needed, then those that were used last stay."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core.machine import Run, new_run
from nself_deploy.core.plan import Facts, Timing, plan_blue_green
from nself_deploy.core.retention import superfluous
from tests.unit.plans import a_project, a_release

RELEASES = [a_release(f"r{n}") for n in range(9, 0, -1)]


def ran(new: int, before: int) -> Run:
    plan = plan_blue_green(a_project(), a_release(f"r{new}"), Facts(live_release=f"r{before}"), Timing(), "local")
    return new_run(f"{new}", msgspec.structs.replace(plan, candidate=None), "noon")


def names(history: list[Run], needed: set[str], keep: int) -> list[str]:
    return [r.id for r in superfluous(RELEASES, history, needed, keep)]


def test_the_oldest_go_first() -> None:
    assert names([], set(), 6) == ["r1", "r2", "r3"]
    assert names([], set(), 9) == names([], set(), 50) == []


def test_one_that_was_gone_back_to_is_not_old() -> None:
    assert names([ran(2, 9), ran(9, 8)], set(), 4) == ["r1", "r3", "r4", "r5", "r6"]


def test_what_is_needed_stays_and_counts() -> None:
    assert names([], {"r1", "r2"}, 4) == ["r3", "r4", "r5", "r6", "r7"]


@given(st.sets(st.sampled_from([r.id for r in RELEASES])), st.integers(0, 12))
def test_nothing_needed_ever_goes_and_at_most_so_many_stay(needed: set[str], keep: int) -> None:
    gone = set(names([], needed, keep))

    assert not gone & needed
    assert len(RELEASES) - len(gone) == max(min(keep, len(RELEASES)), len(needed))
