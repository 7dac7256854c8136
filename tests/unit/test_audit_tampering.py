"""Somebody with access to the files changes, removes or re-orders audit events: it is found, each time."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nself_deploy.adapters.journal import Journal
from nself_deploy.core import audit
from nself_deploy.core.audit import AuditEvent, Head, Record
from nself_deploy.core.machine import Done, advance
from tests.unit.hardship import a_run

TAMPERINGS = 1000
RUNS = 8


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a trail of deploys and notes."""
    root = tmp_path_factory.mktemp("original")
    with Journal.open(root, actor="ada@one") as journal:
        for number in range(RUNS):
            run = a_run(f"run-{number}", 1)
            journal.begin(run)
            while not run.ended:
                run, _ = advance(run, Done())
            journal.finish(run)
            journal.add_event(AuditEvent("lock-take-over", "prod", "done", reason=f"reason {number}"))
    return root


def rows(db: sqlite3.Connection) -> list[Record]:
    return [Record(*row) for row in db.execute("SELECT number, id, hash, document FROM audit_events ORDER BY number")]


def write(db: sqlite3.Connection, records: list[Record]) -> None:
    db.execute("DELETE FROM audit_events")
    db.executemany("INSERT INTO audit_events VALUES (?, ?, ?, ?)", [msgspec.structs.astuple(r) for r in records])


def set_head(db: sqlite3.Connection, records: list[Record]) -> None:
    last = records[-1].hash if records else audit.NOTHING_BEFORE
    head = Head(len(records), last, max(len(records) - 1, 0))
    db.execute("UPDATE meta SET value = ? WHERE key = 'audit'", (msgspec.json.encode(head).decode(),))


def change_a_byte(db: sqlite3.Connection, chance: random.Random) -> None:
    records, column = rows(db), chance.choice(["id", "hash", "document"])
    at = chance.randrange(len(records))
    text = getattr(records[at], column)
    place = chance.randrange(len(text))
    new = text[:place] + chance.choice([c for c in 'abc"{} ' if c != text[place]]) + text[place + 1 :]
    db.execute(f"UPDATE audit_events SET {column} = ? WHERE number = ?", (new, records[at].number))


def change_a_word(db: sqlite3.Connection, chance: random.Random) -> None:
    record = chance.choice(rows(db))
    event = audit.opened(record)
    field = chance.choice(["outcome", "actor", "error", "timestamp", "environment"])
    forged = audit.seal(msgspec.structs.replace(event, **{field: "forged"}), event.number, event.previous_hash)
    whole = chance.random() < 0.5
    db.execute(
        "UPDATE audit_events SET document = ?, hash = ? WHERE number = ?",
        (forged.document, forged.hash if whole else record.hash, record.number),
    )
    if whole and record == rows(db)[-1]:
        set_head(db, rows(db))


def remove(db: sqlite3.Connection, chance: random.Random) -> None:
    records = rows(db)
    gone = chance.sample(records, chance.randrange(1, len(records)))
    kept = [r for r in records if r not in gone]
    if chance.random() < 0.5:
        kept = [msgspec.structs.replace(r, number=n) for n, r in enumerate(kept, 1)]
    write(db, kept)
    if chance.random() < 0.5:
        set_head(db, kept)


def reorder(db: sqlite3.Connection, chance: random.Random) -> None:
    records = rows(db)
    first, second = chance.sample(range(len(records)), 2)
    records[first], records[second] = records[second], records[first]
    write(db, [msgspec.structs.replace(r, number=n) for n, r in enumerate(records, 1)])
    if chance.random() < 0.5:
        set_head(db, rows(db))


def truncate(db: sqlite3.Connection, chance: random.Random) -> None:
    kept = rows(db)[: chance.randrange(2 * RUNS)]
    write(db, kept)
    match chance.randrange(3):
        case 1:
            set_head(db, kept)
        case 2:
            db.execute("DELETE FROM meta WHERE key = 'audit'")


