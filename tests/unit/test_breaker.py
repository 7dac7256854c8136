"""The circuit breaker: how many rollbacks go through, whatever is asked when, and by whatever clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nself_deploy.core import breaker as core
from nself_deploy.core.breaker import Allowed, Breaker, BreakerState, Refusal, Refused, Rules, Turn, TurnOutcome
from nself_deploy.core.moments import Moment
from tests.unit.guard_moments import after

RULES = Rules(3, 3600.0, 1800.0)


@dataclass
class Story:
    """A breaker and what happens to it."""

    rules: Rules = RULES
    breaker: Breaker = field(default_factory=lambda: Breaker("prod", "api"))
    events: list[str] = field(default_factory=list)
    count: int = 0

    def ask(self, now: Moment, origin: str = "", to: str = "", since: str = "") -> Allowed | Refused:
        self.count += 1
        origin, to = origin or f"v{self.count}", to or f"w{self.count}"
        asked = core.ask(self.breaker, origin, to, self.rules, now, to_live_since=since)
        self.breaker = asked.breaker
        self.events += [e.event_type for e in asked.events]
        return asked.answer

    def record(self, turn: Turn, now: Moment) -> None:
        self.breaker, events = core.record(self.breaker, turn, self.rules, now)
        self.events += [e.event_type for e in events]

    def roll(
        self, now: Moment, outcome: TurnOutcome = TurnOutcome.DONE, origin: str = "", to: str = ""
    ) -> Allowed | Refused:
        """Ask, and when allowed begin and end a rollback at once."""
        answer = self.ask(now, origin, to)
        if isinstance(answer, Allowed):
            turn = Turn(f"run-{self.count}", now, origin or f"v{self.count}", to or f"w{self.count}")
            self.record(turn, now)
            if outcome is not TurnOutcome.BEGUN:
                self.record(Turn(turn.id, now, turn.origin, turn.to, outcome), now)
        return answer

    def state(self, now: Moment) -> BreakerState:
        return core.line_of(self.breaker, self.rules, now).state


def opened() -> Story:
    """Four rollbacks were asked for within an hour; the last one opened it, 30 seconds after the start."""
    story = Story()
    for at in (0, 10, 20):
        assert story.roll(after(at)) == Allowed()
    refused = story.roll(after(30))
    assert isinstance(refused, Refused) and refused.refusal is Refusal.OPEN
    return story


def test_the_fourth_in_an_hour_opens_it() -> None:
    story = opened()

    assert story.events == ["breaker-opened"]
    assert story.state(after(31)) is BreakerState.OPEN
    refused = story.ask(after(40))
    assert isinstance(refused, Refused)
    assert refused.at == "2026-11-27T03:30:30Z" and refused.at in refused.closes
    assert int(refused.error().exit_status) == 4
    assert "breaker reset api --env prod" in refused.remedy
    assert story.events == ["breaker-opened"]


def test_three_in_any_hour_never_open_it() -> None:
    story = Story()

    assert [story.roll(after(1201 * n)) for n in range(40)] == [Allowed()] * 40
    assert story.events == []


def test_after_the_cool_down_one_trial_is_let_through_and_a_quiet_hour_closes_it() -> None:
    story = opened()

    assert story.state(after(1830)) is BreakerState.HALF_OPEN
    assert story.roll(after(1830)) == Allowed(trial=True)
    assert story.state(after(1831)) is BreakerState.HALF_OPEN
    assert story.state(after(1830 + 3600)) is BreakerState.CLOSED
    assert story.roll(after(1830 + 3600)) == Allowed()
    assert story.events == ["breaker-opened", "breaker-trial", "breaker-closed"]


@pytest.mark.parametrize("outcome", [TurnOutcome.DONE, TurnOutcome.BEGUN])
def test_another_one_soon_after_the_trial_opens_it_again(outcome: TurnOutcome) -> None:
    story = opened()
    story.roll(after(2000), outcome)

    assert isinstance(story.ask(after(2000 + 3599)), Refused)
    assert story.state(after(2000 + 3599 + 1799)) is BreakerState.OPEN
    assert story.state(after(2000 + 3599 + 1800)) is BreakerState.HALF_OPEN
    assert story.events == ["breaker-opened", "breaker-trial", "breaker-opened"]


def test_a_trial_that_fails_opens_it_at_once() -> None:
    story = opened()
    story.roll(after(2000), TurnOutcome.FAILED)

    assert story.state(after(2001)) is BreakerState.OPEN
    assert story.events == ["breaker-opened", "breaker-trial", "breaker-opened"]


def test_a_trial_whose_process_died_never_closes_it_by_itself() -> None:
    story = opened()
    story.roll(after(2000), TurnOutcome.BEGUN)

    assert story.state(after(2_000_000)) is BreakerState.HALF_OPEN
    assert isinstance(story.ask(after(2_000_000)), Refused)
    assert story.roll(after(2_000_000 + 1800)) == Allowed(trial=True)


def test_two_bad_versions_do_not_take_turns() -> None:
    story = Story()
    assert story.roll(after(0), origin="bad", to="worse") == Allowed()
    refused = story.ask(after(60), "worse", "bad")

    assert isinstance(refused, Refused) and refused.refusal is Refusal.BACK_AND_FORTH
    assert refused.at == "2026-11-28T03:00:00Z"
    assert core.line_of(story.breaker, RULES, after(60)).bad == ("bad",)
    assert story.ask(after(60), "worse", "old") == Allowed()
    assert story.ask(after(60), "worse", "bad", since=after(30).at) == Allowed()
    assert isinstance(story.ask(after(60), "worse", "bad", since=after(-30).at), Refused)
    assert story.ask(after(86400), "worse", "bad") == Allowed()
    assert story.events == []


def test_a_version_that_could_not_be_left_is_not_bad_for_ever() -> None:
    story = Story()
    story.roll(after(0), TurnOutcome.FAILED, origin="bad", to="old")

    assert story.ask(after(60), "next", "bad") == Allowed()


def test_the_same_rollback_twice_is_one() -> None:
    story = Story()
    for _ in range(5):
        story.record(Turn("run-1", after(0), "v1", "v0", TurnOutcome.FAILED), after(1))

    assert [turn.id for turn in story.breaker.turns] == ["run-1"]
    assert story.roll(after(2)) == Allowed()


def test_a_reset_forgets() -> None:
    story = opened()
    story.breaker, event = core.reset(story.breaker, "we know why")

    assert (event.event_type, event.reason, event.service) == ("breaker-reset", "we know why", "api")
    assert len(event.metadata["rollbacks"]) == 3
    assert story.roll(after(31), origin="w1", to="v1") == Allowed()


@given(st.floats(-1e7, 1e7))
def test_a_clock_that_is_set_while_the_machine_runs_changes_nothing(step: float) -> None:
    story = opened()

    assert story.state(after(1829, set_by=step)) is BreakerState.OPEN
    assert story.state(after(1830, set_by=step)) is BreakerState.HALF_OPEN


@given(st.floats(-1e7, 0))
def test_after_a_boot_with_a_clock_in_the_past_the_cool_down_begins_anew(step: float) -> None:
    story = opened()
    refused = story.ask(after(40, set_by=step - 100, boot="boot-2"))

    assert isinstance(refused, Refused)
    assert story.state(after(40 + 1799, set_by=step - 100, boot="boot-2")) is BreakerState.OPEN
    assert story.state(after(40 + 1800, set_by=step - 100, boot="boot-2")) is BreakerState.HALF_OPEN


REQUESTS = st.lists(
    st.tuples(
        st.floats(0.5, 2500),
        st.sampled_from(TurnOutcome),
        st.sampled_from(["v1", "v2", "v3", "v4"]),
        st.sampled_from(["v1", "v2", "v3", "v4"]),
        st.floats(-5000, 5000),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(REQUESTS, st.integers(1, 4))
def test_whatever_is_asked_there_are_never_more_than_the_limit_in_a_window(
    requests: list[tuple[float, TurnOutcome, str, str, float]], limit: int
) -> None:
    story, at, went = Story(Rules(limit, 3600.0, 1800.0)), 0.0, list[tuple[float, str, str]]()
    for pause, outcome, origin, to, step in requests:
        at += pause
        now = after(at, set_by=step)
        if isinstance(story.roll(now, outcome, origin, to), Allowed):
            left = [when for when, other, _ in went if other == to and when > at - core.MEMORY_S]
            assert not left or origin == to
            if outcome is not TurnOutcome.FAILED:
                went.append((at, origin, to))
            state = story.state(now)
            assert state in (BreakerState.CLOSED, BreakerState.HALF_OPEN) or outcome is TurnOutcome.FAILED
        recent = [turn for turn in story.breaker.turns if at - (turn.at.uptime_s - 5000.0) < 3600.0]
        # The trial comes after a cool-down, so that the window may still hold those which opened the breaker.
        assert len(recent) <= limit + 2
        assert len(story.breaker.turns) <= core.TURNS_LIMIT
        line = core.line_of(story.breaker, story.rules, now)
        assert (line.state is BreakerState.CLOSED) is (line.closes == "")
