"""`nself deploy serve`, a real process asked over real connections; without Docker, and with nothing to go back to."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.web_server import address_of
from nself_deploy.cli.serving import _tls
from nself_deploy.core.plan import Cause
from nself_deploy.core.rollback import RollbackDocument
from nself_deploy.core.web import ServedLine
from tests.unit.serving_scene import (
    LIMIT_S,
    PROGRAM,
    WRONG,
    Client,
    Reply,
    Server,
    a_deploy,
    a_key,
    a_way_back,
    deployed,
    events,
    version,
    written,
)

ALERT = "/v1/alertmanager"
ROLLBACK = "/v1/rollback"


@pytest.fixture
def key(tmp_path: Path) -> str:
    return deployed(tmp_path)


@pytest.fixture
def server(tmp_path: Path, key: str) -> Iterator[Server]:
    with Server(tmp_path) as running:
        yield running
        assert "Traceback" not in running.log.read_text() and key not in running.log.read_text()


def outcomes(reply: Reply) -> list[tuple[str, str]]:
    return [(line["outcome"], line["ui_state"]) for line in reply.json["alerts"]]


def without_docker(root: Path, script: str = "") -> dict[str, str]:
    """An environment without a docker command, or with one that does what the script says."""
    place = root / "bin"
    place.mkdir(exist_ok=True)
    if script:
        (place / "docker").write_text(f"#!/bin/sh\n{script}\n")
        (place / "docker").chmod(0o755)
    return {"PATH": f"{place}:/usr/bin:/bin" if script else str(place)}


def test_it_says_that_it_is_there(server: Server) -> None:
    reply = server.ask("GET", "/healthz")

    assert (reply.status, reply.json["status"]) == (200, "ok") and reply.json["version"]
    assert reply.headers["Content-Type"].startswith("application/json")


def test_a_rollback_ends_in_the_state_that_the_command_would_print(server: Server, key: str, tmp_path: Path) -> None:
    reply = server.back(key, reason="slo-watcher: burns 22x")
    document = reply.json

    assert (reply.status, document["ui_state"], document["success"]) == (404, "empty", False)
    assert {*RollbackDocument.__struct_fields__, "remedy"} == set(document)
    assert document["error"] == "There is no prior version of web in prod." and document["remedy"]
    (event,) = (e for e in events(tmp_path) if e.id == document["audit_event_id"])
    assert (event.service, event.reason, event.metadata["key"]) == ("web", "slo-watcher: burns 22x", "night")
    shown = server.ask("GET", f"{ROLLBACK}?service=web", key=key)
    assert (shown.status, shown.json["ui_state"], shown.json["service"]) == (200, "empty", "web")
    assert server.ask("GET", f"{ROLLBACK}?service=api&environment=production", key=key).status == 404
    server.says(r"404 POST /v1/rollback from 127\.0\.0\.1: web in prod empty .* The deploy key night expires at ")


def test_wrong_and_unknown_keys_are_one_answer_and_the_address_is_on_record(
    server: Server, key: str, tmp_path: Path
) -> None:
    replies = [server.back(other) for other in (WRONG, "nonsense", key[:-1])]

    assert {(r.status, r.body) for r in replies} == {(401, replies[0].body)}
    assert replies[0].headers["WWW-Authenticate"].startswith("Bearer")
    assert (
        replies[0].json["ui_state"] == "permission-denied"
        and replies[0].json["error"] == "The deploy key is not valid."
    )
    assert server.back("").json["error"] == "No deploy key was given."
    assert server.ask("POST", ROLLBACK, {"service": "web"}, Authorization=f"Basic {key}").status == 401
    scoped = server.back(key, "worker")
    assert scoped.status == 403 and "is not for rollback of worker in prod" in scoped.json["error"]
    assert server.ask("GET", f"{ROLLBACK}?service=web", key=WRONG).status == 401
    assert {e.metadata["source"] for e in events(tmp_path) if e.event_type == "denied-attempt"} == {"127.0.0.1"}
    assert not any(word in server.log.read_text() for word in (WRONG, key, key[:-1]))


def test_too_many_wrong_keys_are_limited(server: Server, key: str) -> None:
    statuses = [server.back(WRONG).status for _ in range(12)]

    assert statuses[:10] == [401] * 10 and statuses[-1] == 429
    refused = server.back(key)
    assert (refused.status, refused.json["ui_state"]) == (429, "rate-limited") and int(
        refused.headers["Retry-After"]
    ) >= 1
    assert server.alert(key, {}).status == 503


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "says"),
    [
        ("GET", "/", None, {}, 404, "nothing at this path"),
        ("POST", "/healthz", {}, {}, 405, "not for this method"),
        ("GET", ALERT, None, {}, 405, "not for this method"),
        ("OPTIONS", ROLLBACK, None, {"Origin": "http://elsewhere.example"}, 405, "not for this method"),
        ("POST", ROLLBACK, {"service": "web"}, {"Content_Type": "text/plain"}, 415, "not said to be JSON"),
        ("POST", ROLLBACK, {"service": "web"}, {"Content_Encoding": "gzip"}, 415, "compressed"),
        ("POST", ROLLBACK, b"{", {}, 400, "can't be read"),
        ("POST", ROLLBACK, {}, {}, 400, "`service`"),
        ("POST", ROLLBACK, {"service": "web", "to": "one"}, {}, 400, "`to`"),
        ("POST", ROLLBACK, {"service": 5}, {}, 400, "$.service"),
        ("POST", ROLLBACK, {"service": "../web"}, {}, 400, "no name of a service"),
        ("POST", ROLLBACK, {"service": "we\nb"}, {}, 400, "no name of a service"),
        ("POST", ROLLBACK, {"service": "web", "environment": "mars"}, {}, 400, "no environment 'mars'"),
        ("POST", ROLLBACK, {"service": "web", "max_retries": 99}, {}, 400, "0 to 10"),
        ("POST", ROLLBACK, b'{"service": "' + b"x" * 20_000 + b'"}', {}, 413, "larger than"),
        ("GET", ROLLBACK, None, {}, 400, "no name of a service"),
        ("POST", ALERT, {"alerts": "none"}, {}, 400, "no notification"),
        ("POST", ALERT, b" " * (1024 * 1024 + 1), {}, 413, "larger than"),
    ],
)
def test_what_is_wrong_is_said_in_json(
    shared: Server, method: str, path: str, body: object, headers: dict[str, str], status: int, says: str
) -> None:
    reply = shared.ask(method, path, body, **headers)

    assert (reply.status, set(reply.json)) == (status, {"what", "remedy"}), reply.body
    assert says in reply.json["what"]
    assert not any(name.lower().startswith("access-control") for name in reply.headers)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for many questions that change nothing."""
    root = tmp_path_factory.mktemp("shared")
    deployed(root)
    with Server(root) as running:
        yield running


