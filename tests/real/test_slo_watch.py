"""Objectives over the router's own log: a release that fails later goes back, by a watch, and during its bake."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.contract import DOCUMENT, check_keys
from tests.real.scene import FAST, check_message, edit, tiny
from tests.real.stack import Stack, wait_for

pytestmark = pytest.mark.real

SETTINGS = """x-nself-deploy:
  min_uptime: 1s
  drain: 1s
  slo:
    - availability: 99.5
    - latency: 99 % < 5s
      route: web:8000

services:"""
WORK = r"""#!/bin/sh
status="200 OK"
read -r chance < /proc/sys/kernel/random/uuid
case "$chance" in [0-7]*) grep -qx "$RELEASE" /flags/bad && status="500 Broken" ;; esac
printf 'HTTP/1.0 %s\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n%s\n' "$status" "$RELEASE"
"""
WATCH = DOCUMENT | {
    "objectives": list,
    "alerts": list,
    "ui_state": (str, type(None)),
    "service": str,
    "prior_version": str,
    "audit_event_id": str,
}
DAY = ("--standby", "10m")


@dataclass
class Site:
    stack: Stack

    def bad(self, *releases: str) -> None:
        (self.stack.root / "flags/bad").write_text("".join(f"{name}\n" for name in releases) or "none\n")

    @property
    def served(self) -> str:
        return self.stack.get("/")[2].decode().removeprefix("release ").strip()

    @property
    def recording(self) -> bool:
        return (self.stack.root / ".nself/router/recording").exists()

    @contextmanager
    def users(self) -> Iterator[list[int]]:
        """Somebody asks all the time; the statuses of the answers."""
        found: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.wait(0.02):
                found.append(self.stack.get("/cgi-bin/work", timeout_s=60)[0])

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield found
        finally:
            stop.set()
            thread.join(240)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with a_site() as made:
        yield made


@pytest.fixture
def new_site() -> Iterator[Site]:
    """One of which nothing was ever bad: what burnt within the last minutes is not the next release's doing."""
    with a_site() as made:
        yield made


@contextmanager
def a_site() -> Iterator[Site]:
    stack = tiny(init=False)
    try:
        edit(stack, "services:", SETTINGS)
        edit(
            stack,
            "    stop_grace_period: 3s\n\n  store:",
            '    volumes: ["./flags:/flags:ro", "./work:/www/cgi-bin:ro"]\n    stop_grace_period: 3s\n\n  store:',
        )
        for name in ("flags", "work"):
            (stack.root / name).mkdir()
        work: Path = stack.root / "work/work"
        work.write_text(WORK)
        work.chmod(0o755)
        made = Site(stack)
        made.bad()
        stack.nself("init", "--yes")
        stack.nself(*FAST, RELEASE="one")
        yield made
    finally:
        stack.remove()


def test_a_release_that_fails_later_is_rolled_back_with_reason_and_evidence(site: Site) -> None:
    stack = site.stack
    with site.users() as answers:
        stack.nself(*FAST, *DAY, RELEASE="two")
        watch = stack.start_nself("watch", "--for", "5m", "--json")
        wait_for(lambda: len(answers) > 300, "users")
        assert set(answers) == {200}
        site.bad("two")
        out, err = watch.communicate(timeout=600)
        site.bad()
        after = len(answers)
        wait_for(lambda: len(answers) > after + 50, "users after it")
        assert set(answers[after + 1 :]) == {200}
    document = json.loads(out)
    check_keys(document, WATCH)

    assert watch.returncode == 5, out + err
    assert (document["ui_state"], document["rolled_back"], document["success"]) == ("populated", True, False)
    assert site.served == "one" and set(answers) == {200, 500}
    assert "fast" in {alert["pace"] for alert in document["alerts"]}  # a slow one may fire beside it
    (event,) = (e for e in stack.nself("audit", "list", "--json").json if e["id"] == document["audit_event_id"])
    assert event["reason"].startswith("slo-watcher: availability 99.5 % burn ")
    assert (event["service"], event["outcome"]) == ("web", "done")
    assert any("requests were bad" in line for line in event["metadata"]["evidence"])
    (line,) = stack.nself("breaker", "status", "--json").json
    assert (line["service"], line["rollbacks"]) == ("web", 1)


def test_what_had_just_begun_to_burn_is_left_alone(site: Site) -> None:
    with site.users() as answers:
        wait_for(lambda: len(answers) > 1000, "users", timeout_s=900)
        site.bad("one", "three")
        before = len(answers)
        wait_for(lambda: len(answers) > before + 100, "users who meet errors")
        site.stack.nself(*FAST, *DAY, RELEASE="three")
        outcome = site.stack.nself("watch", "--for", "10s", "--json")
    site.bad()

    assert outcome.json["success"] and outcome.json["ui_state"] is None
    assert 500 in answers and site.served == "three"


def test_a_killed_watch_goes_on_where_it_was(site: Site) -> None:
    def counted(document: dict[str, Any]) -> int:
        return int(document["objectives"][0]["requests"])

    before = counted(site.stack.nself("watch", "--for", "1s", "--json").json)
    watch = site.stack.start_nself("watch")
    assert watch.stdout and watch.stdout.readline().startswith("watching availability 99.5 %, latency 99 % < 5s of web")
    for _ in range(40):
        assert site.stack.get("/cgi-bin/work")[0] == 200
    check_message(site.stack.nself("watch", check=False), 6, "watched by another process")
    assert site.stack.nself("status", "--json").json["watched"]
    assert "watch: objectives are watched" in site.stack.nself("status").out
    watch.send_signal(signal.SIGKILL)
    watch.communicate(timeout=120)
    assert site.recording
    for _ in range(30):
        assert site.stack.get("/cgi-bin/work")[0] == 200

    def all_counted() -> bool:
        return counted(site.stack.nself("watch", "--for", "1s", "--json").json) == before + 70

    wait_for(all_counted, "each of them to count once: its line is in the log after its answer")


def test_a_bake_goes_by_the_objectives_too(new_site: Site) -> None:
    site = new_site
    words = (*FAST, "--bake", "4m", "--error-threshold", "50", "--json")
    with site.users():
        process = site.stack.start_nself(*words, RELEASE="four")
        wait_for(lambda: site.served == "four", "the new release")
        site.bad("four")
        out, err = process.communicate(timeout=600)
    site.bad()

    assert process.returncode == 5, out + err
    assert "burns the error budget of an objective: availability 99.5 %" in json.loads(out)["error"]
    assert site.served == "one"


def test_objectives_that_make_no_sense_are_refused(site: Site) -> None:
    check_message(site.stack.nself("watch", "--objective", "uptime", check=False), 1, "'uptime' is not an objective")
    words = ("watch", "--objective", "availability 99 of store")
    check_message(site.stack.nself(*words, check=False), 1, "Nothing is routed to store")
    edit(site.stack, "availability: 99.5", "availability: 200")
    try:
        check_message(site.stack.nself("watch", check=False), 1, "'200' is not an availability", "slo[0]")
    finally:
        edit(site.stack, "availability: 200", "availability: 99.5")
