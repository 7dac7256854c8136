"""Two clocks: what was waited for is never less than what passed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.adapters.system import moment
from nself_deploy.core.moments import Moment, elapsed_s, in_past
from tests.unit.guard_moments import after

SECONDS = st.floats(0, 1e6)
STEPS = st.floats(-1e7, 1e7)


@given(SECONDS, SECONDS, STEPS, STEPS)
def test_within_a_boot_a_clock_that_is_set_changes_nothing(start: float, passed: float, one: float, two: float) -> None:
    found = elapsed_s(after(start, set_by=one), after(start + passed, set_by=two))

    assert abs(found - passed) < 1e-3


@given(SECONDS, SECONDS, STEPS)
def test_across_a_boot_it_is_the_wall_clock_and_never_negative(start: float, passed: float, step: float) -> None:
    found = elapsed_s(after(start), after(start + passed, set_by=step, boot="boot-2"))

    assert abs(found - max(passed + step, 0)) < 0.01


@given(SECONDS, STEPS, st.sampled_from(["boot-1", "boot-2", ""]))
def test_what_lies_in_the_future_counts_as_now(seconds: float, step: float, boot: str) -> None:
    known, now = after(seconds, set_by=step), after(1000, boot=boot)
    past = in_past(known, now)

    assert past in (known, now)
    assert elapsed_s(past, now) == elapsed_s(known, now)
    assert in_past(past, after(1001, boot=boot)) == past


def test_the_machine_has_both_clocks() -> None:
    first, second = moment(), moment()

    assert first.boot == second.boot != ""
    assert 0 <= elapsed_s(first, second) < 30
    assert in_past(first, second) == first
    assert elapsed_s(Moment(first.at), Moment(second.at)) < 30