def insert(db: sqlite3.Connection, chance: random.Random) -> None:
    records = rows(db)
    at = chance.randrange(len(records) + 1)
    more = audit.seal(AuditEvent("deploy", "prod", "done", id="never"), at + 1, audit.NOTHING_BEFORE)
    records.insert(at, more)
    write(db, [msgspec.structs.replace(r, number=n) for n, r in enumerate(records, 1)])
    if chance.random() < 0.5:
        set_head(db, rows(db))


def forge_the_rest(db: sqlite3.Connection, chance: random.Random) -> None:
    """All that can be done inside the database: a chain computed anew, with the head that goes with it."""
    events = [audit.opened(r) for r in rows(db)]
    at = chance.randrange(len(events))
    if chance.random() < 0.5:
        events[at] = msgspec.structs.replace(events[at], outcome="forged")
    else:
        del events[at]
    before, made = audit.NOTHING_BEFORE, []
    for number, event in enumerate(events, 1):
        made.append(audit.seal(event, number, before))
        before = made[-1].hash
    write(db, made)
    set_head(db, made)


WAYS: list[Callable[[sqlite3.Connection, random.Random], None]] = [
    change_a_byte,
    change_a_word,
    remove,
    reorder,
    truncate,
    insert,
    forge_the_rest,
]


def tamper(root: Path, chance: random.Random) -> str:
    """One tampering, with the triggers put back afterwards; how it was done."""
    way = chance.choice(WAYS)
    db = sqlite3.connect(root / ".nself/nself.db", isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    db.execute("BEGIN")
    for name, _ in triggers:
        db.execute(f"DROP TRIGGER {name}")
    way(db, chance)
    for _, sql in triggers:
        db.execute(sql)
    db.execute("COMMIT")
    db.close()
    return way.__name__


def test_a_thousand_tamperings_are_found(original: Path, tmp_path: Path) -> None:
    chance, found, done = random.Random(2026), Counter[str](), Counter[str]()
    with Journal.open(original, create=False) as journal:
        assert journal.audit.verify().findings == ()
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    for _ in range(TAMPERINGS):
        shutil.copyfile(original / ".nself/nself.db", tmp_path / ".nself/nself.db")
        way = tamper(tmp_path, chance)
        done[way] += 1
        with Journal.open(tmp_path, create=False) as journal:
            found[way] += bool(journal.audit.verify().findings)

    assert found == done and done.total() == TAMPERINGS and len(done) == len(WAYS)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER audit_events_stay",
        "DROP TABLE audit_events",
        "ALTER TABLE audit_events ADD COLUMN more",
        "DELETE FROM meta WHERE key = 'audit'",
        "UPDATE meta SET value = '7' WHERE key = 'audit'",
    ],
)
def test_a_changed_schema_or_head_is_found(original: Path, tmp_path: Path, statement: str) -> None:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    with sqlite3.connect(tmp_path / ".nself/nself.db") as db:
        db.execute(statement)
    db.close()
    with Journal.open(tmp_path, create=False) as journal:
        assert journal.audit.verify().findings


@pytest.mark.parametrize("way", ["removed", "older", "other"])
def test_a_changed_anchor_is_found(original: Path, tmp_path: Path, way: str) -> None:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    anchor = tmp_path / ".nself/audit.head"
    with Journal.open(tmp_path, create=False) as journal:
        hashes = {r.number: r.hash for r in journal.audit.records()}
    older = audit.Anchor(3, hashes[3])
    match way:
        case "removed":
            anchor.unlink()
        case "older":
            anchor.write_bytes(msgspec.json.encode(older))
        case _:
            anchor.write_bytes(msgspec.json.encode(audit.Anchor(2 * RUNS, hashes[3])))
    with Journal.open(tmp_path, create=False) as journal:
        assert len(journal.audit.verify().findings) == 1
