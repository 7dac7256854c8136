"""Rollbacks that are asked for by HTTP, on a real site: by a program, and by Prometheus and Alertmanager at night."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from nself_deploy import load_rollback_result
from nself_deploy.core.rollback import RollbackUIState
from tests.real import people
from tests.real.alert_parts import Alertmanager, Watching
from tests.real.prometheus_parts import Exporter
from tests.real.scene import FAST, edit, tiny
from tests.real.stack import Stack, wait_for
from tests.unit.serving_scene import Server

pytestmark = pytest.mark.real

SETTINGS = "x-nself-deploy: {min_uptime: 15s, drain: 1s, health_timeout: 240s}"
PAUSE_S = 0.02


def a_key(stack: Stack) -> str:
    return stack.nself("keys", "create", "night", "--service", "web", "--env", "local").out.strip()


@pytest.fixture
def site() -> Iterator[Stack]:
    stack = tiny(init=False)
    with people.removed_at_the_end(stack):
        edit(stack, "services:", f"{SETTINGS}\n\nservices:")
        stack.nself("init", "--yes")
        yield stack


def served(stack: Stack) -> str:
    return stack.get("/")[2].decode().removeprefix("release ").strip()


def test_a_warm_and_a_cold_rollback_by_http(site: Stack) -> None:
    site.nself(*FAST, RELEASE="one")
    site.nself(*FAST, "--standby", "10m", RELEASE="two")
    key = a_key(site)
    with Server(site.root, **site.environment()) as server:
        reply = server.back(key, environment="local", reason="slo-watcher: burns 22x")
        assert (reply.status, reply.json["ui_state"], served(site)) == (200, "populated", "one"), reply.body
        (event,) = (e for e in site.nself("audit", "list", "--json").json if e["id"] == reply.json["audit_event_id"])
        assert (event["reason"], event["metadata"]["key"]) == ("slo-watcher: burns 22x", "night")
        again = server.back(key, environment="local")
        assert (again.status, again.json["ui_state"]) == (429, "rate-limited")
        site.nself("breaker", "reset", "web", "--env", "local", "--reason", "for the next one")
        site.nself(*FAST, "--standby", "0", RELEASE="three")
        answers: list[tuple[int, str]] = []
        asking = threading.Thread(
            target=lambda: answers.append(((r := server.back(key, environment="local")).status, r.json["ui_state"]))
        )
        asking.start()
        path = "/v1/rollback?service=web&environment=local"
        wait_for(lambda: server.ask("GET", path, key=key).json.get("ui_state") == "loading", "loading")
        assert server.ask("GET", "/healthz").status == 200
        other = server.back(key, environment="local")
        assert (other.status, other.json["ui_state"]) == (409, "loading"), other.body
        server.process.terminate()
        asking.join(300)
        assert answers == [(200, "populated")] and served(site) == "one"
        assert server.process.wait(240) == 0
        assert key not in server.log.read_text()


def test_no_watcher_brings_back_what_a_person_left(site: Stack) -> None:
    site.nself(*FAST, RELEASE="one")
    site.nself(*FAST, "--standby", "10m", RELEASE="two")
    key = a_key(site)
    site.nself("rollback")
    (line,) = site.nself("breaker", "status", "--json").json
    with Server(site.root, **site.environment()) as server:
        reply = server.back(key, environment="local")

    assert (line["service"], line["environment"], line["rollbacks"]) == ("web", "local", 1)
    assert (reply.status, reply.json["ui_state"], served(site)) == (429, "rate-limited", "one"), reply.body
    assert "both versions are bad" in reply.json["error"]


class Users:
    """Ask the site steadily, count what they get, and show it to Prometheus."""

    def __init__(self, stack: Stack, exporter: Exporter) -> None:
        self._stack, self._exporter = stack, exporter
        self.good = self.bad = self.lost = 0
        self.first_bad = self.last_bad = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(120)

    def _ask(self) -> None:
        while not self._stop.wait(PAUSE_S):
            try:
                status = self._stack.get("/whoami")[0]
            except OSError:
                status = 0
            if status == 200:
                self.good += 1
            elif status == 500:  # the application's own; nginx has others
                self.bad += 1
                self.last_bad = time.monotonic()
                self.first_bad = self.first_bad or self.last_bad
            else:
                self.lost += 1
            self._exporter.write(answers=self.good + self.bad, answers_bad=self.bad)


@pytest.mark.alone
def test_prometheus_and_alertmanager_take_a_release_back_that_fails_for_one_user_in_twenty(tmp_path: Path) -> None:
    stack = people.shop("srv")
    with people.removed_at_the_end(stack):
        stack.nself("init", "--yes")
        stack.deploy("1", *FAST)
        exporter = Exporter(tmp_path / "exporter")
        exporter.write(answers=0, answers_bad=0)
        exporter.start()
        with Server(stack.root, **stack.environment()) as server, Users(stack, exporter) as users:
            manager = Alertmanager(tmp_path / "manager", server.port, a_key(stack))
            prometheus = Watching(tmp_path / "prometheus", exporter.port, manager.port)
            try:
                manager.start()
                prometheus.start()
                stack.deploy("2", *FAST, "--standby", "10m", SHOP_VARIANT="rare")
                server.says(r"200 POST /v1/alertmanager .*: web in local populated")
                wait_for(lambda: stack.release_served() == "1", "release 1")
                good = users.good
                wait_for(lambda: users.good > good + 2, "answers of release 1")
                before = users.bad
                server.says(r"1 alert: (repeated|before-release|resolved)")
            finally:
                prometheus.kill()
                manager.kill()
                exporter.kill()
        found = load_rollback_result(stack.root, "web", "local")
        assert found is not None and found.ui_state is RollbackUIState.POPULATED
        assert (users.lost, users.bad) == (0, before), "requests failed that the release is not to blame for"
        print(f"RESULT ui_state={found.ui_state} bad_s={users.last_bad - users.first_bad:.1f} bad_answers={users.bad}")
        (event,) = (e for e in stack.nself("audit", "list", "--json").json if e["event_type"] == "rollback")
        assert event["reason"].startswith("alertmanager: TooManyErrors [")
