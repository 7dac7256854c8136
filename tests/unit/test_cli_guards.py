"""`nself deploy keys` and `nself deploy breaker`, as programs and people meet them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.system import moment
from nself_deploy.app import breaker
from nself_deploy.cli import main as program
from nself_deploy.core.breaker import Turn
from nself_deploy.core.deploy_keys import spelled

WRONG = spelled(bytes(32))
CHECK = ("keys", "check", "--service", "api")
LONG = "x" * 1001

Said = tuple[int, str, str]
Say = Callable[..., Said]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "compose.yaml").write_text("services:\n  api:\n    image: api:1\n")
    return tmp_path


@pytest.fixture
def say(project: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """The exit status, stdout and stderr of `nself deploy WORDS`."""

    def run(*words: str) -> Said:
        status = program.main(["deploy", *words, "-C", str(project)])
        return (status, *capsys.readouterr())

    return run


@pytest.fixture
def key(say: Say) -> str:
    """A key for rollbacks of api in prod."""
    status, out, err = say("keys", "create", "watch", "--service", "api")
    assert status == 0 and out.strip() not in err
    return out.strip()


def process(project: Path, *words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """`nself deploy WORDS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "nself_deploy.cli.main", "deploy", *words, "-C", str(project)],
        input=stdin,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_a_new_key_stands_alone_on_stdout(say: Say) -> None:
    status, out, err = say("keys", "create", "watch", "--service", "api", "--service", "web", "--env", "production")

    assert status == 0 and re.fullmatch(r"nself_deploy_[0-9a-f]{64}\n", out)
    assert re.match(r"\[done\] Create watch \(k[0-9a-f]{8}\): rollback of api, web in prod, until \d{4}-\S+Z\n", err)
    status, out, err = say("--json", "keys", "create", "other", "--service", "*", "--expires", "never")
    assert status == 0 and set(json.loads(out)) == {"key", "id", "name", "expires_at"}
    assert "rollback of anything in prod, without an end" in err


def test_a_command_that_asks_for_no_key_does_not_pass_it_on_either(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSELF_DEPLOY_KEY", WRONG)
    say("keys", "list")
    assert "NSELF_DEPLOY_KEY" not in os.environ


def test_the_list_says_what_a_key_is_for_and_when_it_was_used(
    say: Say, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "never used" in say("keys", "list")[1]
    monkeypatch.setenv("NSELF_DEPLOY_KEY", key)
    assert say(*CHECK)[0] == 0
    _, out, _ = say("keys", "list")
    (found,) = json.loads(say("keys", "list", "--json")[1])

    assert "watch  valid" in out and "rollback api prod" in out and " used 2" in out and key not in out
    assert found["used_for"] == "rollback api prod" and found["state"] == "valid"
    assert not {"digest", "key"} & set(found)


def test_a_key_that_is_revoked_or_replaced(say: Say, key: str, project: Path) -> None:
    status, new, err = say("keys", "rotate", "watch", "--overlap", "1h")
    assert status == 0 and " works until 2" in err
    assert [process(project, *CHECK, NSELF_DEPLOY_KEY=k).returncode for k in (key, new.strip())] == [0, 0]
    first, second = (line["id"] for line in json.loads(say("keys", "list", "--json")[1]))
    assert say("keys", "revoke", "watch")[2].startswith(f"error: There are 2 deploy keys 'watch': {first}, {second}.")
    assert say("keys", "revoke", first) == (0, f"[done] Revoke watch ({first})\n", "")
    assert "it was revoked at" in say("keys", "revoke", first)[1]
    done = process(project, *CHECK, NSELF_DEPLOY_KEY=key)
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, "error: The deploy key was revoked.")
    assert json.loads(say("keys", "revoke", "watch", "--json")[1])["state"] == "revoked"
    assert process(project, *CHECK, NSELF_DEPLOY_KEY=new.strip()).returncode == 3


def test_a_key_from_stdin_the_environment_a_file_and_the_command_line(project: Path, key: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{key}\n")
    file.chmod(0o600)
    for done in (
        process(project, *CHECK, "--key", "-", stdin=f"{key}\n"),
        process(project, *CHECK, "--key", "-", stdin=f"{key}\n", NSELF_DEPLOY_KEY=WRONG),
        process(project, *CHECK, NSELF_DEPLOY_KEY=key),
        process(project, *CHECK, "--key-file", str(file)),
    ):
        assert (done.returncode, done.stderr) == (0, "")
    done = process(project, *CHECK, "--key", key)
    assert done.returncode == 0
    assert done.stderr == (
        "warning: everybody on this machine can see --key in the process list; use NSELF_DEPLOY_KEY or --key -.\n"
    )


def test_a_key_that_is_typed_is_not_shown(project: Path, key: str) -> None:
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "nself_deploy.cli.main", "deploy", *CHECK, "--key", "-", "-C", str(project)]
    running = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    seen = b""
    typed = False
    guard = threading.Timer(150, running.kill)
    guard.start()
    while True:
        try:
            part = os.read(master, 1000)
        except OSError:  # a terminal whose last user went away
            break
        seen += part
        if b"Deploy key" in seen and not typed:
            typed = os.write(master, f"{key}\n".encode()) > 0
        if not part:
            break
    guard.cancel()
    os.close(master)

    assert running.wait(150) == 0
    assert b"may: rollback api prod" in seen and key.encode() not in seen


def test_wrong_and_missing_keys(project: Path, key: str) -> None:
    for words, stdin, env, status, said in (
        ((), "", WRONG, 3, "error: The deploy key is not valid."),
        ((), "", "", 3, "error: No deploy key was given."),
        (("--key", "-"), "", "", 1, "error: --key -: There is no key on stdin."),
        (("--key", "-"), "\n", "", 1, "error: --key -: There is no key on stdin."),
        (("--key", ""), "", key, 3, "error: No deploy key was given."),
        (("--key", key, "--key-file", "x"), "", "", 1, "error: --key-file: --key and --key-file are both there."),
        (("--env", "staging"), "", key, 3, "error: The deploy key is not for rollback of api in staging"),
        (("--action", "deploy"), "", key, 3, "error: The deploy key is not for deploy of api in prod"),
    ):
        done = process(project, *CHECK, *words, stdin=stdin, NSELF_DEPLOY_KEY=env)
        assert done.returncode == status and said in done.stderr and done.stdout == ""
        assert key not in done.stderr and WRONG not in done.stderr
    done = process(project, *CHECK, "--json", NSELF_DEPLOY_KEY=WRONG)
    assert done.returncode == 3 and json.loads(done.stdout)["error"].startswith("The deploy key is not valid.")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o610])
def test_a_key_file_that_others_may_open_is_refused(say: Say, key: str, tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    file.write_text(key)
    file.chmod(mode)
    status, _, err = say(*CHECK, "--key-file", str(file))

    assert status == 1 and f"others may open it (mode {mode:03o})." in err and f"-> chmod 600 {file}" in err


def test_key_files_that_are_none(say: Say, key: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "empty").touch(0o600)
    (tmp_path / "dir").mkdir(0o700)
    for name, said in (
        ("fifo", "is no plain file."),
        ("empty", "holds no deploy key."),
        ("dir", "is no plain file."),
        ("nope", "There is no such file."),
    ):
        status, _, err = say(*CHECK, "--key-file", str(tmp_path / name))
        assert status == 1 and said in err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("keys create", 1, "Missing argument 'NAME'."),
        ("keys create x", 1, "For which service is the key?"),
        ("keys create x --service a/b", 1, "--service: 'a/b' is not a service."),
        ("keys create x --service api --expires soon", 1, "--expires: 'soon' is not a duration"),
        ("keys create x --service api --expires 0s", 1, "--expires: '0s' is out of range."),
        ("keys create x --service api --expires 9999d", 1, "--expires: '9999d' is out of range."),
        ("keys create x --service api --action fly", 1, "--action: There is no action 'fly'."),
        ("keys create ../x --service api", 1, "'../x' is no name for a deploy key."),
        ("keys revoke nope", 1, "There is no deploy key 'nope'."),
        ("keys rotate nope", 1, "There is no deploy key 'nope'."),
        ("keys check", 1, "Missing option '--service'."),
        ("keys check --service a/b", 1, "--service: 'a/b' is not a service."),
        (f"keys check --service {'a' * 500}", 1, f"--service: '{'a' * 200}' is not a service."),
        ("keys check --service api --action fly", 1, "--action: There is no action 'fly'."),
        (f"breaker reset api --reason {LONG}", 1, "--reason: The reason has 1,001 characters: 1,000 are possible."),
        (f"promote --accept-inconclusive --reason {LONG}", 1, "--reason: The reason has 1,001 characters"),
        (f"--rollback --service api --reason {LONG} --key {WRONG}", 1, "The reason has 1,001 characters"),
        (f"--rollback --service {'a' * 500} --key {WRONG}", 1, f"'{'a' * 200}' is no name of a service."),
        ("keys nope", 1, "No such command 'nope'."),
        ("breaker nope", 1, "No such command 'nope'."),
        ("breaker reset", 1, "Missing argument 'SERVICE'."),
        ("keys", 1, "Missing command."),
    ],
)
def test_wrong_words(say: Say, words: str, status: int, said: str) -> None:
    found, out, err = say(*words.split())

    assert (found, out) == (status, "") and said in err


def test_a_project_without_keys_and_rollbacks_is_only_looked_at(say: Say, project: Path) -> None:
    assert say("keys", "list") == (0, "There are no deploy keys.\n", "")
    assert say("keys", "list", "--json")[1] == "[]\n"
    assert say("breaker", "status") == (0, "No service was rolled back lately.\n", "")
    assert say("breaker", "status", "--json")[1] == "[]\n"
    assert [path.name for path in project.iterdir()] == ["compose.yaml"]


def test_a_breaker_that_is_open_says_what_closes_it(say: Say, project: Path) -> None:
    now = moment()
    with Journal.open(project) as journal:
        for number in range(4):
            breaker.ask(journal.guards, "prod", "api", f"v{number}", f"w{number}", now)
            if number < 3:
                breaker.record(journal.guards, "prod", "api", Turn(f"r{number}", now, f"v{number}", f"w{number}"), now)
    _, out, _ = say("breaker", "status")
    (line,) = json.loads(say("breaker", "status", "--json")[1])

    assert out.startswith("api in prod: open, 3 of 3 rollbacks in 60 min\n  From 2")
    assert "one rollback is let through; when no other follows within 1h, it closes." in out
    assert (line["state"], line["limit"], line["bad"]) == ("open", 3, ["v0", "v1", "v2"])
    assert say("breaker", "reset", "api", "--env", "production", "--reason", "mended")[1] == (
        "[done] Reset the breaker of api in prod\n"
    )
    assert say("breaker", "reset", "api")[1].startswith("There is nothing to reset")
    assert json.loads(say("breaker", "reset", "api", "--json")[1])[0]["state"] == "closed"
    assert "breaker-reset   done         prod" in say("audit", "list")[1] and "mended" in say("audit", "list")[1]


def test_a_bug_keeps_no_key(say: Say, key: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nself_deploy.app.keys.authorize", lambda *_: 1 / 0)
    status, _, err = say(*CHECK, "--key", key)

    assert status == 1 and "This is a bug" in err and key not in err
    assert key not in (project / ".nself/traceback.txt").read_text()
