"""`nself deploy audit init`, `deliver`, `status`, `remove`: with a real receiver, by hand and in the background."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nself_deploy import wiring
from nself_deploy.adapters.audit_sinks import AuditSinks
from nself_deploy.adapters.audit_webhook import TIMEOUT_S
from nself_deploy.adapters.journal import Journal
from nself_deploy.cli import main as program
from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.rollback import Request
from nself_deploy.errors import StateFileError
from nself_deploy.wiring import delivery
from nself_deploy.wiring.service_rollback import By, Told, _Ended, _Rollback
from tests.unit.http_receiver import LIMIT_S, Receiver, nobody, receiver

Said = tuple[int, str, str]
Say = Callable[..., Said]
COMMAND = (sys.executable, "-m", "nself_deploy.cli.main", "deploy", "audit")


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "compose.yaml").write_text("services: {web: {image: web}}\n")
    yield tmp_path
    (tmp_path / ".nself/audit-sinks.json").unlink(missing_ok=True)  # nobody tries in the background any more


@pytest.fixture
def say(project: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    def run(*words: str) -> Said:
        status = program.main(["deploy", "audit", *words, "-C", str(project)])
        return (status, *capsys.readouterr())

    return run


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would have been started in the background."""
    words: list[list[str]] = []
    monkeypatch.setattr(wiring, "spawn_detached", words.append)
    return words


def write(project: Path, count: int = 1) -> None:
    """Events, and nobody who delivers them."""
    with Journal.open(project, actor="ada@one") as journal:
        for _ in range(count):
            journal.add_event(AuditEvent("deploy", "prod", "done", service="web"))


def test_without_a_sink_nothing_is_started_and_status_says_so(
    say: Say, project: Path, started: list[list[str]]
) -> None:
    nothing = say("status")
    with wiring.open_journal(project) as journal:
        journal.add_event(AuditEvent("deploy", "prod", "done"))

    assert nothing == (0, "The trail is delivered to nobody; nself deploy audit init adds a sink.\n", "")
    assert say("status", "--json")[1] == "[]\n"
    assert started == []
    assert say("deliver")[0] == 1


def test_a_webhook_gets_all_events_in_the_background(say: Say, project: Path, server: Receiver) -> None:
    write(project, 2)
    status, out, err = say("init", "--webhook", server.url)
    server.wait_for(3)

    assert (status, out) == (
        0,
        f"[done] Keep sink webhook  http://127.0.0.1:{server.port}; 3 events wait, and are delivered now\n",
    )
    assert err.startswith("warning: events are sent unsigned;")
    assert server.numbers == [1, 2, 3]
    assert server.events[2]["event_type"] == "sink-added" and "t0ken" not in str(server.events)
    assert (project / ".nself/audit-sinks.json").stat().st_mode & 0o777 == 0o600


def test_what_a_command_writes_is_delivered_after_it_ended(say: Say, project: Path, server: Receiver) -> None:
    say("init", "--webhook", server.url)
    server.wait_for(1)
    words = [*COMMAND[:-1], "keys", "create", "watch", "--service", "web", "-C", str(project)]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    server.wait_for(2)

    assert server.events[1]["event_type"] == "key-created"


def test_a_receiver_that_hangs_delays_no_command(say: Say, project: Path, server: Receiver) -> None:
    server.hang = threading.Event()
    say("init", "--webhook", server.url)
    began = time.monotonic()
    for number in range(3):
        with wiring.open_journal(project) as journal:
            journal.add_event(AuditEvent("deploy", "prod", "done", id=f"e{number}"))
    took, delivered = time.monotonic() - began, list(server.got)
    server.hang.set()
    server.wait_for(4)

    assert delivered == [] and took < 2 * TIMEOUT_S  # each of the three would have waited that long
    assert server.numbers == [1, 2, 3, 4]


def test_what_waits_is_said_by_status_and_list(say: Say, project: Path, started: list[list[str]]) -> None:
    with nobody() as url:
        say("init", "--webhook", url)
        write(project)
        status, _, err = say("deliver")
    (line,) = json.loads(say("status", "--json")[1])
    text = say("status")[1]

    assert status == 2 and "can't be reached" in err and "t0ken" not in err
    assert (line["name"], line["kind"], line["delivered"], line["waiting"]) == ("webhook", "webhook", 0, 2)
    assert line["since"] and line["failures"] == 1 and "t0ken" not in str(line)
    assert text.startswith("2 events wait for webhook (http://127.0.0.1:") and "can't be reached" in text
    assert say("list")[1].endswith(text)
    assert started == [["deploy", "deliver-audit", "-C", str(project)]]


