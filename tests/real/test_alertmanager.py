"""A real Alertmanager tells `nself deploy serve`: again and again, after a restart of either, and at the end."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nself_deploy.core.alerts import utc
from tests.real.alert_parts import Alertmanager, Watching
from tests.real.free_ports import free_port
from tests.real.prometheus_parts import Exporter
from tests.unit.serving_scene import WRONG, Server, a_key, deployed, events

pytestmark = pytest.mark.real


@pytest.fixture
def key(tmp_path: Path) -> str:
    return deployed(tmp_path)


@pytest.fixture
def server(tmp_path: Path, key: str) -> Iterator[Server]:
    port = free_port()  # ours also while nobody listens there: it is started anew
    with Server(tmp_path, "--listen", f"127.0.0.1:{port}") as running:
        yield running


def told(server: Server, words: str, times: int = 1) -> None:
    """Wait until it was told so often."""
    server.says(rf"(?s)(?:{re.escape(words)}.*){{{times}}}")


def rollbacks(root: Path) -> list[str]:
    return [event.reason for event in events(root) if event.event_type == "rollback"]


def test_an_alert_that_is_told_again_and_again_is_one_rollback(server: Server, tmp_path: Path, key: str) -> None:
    began = datetime.now(UTC)
    manager = Alertmanager(tmp_path / "manager", server.port, key)
    manager.start()
    try:
        manager.raises(began.isoformat())
        told(server, "1 alert: rollback")
        told(server, "1 alert: repeated", 2)
        manager.kill()
        server.process.kill()
        server.process.wait(240)
        server.start()
        manager.start()
        manager.raises(began.isoformat())
        told(server, "1 alert: repeated", 2)
        manager.raises(began.isoformat(), datetime.now(UTC).isoformat())
        told(server, "1 alert: resolved")
    finally:
        manager.kill()

    (reason,) = rollbacks(tmp_path)
    assert utc(began.isoformat()) in reason and reason.endswith(": 5 % of the answers are errors")
    assert key not in server.log.read_text()


def test_an_alert_that_is_older_than_the_release_and_one_with_a_wrong_key(
    server: Server, tmp_path: Path, key: str
) -> None:
    manager = Alertmanager(tmp_path / "manager", server.port, key)
    manager.start()
    try:
        manager.raises("2026-11-27T02:00:30Z")
        told(server, "1 alert: before-release")
        (tmp_path / "manager/key").write_text(WRONG)
        told(server, "401 POST /v1/alertmanager")
    finally:
        manager.kill()

    assert rollbacks(tmp_path) == []


def test_a_rule_of_prometheus_that_sees_errors_leads_to_one_rollback(server: Server, tmp_path: Path) -> None:
    exporter = Exporter(tmp_path / "exporter")
    exporter.write(answers=0, answers_bad=0)
    exporter.start()
    manager = Alertmanager(tmp_path / "manager", server.port, a_key(tmp_path, "local", "web", environment="local"))
    prometheus = Watching(tmp_path / "prometheus", exporter.port, manager.port)
    try:
        manager.start()
        prometheus.start()
        answers, pause = 0, threading.Event()
        while "alert: repeated" not in server.log.read_text():
            answers += 2
            exporter.write(answers=answers, answers_bad=answers // 20)
            assert answers < 30_000 and not pause.wait(0.02), server.log.read_text()
    finally:
        prometheus.kill()
        manager.kill()
        exporter.kill()

    (reason,) = rollbacks(tmp_path)
    assert reason.startswith("alertmanager: TooManyErrors [") and reason.endswith("% of the answers are errors")