def test_an_alert_is_one_rollback_also_across_a_restart_and_a_kill(tmp_path: Path, key: str) -> None:
    with Server(tmp_path) as server:
        first = server.alert(key, {})
        assert (first.status, outcomes(first)) == (200, [("rollback", "empty")])
        assert outcomes(server.alert(key, {})) == [("repeated", "")]
        assert server.stop() == 0
        server.start()
        assert outcomes(server.alert(key, {})) == [("repeated", "")]
        assert outcomes(server.alert(key, {"fingerprint": "fedcba"})) == [("rollback", "empty")]
        server.process.kill()
        server.process.wait(LIMIT_S)
        server.start()
        assert outcomes(server.alert(key, {"fingerprint": "fedcba"}, {})) == [("repeated", ""), ("repeated", "")]

    assert len([e for e in events(tmp_path) if e.event_type == "rollback"]) == 2
    assert any("ErrorBudgetBurn [0123456789abcdef" in e.reason for e in events(tmp_path))


def test_alerts_that_ask_for_nothing(server: Server, key: str, tmp_path: Path) -> None:
    reply = server.alert(
        key,
        {"status": "resolved"},
        {"startsAt": "2026-11-27T02:00:59.999Z", "fingerprint": "a"},
        {"labels": {"alertname": "x"}, "fingerprint": "b"},
        {"labels": {"service": "we/b"}, "fingerprint": "c"},
        {"labels": {"service": "web", "environment": "mars"}, "fingerprint": "d"},
    )

    assert (reply.status, outcomes(reply)) == (
        200,
        [("resolved", ""), ("before-release", ""), ("not-ours", ""), ("not-ours", ""), ("not-ours", "")],
    )
    assert not [e for e in events(tmp_path) if e.event_type == "rollback"]


