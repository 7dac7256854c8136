"""Record the journals of interrupted runs as this version writes them: `python -m tests.journals.record DIRECTORY`.

The planner plans, the machine walks, the journal adapter writes, as in a real run; only the effects themselves are left
out. After each intent the database is kept as SQL text: what it holds when the process dies at that step.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nself_deploy.adapters.journal import JOURNAL_FILE, Journal
from nself_deploy.core.machine import Begin, Done, Event, Failed, Failure, advance, new_run
from nself_deploy.core.model import Slot
from nself_deploy.core.plan import Facts, Plan, Timing, plan_blue_green, plan_rollback
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from tests.unit.plans import a_project, a_release

NOW = "2026-11-26T20:00:00.000Z"
BEFORE, LIVE, NEXT = (a_release(name, single=True) for name in ("r0", "r1", "r2"))
ILL = Failure("web in green is not healthy any more.", "Mend it.", ("web | out of memory",), unhealthy=True)

FACTS = {
    "first-deploy": Facts(stopped_shared=("db", "cache")),
    "deploy": Facts(Slot.BLUE, "r1", True, Slot.GREEN, "r0", False, (Slot.BLUE, Slot.GREEN), (), ("cache",), False),
    "warm-rollback": Facts(Slot.BLUE, "r1", True, Slot.GREEN, "r0", True, (Slot.BLUE, Slot.GREEN), router_running=True),
    "cold-rollback": Facts(Slot.BLUE, "r1", True, occupied=(Slot.BLUE,), router_running=True),
    "adoption": Facts(Slot.PLAIN, "r1", plain_apps=("api", "web", "worker"), router_running=True),
}


def a_plan(kind: str) -> Plan:
    """What is planned for one kind of run."""
    facts = FACTS[kind]
    if "rollback" in kind:
        return plan_rollback(a_project(), BEFORE, facts, Timing(), "local")
    return plan_blue_green(a_project(), NEXT, facts, Timing(), "local")


def slots_before(facts: Facts) -> dict[Slot, SlotRecord]:
    """What is on record about the slots when the run begins."""
    slots = {slot: SlotRecord("", SlotRole.EMPTY, NOW) for slot in Slot}
    if facts.live:
        slots[facts.live] = SlotRecord(facts.live_release, SlotRole.LIVE, NOW)
    if facts.standby:
        slots[facts.standby] = SlotRecord(facts.standby_release, SlotRole.STANDBY, NOW, "2026-11-26T20:10:00.000Z")
    return slots


def walk(journal: Journal, kind: str, fails_at: str = "") -> Iterator[str]:
    """One run, written as the runner writes it; the name of each step when its intent is on record."""
    facts, plan = FACTS[kind], a_plan(kind)
    for release in (BEFORE, LIVE, NEXT):
        journal.save_release(release)
    journal.save_addresses({("default", "web", 1): 10, ("default", "web", 2): 11, ("default", "api", 1): 12})
    journal.set_slots(slots_before(facts))
    run = new_run(f"20261126T200000-{kind}", plan, NOW)
    taken = {} if facts.standby_warm or not plan.candidate else {plan.candidate: plan.release}
    journal.begin(run, {slot: SlotRecord(release, SlotRole.CANDIDATE, NOW) for slot, release in taken.items()})
    yield "begin"
    event: Event = Begin()
    while True:
        run, effects = advance(run, event)
        if not effects:
            return
        step = run.current()
        assert step is not None
        journal.record(run, "intent", step.key, msgspec.json.encode(effects[0]).decode())
        yield step.key
        event = Failed(ILL, 1.5) if step.key == fails_at else Done(0.25, "as it should be")
        journal.record(advance(run, event)[0], "outcome", step.key, "as it should be")


def dump(root: Path) -> str:
    """The database as SQL, with the two numbers that SQLite's own dump leaves out."""
    with contextlib.closing(sqlite3.connect(root / JOURNAL_FILE)) as db:
        pragmas = [
            f"PRAGMA {name} = {db.execute(f'PRAGMA {name}').fetchone()[0]};"
            for name in ("application_id", "user_version")
        ]
        return "\n".join([*pragmas, *db.iterdump(), ""])


def record(directory: Path) -> int:
    """All runs, interrupted at each step; how many files."""
    count = 0
    todo = [(kind, "") for kind in FACTS] + [("deploy", "handover"), ("adoption", "handover")]
    for kind, fails_at in todo:
        with tempfile.TemporaryDirectory() as name, Journal.open(name, now=lambda: NOW) as journal:
            for number, step in enumerate(walk(journal, kind, fails_at)):
                if fails_at and not step.startswith("undo"):
                    continue
                file = f"{kind}-{number:02}-{step.replace(':', '-')}.sql"
                (directory / file).write_text(dump(Path(name)))
                count += 1
    return count


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(f"{record(target)} journals in {target}")
