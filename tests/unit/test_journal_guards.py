"""Keys, failed attempts and breakers in the journal's database."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from nself_deploy.adapters import journal_guards
from nself_deploy.adapters.journal import Journal
from nself_deploy.app import breaker, key_changes, keys
from nself_deploy.app.key_changes import Author, Wanted
from nself_deploy.core import deploy_keys
from nself_deploy.core.attempts import WAIT_LIMIT_S
from nself_deploy.core.breaker import Allowed, BreakerState, Refused, Rules, Turn, TurnOutcome
from nself_deploy.core.breaker_settings import rules_of
from nself_deploy.core.deploy_keys import Reason, spelled
from nself_deploy.core.extension import KEY
from nself_deploy.core.extension_reader import read_extension
from nself_deploy.core.moments import Moment
from nself_deploy.errors import GateRefused, NotAuthorised, StateFileError, UsageError
from tests.unit.guard_moments import after
from tests.unit.hardship import in_child

WRONG = spelled(b"wrong key, wrong key, wrong key.")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path, now=lambda: after(0).at, actor="ann@one") as opened:
        yield opened


def wanted(name: str = "watch", lasts_s: float | None = 3600.0) -> Wanted:
    return Wanted(name, ("prod",), ("api",), ("rollback",), lasts_s)


def author(number: int = 1, at: float = 0.0) -> Author:
    return Author("ann@one", after(at), bytes([number]) * 32, f"k{number}")


def try_key(
    journal: Journal, key: str, at: float = 1.0, source: str = "here", service: str = "api"
) -> keys.Grant | keys.Denied:
    return keys.authorize(journal.guards, key, "rollback", "prod", service, source, after(at))


def reason(answer: keys.Grant | keys.Denied) -> Reason | None:
    return answer.reason if isinstance(answer, keys.Denied) else None


def types(journal: Journal) -> list[str]:
    return [event.event_type for event in reversed(journal.events(100))]


def test_a_key_opens_what_it_is_for_and_its_use_is_on_record(journal: Journal) -> None:
    made = key_changes.create(journal.guards, wanted(), author())
    answer = try_key(journal, f" {made.text}\n")
    (key,) = journal.guards.deploy_keys()

    assert answer == keys.Grant("k1", "watch", answer.warning if isinstance(answer, keys.Grant) else "")
    assert (key.used_at, key.used_from, key.used_for) == (after(1).at, "here", "rollback api prod")
    assert types(journal) == ["key-created"]


def test_every_kind_of_bad_key_is_denied_and_on_the_trail(journal: Journal) -> None:
    good = key_changes.create(journal.guards, wanted(), author(1)).text
    gone = key_changes.create(journal.guards, wanted("gone"), author(2)).text
    key_changes.revoke(journal.guards, "gone", author(3))
    answers = [
        try_key(journal, "", source="a"),
        try_key(journal, WRONG, source="b"),
        try_key(journal, gone, source="c"),
        try_key(journal, good, source="d", service="web"),
        try_key(journal, good, 3600.0, source="e"),
        try_key(journal, "nself_deploy_" + "\udcff\0" * 5000, source="f"),
    ]

    assert list(map(reason, answers)) == [
        Reason.MISSING,
        Reason.WRONG,
        Reason.REVOKED,
        Reason.SCOPE,
        Reason.EXPIRED,
        Reason.WRONG,
    ]
    assert {type(a.error()) for a in answers if isinstance(a, keys.Denied)} == {NotAuthorised}
    assert {a.ui_state for a in answers if isinstance(a, keys.Denied)} == {"permission-denied"}
    denied = [event for event in reversed(journal.events(100)) if event.event_type == "denied-attempt"]
    assert [event.reason for event in denied] == [str(a.reason) for a in answers if isinstance(a, keys.Denied)]
    assert [event.metadata["key"] for event in denied] == ["", "", "k2", "k1", "k1", ""]
    assert journal.audit.verify().findings == ()


def test_a_wrong_key_and_no_key_at_all_are_answered_in_the_same_words(tmp_path: Path) -> None:
    answers = []
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        with Journal.open(tmp_path / name) as journal:
            if name == "with":
                key_changes.create(journal.guards, wanted(), author())
            answers.append(try_key(journal, WRONG))

    assert answers[0] == answers[1] and reason(answers[0]) is Reason.WRONG


def test_every_attempt_takes_the_same_steps(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    key_changes.create(journal.guards, wanted(), author(1))
    key_changes.create(journal.guards, wanted("other"), author(2))
    steps: list[str] = []
    real_rows, real_execute = journal.guards._rows, journal.guards._execute
    monkeypatch.setattr(journal.guards, "_rows", lambda sql, *v: steps.append(sql) or real_rows(sql, *v))
    monkeypatch.setattr(journal.guards, "_execute", lambda sql, *v: steps.append(sql) or real_execute(sql, *v))
    seen = []
    shapes = ["x", WRONG, WRONG[:-1], "nself_deploy_", spelled(bytes([1]) * 31 + b"\2"), "k1", "watch"]
    for number, shown in enumerate(shapes):
        steps.clear()
        assert reason(try_key(journal, shown, source=f"s{number}")) is Reason.WRONG
        seen.append(tuple(steps))

    assert len(set(seen)) == 1 and len(seen[0]) > 5


def test_ten_thousand_wrong_keys_open_nothing_and_a_good_one_is_let_in_after_the_stated_time(journal: Journal) -> None:
    good = key_changes.create(journal.guards, wanted(), author()).text
    secret = bytearray(32)
    seen = Counter[Reason | None]()
    for number in range(10_000):
        secret[number % 32] = (secret[number % 32] + 1) % 256
        seen[reason(try_key(journal, spelled(bytes(secret)), 1 + number / 1000, f"10.0.0.{number % 3}"))] += 1

    assert set(seen) == {Reason.WRONG, Reason.LIMITED} and seen.total() == 10_000
    answer = try_key(journal, good, 11, "10.0.0.1")
    assert isinstance(answer, keys.Denied) and answer.ui_state == "rate-limited" and 0 < answer.wait_s <= WAIT_LIMIT_S
    assert isinstance(answer.error(), GateRefused)
    assert reason(try_key(journal, good, 11 + WAIT_LIMIT_S, "10.0.0.1")) is None
    assert len(journal.events(100)) <= 1 + 20
    assert journal.audit.verify().findings == ()


def test_sources_are_forgotten_but_not_those_that_a_good_key_came_from(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_guards, "SOURCES_LIMIT", 5)
    good = key_changes.create(journal.guards, wanted(), author()).text
    try_key(journal, good, 0, "watcher")
    for number in range(20):
        try_key(journal, WRONG, 1 + number, f"s{number}")

    assert journal.guards.attempts_from("watcher") is not None
    assert [n for n in range(20) if journal.guards.attempts_from(f"s{n}")] == [16, 17, 18, 19]
    assert journal.guards.attempts_overall() is not None


def test_names_scopes_and_numbers_that_can_not_be(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    key_changes.create(journal.guards, wanted(), author(1))
    for bad, said in (
        (wanted(), "There is a deploy key 'watch' already."),
        (wanted("a b"), "'a b' is no name"),
        (wanted("-x"), "'-x' is no name"),
        (Wanted("n", ("prod",), ("a/b",), ("rollback",), None), "'a/b' is not a service"),
        (Wanted("n", ("prod\n",), ("api",), ("rollback",), None), r"'prod\n' is not an environment"),
        (Wanted("n", ("prod",), ("..",), ("rollback",), None), "'..' is not a service"),
        (Wanted("n", ("prod",), ("api",), ("fly",), None), "There is no action 'fly'."),
    ):
        with pytest.raises(UsageError) as caught:
            key_changes.create(journal.guards, bad, author(2))
        assert said in str(caught.value)
    monkeypatch.setattr(deploy_keys, "KEYS_LIMIT", 2)
    key_changes.create(journal.guards, wanted("two"), author(2))
    with pytest.raises(GateRefused, match="2 deploy keys already"):
        key_changes.create(journal.guards, wanted("three"), author(3))
    for number in range(3, 9):
        key_changes.revoke(journal.guards, "two", author())
        key_changes.create(journal.guards, wanted("two"), author(number))
    assert sum(bool(key.revoked_at) for key in journal.guards.deploy_keys()) <= 3


def test_a_rotation_with_an_overlap_and_one_without(journal: Journal) -> None:
    old = key_changes.create(journal.guards, wanted(), author(1)).text
    made, left = key_changes.rotate(journal.guards, "watch", None, 600.0, author(2))

    assert left.replaced_by == "k2" and left.expires_at == "2026-11-27T03:10:00.000Z"
    assert [reason(try_key(journal, key, 599)) for key in (old, made.text)] == [None, None]
    assert [reason(try_key(journal, key, 601)) for key in (old, made.text)] == [Reason.EXPIRED, None]
    with pytest.raises(UsageError, match="There are 2 deploy keys 'watch': k1, k2."):
        key_changes.revoke(journal.guards, "watch", author())
    newest, left = key_changes.rotate(journal.guards, "k2", 60.0, 0.0, author(3))
    assert left.revoked_at and reason(try_key(journal, made.text, 2)) is Reason.REVOKED
    assert reason(try_key(journal, newest.text, 2)) is None
    with pytest.raises(UsageError, match="'k2' was revoked"):
        key_changes.rotate(journal.guards, "k2", None, 0.0, author(4))
    assert key_changes.revoke(journal.guards, "k2", author())[1] is False
    assert types(journal).count("key-rotated") == 2
    # The last one is still there when it is the shorter of the two ends.
    assert key_changes.rotate(journal.guards, "k3", None, 600.0, author(5))[1].expires_at == newest.key.expires_at


def test_a_key_that_soon_expires_works_and_says_so(journal: Journal) -> None:
    soon = key_changes.create(journal.guards, wanted(), author(1)).text
    late = key_changes.create(journal.guards, wanted("late", 86400.0 * 365), author(2)).text
    answers = [try_key(journal, soon), try_key(journal, late)]

    assert [a.warning != "" for a in answers if isinstance(a, keys.Grant)] == [True, False]


def test_changes_and_their_events_stand_or_fall_together(tmp_path: Path) -> None:
    def die() -> None:
        with Journal.open(tmp_path) as journal, journal.transaction():
            key_changes.create(journal.guards, wanted(), author())
            breaker.ask(journal.guards, "prod", "api", "v2", "v1", after(0))
            breaker.record(journal.guards, "prod", "api", Turn("run-1", after(0), "v2", "v1"), after(0))
            os._exit(0)

    Journal.open(tmp_path).close()
    assert in_child(die) == ""
    with Journal.open(tmp_path) as journal:
        assert journal.guards.deploy_keys() == [] and journal.events() == []
        assert breaker.status(journal.guards, after(1)) == []


def act(journal: Journal) -> None:
    """One change of each kind that has an event."""
    key_changes.create(journal.guards, wanted(), author())
    try_key(journal, WRONG)
    for number in range(4):
        turn = Turn(f"r{number}", after(number), f"v{number}", f"w{number}", TurnOutcome.DONE)
        breaker.record(journal.guards, "prod", "api", turn, turn.at)
    breaker.ask(journal.guards, "prod", "api", "v9", "w9", after(9))


def dies_at(journal: Journal, statement: int) -> None:
    """From now on the process ends before this statement."""
    left, real = [statement], journal._execute

    def counted(sql: str, *values: object) -> int:
        left[0] -= 1
        if left[0] == 0:
            os._exit(0)
        return real(sql, *values)

    for part in (journal, journal.guards, journal.audit):
        part._execute = counted  # type: ignore[method-assign]


def test_killed_before_any_statement_nothing_lacks_its_event_and_none_is_doubled(tmp_path: Path) -> None:
    def work(root: Path, statement: int) -> str:
        with Journal.open(root, now=lambda: after(0).at) as journal:
            dies_at(journal, statement)
            act(journal)
        return "whole"

    for statement in range(1, 200):
        root = tmp_path / str(statement)
        root.mkdir()
        Journal.open(root).close()
        outcome = in_child(lambda root=root, statement=statement: work(root, statement))
        with Journal.open(root) as journal:
            seen, overall = Counter(types(journal)), journal.guards.attempts_overall()
            known = journal.guards.breaker("prod", "api")
            assert seen["key-created"] == len(journal.guards.deploy_keys())
            assert seen["denied-attempt"] == (overall.episode.told if overall and overall.episode else 0)
            assert seen["breaker-opened"] == bool(known and known.opened)
            assert journal.audit.verify().findings == ()
        if outcome:
            break

    assert outcome == "returned whole" and statement > 30
    assert seen == {"key-created": 1, "denied-attempt": 1, "breaker-opened": 1}


def test_a_breaker_over_processes_and_its_reset(tmp_path: Path) -> None:
    answers = []
    for number in range(5):
        with Journal.open(tmp_path) as journal:
            now = after(10.0 * number)
            answers.append(breaker.ask(journal.guards, "prod", "api", f"v{number}", f"w{number}", now))
            if isinstance(answers[-1], Allowed):
                for outcome in (TurnOutcome.BEGUN, TurnOutcome.DONE):
                    turn = Turn(f"run-{number}", now, f"v{number}", f"w{number}", outcome)
                    breaker.record(journal.guards, "prod", "api", turn, now)
    with Journal.open(tmp_path) as journal:
        guards = journal.guards
        assert [isinstance(a, Refused) for a in answers] == [False, False, False, True, True]
        assert isinstance(breaker.ask(guards, "staging", "api", "v", "w", after(60)), Allowed)
        assert isinstance(breaker.ask(guards, "prod", "web", "v", "w", after(60)), Allowed)
        (line,) = breaker.status(guards, after(60))
        assert (line.state, line.rollbacks, line.service) == (BreakerState.OPEN, 3, "api")
        assert breaker.reset(guards, "prod", "api", "found it") is True
        assert breaker.reset(guards, "prod", "api", "found it") is False
        assert breaker.reset(guards, "prod", "nope", "") is False
        assert types(journal) == ["breaker-opened", "breaker-reset"]
        assert isinstance(breaker.ask(guards, "prod", "api", "w0", "v0", after(70)), Allowed)


def test_the_rules_are_those_that_were_told_last(journal: Journal) -> None:
    assert journal.guards.rules() is None
    journal.guards.keep_rules(rules_of(None))
    assert journal.guards.rules() is None
    journal.guards.keep_rules(
        rules_of(read_extension({KEY: {"breaker": {"rollbacks": 1, "window": "5m"}}}).project.breaker)
    )
    assert journal.guards.rules() == Rules(1, 300.0, 3600.0)
    breaker.record(journal.guards, "prod", "api", Turn("r", after(0), "v", "w"), after(0))

    assert isinstance(breaker.ask(journal.guards, "prod", "api", "x", "y", after(299)), Refused)
    assert [line.limit for line in breaker.status(journal.guards, after(299))] == [1]
    journal.guards.keep_rules(Rules())
    assert journal.guards.rules() == Rules()


def test_the_files_are_private_and_hold_no_key(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        made = key_changes.create(journal.guards, wanted(), author())
        for shown in (made.text, WRONG):
            try_key(journal, shown)
        files = [path for path in (tmp_path / ".nself").iterdir() if path.is_file()]
        assert {path.name for path in files} >= {"nself.db", "nself.db-wal", "audit.head"}
        for path in files:
            data = path.read_bytes()
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name
            for secret in (made.text, WRONG):
                assert secret.encode() not in data and secret.removeprefix("nself_deploy_").encode() not in data


@pytest.mark.parametrize("table", ["deploy_keys", "key_attempts", "breakers"])
def test_a_record_that_can_not_be_read_lets_nobody_in(tmp_path: Path, table: str) -> None:
    with Journal.open(tmp_path) as journal:
        good = key_changes.create(journal.guards, wanted(), author()).text
        try_key(journal, good)
        breaker.record(journal.guards, "prod", "api", Turn("r", after(0), "v", "w"), after(0))
    with sqlite3.connect(tmp_path / ".nself/nself.db") as db:
        db.execute(f"UPDATE {table} SET record = '[]'")
    db.close()
    with Journal.open(tmp_path) as journal, pytest.raises(StateFileError, match="can't be read"):
        try_key(journal, good)
        breaker.ask(journal.guards, "prod", "api", "v", "w", after(1))


def test_many_processes_share_one_limit(tmp_path: Path) -> None:
    def attempts() -> int:
        with Journal.open(tmp_path) as journal:
            return sum(reason(try_key(journal, WRONG, 1)) is Reason.WRONG for _ in range(8))

    Journal.open(tmp_path).close()
    found = [int(in_child(attempts).removeprefix("returned ")) for _ in range(3)]

    assert sum(found) == 10


def test_a_moment_without_a_boot_is_fine(journal: Journal) -> None:
    good = key_changes.create(journal.guards, wanted(), author()).text
    answer = keys.authorize(journal.guards, good, "rollback", "prod", "api", "", Moment(after(1).at))

    assert reason(answer) is None