def test_an_alert_for_a_service_that_we_do_not_have(server: Server, tmp_path: Path) -> None:
    reply = server.alert(a_key(tmp_path, "all", "*"), {"labels": {"service": "shop"}})

    assert (reply.status, outcomes(reply)) == (200, [("not-ours", "")])
    assert "no service of that name" in reply.json["alerts"][0]["detail"]


def test_alerts_need_a_key_for_what_they_are_about(server: Server, key: str, tmp_path: Path) -> None:
    assert [server.alert(k, {}).status for k in ("", WRONG)] == [401, 401]
    assert server.alert("", {"labels": {}}).status == 401
    reply = server.alert(a_key(tmp_path, "api", "api"), {}, {"labels": {"service": "api"}, "fingerprint": "a"})
    assert (reply.status, outcomes(reply)) == (403, [("denied", ""), ("rollback", "empty")])
    assert outcomes(server.alert(key, {})) == [("rollback", "empty")]


def test_an_alert_whose_rollback_was_done_before_the_process_died_is_not_rolled_back_again(
    tmp_path: Path, key: str
) -> None:
    mark = "alertmanager: ErrorBudgetBurn [0123456789abcdef 2026-11-27T02:02:00.123456Z]"
    with Journal.open(tmp_path) as journal:
        written(journal, "run-2", a_way_back("one", "two", mark))
    with Server(tmp_path) as server:
        assert outcomes(server.alert(key, {})) == [("repeated", "")]


def test_a_rollback_of_another_service_makes_nothing_younger(tmp_path: Path, key: str) -> None:
    with Journal.open(tmp_path) as journal:
        other = a_way_back("two", "three", "by hand")
        written(
            journal,
            "run-2",
            msgspec.structs.replace(other, cause=Cause("api", "by hand")),
            {"move": "2026-11-27T02:30:00Z"},
        )
    with Server(tmp_path) as server:
        assert outcomes(server.alert(key, {})) == [("rollback", "empty")]


def test_after_a_rollback_new_alerts_are_taken_for_its_echo_for_a_while(tmp_path: Path, key: str) -> None:
    with Journal.open(tmp_path) as journal:
        written(journal, "run-2", a_way_back("two", "three", "by hand"), {"move": "2026-11-27T02:01:30Z"})
    with Server(tmp_path) as server:
        later = {"startsAt": "2026-11-27T02:16:31Z", "fingerprint": "a"}
        assert outcomes(server.alert(key, {})) == [("echo", "")]
        assert outcomes(server.alert(key, later)) == [("rollback", "empty")]


def test_without_docker_it_is_offline_and_an_alert_is_worth_another_try(tmp_path: Path) -> None:
    key = deployed(tmp_path, before="one")
    with Journal.open(tmp_path) as journal:
        journal.save_release(version("zero"))
        written(journal, "run-0", a_deploy("one", "zero"))
    with Server(tmp_path, **without_docker(tmp_path)) as server:
        reply = server.back(key)
        assert (reply.status, reply.json["ui_state"]) == (503, "offline"), reply.body
        assert "There is no `docker` command" in reply.json["error"] and reply.json["remedy"]
        for _ in range(2):
            told = server.alert(key, {})
            assert (told.status, outcomes(told)) == (503, [("rollback", "offline")]) and told.headers["Retry-After"]


def test_sigterm_finishes_what_is_under_way_and_meanwhile_others_are_answered(tmp_path: Path) -> None:
    key = deployed(tmp_path, before="one")
    (go := tmp_path / "go").unlink(missing_ok=True)
    stuck = f"touch {tmp_path}/asked; while [ ! -e {go} ]; do sleep 0.05; done; echo gone >&2; exit 1"
    with Server(tmp_path, **without_docker(tmp_path, stuck)) as server:
        replies: list[Reply] = []
        asking = threading.Thread(target=lambda: replies.append(server.back(key)))
        asking.start()
        while not (tmp_path / "asked").exists():
            asking.join(0.02)
            assert asking.is_alive(), replies[0].body
        assert server.ask("GET", "/healthz").status == 200
        assert server.back(WRONG).status == 401
        server.process.send_signal(signal.SIGTERM)
        server.says("Stopping: what is under way is finished")
        asking.join(0.2)
        assert asking.is_alive()
        go.touch()
        asking.join(LIMIT_S)
        assert server.process.wait(LIMIT_S) == 0
        assert (replies[0].status, replies[0].json["ui_state"]) == (422, "error") and "gone" in replies[0].json["error"]
        server.says(r"\nStopped\.\n")


