"""Pauses of a canary that end by themselves, on the shop; and what is foretold once there was traffic."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.load import LoadProcess
from tests.real import people
from tests.real.stack import Stack, wait_for
from tests.real.test_canary import CANARY, PATIENT, ended, under_way, users

LIBRARY = """
import json, sys
from nself_deploy import CanaryConfig, run_canary
result = run_canary(CanaryConfig(sys.argv[1], initial_percent=50, soak_minutes=1, health_timeout_sec=240))
keys = ("success", "parked", "final_percent", "rolled_back", "error")
print(json.dumps({key: getattr(result, key) for key in keys}))
"""

pytestmark = [pytest.mark.real, pytest.mark.few]


@pytest.fixture(scope="module")
def shop() -> Iterator[Stack]:
    stack = people.shop("pauses")
    compose = stack.root / "docker-compose.yml"
    compose.write_text(f"{compose.read_text()}\nx-nself-deploy:\n  analysis: {{{PATIENT}}}\n")
    try:
        stack.nself("init", "--yes")
        stack.nself(*people.QUICK, SHOP_RELEASE="first")
        yield stack
    finally:
        stack.remove()


def begun(stack: Stack, release: str, *words: str) -> subprocess.Popen[str]:
    process = stack.start_nself("--json", *CANARY, *words, SHOP_RELEASE=release)
    under_way(stack)
    return process


def test_a_pause_that_is_over_goes_on_by_itself_and_traffic_is_known_then(shop: Stack) -> None:
    unknown = shop.nself("plan", "--strategy", "canary", "--json", SHOP_RELEASE="healthy").json["forecast"]
    assert unknown["known"] is False and len(unknown["forecasts"]) == 3
    with LoadProcess(users(), shop.url) as load:
        process = begun(shop, "healthy", "--soak", "25s")
        answer = shop.nself("pause", "--for", "3s", "--then", "resume", "--json").json
        assert answer["success"], answer
        status, document, err = ended(process)
        report = load.stop()

    assert (status, document["verdict"], document["final_percent"]) == (0, "pass", 100), err
    assert report.failed == 0, people.told(report)
    assert shop.releases_served() == {"healthy"}
    known = shop.nself("plan", "--strategy", "canary", "--canary", "auto", "--json", SHOP_RELEASE="next").json
    traffic = known["forecast"]["forecasts"][0]["traffic"]
    # The log was not kept during the pause, however long that was: there seem to be fewer requests than there were.
    assert known["forecast"]["known"] and 10 < traffic["per_s"] < 120 and traffic["clients"] > 50
    first = next(step["name"] for step in known["steps"] if step["name"].startswith("Move "))
    assert 5 <= int(first.split()[1]) <= 40  # 120 clients count once in ten seconds each: not 2 %


def test_a_pause_that_is_over_takes_the_candidate_back_and_the_library_waits_for_it(shop: Stack) -> None:
    before = shop.release_served()
    process = subprocess.Popen(
        [sys.executable, "-c", LIBRARY, str(shop.root)],
        env=shop.environment(SHOP_RELEASE="paused"),
        stdout=subprocess.PIPE,
        text=True,
    )
    under_way(shop)
    shop.nself("pause", "--for", "30s", "--then", "abort")

    def waits() -> bool:
        shown = shop.nself("status", "--json").json
        canary = shown["canary"]
        return not shown["holder"] and canary["percent"] == 50 and "then: abort" in canary["expiry"]

    wait_for(waits, "a pause without a lock")
    result = json.loads(process.communicate(timeout=600)[0])

    assert result.pop("error").startswith("its pause of 30s is over, and nobody decided: abort")
    assert result == {"success": False, "parked": False, "final_percent": 0, "rolled_back": True}
    assert shop.releases_served() == {before}


def test_when_nobody_waits_the_next_command_does_what_was_to_be_done(shop: Stack) -> None:
    waited = shop.deploy("planned", *people.QUICK, "--strategy", "canary", "--steps", "50:3s:pause,100", check=False)
    assert waited.status == 7 and "paused at 50 %, as planned" in waited.err
    refused = shop.nself("pause", "--then", "resume", check=False)
    assert refused.status == 1 and "Its pause has no end at which to resume it." in refused.err
    assert "then: abort" in shop.nself("pause", "--for", "2h").out
    changed = shop.nself("pause", "--then", "resume").out
    assert "then: resume" in changed
    at_once = shop.nself("pause", "--for", "1s").out  # it may be over by the time that this is said
    assert "then: abort" in at_once or "will abort it" in at_once
    over = "its pause is over"
    wait_for(lambda: over in json.dumps(shop.nself("status", "--json").json["canary"]), "the end of the pause")
    assert "-50" in people.split(shop)
    told = [event["reason"] for event in shop.nself("audit", "list", "--json").json if event["event_type"] == "pause"]
    assert told[:3] == ["it waits for 1s, then abort", "it waits for 2h, then resume", "it waits for 2h, then abort"]
    outcome = shop.deploy("after", *people.QUICK)

    assert any("nobody decided: abort" in step["detail"] for step in outcome.json["steps"])
    assert shop.releases_served() == {"after"}