def test_by_hand_it_is_delivered_once(say: Say, project: Path, server: Receiver, started: list[list[str]]) -> None:
    say("init", "--webhook", server.url, "--name", "siem")
    first = say("deliver")
    second = say("deliver", "--json", "--sink", "siem")
    again = say("deliver", "--again")

    assert first[0] == second[0] == again[0] == 0
    assert first[1].startswith(f"siem (http://127.0.0.1:{server.port}) has all 1 events at ")
    assert server.numbers == [1, 1]
    assert json.loads(second[1])[0]["waiting"] == 0
    assert [headers["Idempotency-Key"] for headers, _ in server.got] == [server.events[0]["id"]] * 2


def test_a_sink_is_changed_removed_and_each_is_on_the_trail(
    say: Say, project: Path, server: Receiver, started: list[list[str]]
) -> None:
    secret = project / "secret"
    secret.write_text("x\n")
    secret.chmod(0o600)
    say("init", "--webhook", server.url)
    say("init", "--webhook", server.url)
    say("init", "--webhook", server.url, "--secret-file", str(secret))
    removed = say("remove", "webhook")
    with Journal.open(project, create=False) as journal:
        types = [event.event_type for event in reversed(journal.events())]

    assert types == ["sink-added", "sink-changed", "sink-removed"]
    assert removed == (0, f"[done] Remove webhook  http://127.0.0.1:{server.port}\n", "")
    assert say("status", "--json")[1] == "[]\n"
    assert say("remove", "webhook")[0] == 1


def test_killed_in_the_middle_it_goes_on_where_it_was(
    say: Say, project: Path, server: Receiver, started: list[list[str]]
) -> None:
    say("init", "--webhook", server.url)
    write(project, 150)
    for least in (20, 60, 100):
        with subprocess.Popen([*COMMAND, "deliver", "-C", str(project)], stdout=subprocess.DEVNULL) as process:
            server.wait_for(least)
            process.kill()
    say("deliver")
    numbers = server.numbers

    assert sorted(set(numbers)) == list(range(1, 152))
    assert [n for at, n in enumerate(numbers) if n not in numbers[:at]] == list(range(1, 152))
    assert len(numbers) <= 151 + 3  # each kill may have cut one answer off
    assert len({headers["Idempotency-Key"] for headers, _ in server.got}) == 151


