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
from nself_deploy.core.canary import Session
from nself_deploy.core.evidence import Request
from nself_deploy.core.log_moves import Move
from nself_deploy.core.log_position import LogPosition
from nself_deploy.core.machine import Begin, Done, Event, Failed, Failure, Park, Parking, Phase, advance, new_run
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.plan import Facts, Plan, Timing, plan_blue_green, plan_rollback
from nself_deploy.core.plan_canary import plan_canary
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from nself_deploy.core.verdict import Judge
from tests.unit.plans import a_canary, a_project, a_release

NOW = "2026-11-26T20:00:00.000Z"
BEGAN = 1795723200.0
"""The same in seconds."""
BEFORE, LIVE, NEXT = (a_release(name, single=True) for name in ("r0", "r1", "r2"))
ILL = Failed(
    Failure("web in green is not healthy any more.", "Mend it.", ("web | out of memory",), unhealthy=True), 1.5
)
BOTH_FAIL = Park(Parking("both slots fail", "hold", back=True, evidence=("3 of 20 requests failed",)), 1.5)

FACTS = {
    "first-deploy": Facts(stopped_shared=("db", "cache")),
    "deploy": Facts(Slot.BLUE, "r1", True, Slot.GREEN, "r0", False, (Slot.BLUE, Slot.GREEN), (), ("cache",), False),
    "warm-rollback": Facts(Slot.BLUE, "r1", True, Slot.GREEN, "r0", True, (Slot.BLUE, Slot.GREEN), router_running=True),
    "cold-rollback": Facts(Slot.BLUE, "r1", True, occupied=(Slot.BLUE,), router_running=True),
    "canary": Facts(Slot.BLUE, "r1", occupied=(Slot.BLUE,), router_running=True),
    "adoption": Facts(Slot.PLAIN, "r1", plain_apps=("api", "web", "worker"), router_running=True),
}


def a_plan(kind: str) -> Plan:
    """What is planned for one kind of run."""
    facts = FACTS[kind]
    if kind == "canary":
        return plan_canary(a_project(), NEXT, facts, Timing(bake_s=60.0), "local", a_canary())
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


def a_session(plan: Plan) -> Session:
    """What is known of a canary after a few seconds with its first share."""
    moves = [Move(Split.all_to(Slot.BLUE)), Move(Split(Slot.BLUE, Slot.GREEN, 10), BEGAN, BEGAN + 0.1)]
    assert plan.analysis is not None
    judge = Judge.begin(plan.analysis)
    session = Session.begin(judge, Slot.GREEN, BEGAN, "5a17", LogPosition(7, 4096), moves)
    session.feed(tuple(Request(n / 10, n * 2654435761 % 2**32, n % 10 == 0, n % 25 == 0, 0.1) for n in range(60)))
    judge.advance(6.0)
    return session


def walk(journal: Journal, kind: str, at: str = "", then: Failed | Park = ILL) -> Iterator[str]:
    """One run, written as the runner writes it; the name of each step when its intent is on record.

    At the step `at` the event `then` happens.
    """
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
        if kind == "canary" and step.key.startswith("split"):
            journal.set_meta(f"canary:{run.id}", msgspec.json.encode(a_session(plan)).decode())
        yield step.key
        event = then if step.key == at else Done(0.25, "as it should be")
        after = advance(run, event)[0]
        journal.record(after, "outcome", step.key, "as it should be")
        if after.phase is Phase.PARKED:
            yield "parked"
            return


def dump(root: Path) -> str:
    """The database as SQL, with the two numbers that SQLite's own dump leaves out."""
    with contextlib.closing(sqlite3.connect(root / JOURNAL_FILE)) as db:
        pragmas = [
            f"PRAGMA {name} = {db.execute(f'PRAGMA {name}').fetchone()[0]};"
            for name in ("application_id", "user_version")
        ]
        return "\n".join([*pragmas, *db.iterdump(), ""])


def record(directory: Path) -> int:
    """All runs, interrupted at each step; how many files. Of those that go wrong, what follows upon it."""
    count = 0
    whole: list[tuple[str, str, Failed | Park]] = [(kind, "", ILL) for kind in FACTS]
    wrong = [("deploy", "handover", ILL), ("adoption", "handover", ILL), ("canary", "judge:50", ILL)]
    for kind, at, then in [*whole, *wrong, ("canary", "judge:10", BOTH_FAIL)]:
        with tempfile.TemporaryDirectory() as name, Journal.open(name, now=lambda: NOW) as journal:
            for number, step in enumerate(walk(journal, kind, at, then)):
                if at and not step.startswith(("undo", "park")):
                    continue
                file = f"{kind}-{number:02}-{step.replace(':', '-')}.sql"
                (directory / file).write_text(dump(Path(name)))
                count += 1
    return count


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(f"{record(target)} journals in {target}")
