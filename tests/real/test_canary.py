"""Canaries on the shop, under users: promoted, taken back, parked, and led from another terminal."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from nself_deploy.adapters.judge_record import RecordFiles
from nself_deploy.core import record_lines
from nself_deploy.core.canary import Way
from tests.load import Kind, LoadMix, LoadProcess, Stream
from tests.load.candidates.onelog import lines_of, parked_session
from tests.load.mix import Limits
from tests.real import people
from tests.real.scene import edit
from tests.real.stack import Stack, wait_for

pytestmark = [pytest.mark.real, pytest.mark.few]

CLIENTS = 120
RATE = 60.0
PATIENT = "latency: {warmup: 1h}, max_soak: 30m"
"""Of `analysis`: a slot that has to wait for the processor is no slower one, and what is under way gets its time."""
WORD = "only-testers-know-this"
CANARY = [*people.QUICK, "--strategy", "canary", "--steps", "50,100", "--error-threshold", "5", "--bake", "3s"]
"""Half of the clients, and an objective that is proved within seconds."""
UNPROVED = ("--error-threshold", "0.1")
"""One that needs minutes to be proved: however late a person comes, the proof is missing."""


def users(path: str = "/whoami") -> LoadMix:
    """Many clients, told apart by their browser; each asks every other second."""
    streams = tuple(
        Stream(
            Kind.GET,
            path,
            share=1 / CLIENTS,
            name=f"person {n}",
            connections=1,
            timeout_s=60,
            headers={"User-Agent": f"person {n}"},
        )
        for n in range(CLIENTS)
    )
    return LoadMix(streams, RATE, Limits(duration_s=1500, requests=int(RATE * 1500), connect_timeout_s=60))


@pytest.fixture(scope="module")
def shop() -> Iterator[Stack]:
    stack = people.shop("canary")
    compose = stack.root / "docker-compose.yml"
    settings = f"  override: {{word: {WORD}, header: X-Shop-Slot}}\n  analysis: {{{PATIENT}}}\n"
    compose.write_text(f"{compose.read_text()}\nx-nself-deploy:\n{settings}")
    try:
        stack.nself("init", "--yes")
        stack.nself(*people.QUICK, SHOP_RELEASE="first")
        yield stack
    finally:
        stack.remove()


def named(document: dict[str, Any], start: str) -> dict[str, Any]:
    return next(step for step in document["steps"] if step["name"].startswith(start))


def under_way(stack: Stack, share: int = 50) -> None:
    """Wait until a canary has this share."""
    wait_for(lambda: people.split(stack).endswith(f"-{share}-shielded"), f"a canary at {share} %", timeout_s=240)


def begun(stack: Stack, release: str, *words: str) -> subprocess.Popen[str]:
    """A canary in another terminal, with its share."""
    process = stack.start_nself("--json", *CANARY, *words, SHOP_RELEASE=release)
    under_way(stack)
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    out, err = process.communicate(timeout=600)
    return process.returncode, json.loads(out), err


def kept_s(stack: Stack, run: str) -> float:
    """How long the candidate had kept its share when it was given the next one, by the record of its judge.

    The step that judges takes less when its process was held up between the move and that.
    """
    lines = lines_of(RecordFiles(stack.root).read(run) or b"")
    began = next(line.began for line in lines if isinstance(line, record_lines.Begun))
    moved = next(line.now for line in lines if isinstance(line, record_lines.Moved))
    on = next(line.at for line in lines if isinstance(line, record_lines.Looked) and line.way is Way.ON)
    return on - (moved - began)


def test_a_healthy_canary_is_promoted_and_nobody_notices(shop: Stack) -> None:
    with LoadProcess(users(), shop.url) as load:
        document = shop.deploy("healthy", *CANARY, "--soak", "8s").json
        report = load.stop()
    print(report.result_line())

    assert (document["verdict"], document["final_percent"], document["success"]) == ("pass", 100, True)
    assert report.failed == 0, people.told(report)
    assert named(document, "Judge")["status"] == "done"
    assert kept_s(shop, shop.nself("history", "--json").json[0]["id"]) >= 8
    assert " of " in named(document, "Bake")["detail"]
    assert shop.releases_served() == {"healthy"}


def test_what_was_decided_is_decided_again_from_its_record(shop: Stack) -> None:
    release = next(run for run in shop.nself("history", "--json").json if run["strategy"] == "canary")
    replay = shop.nself("replay", release["release"], "--json").json
    [run] = replay["runs"]
    print(run)

    assert replay["identical"] and run["whole"] and run["run"] == release["id"]
    assert run["requests"] > 100 and run["decisions"] > 5

    record = shop.root / ".nself" / "canary" / release["id"]
    kept = record.read_bytes()
    assert record.stat().st_mode & 0o777 == 0o600
    record.write_bytes(kept.replace(b'"wait"', b'"back"', 1))
    forged = shop.nself("replay", release["release"], check=False)
    record.write_bytes(kept)
    assert forged.status == 4 and "does not come out of its record" in forged.err
    assert shop.nself("replay", "nonsense", check=False).status == 1


def test_a_canary_that_fails_a_fifth_of_the_requests_is_taken_back(shop: Stack) -> None:
    before = shop.release_served()
    with LoadProcess(users(), shop.url) as load:
        outcome = shop.deploy("flaky", *CANARY, "--soak", "10m", check=False, SHOP_VARIANT="flaky")
        report = load.stop()
    document = outcome.json
    print(report.result_line(), outcome.err)

    assert outcome.status == 5, outcome.text
    assert (document["verdict"], document["final_percent"], document["rolled_back"]) == ("fail", 0, True)
    assert "clients were hit" in document["error"] and "candidate: " in outcome.err
    assert named(document, "Judge")["status"] == "unhealthy" and named(document, "Judge")["seconds"] < 600
    assert "answered in its place" in document["error"]
    assert report.failed == 0, "the live slot answers what fails on the candidate"
    assert shop.releases_served() == {before}
    assert [names for slot, names in shop.slots().items() if slot != people.split(shop)] == [[]], "it is removed"


def test_without_users_it_waits_for_a_person(shop: Stack) -> None:
    before = shop.release_served()
    edit(shop, "max_soak: 30m", "max_soak: 9s", "docker-compose.yml")
    outcome = shop.deploy("lonely", *CANARY, "--soak", "3s", check=False)
    edit(shop, "max_soak: 9s", "max_soak: 30m", "docker-compose.yml")
    assert outcome.status == 7, outcome.text
    assert (outcome.json["verdict"], outcome.json["final_percent"], outcome.json["success"]) == (
        "inconclusive",
        50,
        False,
    )
    assert "0 of " in outcome.err

    status = shop.nself("status", "--json").json
    assert status["under_way"]["outcome"] == "parked" and not status["holder"]
    assert status["canary"]["percent"] == 50 and status["canary"]["evidence"]["verdict"] == "inconclusive"
    refused = shop.deploy("another", *people.QUICK, check=False)
    assert refused.status == 7 and "is parked" in refused.err
    assert shop.nself("promote", check=False).status == 4
    for said, release in ((f"candidate:{WORD}", "lonely"), (f"live:{WORD}", before)):
        headers = {"X-Shop-Slot": said}
        assert {shop.get("/", **headers)[1]["x-shop-release"] for _ in range(5)} == {release}
    kept = [path for path in (shop.root / ".nself").rglob("*") if path.is_file() and WORD.encode() in path.read_bytes()]
    assert {path.name for path in kept} == {"override.conf"}

    shop.nself("abort")
    assert "-" not in people.split(shop)
    assert shop.releases_served() == {before}
    assert shop.nself("status", "--json").json["canary"] is None


def test_it_is_led_from_another_terminal(shop: Stack) -> None:
    with LoadProcess(users(), shop.url) as load:
        process = begun(shop, "paused", "--soak", "10m", *UNPROVED)
        answer = shop.nself("pause", "--json").json
        assert answer["steps"][0]["detail"].startswith("paused by ") and "at 50 %" in answer["steps"][0]["detail"]
        status, document, err = ended(process)
        assert (status, document["final_percent"]) == (7, 50), err
        assert "paused by" in err
        why = ["--accept-inconclusive", "--reason", "the numbers are good"]
        promoted = shop.nself("promote", "--full", *why, "--json").json
        assert promoted["success"] and promoted["final_percent"] == 100

        process = begun(shop, "aborted", "--soak", "10m")
        shop.nself("abort")
        assert ended(process)[0] == 130
        report = load.stop()
    trail = [(e["event_type"], e["outcome"]) for e in shop.nself("audit", "list", "--limit", "5", "--json").json]
    assert trail == [
        ("deploy", "interrupted"),
        ("abort", "done"),
        ("deploy", "done"),
        ("promote", "done"),
        ("pause", "done"),
    ]

    assert report.failed == 0, people.told(report)
    assert shop.releases_served() == {"paused"}
    trail = shop.nself("audit", "list", "--json").json
    assert [e["reason"] for e in trail if e["event_type"] == "promote"] == ["the numbers are good"]


def test_a_canary_whose_process_is_killed_goes_on_from_where_it_was(shop: Stack) -> None:
    with LoadProcess(users(), shop.url) as load:
        process = begun(shop, "killed", "--soak", "30s")

        def counted() -> int:
            """How many are written down: read at once, for the canary goes on meanwhile."""
            return parked_session(shop).judge.requests[0]

        seen = wait_for(counted, "what is known to be written down")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        known = shop.nself("status", "--json").json["canary"]["evidence"]["candidate"]["requests"]
        assert known >= seen
        document = shop.nself("resume", "--json").json
        report = load.stop()

    judged = named(document, "Judge")["detail"]
    assert document["success"] and document["verdict"] == "pass", document
    assert int(judged.partition(" requests failed")[0].rpartition(" ")[2]) > known
    assert report.failed == 0, people.told(report)
    assert shop.releases_served() == {"killed"}
    replay = shop.nself("replay", document["release"], "--json").json
    assert replay["identical"] and replay["runs"][-1]["whole"], replay
