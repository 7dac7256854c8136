"""Canaries that a real Prometheus has a word about: promoted, taken back, and parked while it is away."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.load import LoadProcess
from tests.load.candidates.onelog import parked_session
from tests.real import people
from tests.real.prometheus_parts import Exporter, Server
from tests.real.scene import FAST, check_message, tiny
from tests.real.stack import Outcome, Stack, wait_for
from tests.real.test_canary import named, under_way, users

pytestmark = [pytest.mark.real, pytest.mark.few]

CANARY = (*FAST, "--json", "--strategy", "canary", "--steps", "50,100", "--error-threshold", "5", "--bake", "2s")
SOAK = ("--soak", "20s")
GOOD, BAD = 0.001, 0.5
METRICS = """
x-nself-deploy:
  analysis:
    latency: {{warmup: 1h}}
    max_soak: 30m
    prometheus: {{url: "{url}", timeout: 20s}}
    metrics:
      - name: failed checkouts
        query: 'last_over_time(failed_checkouts{{slot="{{{{slot}}}}"}}[5m])'
        success: {{below: 0.05}}
        interval: 1s
        window: 1s
        failures_in_a_row: 2
        gaps_in_a_row: 3
"""
"""A scrape that comes too late is no missing value here: to find that out, Prometheus is killed."""


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    made = Exporter(tmp_path_factory.mktemp("exporter") / "one")
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, exporter: Exporter) -> Iterator[Server]:
    """It does not run yet."""
    made = Server(tmp_path_factory.mktemp("prometheus") / "one", exporter)
    yield made
    made.kill()


@pytest.fixture(scope="module")
def stack(prometheus: Server) -> Iterator[Stack]:
    """Release 1 is live in blue: there is nothing to compare it with, so nobody was asked for metrics."""
    made = tiny()
    with people.removed_at_the_end(made):
        with (made.root / "compose.yaml").open("a") as compose:
            compose.write(METRICS.format(url=prometheus.url))
        made.nself(*CANARY, *SOAK, RELEASE="1")
        yield made


def measures(prometheus: Server, exporter: Exporter, value: float) -> None:
    """Wait until Prometheus knows this of the candidate's slot."""
    exporter.write(failed_checkouts__green=value)
    query = 'last_over_time(failed_checkouts{slot="green"}[5m])'
    asyncio.run(prometheus.shows(query, lambda reading: reading.value == value))


def served(stack: Stack) -> str:
    return stack.get("/", timeout_s=60)[2].decode().strip()


def metric(stack: Stack) -> dict[str, Any]:
    """What status says about the metric; empty while nothing is known."""
    canary = stack.nself("status", "--json").json["canary"]
    found: dict[str, Any] = canary["evidence"]["metrics"][0] if canary and canary["evidence"] else {}
    return found


def known_good(stack: Stack) -> int:
    """How many good values are written down: read at once, for the canary goes on meanwhile."""
    metrics = parked_session(stack).metrics
    return metrics.tallies[0].good if metrics else 0


def test_nothing_is_started_while_prometheus_can_not_be_reached(stack: Stack, prometheus: Server) -> None:
    outcome = stack.nself(*CANARY, *SOAK, RELEASE="early", check=False)

    check_message(outcome, 2, f"Metrics can't be measured: {prometheus.url}: can't be reached")
    assert stack.slots()["green"] == []
    assert served(stack) == "release 1"


def test_a_metric_that_fails_takes_the_candidate_back(stack: Stack, prometheus: Server, exporter: Exporter) -> None:
    exporter.write(failed_checkouts__green=BAD)
    prometheus.start()
    measures(prometheus, exporter, BAD)
    outcome = stack.nself(*CANARY, *SOAK, RELEASE="bad", check=False)

    document = outcome.json
    assert outcome.status == 5, outcome.text
    assert (document["verdict"], document["final_percent"], document["rolled_back"]) == ("fail", 0, True)
    wanted = "the metric failed checkouts was bad 2 times in a row: 0.5 at last, and below 0.05 is wanted"
    assert wanted in document["error"]
    assert "metric failed checkouts: 0.5; below 0.05 is wanted (2 bad)" in outcome.err
    assert named(document, "Judge")["status"] == "unhealthy"
    assert (people.split(stack), stack.slots()["green"]) == ("blue", [])
    assert served(stack) == "release 1"


def test_while_prometheus_is_away_it_waits_and_then_goes_on_also_after_a_kill(
    stack: Stack, prometheus: Server, exporter: Exporter
) -> None:
    measures(prometheus, exporter, GOOD)
    process = stack.start_nself(*CANARY, *SOAK, RELEASE="good")
    under_way(stack)
    prometheus.kill()
    out, err = process.communicate(timeout=600)
    assert process.returncode == 7, out + err
    parked = json.loads(out)
    assert (parked["verdict"], parked["final_percent"], parked["rolled_back"]) == ("invalid", 0, False)
    assert "the metric failed checkouts could not be measured 3 times in a row" in parked["error"]
    assert people.split(stack) == "blue" and stack.slots()["green"]
    check_message(stack.nself("resume", check=False), 2, "Metrics can't be measured", "can't be reached")
    assert stack.nself("status", "--json").json["under_way"]["outcome"] == "parked"

    prometheus.start()
    measures(prometheus, exporter, GOOD)
    with LoadProcess(users("/"), stack.url) as load:
        process = stack.start_nself("resume", "--json")
        under_way(stack)
        before = wait_for(lambda: known_good(stack), "a good value that is written down")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert metric(stack)["good"] >= before
        outcome: Outcome = stack.nself("resume", "--json")
        report = load.stop()

    document = outcome.json
    assert (document["verdict"], document["success"]) == ("pass", True), outcome.text
    assert report.failed == 0, people.told(report)
    assert served(stack) == "release good"
    stack.nself("replay", document["release"])
