"""The delivery of the trail: in order and exactly once, whatever fails and whoever is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.adapters.journal import Journal
from nself_deploy.app.delivering import BACKGROUND_S, Courier, Route, drain, lines, waits
from nself_deploy.core import audit_delivery as rules
from nself_deploy.core.audit import NOTHING_BEFORE, AuditEvent, Record, opened, seal
from nself_deploy.core.audit_delivery import Progress, Sink, SinkKind
from nself_deploy.errors import ConfigError, InfrastructureError, Locked, StateFileError

NOW = "2026-11-27T04:00:00.000Z"
SINK = Sink("postgres", SinkKind.POSTGRES, "postgresql://a:secret@h/d", "a@h:5432/d")


def trail(count: int) -> list[Record]:
    records: list[Record] = []
    for number in range(1, count + 1):
        before = records[-1].hash if records else NOTHING_BEFORE
        records.append(seal(AuditEvent("deploy", "prod", "done", id=f"e{number}", timestamp=NOW), number, before))
    return records


class Killed(BaseException):
    """The process died here."""


class Memory:
    """An outbox whose newest notes a power cut may take back."""

    def __init__(self, records: Sequence[Record] = ()) -> None:
        self.records = list(records)
        self.notes = [Progress()]

    def last(self) -> int:
        return len(self.records)

    def after(self, number: int, limit: int) -> list[Record]:
        return self.records[number : number + limit]

    def progress(self, sink: Sink) -> Progress:
        return self.notes[-1]

    def save(self, sink: Sink, progress: Progress) -> None:
        self.notes.append(progress)


class Table:
    """A sink that keeps an event once, with what happens to the calls that come."""

    def __init__(self, at_once: int, script: Sequence[str] = ()) -> None:
        self.at_once = at_once
        self.script = list(script)
        self.kept: list[str] = []
        self.calls = 0

    async def deliver(self, records: Sequence[Record]) -> None:
        self.calls += 1
        what = self.script.pop(0) if self.script else "ok"
        if what == "killed before":
            raise Killed
        if what != "refused":
            self.kept += [one.id for one in records if one.id not in self.kept]
        if what == "killed after":
            raise Killed
        if what != "ok":
            raise InfrastructureError(f"{what}.", where="the table")

    async def close(self) -> None:
        pass


class Instant:
    """A clock whose time passes while somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.on_sleep: Callable[[], None] = lambda: None

    def now(self) -> str:
        return NOW

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.on_sleep()
        await asyncio.sleep(0)


@asynccontextmanager
async def free(sink: Sink, patience_s: float) -> AsyncIterator[None]:
    yield


def courier(outbox: Memory, table: Table, clock: Instant | None = None) -> Courier:
    return Courier(outbox, [Route(SINK, table)], free, clock or Instant())


HAPPENINGS = st.lists(
    st.sampled_from(["ok", "refused", "answer lost", "killed before", "killed after", "power cut", "new event"]),
    max_size=40,
)


