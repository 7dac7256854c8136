"""Which migrations are new to a release, what they break, and the gate: before deploys and before ways back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.adapters.journal import Journal
from nself_deploy.app import migrating
from nself_deploy.app.inspect import history
from nself_deploy.core.audit import MIGRATION_OVERRIDE
from nself_deploy.core.audit_rows import severity
from nself_deploy.core.machine import Begin, advance, new_run
from nself_deploy.core.migration import Hazard, Migration
from nself_deploy.core.migrations import SHOWN, breakages, difference, refusal
from nself_deploy.core.model import Release, Slot
from nself_deploy.core.plan import Facts, Kind, Plan, Timing, plan_blue_green, plan_rollback
from nself_deploy.core.service_release import with_service
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from nself_deploy.errors import Exit, GateRefused
from tests.unit.plans import a_project, a_release
from tests.unit.serving_scene import version

DROP = Hazard("ban-drop-column", 3, "ALTER TABLE orders DROP COLUMN note", ("table:orders",))
ONE = Migration("db/1.sql", "1")
TWO = Migration("db/2.sql", "2", (DROP,))
MAKES = Migration("db/0.sql", "0", makes=("table:orders",))

THINGS = st.sampled_from(["table:a", "table:b", "index:i"])
HAZARDS = st.builds(
    Hazard, st.just("ban-drop-table"), st.just(1), st.just("x"), st.lists(THINGS, max_size=2).map(tuple)
)
MIGRATIONS = st.lists(
    st.builds(
        Migration, st.sampled_from("pqrs"), st.sampled_from("12"), st.lists(HAZARDS, max_size=3).map(tuple),
        st.lists(THINGS, max_size=2).map(tuple),
    ),
    max_size=4, unique_by=lambda migration: migration.path,
).map(tuple)  # fmt: skip


@given(MIGRATIONS, MIGRATIONS)
def test_what_is_new_is_what_the_other_one_lacks(mine: tuple[Migration, ...], others: tuple[Migration, ...]) -> None:
    found = difference(mine, others)

    assert {(m.path, m.sha256) for m in found.new} == {(m.path, m.sha256) for m in mine} - {
        (m.path, m.sha256) for m in others
    }
    assert set(found.changed) == {m.path for m in found.new} & {m.path for m in others}
    assert found.known
    assert difference(mine, mine).breaks == difference((), others).breaks == ()
    assert difference(mine, None) == msgspec.structs.replace(difference(mine, ()), known=False)


@given(MIGRATIONS)
def test_only_what_was_made_before_may_be_changed(migrations: tuple[Migration, ...]) -> None:
    found = breakages(migrations)
    made = set[str]()

    for migration in migrations:
        kept = [b.hazard for b in found if b.path == migration.path]
        assert kept == [h for h in migration.hazards if not h.about or set(h.about) - made]
        made |= set(migration.makes)


def test_a_refusal_names_what_breaks_and_a_better_way() -> None:
    error = refusal(difference((ONE, TWO), (ONE,)), "old")

    assert error.exit_status is Exit.REFUSED
    assert error.what == "1 statement of pending migrations would break release old, which serves users meanwhile."
    (line,) = error.evidence
    assert line == (
        "db/2.sql:3: ALTER TABLE orders DROP COLUMN note - what reads or writes the column fails; "
        "better: drop it with a later release, once nothing uses it"
    )
    assert "--force-migration" in error.remedy


def test_a_refusal_is_no_longer_than_a_screen() -> None:
    many = Migration("db/2.sql", "2", (DROP,) * 500)
    error = refusal(difference((many,), None), "old")

    assert error.what.startswith("500 statements of pending migrations")
    assert "it is not on record which migrations that one has" in error.what
    assert len(error.evidence) == SHOWN + 1
    assert error.evidence[-1] == "and 490 more"


def release(name: str, *migrations: Migration, known: bool = True) -> Release:
    return msgspec.structs.replace(version(name), migrations=migrations if known else None)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path, actor="ann@host") as opened:
        yield opened


def live(journal: Journal, record: Release) -> None:
    journal.save_release(record)
    journal.set_slots({Slot.BLUE: SlotRecord(record.id, SlotRole.LIVE, "2026-11-27T02:00:00.000Z")})


def a_plan(candidate: Release, before: str = "old", at: Slot | None = Slot.BLUE) -> Plan:
    return plan_blue_green(a_project(), candidate, Facts(at, before, router_running=True), Timing(), "prod")


def test_a_deploy_is_refused_before_and_after_its_release_is_made(journal: Journal) -> None:
    live(journal, release("old", ONE))
    new = release("new", ONE, TWO)

    with pytest.raises(GateRefused, match="1 statement of pending migrations would break release old"):
        migrating.early(journal, new.migrations, force=False)
    with pytest.raises(GateRefused, match="1 statement of pending migrations would break release old"):
        migrating.passed(journal, a_plan(new), new, force=False)
    plan = migrating.previewed(journal, a_plan(new), new, force=False)
    assert plan.warnings[-1].startswith("the deploy would be refused: 1 statement of pending")
    assert any("db/2.sql:3" in line for line in plan.warnings)
    assert plan.override == ()


def test_forced_it_goes_on_and_says_what_breaks(journal: Journal) -> None:
    live(journal, release("old", ONE))
    new = release("new", ONE, TWO)

    migrating.early(journal, new.migrations, force=True)
    plan = migrating.passed(journal, a_plan(new), new, force=True)
    assert [line for line in plan.warnings if "db/2.sql:3" in line] == list(plan.override)
    assert migrating.previewed(journal, a_plan(new), new, force=True) == plan
    assert any(change.what == "migrations: db/2.sql" for change in plan.changes)
    assert plan.steps == a_plan(new).steps


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (release("old", ONE), release("new", ONE), ""),
        (release("old", TWO), release("new", TWO), ""),
        (release("old", TWO), release("new", ONE), "migrations: db/1.sql"),
        (release("old"), release("new", MAKES, TWO), "migrations: db/0.sql, db/2.sql"),
        (release("old", known=False), release("new", ONE), "migrations: db/1.sql"),
        (release("old", TWO), release("new", known=False), ""),
    ],
)
def test_what_breaks_nothing_goes_through_and_is_no_override(
    journal: Journal, old: Release, new: Release, words: str
) -> None:
    live(journal, old)
    plan = migrating.passed(journal, a_plan(new), new, force=True)

    migrating.early(journal, new.migrations, force=False)
    assert migrating.passed(journal, a_plan(new), new, force=False) == plan
    assert plan.override == ()
    assert [c.what for c in plan.changes if c.what.startswith("migrations")] == ([words] if words else [])


def test_a_file_that_was_changed_after_it_was_live_is_warned_about(journal: Journal) -> None:
    live(journal, release("old", ONE))
    new = release("new", msgspec.structs.replace(ONE, sha256="other"))
    plan = migrating.passed(journal, a_plan(new), new, force=False)

    assert "db/1.sql was changed after it was part of the live release" in plan.warnings


def test_the_first_deploy_has_nobody_to_break_but_a_plain_stack_has(journal: Journal) -> None:
    new = release("new", TWO)
    first = a_plan(new, "", None)

    migrating.early(journal, new.migrations, force=False)
    assert migrating.passed(journal, first, new, force=False) == first
    with pytest.raises(GateRefused, match="would break release the plain stack"):
        migrating.passed(journal, a_plan(new, "", Slot.PLAIN), new, force=False)


def test_a_release_that_is_live_already_is_not_looked_at(journal: Journal) -> None:
    live(journal, release("old", TWO))
    same = a_plan(release("old", TWO))

    assert same.unchanged
    assert migrating.passed(journal, same, release("old", TWO), force=False) is same


def a_way_back(to: Release) -> Plan:
    facts = Facts(Slot.BLUE, "new", True, Slot.GREEN, to.id, True, (Slot.BLUE, Slot.GREEN), router_running=True)
    return plan_rollback(a_project(), to, facts, Timing(), "prod")


def test_a_way_back_is_refused_to_a_release_that_cant_live_with_what_came_since(journal: Journal) -> None:
    live(journal, release("new", ONE, TWO))
    old = release("old", ONE)

    with pytest.raises(GateRefused) as caught:
        migrating.passed_back(journal, a_way_back(old), old, force=False)
    assert caught.value.what == (
        "Release old can't live with 1 statement of migrations that came with new, and migrations are never undone."
    )
    plan = migrating.passed_back(journal, a_way_back(old), old, force=True)
    assert len(plan.override) == 1
    assert plan.steps == a_way_back(old).steps


def test_a_way_back_says_what_stays_applied(journal: Journal) -> None:
    live(journal, release("new", TWO, ONE))
    old = release("old", TWO)
    plan = migrating.passed_back(journal, a_way_back(old), old, force=False)

    assert plan.changes[-1].reason == "stay applied: db/1.sql"
    assert plan.override == ()


@pytest.mark.parametrize("left", [release("new"), release("new", known=False), release("new", TWO)])
def test_a_way_back_with_nothing_between_is_as_it_was(journal: Journal, left: Release) -> None:
    live(journal, left)
    old = release("old", TWO)

    assert migrating.passed_back(journal, a_way_back(old), old, force=False) == a_way_back(old)


def test_one_service_of_an_older_release_knows_what_that_one_knew() -> None:
    new, old = release("new", ONE, TWO), release("old", ONE)
    mixed = with_service(new, old, "web", "2026-11-27T02:00:00.000Z", ("ann", "host"))

    assert mixed.id not in ("new", "old")
    assert mixed.migrations == (ONE,)


@pytest.mark.parametrize("kind", list(Kind))
def test_an_override_is_one_event_that_is_written_with_the_beginning(journal: Journal, kind: Kind) -> None:
    live(journal, release("old", ONE))
    new = release("new", ONE, TWO)
    plan = msgspec.structs.replace(migrating.passed(journal, a_plan(new), new, force=True), kind=kind)
    run = new_run("r1", plan, "2026-11-27T02:00:00.000Z")

    journal.begin(run)
    (event,) = journal.events()
    assert (event.event_type, event.id, event.actor) == (MIGRATION_OVERRIDE, "r1-migration-override", "ann@host")
    assert (event.environment, event.prior_version) == ("prod", "old")
    assert (event.metadata["release"], event.metadata["kind"]) == ("new", kind.value)
    assert event.metadata["breaks"] == list(plan.override)
    assert severity(event) == "warning"

    journal.record(advance(run, Begin())[0], "intent", "networks")
    assert len(journal.events()) == 1
    assert [line.migration_override for line in history(journal, 5)] == [True]
    assert journal.audit.verify().findings == ()


def test_no_event_is_written_for_a_run_that_did_not_begin(journal: Journal) -> None:
    live(journal, release("old", ONE))
    new = release("new", TWO)
    run = new_run("r1", migrating.passed(journal, a_plan(new), new, force=True), "2026-11-27T02:00:00.000Z")
    journal.begin(run)

    with pytest.raises(ValueError, match="has begun already"):
        journal.begin(run)
    assert len(journal.events()) == 1


def test_records_of_before_say_that_it_is_not_known() -> None:
    document = msgspec.to_builtins(a_release())
    del document["migrations"]

    assert msgspec.convert(document, Release).migrations is None
    kept = release("new", ONE, TWO)
    assert msgspec.json.decode(msgspec.json.encode(kept), type=Release) == kept
