"""What the ports promise, as tests that the simulated and the real adapters pass alike (those of files)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import pytest

from nself_deploy.app.ports import JudgeRecords, Lock
from nself_deploy.app.stores import Files, States, Store
from nself_deploy.core import effects as do
from nself_deploy.core import machine
from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.model import Release, Slot, Strategy
from nself_deploy.core.plan import Kind, Plan, Step
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from nself_deploy.core.state import BlueGreenState, RollbackState, StrategyState, parse_time
from nself_deploy.errors import Locked, NselfError, StateFileError

NOW = "2026-11-22T21:30:00.000Z"
replace = msgspec.structs.replace


class FileBed(Protocol):
    """One directory, opened again and again: each time by another process."""

    def store(self) -> Store:
        """The journal."""

    def states(self) -> States:
        """The state files."""

    def files(self) -> Files:
        """The other files."""

    def records(self) -> JudgeRecords:
        """The records of judges."""

    def lock(self) -> Lock:
        """The lock, for one more holder."""


def a_run(name: str) -> machine.Run:
    """A run of two steps."""
    steps = (Step("one", "One", do.RemoveSlot(Slot.GREEN)), Step("two", "Two", do.Record(Slot.BLUE, "r1")))
    plan = Plan(Kind.DEPLOY, Strategy.BLUE_GREEN, "local", "shop", "r2", "r1", Slot.BLUE, Slot.GREEN, steps)
    return machine.new_run(name, plan, NOW)


def a_release(name: str, print_: str = "f") -> Release:
    """A release of nothing."""
    return Release(name, print_, NOW, {}, {}, {}, {}, {}, {}, ())


def a_run_survives_its_process(bed: FileBed) -> None:
    run = a_run("run-1")
    store = bed.store()
    store.begin(run, {Slot.GREEN: SlotRecord("r2", SlotRole.CANDIDATE, NOW)})
    assert bed.store().unfinished() == run
    assert bed.store().slots()[Slot.GREEN].role is SlotRole.CANDIDATE
    first, _ = machine.advance(run, machine.Begin())
    assert store.record(first, "intent", "one", "x") == 1
    second, _ = machine.advance(first, machine.Done(0.5, "fine"))
    assert store.record(second, "outcome", "one", "fine") == 2
    assert bed.store().unfinished() == second == bed.store().run("run-1")
    with pytest.raises(ValueError, match="begun"):
        store.begin(run)
    assert bed.store().run("nobody") is None
    assert not bed.store().ended("run-1") and not bed.store().ended("nobody")


def a_run_that_ended_is_history_and_one_event(bed: FileBed) -> None:
    store = bed.store()
    for name in ("run-1", "run-2"):
        run = a_run(name)
        store.begin(run)
        run, _ = machine.advance(run, machine.Begin())
        while not run.ended:
            run, _ = machine.advance(run, machine.Done())
        store.record(run, "outcome", "two")
    assert bed.store().unfinished() is None
    assert bed.store().ended("run-1") and bed.store().ended("run-2")
    assert [r.id for r in bed.store().history()] == ["run-2", "run-1"]
    assert [r.id for r in bed.store().history(1)] == ["run-2"]
    assert [e.metadata["run"] for e in bed.store().events()] == ["run-2", "run-1"]


def a_run_begins_with_the_event_of_what_was_overridden(bed: FileBed) -> None:
    run = a_run("run-1")
    run = replace(run, plan=replace(run.plan, override=("1.sql:1: DROP TABLE a",)))
    store = bed.store()
    store.begin(run)
    with pytest.raises(ValueError, match="begun"):
        store.begin(run)
    assert [e.id for e in bed.store().events()] == ["run-1-migration-override"]
    run, _ = machine.advance(run, machine.Begin())
    while not run.ended:
        run, _ = machine.advance(run, machine.Done())
    store.record(run, "outcome", "two")
    assert [e.event_type for e in bed.store().events()] == ["deploy", "migration-override"]


def what_never_began_is_not_recorded(bed: FileBed) -> None:
    with pytest.raises(ValueError, match="never began"):
        bed.store().record(a_run("run-1"), "note", "")
    bed.store().begin(a_run("run-1"))
    with pytest.raises(ValueError, match="x"):
        bed.store().record(a_run("run-1"), "x", "")
    assert bed.store().run("run-1") == a_run("run-1")


def an_event_with_an_id_is_one(bed: FileBed) -> None:
    event = AuditEvent("lock-take-over", "local", "done", id="event-1")
    assert bed.store().add_event(event).id == "event-1"
    bed.store().add_event(event)
    assert bed.store().add_event(replace(event, id="")).id
    assert len(bed.store().events()) == 2


def releases_are_kept_as_they_were(bed: FileBed) -> None:
    store = bed.store()
    for name in ("r1", "r2"):
        store.save_release(a_release(name))
    store.save_release(a_release("r1"))
    assert [r.id for r in bed.store().releases()] == ["r2", "r1"]
    assert [r.id for r in bed.store().releases(1)] == ["r2"]
    found = bed.store().release_by_fingerprint("f")
    assert found is not None and found.id == "r2"
    assert bed.store().release_by_fingerprint("g") is None and bed.store().release("r3") is None
    with pytest.raises(ValueError, match="other content"):
        store.save_release(a_release("r1", "g"))


def slots_addresses_and_words_are_kept(bed: FileBed) -> None:
    store = bed.store()
    assert store.slots() == {} and store.addresses() == {} and store.meta("a") == ""
    store.set_slots({Slot.GREEN: SlotRecord("r1", SlotRole.LIVE, NOW), Slot.BLUE: SlotRecord("", SlotRole.EMPTY, NOW)})
    store.set_slots({Slot.BLUE: SlotRecord("r2", SlotRole.STANDBY, NOW, NOW)})
    assert list(bed.store().slots().items()) == [
        (Slot.BLUE, SlotRecord("r2", SlotRole.STANDBY, NOW, NOW)),
        (Slot.GREEN, SlotRecord("r1", SlotRole.LIVE, NOW)),
    ]
    store.save_addresses({("default", "web", 1): 2, ("default", "api", 1): 3})
    store.save_addresses({("default", "web", 1): 2})
    assert bed.store().addresses() == {("default", "web", 1): 2}
    with pytest.raises(ValueError, match="same address"):
        store.save_addresses({("default", "web", 1): 2, ("default", "api", 1): 2})
    store.set_meta("a", "b")
    store.set_meta("a", "c")
    assert bed.store().meta("a") == "c"


def state_files_are_zero_then_what_was_saved(bed: FileBed) -> None:
    states = bed.states()
    assert states.load_deploy() == StrategyState()
    assert states.load_blue_green() == BlueGreenState()
    assert states.load_rollback("local", "web") == RollbackState()
    at = parse_time(NOW)
    deploy = StrategyState(strategy=Strategy.BLUE_GREEN, target="local", started_at=at, completed_at=at, success=True)
    states.save_deploy(deploy)
    states.save_blue_green(BlueGreenState(active=Slot.GREEN, green_version="r1", last_deploy=at))
    states.save_rollback("local", "web", RollbackState("web:1", "sha256:1", at))
    assert bed.states().load_deploy() == replace(deploy, schema_version=1)
    assert bed.states().load_blue_green() == BlueGreenState(active=Slot.GREEN, green_version="r1", last_deploy=at)
    assert bed.states().load_rollback("local", "web") == RollbackState("web:1", "sha256:1", at)
    assert bed.states().load_rollback("prod", "web") == RollbackState()


def generated_files_have_their_places(bed: FileBed) -> None:
    files = bed.files()
    assert files.override_files() == ()
    model: dict[str, Any] = {"name": "shop-blue", "services": {}}
    assert files.write_slot("r1", Slot.BLUE, model) == files.slot_file("r1", Slot.BLUE)
    assert files.write_slot("r1", Slot.BLUE, model) == bed.files().slot_file("r1", Slot.BLUE)
    assert files.slot_file("r1", Slot.GREEN) != files.slot_file("r1", Slot.BLUE)
    written = files.write_override({"services": {}})
    assert bed.files().override_files() == (written,)


def the_lock_has_one_holder(bed: FileBed) -> None:
    one, two = bed.lock(), bed.lock()
    assert two.owner() is None
    one.acquire("deploy")
    one.acquire("deploy")
    with pytest.raises(Locked):
        two.acquire("rollback")
    owner = two.owner()
    assert owner is not None and owner.purpose == "deploy"
    two.release()
    assert two.owner() is not None
    one.release()
    one.release()
    assert two.owner() is None
    two.acquire("rollback")
    assert two.previous is None
    two.release()


def a_record_goes_on_where_it_is_told_to(bed: FileBed) -> None:
    assert bed.records().read("run-1") is None and bed.records().runs() == ()
    assert bed.records().write("run-1", 0, b"one\ntwo\n") == 8
    assert bed.records().write("run-1", 4, b"2\nthree\n") == 12
    assert bed.records().read("run-1") == b"one\n2\nthree\n"
    with pytest.raises(StateFileError):
        bed.records().write("run-1", 13, b"x")
    assert bed.records().write("run-1", 4, b"") == 4
    assert bed.records().read("run-1") == b"one\n"
    bed.records().write("run-2", 0, b"")
    assert bed.records().runs() == ("run-1", "run-2")
    bed.records().keep(1)
    assert bed.records().runs() == ("run-2",)


def a_full_disk_changes_nothing(bed: FileBed, fill: Callable[[], None]) -> None:
    """Only where a disk can be filled."""
    bed.store().set_meta("a", "b")
    fill()
    with pytest.raises(NselfError):
        bed.store().set_meta("a", "c")
    assert bed.store().meta("a") == "b"


FILE_CONTRACTS = (
    a_run_survives_its_process,
    a_run_that_ended_is_history_and_one_event,
    what_never_began_is_not_recorded,
    a_run_begins_with_the_event_of_what_was_overridden,
    an_event_with_an_id_is_one,
    releases_are_kept_as_they_were,
    slots_addresses_and_words_are_kept,
    state_files_are_zero_then_what_was_saved,
    generated_files_have_their_places,
    a_record_goes_on_where_it_is_told_to,
    the_lock_has_one_holder,
)