def test_two_deliver_at_once_and_nothing_is_sent_twice(
    say: Say, project: Path, server: Receiver, started: list[list[str]]
) -> None:
    say("init", "--webhook", server.url)
    write(project, 60)
    words = [*COMMAND, "deliver", "-C", str(project)]
    processes = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for _ in range(3)]

    assert [process.wait(LIMIT_S) for process in processes] == [0, 0, 0]
    assert server.numbers == list(range(1, 62))


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_who_follows_learns_of_events_and_of_new_sinks(
    say: Say, project: Path, server: Receiver, started: list[list[str]], end: signal.Signals
) -> None:
    say("init", "--webhook", server.url)
    words = [*COMMAND, "deliver", "--follow", "-C", str(project)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
        try:
            server.wait_for(1)
            write(project)
            server.wait_for(2)
            with receiver() as second:
                say("init", "--webhook", second.url, "--name", "second")
                second.wait_for(3)
                say("remove", "second")
                write(project)
                server.wait_for(5)
                kept = second.numbers
            follower.send_signal(end)
            out, err = follower.communicate(timeout=LIMIT_S)
        finally:
            follower.kill()

    assert kept == [1, 2, 3] and server.numbers == [1, 2, 3, 4, 5]
    assert (
        follower.returncode == 130
        and err == ""
        and out.endswith("Stopped; what waits is delivered by the next command.\n")
    )


def test_only_one_process_in_the_background_delivers(
    say: Say, project: Path, server: Receiver, started: list[list[str]]
) -> None:
    words = [*COMMAND[:-1], "deliver-audit", "-C", str(project)]
    say("init", "--webhook", server.url)
    with AuditSinks(project).courier(1) as ours:
        subprocess.run(words, check=True, timeout=300)
        nothing = list(server.got)
        with wiring.open_journal(project) as journal:
            journal.add_event(AuditEvent("deploy", "prod", "done"))
    subprocess.run(words, check=True, timeout=300)

    assert ours and nothing == []
    assert started == [["deploy", "deliver-audit", "-C", str(project)]]  # by init: later nobody else was needed
    assert server.numbers == [1, 2]


def test_a_background_process_that_fails_says_nothing_and_keeps_the_error(project: Path, say: Say) -> None:
    sinks = AuditSinks(project)
    say("init", "--webhook", "http://127.0.0.1:9/x")
    sinks.load()
    (project / ".nself/audit-sinks.json").write_text('[{"password": "topsecret"')
    with wiring.open_journal(project) as journal:  # no command fails because of it
        journal.add_event(AuditEvent("deploy", "prod", "done"))
    status, out, err = say("status")

    assert (status, out) == (1, "") and "it is no list of sinks" in err and "topsecret" not in err
    with pytest.raises(StateFileError):
        sinks.load()


def test_a_project_without_the_library_is_told_what_to_install(
    say: Say, monkeypatch: pytest.MonkeyPatch, started: list[list[str]]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "psycopg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    status, _, err = say("init", "--postgres", "postgresql://ann:topsecret@db/audit")

    assert status == 2 and "pip install 'nself-deploy[postgres]'" in err and "topsecret" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("init", "error: Where to?"),
        ("init --postgres x --webhook y", "--postgres and --webhook are both there."),
        ("init --webhook ftp://x/y", "--webhook: It is no http or https address."),
        ("init --webhook https://h/x --account a", "--account: A webhook has no account."),
        ("init --webhook https://h/x --name ../x", "--name: '../x' is no name of a sink."),
        ("init --webhook https://h/x --secret-file nowhere", "nowhere: There is no such file."),
        ("init --postgres x=1 --secret-file f", "--secret-file: A table is not signed."),
        ("init --postgres secretword", "--postgres: It is no DSN of PostgreSQL."),
        ("deliver --follow --again", "--again: --follow and --again are both there."),
        ("deliver", "The audit trail has no sink."),
        ("deliver --follow", "The audit trail has no sink."),
        ("remove x", "The audit trail has no sink."),
        ("remove", "Missing argument 'SINK'."),
    ],
)
def test_wrong_words(say: Say, project: Path, words: str, said: str) -> None:
    status, out, err = say(*words.split())

    assert (status, out) == (1, "") and said in err and "secretword" not in err
    assert err.splitlines()[-1].startswith("  -> ")
    assert not (project / ".nself").exists()


def test_the_statements_are_printed_without_a_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["deploy", "audit", "init", "--sql", "-C", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("BEGIN;\nCREATE TABLE np_auditlog_events (")
    assert list(tmp_path.iterdir()) == []


def test_nothing_secret_is_inherited_or_in_a_process_list(
    say: Say, server: Receiver, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSELF_AUDIT_POSTGRES", "postgresql://ann:topsecret@db/audit")
    say("init", "--webhook", server.url)

    assert "NSELF_AUDIT_POSTGRES" not in os.environ
    assert "t0ken" not in str(started)


async def test_a_sink_that_was_removed_gets_nothing_from_who_still_knows_it(
    say: Say, project: Path, server: Receiver, started: list[list[str]]
) -> None:
    known = delivery.webhook(server.url, "webhook", "")
    await delivery.add(str(project), known)
    with Journal.open(project) as journal:
        courier = delivery._courier(journal, AuditSinks(project), [known])
        await delivery.remove(str(project), "webhook")
        errors = await courier.once()

    assert "was changed or removed meanwhile" in str(errors["webhook"]) and server.got == []


def test_a_rollback_with_a_good_key_starts_nobody_before_users_are_back(
    say: Say, project: Path, server: Receiver, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    program.main(["deploy", "keys", "create", "watch", "--service", "web", "-C", str(project)])
    key = capsys.readouterr().out.strip()
    say("init", "--webhook", server.url)
    request = Request("web", "prod", "", 0)
    started.clear()
    with contextlib.ExitStack() as meanwhile:
        _Rollback(str(project), request, key, Told(), By())._authorize(meanwhile)
    good = list(started)
    with pytest.raises(_Ended), contextlib.ExitStack() as meanwhile:
        _Rollback(str(project), request, "wrong", Told(), By())._authorize(meanwhile)

    assert good == []
    assert started == [["deploy", "deliver-audit", "-C", str(project)]]
