"""Objectives by the numbers of a real Prometheus: a release that fails goes back, by a watch and during its bake.

Users count what they are answered, each test under a name of its own, and Prometheus asks them for it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from nself_deploy.adapters.journal import Journal
from nself_deploy.app.slo_watch import STATE_KEY, State, bake_key
from nself_deploy.core.slot_records import live_slot
from tests.real.contract import check_keys
from tests.real.prometheus_parts import Exporter, Server
from tests.real.scene import FAST, check_message, edit, tiny
from tests.real.stack import Stack, wait_for
from tests.real.test_slo_watch import DAY, WATCH, WORK

pytestmark = [pytest.mark.real, pytest.mark.few]

SETTINGS = """x-nself-deploy:
  min_uptime: 1s
  drain: 1s
  analysis:
    prometheus: {{url: "{url}", timeout: 20s}}
  slo:
    - service: web
      prometheus:
        name: answers
        target: 99.5
        total: 'sum(increase(answers_total{{test="none"}}[{{{{window}}}}]))'
        bad: 'sum(increase(answers_total{{test="none",code="500"}}[{{{{window}}}}]))'
        min_window: 5s

services:"""
NAME = "answers 99.5 %"


class Site:
    """A tiny site whose web service fails where it is told to, and the Prometheus of its users."""

    def __init__(self, stack: Stack, prometheus: Server, exporter: Exporter) -> None:
        self.stack, self.prometheus, self._exporter = stack, prometheus, exporter
        self._test = "none"
        self.bad("none")

    def bad(self, release: str) -> None:
        (self.stack.root / "flags/bad").write_text(f"{release}\n")

    @property
    def served(self) -> str:
        return self.stack.get("/", timeout_s=60)[2].decode().removeprefix("release ").strip()

    @contextmanager
    def users(self, test: str) -> Iterator[Counter[int]]:
        """Somebody asks all the time, and Prometheus is told the statuses of the answers; how many of each."""
        edit(self.stack, f'test="{self._test}"', f'test="{test}"')
        self._test = test
        found, stop = Counter({200: 0, 500: 0}), threading.Event()

        def ask() -> None:
            while not stop.wait(0.02):
                found[self.stack.get("/cgi-bin/work", timeout_s=60)[0]] += 1
                self._exporter.page(
                    "".join(f'answers_total{{test="{test}",code="{code}"}} {n}\n' for code, n in found.items())
                )

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            wait_for(lambda: found[200] > 20, "users")
            yield found
        finally:
            stop.set()
            thread.join(240)
            self.bad("none")

    def known(self, test: str) -> bool:
        """Whether Prometheus has numbers of so many seconds as a release is judged by."""
        query = f'sum(increase(answers_total{{test="{test}"}}[5s])) and count(answers_total{{test="{test}"}} offset 5s)'
        return bool(asyncio.run(self.prometheus.metrics().ask(query)).value)

    def judged(self) -> bool:
        """Whether a watch, or the bake that runs, knows the live release to be good, and can hold it to account."""
        with Journal.open(self.stack.root, create=False) as journal:
            run = journal.unfinished()
            text = journal.meta(bake_key(run.id) if run is not None else STATE_KEY)
            live = run.plan.release if run is not None else journal.slots()[live_slot(journal.slots())].release
        if not text:
            return False
        state = msgspec.json.decode(text, type=State)
        [line] = state.asked.lines
        return state.release == live and line.asked and not line.old


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    base = tmp_path_factory.mktemp("prometheus")
    exporter = Exporter(base / "exporter")
    prometheus = Server(base / "server", exporter)
    stack = tiny(init=False)
    try:
        exporter.start()
        prometheus.start()
        edit(stack, "services:", SETTINGS.format(url=prometheus.url))
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
        made = Site(stack, prometheus, exporter)
        stack.nself("init", "--yes")
        stack.nself(*FAST, RELEASE="one")
        yield made
    finally:
        stack.remove()
        prometheus.kill()
        exporter.kill()


def test_a_release_that_fails_is_found_by_prometheus_and_rolled_back(site: Site) -> None:
    stack = site.stack
    with site.users("watch") as answers:
        wait_for(lambda: site.known("watch"), "numbers of the past")
        stack.nself(*FAST, *DAY, RELEASE="two")
        watch = stack.start_nself("watch", "--for", "5m", "--json")
        wait_for(site.judged, "the first numbers of the release")
        assert not answers[500]
        site.bad("two")
        out, err = watch.communicate(timeout=400)
    document = json.loads(out)
    check_keys(document, WATCH)

    assert watch.returncode == 5, out + err
    assert (document["ui_state"], document["rolled_back"], document["service"]) == ("populated", True, "web")
    assert site.served == "one"
    [objective] = document["objectives"]
    assert (objective["objective"], objective["source"]) == (NAME, "prometheus")
    (event,) = (e for e in stack.nself("audit", "list", "--json").json if e["id"] == document["audit_event_id"])
    assert event["reason"].startswith(f"slo-watcher: {NAME} burn ")
    assert any("requests were bad" in line and "by Prometheus' count" in line for line in event["metadata"]["evidence"])


def test_a_bake_goes_by_it_too(site: Site) -> None:
    words = (*FAST, "--bake", "5m", "--error-threshold", "50", "--json")
    with site.users("bake"):
        wait_for(lambda: site.known("bake"), "numbers of the past")
        process = site.stack.start_nself(*words, RELEASE="three")
        wait_for(site.judged, "the first numbers of the release")
        assert site.served == "three"
        site.bad("three")
        out, err = process.communicate(timeout=400)

    assert process.returncode == 5, out + err
    assert f"burns the error budget of an objective: {NAME} burn " in json.loads(out)["error"]
    assert site.served == "one"


def test_while_prometheus_is_away_nothing_is_rolled_back_and_it_is_said(site: Site) -> None:
    with site.users("away") as answers:
        wait_for(lambda: site.known("away"), "numbers of the past")
        site.stack.nself(*FAST, RELEASE="four")
        site.prometheus.kill()
        site.bad("four")
        outcome = site.stack.nself("watch", "--for", "20s", check=False)

    check_message(outcome, 7, f"Not every objective can be judged: {NAME}: `total`: ", "can't be reached")
    assert f"no data: {NAME} can't be judged" in outcome.text
    assert answers[500] and site.served == "four"
