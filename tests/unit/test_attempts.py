"""How many attempts may fail, how long a good key waits afterwards, and how much the audit trail hears of them."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from nself_deploy.core import attempts
from nself_deploy.core.attempts import Attempt, Bucket, Overall, Source, closing, weigh
from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.deploy_keys import Reason
from tests.unit.guard_moments import after


class Gate:
    """All sources, and what the trail heard."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        self.overall: Overall | None = None
        self.events: list[AuditEvent] = []

    def attempt(self, at: float, verdict: Reason | None, source: str = "one", step: float = 0.0) -> Reason | None:
        attempt = Attempt(source, "rollback", "prod", "api", after(at, set_by=step))
        found = weigh(attempt, verdict, self.sources.get(source), self.overall)
        self.sources[source], self.overall = found.source, found.overall
        self.events += found.events
        assert (found.wait_s > 0) is (found.reason is Reason.LIMITED)
        assert found.wait_s <= attempts.WAIT_LIMIT_S
        return found.reason


def test_one_source_may_fail_ten_times_and_then_once_in_six_seconds() -> None:
    gate = Gate()

    assert [gate.attempt(0, Reason.WRONG) for _ in range(10)] == [Reason.WRONG] * 10
    assert [gate.attempt(n / 10, Reason.WRONG) for n in range(59)] == [Reason.LIMITED] * 59
    assert [gate.attempt(6.0, Reason.WRONG) for _ in range(2)] == [Reason.WRONG, Reason.LIMITED]
    assert gate.attempt(6.5, None) is Reason.LIMITED
    assert gate.attempt(6.5, None, "two") is None
    assert gate.attempt(12.0, None) is None
    assert gate.sources["one"].failed == 11


def test_good_keys_take_no_place() -> None:
    gate = Gate()

    assert [gate.attempt(0, None) for _ in range(1000)] == [None] * 1000
    assert gate.events == []


def test_all_sources_together_may_fail_a_hundred_times_and_a_known_one_is_not_kept_out() -> None:
    gate = Gate()
    gate.attempt(0, None, "watcher")
    seen = Counter(gate.attempt(0, Reason.WRONG, f"10.0.0.{n}") for n in range(300))

    assert seen == {Reason.WRONG: 100, Reason.LIMITED: 200}
    assert gate.attempt(0, None, "stranger") is Reason.LIMITED
    assert gate.attempt(0, None, "watcher") is None
    assert gate.attempt(0.6, None, "stranger") is None


def test_ten_thousand_wrong_keys_are_a_score_of_events_and_a_good_one_waits_six_seconds() -> None:
    gate = Gate()
    seen = Counter(gate.attempt(n / 100, Reason.WRONG, f"10.0.0.{n % 7}") for n in range(10_000))

    assert None not in seen and seen.total() == 10_000
    assert seen[Reason.WRONG] <= 100 + 100 / 0.6
    assert gate.attempt(100 + attempts.WAIT_LIMIT_S, None, "10.0.0.1") is None
    assert len(gate.events) <= 20
    gate.attempt(100 + 2 * attempts.QUIET_S, None)
    last = gate.events[-1]
    assert (last.event_type, last.outcome) == ("denied-attempt", "summary")
    assert last.metadata["attempts"] == 10_000
    assert sum(int(line.rpartition(": ")[2]) for line in last.metadata["sources"]) == 10_000
    assert gate.overall is not None and gate.overall.episode is None


def test_the_first_failures_are_events_of_their_own() -> None:
    gate = Gate()
    for reason in (Reason.WRONG, Reason.SCOPE, Reason.EXPIRED):
        gate.attempt(1, reason)

    assert [(e.outcome, e.reason, e.service) for e in gate.events] == [
        ("denied", "wrong", "api"),
        ("denied", "scope", "api"),
        ("denied", "expired", "api"),
    ]


def test_an_episode_that_was_told_whole_ends_in_silence() -> None:
    gate = Gate()
    gate.attempt(0, Reason.WRONG)

    assert closing(gate.overall, after(599))[0] == ()
    events, overall = closing(gate.overall, after(600))
    assert events == () and overall is not None and overall.episode is None
    assert closing(None, after(0)) == ((), None)


def test_after_a_boot_with_a_clock_in_the_past_places_come_back_all_the_same() -> None:
    gate = Gate()
    for _ in range(10):
        gate.attempt(0, Reason.WRONG)
    gate.sources["one"] = Source("one", Bucket(0.0, after(1e7, boot="old")))

    assert gate.attempt(1, None) is Reason.LIMITED
    assert gate.attempt(7, None) is None


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 30),
            st.sampled_from([None, Reason.WRONG, Reason.SCOPE]),
            st.integers(0, 12),
            st.floats(-1e5, 1e5),
        ),
        max_size=150,
    )
)
def test_whatever_comes_failures_are_bounded_and_all_are_told(
    story: list[tuple[float, Reason | None, int, float]],
) -> None:
    gate, at, failed, denied = Gate(), 0.0, Counter[str](), 0
    for pause, verdict, number, step in story:
        at += pause
        source = f"10.0.0.{number}"
        reason = gate.attempt(at, verdict, source, step)
        assert reason in (verdict, Reason.LIMITED)
        failed[source] += reason not in (None, Reason.LIMITED)
        denied += reason is not None
        assert failed[source] <= attempts.SOURCE_PLACES + at / attempts.SOURCE_BACK_S
    assert failed.total() <= attempts.ALL_PLACES + at / attempts.ALL_BACK_S + len(failed) * 10
    events, _ = closing(gate.overall, after(at + attempts.QUIET_S + 1))
    told = Counter[str]()
    for event in (*gate.events, *events):
        if event.outcome == "summary":
            told[event.metadata["since"]] = int(event.metadata["attempts"])
        else:
            told["alone"] += 1
    alone = min(told["alone"], denied)
    assert denied - alone <= sum(count for since, count in told.items() if since != "alone") or denied == alone
