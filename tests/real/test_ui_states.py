"""The seven states of a rollback of one service: each by its real cause, with its exit status and its document."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nself_deploy import RollbackConfig, RollbackUIState, execute_rollback, load_rollback_result
from tests.real.contract import DOCUMENT, check_keys
from tests.real.scene import FAST, edit, tiny
from tests.real.stack import Outcome, Stack, wait_for

pytestmark = pytest.mark.real

NOWHERE = {"DOCKER_HOST": "unix:///nowhere.sock"}
ROLLBACK = DOCUMENT | {"service": str, "environment": str, "ui_state": str, "prior_version": str, "audit_event_id": str}
SETTINGS = "{min_uptime: 20s, drain: 1s, health_timeout: 240s, breaker: {rollbacks: 5}}"
"""A cold rollback takes so long that another one meets it, also where a process needs seconds to begin."""
WRONG = "nself_deploy_" + "x" * 43


@dataclass
class Site:
    stack: Stack
    key: str

    def deploy(self, release: str, *words: str) -> None:
        self.stack.nself(*FAST, *words, RELEASE=release)

    def back(self, *words: str, key: str | None = None, **env: str) -> Outcome:
        words = ("--rollback", "--service", "web", "--env", "local", "--json", *words)
        return self.stack.nself(*words, check=False, NSELF_DEPLOY_KEY=self.key if key is None else key, **env)

    @property
    def served(self) -> str:
        return self.stack.get("/")[2].decode().removeprefix("release ").strip()


def check(outcome: Outcome, status: int, state: str, *says: str) -> dict[str, Any]:
    assert outcome.status == status, outcome.text
    document: dict[str, Any] = outcome.json
    check_keys(document, ROLLBACK)
    assert (document["ui_state"], document["success"]) == (state, status == 0), document
    assert bool(document["error"]) is (status != 0)
    assert "Traceback" not in outcome.err
    for words in says:
        assert words in outcome.err, (words, outcome.text)
    return document


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    stack = tiny(init=False)
    try:
        edit(stack, "services:", f"x-nself-deploy: {SETTINGS}\n\nservices:")
        edit(stack, "      - mkdir -p /www;", "      - grep -q fine /flags/flag || exit 1; mkdir -p /www;")
        edit(
            stack,
            "    stop_grace_period: 3s\n\n  store:",
            '    volumes: ["./flags:/flags:ro"]\n    stop_grace_period: 3s\n\n  store:',
        )
        (stack.root / "flags").mkdir()
        (stack.root / "flags/flag").write_text("fine\n")
        stack.nself("init", "--yes")
        made = Site(stack, "")
        made.deploy("one")
        made.key = stack.nself("keys", "create", "night", "--service", "web", "--env", "local").out.strip()
        yield made
    finally:
        stack.remove()


def test_permission_denied_without_a_key_that_may_do_this(site: Site) -> None:
    other = site.stack.nself("keys", "create", "other", "--service", "api", "--env", "local").out.strip()
    check(site.back(key=""), 3, "permission-denied", "No deploy key was given")
    check(site.back(key=WRONG), 3, "permission-denied", "is not valid")
    check(site.back(key=other), 3, "permission-denied", "is not for rollback of web in local")
    site.stack.nself("keys", "revoke", "other")
    check(site.back(key=other), 3, "permission-denied", "was revoked")
    denied = [e for e in site.stack.nself("audit", "list", "--json").json if "denied" in e["outcome"]]
    assert denied and not any(site.key in str(event) for event in denied)


def test_empty_while_there_is_no_prior_version(site: Site) -> None:
    document = check(site.back(), 1, "empty", "no prior version of web")
    assert document["steps"] == [] and document["audit_event_id"]


def test_populated_when_it_is_complete(site: Site) -> None:
    site.deploy("two", "--standby", "10m")
    document = check(site.back("--reason", "slo-watcher: burns"), 0, "populated")
    assert site.served == "one"
    assert [s["name"] for s in document["steps"]][:2] == ["Probe standby blue", "Move traffic to blue"]
    (event,) = (e for e in site.stack.nself("audit", "list", "--json").json if e["id"] == document["audit_event_id"])
    assert (event["service"], event["reason"], event["outcome"]) == ("web", "slo-watcher: burns", "done")
    assert event["metadata"]["key"] == "night"
    found = load_rollback_result(site.stack.root, "web", "local")
    assert found is not None and found.success and found.prior_version == document["prior_version"]


def test_rate_limited_when_it_would_go_back_and_forth(site: Site) -> None:
    check(site.back(), 4, "rate-limited", "->")
    assert site.served == "one"
    (line,) = site.stack.nself("breaker", "status", "--json").json
    assert (line["service"], line["state"], line["rollbacks"], line["limit"]) == ("web", "closed", 1, 5)
    assert len(line["bad"]) == 1
    site.stack.nself("breaker", "reset", "web", "--env", "local", "--reason", "for the next test")


def test_error_when_the_release_does_not_come_up_again(site: Site) -> None:
    site.deploy("three", "--standby", "0")
    flag = site.stack.root / "flags/flag"
    flag.write_text("broken\n")
    try:
        document = check(site.back("--max-retries", "1"), 5, "error", "web in", "not healthy")
    finally:
        flag.write_text("fine\n")
    assert site.served == "three" and document["final_percent"] == 0


def test_offline_without_an_engine_or_a_project(site: Site, tmp_path: Path) -> None:
    check(site.back(**NOWHERE), 2, "offline", "can't be reached")
    assert site.served == "three"
    check(site.back("-C", str(tmp_path / "nothing")), 2, "offline")
    result = execute_rollback(RollbackConfig("web", site.key, environment="local", project_root=tmp_path))
    assert (result.success, result.ui_state) == (False, RollbackUIState.OFFLINE)


def test_offline_within_seconds_when_the_engine_hangs(site: Site, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "engine"))
        silent.listen(16)
        start = time.monotonic()
        check(site.back(DOCKER_HOST=f"unix://{tmp_path}/engine"), 2, "offline", "did not answer")
    assert time.monotonic() - start < 240 and site.served == "three"


def test_loading_while_it_runs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in site.stack.environment().items():
        monkeypatch.setenv(name, value)
    config = RollbackConfig("web", site.key, "by the API", "local", project_root=site.stack.root)
    results = []
    thread = threading.Thread(target=lambda: results.append(execute_rollback(config)))
    thread.start()

    def state() -> RollbackUIState | None:
        found = load_rollback_result(site.stack.root, "web", "local")
        return found.ui_state if found else None

    wait_for(lambda: state() is RollbackUIState.LOADING, "a rollback that runs")
    check(site.back(), 6, "loading")
    thread.join(300)
    assert [r.ui_state for r in results] == [RollbackUIState.POPULATED], results
    assert site.served == "one" and state() is RollbackUIState.POPULATED
