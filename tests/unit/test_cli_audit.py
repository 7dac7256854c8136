"""`nself deploy audit`: what people and programs read of the trail, and what a damaged one is answered with."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nself_deploy.adapters.journal import Journal
from nself_deploy.cli import main as program
from nself_deploy.core import audit
from nself_deploy.core.machine import Done, Failed, Failure, advance
from tests.unit.hardship import a_run
from tests.unit.house import ROOT

FIRST = "20261122T210000-aaaaaa"
SECOND = "20261122T220000-bbbbbb"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a deploy that went well, one that failed, and a lock that was taken over."""
    (tmp_path / "compose.yaml").write_text("services:\n  web:\n    image: web:1\n")
    with Journal.open(tmp_path, actor="ada@one") as journal:
        for name, event in ((FIRST, Done()), (SECOND, Failed(Failure("web answered \x1b[31m503")))):
            run = a_run(name)
            journal.begin(run)
            run, _ = advance(run, event)
            while not run.ended:
                run, _ = advance(run, Done())
            journal.finish(run)
        journal.add_event(audit.lock_taken_over("prod", "bob on two (process 7)", "deploy", "", "its process ended"))
    return tmp_path


Said = tuple[int, str, str]


@pytest.fixture
def say(project: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The exit status, stdout and stderr of `nself deploy audit WORDS`."""

    def run(*words: str) -> Said:
        status = program.main(["deploy", "audit", *words, "-C", str(project)])
        return (status, *capsys.readouterr())

    return run


def change(project: Path, *statements: str) -> None:
    """As somebody does who puts the triggers back afterwards."""
    db = sqlite3.connect(project / ".nself/nself.db")
    with db:
        triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for statement in (*(f"DROP TRIGGER {name}" for name, _ in triggers), *statements, *(s for _, s in triggers)):
            db.execute(statement)
    db.close()


def test_list_shows_the_newest_first(say: Callable[..., Said]) -> None:
    status, out, err = say("list")
    lines = out.splitlines()

    assert (status, err, len(lines)) == (0, "", 3)
    assert re.fullmatch(
        r"\S+Z  lock-take-over  done         prod     ada@one  lock-take-over-\w+  its process ended", lines[0]
    )
    assert f"failed       local    ada@one  {SECOND}-deploy  web answered \\x1b[31m503" in lines[1]
    assert lines[2].endswith(f"deploy          done         local    ada@one  {FIRST}-deploy")
    assert say("list", "--limit", "1")[1].splitlines() == lines[:1]


def test_list_and_show_as_json(say: Callable[..., Said]) -> None:
    found = json.loads(say("--json", "list")[1])
    one = json.loads(say("show", "--json", f"{SECOND}-deploy")[1])

    assert [event["number"] for event in found] == [3, 2, 1]
    assert one == found[1]
    assert one["error"] == "web answered \x1b[31m503" and one["metadata"]["release"] == "r2"


def test_show_says_all_and_no_control_character(say: Callable[..., Said]) -> None:
    status, out, _ = say("show", f"{SECOND}-deploy")
    words = dict(line.split(maxsplit=1) for line in out.splitlines())

    assert status == 0 and "\x1b" not in out
    assert words["outcome"] == "failed" and words["release"] == "r2" and words["number"] == "2"
    assert "  steps           Step 0: failed\n" in out


def test_an_event_that_is_not_there(say: Callable[..., Said]) -> None:
    assert say("show", "nope") == (
        1,
        "",
        "error: There is no audit event 'nope'.\n  -> nself deploy audit list shows their ids.\n",
    )


def test_a_project_that_was_never_deployed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    for words, said in (
        ("list", "Nothing is on the trail yet.\n"),
        ("verify", f"The trail is whole. To note elsewhere: 0:{'0' * 64}\n"),
        ("export", ""),
        ("list --json", "[]\n"),
    ):
        assert program.main(["deploy", "audit", *words.split(), "-C", str(tmp_path)]) == 0
        assert capsys.readouterr().out == said
    assert [p.name for p in tmp_path.iterdir()] == ["compose.yaml"]


def test_verify_says_what_to_note_and_is_asked_with_it_later(say: Callable[..., Said], project: Path) -> None:
    status, out, err = say("verify")
    noted = out.split()[-1]
    with Journal.open(project) as journal:
        journal.add_event(audit.AuditEvent("lock-take-over", "prod", "done"))

    assert (status, err) == (0, "") and re.fullmatch(r"3:[0-9a-f]{64}", noted)
    assert say("verify", "--noted", noted)[0] == 0
    assert say("--noted", noted, "verify")[0] == 0
    status, _, err = say("verify", "--noted", f"3:{'a' * 64}")
    assert status == 1 and "the audit trail is damaged: event 3 is not the one that was noted." in err
    status, _, err = say("verify", "--noted", "three")
    assert (status, err.splitlines()[0]) == (1, "error: --noted: 'three' is not a number and a hash.")


def test_a_whole_trail_made_anew_is_betrayed_by_what_was_noted(say: Callable[..., Said], project: Path) -> None:
    noted = say("verify")[1].split()[-1]
    for file in (project / ".nself").iterdir():
        file.unlink()
    with Journal.open(project) as journal:
        for _ in range(3):
            journal.add_event(audit.AuditEvent("deploy", "prod", "done"))

    assert say("verify")[0] == 0
    assert say("verify", "--noted", noted)[0] == 1


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE audit_events SET document = replace(document, 'ada', 'eve') WHERE number = 2", "event 2 was changed"),
        ("DELETE FROM audit_events WHERE number = 1", "event 1 is missing."),
        ("DELETE FROM audit_events WHERE number > 1", "event 2 is missing, with all after it: 3 were written."),
        ("DROP TABLE audit_events", "was changed or removed in the database's schema: audit_events, audit_events_last"),
    ],
)
def test_a_damaged_trail_is_status_1_and_names_the_first_event(
    say: Callable[..., Said], project: Path, statement: str, said: str
) -> None:
    if statement.startswith("DROP"):
        db = sqlite3.connect(project / ".nself/nself.db")
        db.execute(statement)
        db.close()
    else:
        change(project, statement)
    status, out, err = say("verify")

    assert (status, out) == (1, "")
    assert f"error: {project}/.nself/nself.db: the audit trail is damaged: {said}" in err
    assert err.splitlines()[-1].startswith("  -> ")
    status, out, _ = say("verify", "--json")
    assert status == 1 and json.loads(out)["findings"][0]["what"] in err


def test_many_findings_are_not_all_said(say: Callable[..., Said], project: Path) -> None:
    with Journal.open(project) as journal:
        for _ in range(40):
            journal.add_event(audit.AuditEvent("deploy", "prod", "done"))
    change(project, "UPDATE audit_events SET hash = 'x'")
    _, out, err = say("verify", "--json")

    assert len(json.loads(out)["findings"]) > 40
    assert len(err.splitlines()) == 23 and re.search(r"^  and \d\d more$", err, re.MULTILINE)


def test_an_export_is_checked_by_the_lines_in_the_documents(say: Callable[..., Said], tmp_path: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/reference/json.md").read_text(), re.DOTALL)
    status, out, _ = say("export")
    newest = say("verify", "--json")[1]

    def check(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", script], input=text, capture_output=True, text=True, check=False)

    assert status == 0 and len(out.splitlines()) == 3
    assert check(out).stdout == f"whole, up to {json.loads(newest)['newest']}\n"
    assert check(out.replace("ada@one", "eve@one", 1)).returncode == 1
    assert check("".join(out.splitlines(keepends=True)[1:])).returncode == 1
    assert say("export", "--json")[1] == out


@pytest.mark.parametrize("words", ["list", "export"])
def test_an_event_that_cannot_be_read_is_named(say: Callable[..., Said], project: Path, words: str) -> None:
    change(project, "UPDATE audit_events SET document = 'x' WHERE number = 2")
    status, _, err = say(words)

    assert status == 1
    assert "the record of audit event 2 can't be read: " in err and "nself deploy audit verify" in err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("", 1, "error: Missing command.\n  -> See nself deploy audit --help."),
        ("nope", 1, "error: No such command 'nope'.\n  -> See nself deploy audit --help."),
        ("show", 1, "error: Missing argument 'ID'.\n  -> See nself deploy audit show --help."),
        ("list --limit 0", 1, "-> See nself deploy audit list --help."),
        ("--help", 0, "Usage: nself deploy audit [OPTIONS] COMMAND [ARGS]..."),
        ("verify --help", 0, "Usage: nself deploy audit verify [OPTIONS]"),
    ],
)
def test_words(words: str, status: int, said: str, say: Callable[..., Said]) -> None:
    found, out, err = say(*words.split())

    assert found == status
    assert said in (err if status else out)
