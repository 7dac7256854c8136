"""Short commands about keys, breakers and sinks, killed before and after each durable write, and typed again.

Real processes and the real program: `tests/crash/writes.py` says where they die. What was changed has its event and
what has an event was changed, whenever it was killed; and what was done already is not done twice.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from nself_deploy.adapters.journal import Journal
from nself_deploy.app import breaker
from nself_deploy.cli import main as program
from nself_deploy.core.audit import LOCK_TAKE_OVER
from nself_deploy.core.breaker import Breaker, Turn, TurnOutcome
from nself_deploy.core.deploy_keys import spelled
from tests.crash.writes import wrap_writes
from tests.unit.guard_moments import after
from tests.unit.serving_scene import deployed

WRONG = spelled(bytes(32))
LIMIT = 40
"""No such command writes so often."""


@dataclass(frozen=True)
class Command:
    """One of them."""

    words: str
    again: Counter[str]
    """Events of the command that nobody kills."""
    status: int = 0
    repeated: tuple[int, ...] = (0,)
    """Exit statuses of the command that is typed again after it was killed."""
    twice: bool = False
    """Whether to type it again is to do it again: another key, another attempt."""


COMMANDS = {
    "create": Command("keys create new --service web", Counter({"key-created": 1}), repeated=(0, 1)),
    "revoke": Command("keys revoke night", Counter({"key-revoked": 1})),
    "rotate": Command("keys rotate night", Counter({"key-rotated": 1, "key-created": 1}), twice=True),
    "rotate with an overlap": Command(
        "keys rotate night --overlap 1h", Counter({"key-rotated": 1, "key-created": 1}), repeated=(0, 1)
    ),
    "reset": Command("breaker reset web --reason mended", Counter({"breaker-reset": 1})),
    "a wrong key": Command(
        f"keys check --service web --key {WRONG}", Counter({"denied-attempt": 1}), 3, (3,), twice=True
    ),
    "a rollback with a wrong key": Command(
        f"--rollback --service web --key {WRONG}", Counter({"denied-attempt": 1}), 3, (3,), twice=True
    ),
    "a rollback without a way back": Command("--rollback --service web", Counter({"rollback": 1}), 1, (1,), twice=True),
}


def run(root: Path, words: str, place: int = 0) -> int:
    """The exit status of a command in a process of its own, which dies at a boundary; -9 when it did."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            signal.alarm(120)
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            wrap_writes(_dies_at(place))
            status = program.main(["deploy", *words.split(), "-C", str(root)])
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _dies_at(place: int) -> Callable[[str], None]:
    left = [place]

    def reached(_name: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def events_of(root: Path) -> Counter[str]:
    """How many there are of each type; what was changed has its event, and the chain is whole."""
    with Journal.open(root, create=False) as journal:
        keys, known = journal.guards.deploy_keys(), journal.guards.breaker("prod", "web")
        overall, report = journal.guards.attempts_overall(), journal.audit.verify()
        types = [event.event_type for event in journal.events(1000)]
    seen = Counter(kind for kind in types if kind != LOCK_TAKE_OVER)
    assert report.findings == ()
    assert seen["key-created"] == len(keys)
    assert seen["key-revoked"] + seen["key-rotated"] == sum(bool(k.revoked_at or k.replaced_by) for k in keys)
    assert seen["breaker-reset"] == (known == Breaker("prod", "web"))
    assert seen["denied-attempt"] == (overall.episode.told if overall and overall.episode else 0)
    return seen


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a key and a breaker that remembers something, and no version to go back to."""
    root = tmp_path / "template"
    root.mkdir()
    monkeypatch.setenv("NSELF_DEPLOY_KEY", deployed(root))
    with Journal.open(root) as journal:
        turn = Turn("run-0", after(0), "v2", "v1", TurnOutcome.DONE)
        breaker.record(journal.guards, "prod", "web", turn, turn.at)
    return root


@pytest.mark.parametrize("name", COMMANDS)
def test_it_is_done_with_its_event_or_not_at_all_and_once(template: Path, tmp_path: Path, name: str) -> None:
    command, before = COMMANDS[name], events_of(template)
    for place in range(1, LIMIT):
        root = tmp_path / str(place)
        shutil.copytree(template, root)
        status = run(root, command.words, place)
        done = events_of(root) - before
        assert done in (Counter(), command.again), (place, done)
        if status != -signal.SIGKILL:
            assert (status, done) == (command.status, command.again)
            break
        assert run(root, command.words) in command.repeated
        wanted = Counter(command.again)
        if command.twice:
            wanted.update(done)
        assert events_of(root) - before == wanted, place

    assert 2 < place < LIMIT - 1
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_boundaries_are_where_something_is_written(template: Path) -> None:
    names: list[str] = []
    pid = os.fork()
    if pid == 0:  # what is wrapped stays so in this process
        try:
            wrap_writes(names.append)
            program.main(["deploy", "keys", "revoke", "night", "-C", str(template)])
            (template / "names").write_text("\n".join(names))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)

    assert (template / "names").read_text().splitlines() == [
        "before anything",
        "after the write of audit.head",
        "after the write of revoke",
    ]
