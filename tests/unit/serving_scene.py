"""A project that was deployed, as its journal has it, and `nself deploy serve` for it: a real process on loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.system import moment
from nself_deploy.app import key_changes
from nself_deploy.core.deploy_keys import spelled
from nself_deploy.core.machine import Begin, Done, Run, advance, new_run
from nself_deploy.core.model import PinnedImage, Release, Slot
from nself_deploy.core.plan import Cause, Facts, Plan, Timing, plan_blue_green, plan_rollback
from nself_deploy.core.remembered import KEY, Remembered
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from tests.unit.plans import a_project, a_release

LIMIT_S = 240.0
PROGRAM = (sys.executable, "-m", "nself_deploy.cli.main", "deploy", "serve")
DEPLOYED = "2026-11-27T02:00:00.000Z"
MOVED = "2026-11-27T02:01:00.000Z"
ENDED = "2026-11-27T02:03:00.000Z"
WRONG = spelled(bytes(32))
COMPOSE = "services:\n  web:\n    image: web:1\n  api:\n    image: api:1\n"
FIRING = {"status": "firing", "startsAt": "2026-11-27T04:02:00.123456789+02:00", "fingerprint": "0123456789abcdef"}
"""An alert that began a minute after the release had the traffic, while its deploy still ran."""


def version(name: str) -> Release:
    """A release whose images are its own."""
    release = a_release(name)
    images = {n: PinnedImage(id=f"sha256:{name}-{n}", ref=f"{n}:{name}") for n in release.services}
    return msgspec.structs.replace(release, images=images)


def a_deploy(name: str, before: str, target: str = "prod") -> Plan:
    facts = Facts(live=Slot.GREEN if before else None, live_release=before, router_running=True)
    return plan_blue_green(a_project(), version(name), facts, Timing(), target)


def a_way_back(name: str, before: str, reason: str = "", target: str = "prod") -> Plan:
    facts = Facts(Slot.BLUE, before, True, Slot.GREEN, name, True, (Slot.BLUE, Slot.GREEN), router_running=True)
    plan = plan_rollback(a_project(), version(name), facts, Timing(), target)
    return msgspec.structs.replace(plan, cause=Cause("web", reason, "night"))


def written(journal: Journal, run_id: str, plan: Plan, times: Mapping[str, str] | None = None) -> Run:
    """A run that was done, in the journal; the traffic was moved at `MOVED`."""
    moments = {"move": MOVED, **(times or {})}
    run, _ = advance(new_run(run_id, plan, DEPLOYED), Begin())
    journal.begin(run)
    while not run.ended:
        step = run.current()
        assert step is not None
        run, _ = advance(run, Done())
        now = next((at for word, at in moments.items() if step.key.startswith(word)), ENDED)
        run = msgspec.structs.replace(run, completed_at=ENDED) if run.ended else run
        journal._now = lambda now=now: now  # type: ignore[misc]
        journal.record(run, "outcome", step.key)
    return run


def deployed(root: Path, before: str = "") -> str:
    """A project of which `two` is live and `one` warm; a key for rollbacks of web and api in prod.

    Without `before` no version is known to which there is a way back.
    """
    (root / "compose.yaml").write_text(COMPOSE)
    project = a_project()
    assert project.router is not None
    with Journal.open(root, actor="tester@here") as journal:
        for name in ("one", "two"):
            journal.save_release(version(name))
        written(journal, "run-1", a_deploy("two", before))
        journal.set_slots(
            {
                Slot.BLUE: SlotRecord("two", SlotRole.LIVE, ENDED),
                Slot.GREEN: SlotRecord("one", SlotRole.STANDBY, ENDED, "2036-11-27T00:00:00Z"),
            }
        )
        journal.set_meta(KEY, msgspec.json.encode(Remembered(project.name, project.router, {})).decode())
    return a_key(root, "night", "web", "api")


def a_key(root: Path, name: str, *services: str, environment: str = "prod") -> str:
    secret = os.urandom(32)
    wanted = key_changes.Wanted(name, (environment,), services, ("rollback",), 86400.0)
    with Journal.open(root, actor="tester@here") as journal:
        author = key_changes.Author("tester@here", moment(), secret, f"k{secret[:4].hex()}")
        return key_changes.create(journal.guards, wanted, author).text


class Reply:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class Client:
    """Asks a server on this machine."""

    port: int

    def ask(self, method: str, path: str, body: object = None, key: str = "", **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            if key:
                sent["Authorization"] = f"Bearer {key}"
            if body is not None:
                sent.setdefault("Content-Type", "application/json")
            data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def back(self, key: str, service: str = "web", **more: object) -> Reply:
        return self.ask("POST", "/v1/rollback", {"service": service, **more}, key)

    def alert(self, key: str, *alerts: Mapping[str, Any]) -> Reply:
        return self.ask("POST", "/v1/alertmanager", notification(*alerts), key)


class Server(Client):
    """`nself deploy serve` for a project."""

    def __init__(self, root: Path, *words: str, **env: str) -> None:
        self._root, self._words, self._env = root, words, env
        self.log = root / "serve.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(LIMIT_S)

    def start(self) -> None:
        self.log.write_bytes(b"")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*PROGRAM, "--listen", "127.0.0.1:0", *self._words, "-C", str(self._root)],
                env={**os.environ, **self._env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.port = int(self.says(r"Listening on https?://127\.0\.0\.1:(\d+)")[1])

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until it says so."""
        end = time.monotonic() + LIMIT_S
        while not (found := re.search(pattern, self.log.read_text())):
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)
        return found

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT_S)


def notification(*alerts: Mapping[str, Any]) -> dict[str, Any]:
    """What Alertmanager sends."""
    return {
        "version": "4",
        "groupKey": '{}:{service="web"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "nself",
        "groupLabels": {"service": "web"},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alerts.example:9093",
        "alerts": [an_alert(**found) for found in alerts],
    }


def an_alert(**changes: Any) -> dict[str, Any]:
    usual = {
        **FIRING,
        "labels": {"alertname": "ErrorBudgetBurn", "service": "web"},
        "annotations": {"summary": "web burns 22x"},
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example:9090/graph",
    }
    return {**usual, **changes}


def events(root: Path) -> list[Any]:
    with Journal.open(root, create=False) as journal:
        return journal.events(1000)