def test_an_alert_whose_rollback_was_killed_before_it_began_is_not_forgotten(tmp_path: Path) -> None:
    key = deployed(tmp_path, before="one")
    stuck = f"touch {tmp_path}/asked; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    with Server(tmp_path, **without_docker(tmp_path, stuck)) as server:

        def ask() -> None:
            with contextlib.suppress(OSError):
                server.alert(key, {})

        asking = threading.Thread(target=ask)
        asking.start()
        while not (tmp_path / "asked").exists():
            asking.join(0.02)
            assert asking.is_alive()
        server.process.kill()
        server.process.wait(LIMIT_S)
        asking.join(LIMIT_S)
        (tmp_path / "go").touch()  # what it had started ends, too
        (tmp_path / "bin/docker").unlink()
        server.start()
        assert outcomes(server.alert(key, {})) == [("rollback", "offline")]


def test_with_json_each_thing_is_one_line(tmp_path: Path, key: str) -> None:
    done = subprocess.Popen(
        [*PROGRAM, "--listen", "127.0.0.1:0", "--json", "-C", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert done.stdout is not None
    with done:
        client = Client()
        client.port = int(json.loads(done.stdout.readline())["detail"].rstrip(".").rsplit(":", 1)[1])
        assert client.back(key).status == 404
        line = json.loads(done.stdout.readline())
        done.send_signal(signal.SIGTERM)
        rest = [json.loads(text)["event"] for text in done.stdout]

    assert set(line) == set(ServedLine.__struct_fields__)
    assert (line["event"], line["status"], line["ui_state"], line["service"]) == ("answered", 404, "empty", "web")
    assert rest == ["stopping", "stopped"]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("--listen", "nowhere:80"), 1, "no address to listen on"),
        (("--listen", "127.0.0.1"), 1, "no address to listen on"),
        (("--listen", "127.0.0.1:99999"), 1, "no address to listen on"),
        (("--listen", "0.0.0.0:0"), 1, "deploy keys can be read on the way"),
        (("--listen", "192.0.2.1:0", "--without-tls"), 2, "no such address"),
        (("--tls-cert", "cert.pem"), 1, "belong together"),
        (("--tls-cert", "cert.pem", "--tls-key", "key.pem", "--without-tls"), 1, "exclude each other"),
        (("--tls-cert", "compose.yaml", "--tls-key", "compose.yaml"), 1, "no certificate with its key"),
        (("--tls-cert", "gone.pem", "--tls-key", "gone.pem"), 1, "can't be read"),
    ],
)
def test_what_it_does_not_start_with(words: tuple[str, ...], status: int, says: str, tmp_path: Path, key: str) -> None:
    done = subprocess.run(
        [*PROGRAM, *words], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )

    assert (done.returncode, key in done.stderr) == (status, False), done.stderr
    assert says in done.stderr and "  -> " in done.stderr


def test_it_does_not_start_without_a_project_or_on_a_port_that_is_taken(server: Server, tmp_path: Path) -> None:
    (nothing := tmp_path / "nothing").mkdir()
    for root, words, status in ((nothing, (), 1), (tmp_path, ("--listen", f"127.0.0.1:{server.port}"), 2)):
        done = subprocess.run(
            [*PROGRAM, *words, "-C", str(root)], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == status and "  -> " in done.stderr, done.stderr


def test_plain_http_for_other_machines_is_said_to_be_dangerous(capsys: pytest.CaptureFixture[str]) -> None:
    assert _tls(address_of("0.0.0.0:9470"), None, None, plain=True) is None
    assert capsys.readouterr().err.startswith("warning: without TLS, deploy keys")
    assert _tls(address_of("[::1]:9470"), None, None, plain=False) is None
    assert capsys.readouterr().err == ""