@given(HAPPENINGS, st.integers(1, 4), st.integers(0, 12))
def test_each_event_is_there_once_and_in_order_through_outages_and_kills(
    happenings: list[str], at_once: int, first: int
) -> None:
    everything = trail(first + len(happenings))
    outbox, table = Memory(everything[:first]), Table(at_once)
    for what in happenings:
        if what == "new event":
            outbox.records = everything[: len(outbox.records) + 1]
        elif what == "power cut":  # what was noted last is gone; what was sent stays
            outbox.notes = outbox.notes[: max(len(outbox.notes) // 2, 1)]
        else:
            table.script = [what]
            with suppress(Killed, InfrastructureError):
                asyncio.run(drain(outbox, Route(SINK, table), lambda: NOW))
        assert table.kept == [f"e{n}" for n in range(1, len(table.kept) + 1)]
        assert outbox.progress(SINK).number <= len(table.kept)
    table.script = []
    asyncio.run(drain(outbox, Route(SINK, table), lambda: NOW))

    assert table.kept == [record.id for record in outbox.records]
    assert not waits(outbox, SINK)


async def test_a_failure_is_noted_and_forgotten_when_it_works_again() -> None:
    outbox, table = Memory(trail(3)), Table(2, ["ok", "refused"])
    with pytest.raises(InfrastructureError):
        await drain(outbox, Route(SINK, table), lambda: NOW)
    (failing,) = lines(outbox, [SINK])
    await drain(outbox, Route(SINK, table), lambda: NOW)
    (done,) = lines(outbox, [SINK])

    assert (failing.delivered, failing.waiting, failing.since, failing.failures) == (2, 1, NOW, 1)
    assert (failing.error, failing.failed_at) == ("the table: refused.", NOW)
    assert (done.waiting, done.since, done.error, done.failures, done.failed_at) == (0, "", "", 0, "")


@pytest.mark.parametrize("records", [[*trail(3)[:1], *trail(3)[2:]], [*trail(2), Record(3, "x", "h", "{")]])
async def test_nothing_is_delivered_past_damage(records: list[Record]) -> None:
    class Reading(Table):
        async def deliver(self, records: Sequence[Record]) -> None:
            for record in records:
                opened(record)
            await super().deliver(records)

    outbox, table = Memory(records), Reading(1)
    with pytest.raises(StateFileError, match="The audit trail is damaged"):
        await drain(outbox, Route(SINK, table), lambda: NOW)

    assert table.kept in (["e1"], ["e1", "e2"])
    assert "damaged" in outbox.progress(SINK).error


async def test_once_says_what_failed_and_again_begins_at_the_first_event() -> None:
    outbox, table = Memory(trail(3)), Table(5, ["refused"])
    errors = await courier(outbox, table).once()
    await courier(outbox, table).once()
    calls, table.kept = table.calls, []
    await courier(outbox, table).once()
    quiet = table.calls
    await courier(outbox, table).once(again=True)

    assert list(errors) == ["postgres"] and (calls, quiet, table.calls) == (2, 2, 3)
    assert table.kept == ["e1", "e2", "e3"]


async def test_a_sink_that_another_process_serves_is_an_error_of_its_own() -> None:
    @asynccontextmanager
    async def taken(sink: Sink, patience_s: float) -> AsyncIterator[None]:
        raise Locked("Another process delivers.")
        yield

    table = Table(1)
    errors = await Courier(Memory(trail(1)), [Route(SINK, table)], taken, Instant()).once()

    assert isinstance(errors["postgres"], Locked) and table.calls == 0


async def test_in_the_background_it_is_tried_with_growing_pauses_and_then_left_to_others() -> None:
    clock, table = Instant(), Table(5, ["refused"] * 10_000)
    await courier(Memory(trail(1)), table, clock).background()

    assert BACKGROUND_S <= clock.seconds <= BACKGROUND_S + rules.LONGEST_WAIT_S
    assert 10 < table.calls < 20


async def test_in_the_background_a_mistake_is_not_tried_again() -> None:
    class Refusing(Table):
        async def deliver(self, records: Sequence[Record]) -> None:
            self.calls += 1
            raise ConfigError("It is another table.")

    table = Refusing(1)
    await courier(Memory(trail(1)), table).background()

    assert table.calls == 1


async def test_a_sink_that_is_away_delays_no_other() -> None:
    outbox, other = Memory(trail(1)), Memory(trail(1))
    clock, good, bad = Instant(), Table(1), Table(1, ["refused"] * 5)
    second = Sink("second", SinkKind.WEBHOOK, "https://h/x", "https://h")

    class Two(Memory):
        def progress(self, sink: Sink) -> Progress:
            return (outbox if sink is SINK else other).progress(sink)

        def save(self, sink: Sink, progress: Progress) -> None:
            (outbox if sink is SINK else other).save(sink, progress)

    both = Two(trail(1))
    clock.on_sleep = lambda: setattr(both, "records", trail(2))  # an event comes while one is away
    await Courier(both, [Route(SINK, good), Route(second, bad)], free, clock).background()

    assert good.kept == ["e1", "e2"] == bad.kept
    assert good.calls == 2


async def test_who_follows_gets_what_comes_and_says_each_outage_once() -> None:
    outbox, clock, said = Memory(trail(1)), Instant(), list[str]()
    table = Table(5, ["ok", "refused", "refused", "refused"])
    clock.on_sleep = lambda: setattr(outbox, "records", trail(2))
    await courier(outbox, table, clock).follow(said.append, lambda: clock.seconds < 30)

    assert table.kept == ["e1", "e2"]
    assert said == ["postgres has all events", "postgres: the table: refused.", "postgres has all events"]


def test_pauses_grow_up_to_a_minute() -> None:
    assert [rules.wait_s(n) for n in (1, 2, 3, 6, 7, 100)] == [1, 2, 4, 32, 60, 60]


def test_long_errors_are_cut_and_are_one_line() -> None:
    noted = rules.failed(Progress(4), "a\n" + "b" * 1000, NOW)

    assert noted.error.startswith("a bbb") and len(noted.error) == rules.ERROR_CHARS + 6
    assert (noted.number, noted.failures, noted.failed_at) == (4, 1, NOW)


def test_events_that_do_not_follow_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"events \[2\] do not follow event 0"):
        rules.delivered(Progress(), trail(2)[1:], NOW)


def test_the_place_is_the_same_under_another_password_and_another_one_for_another_account() -> None:
    other = Sink("x", SinkKind.POSTGRES, "postgresql://a:new@h/d", SINK.to)
    account = Sink("x", SinkKind.POSTGRES, "postgresql://a:new@h/d", SINK.to, "shop")

    assert other.key == SINK.key != account.key


@pytest.mark.parametrize(
    ("name", "fine"), [("a", True), ("my.sink-2", True), ("", False), ("../x", False), ("a b", False)]
)
def test_names_of_sinks(name: str, fine: bool) -> None:
    assert rules.check_name(name) is fine


def test_the_journal_is_an_outbox_that_remembers(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        for _ in range(3):
            journal.add_event(AuditEvent("deploy", "prod", "done"))
        box = journal.deliveries
        first = box.after(0, 2)
        box.save(SINK, rules.delivered(Progress(), first, NOW))
    with Journal.open(tmp_path, create=False) as journal:
        box = journal.deliveries

        assert box.last() == 3 and [record.number for record in box.after(2, 9)] == [3]
        assert box.progress(SINK) == Progress(2, NOW)
        assert box.progress(Sink("y", SinkKind.WEBHOOK, "https://h", "https://h")) == Progress()
    with Journal.open(tmp_path) as journal:
        (key,) = [key for (key,) in journal._rows("SELECT key FROM meta WHERE key LIKE 'audit-delivery:%'")]
        journal.set_meta(key, "{")
        with pytest.raises(StateFileError, match="how far the sink postgres is"):
            journal.deliveries.progress(SINK)


def test_an_outbox_that_was_never_made_is_empty(tmp_path: Path) -> None:
    with Journal.open(tmp_path, create=False) as journal:
        assert (journal.deliveries.last(), journal.deliveries.after(0, 5)) == (0, [])
