"""A broken release reaches no user: it is found out, removed, explained; whoever is served notices nothing."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.load import Kind, LoadMix, LoadProcess, Report, Stream
from tests.load.drive import drive
from tests.load.mix import Limits
from tests.real.contract import BLUE_GREEN_STATE, DEPLOY_STATE, check_document, private_state, steps_of
from tests.real.people import QUICK, everyday_load, lives, split
from tests.real.people import shop as patient_shop
from tests.real.scene import edit
from tests.real.stack import Outcome, Stack
from tests.real.wire import Wire

pytestmark = [pytest.mark.real, pytest.mark.few]

STANDBY_FREE = [*QUICK, "--standby", "0"]
LIVE = "1"
SHARED = ("db", "cache", "router")
SERVING, USUAL_START = "common/serving.py", "SLOW_START_SECONDS = 8.0"


@dataclass
class Site:
    """A shop that is live."""

    stack: Stack
    start_s: float
    """How long it takes here and now until api is healthy and web has been started."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Release 1 is live in blue; it goes on after SIGTERM, which nobody is to notice."""
    stack = patient_shop("brk")
    try:
        stack.nself("init", "--yes")
        first = stack.deploy(LIVE, *STANDBY_FREE, SHOP_VARIANT="stubborn").json
        start = next(s["seconds"] for s in first["steps"] if s["name"] == "Start blue")
        yield Site(stack, start)
    finally:
        stack.remove()


@contextmanager
def users(stack: Stack, mix: LoadMix | None = None) -> Iterator[LoadProcess]:
    """A load that runs already."""
    with LoadProcess(mix or everyday_load(), stack.url) as load:
        load.wait_requests(50)
        yield load


def nothing_failed(load: LoadProcess, release: str) -> Report:
    """Stop the load; all its requests were answered, by this release."""
    load.wait_requests(20)
    report = load.stop()
    assert report.failed == 0, report.table()
    assert set(report.per_release) == {release}, report.table()
    return report


@dataclass
class Broken:
    """A release that must be refused."""

    env: dict[str, str]
    """A time of `enough` is so long that a good release would be healthy, however slow the machine is."""
    step: str
    """Where it is found out."""
    error: str
    evidence: tuple[str, ...]
    """What the person has to be shown."""
    words: tuple[str, ...] = tuple(STANDBY_FREE)


BROKEN = {
    "never healthy": Broken(
        {"SHOP_VARIANT": "unhealthy", "HEALTHCHECK_TIMEOUT_WEB": "enough"},
        "Health check green",
        r"web in green is not healthy after \d+ s: its healthcheck says (starting|unhealthy)",
        (r"healthcheck: HTTP/1\.1 503 .*unhealthy on purpose", r"green-web-1 \| .*\(unhealthy\) starts", r"-> .+"),
    ),
    "healthy, but answers 500": Broken(
        {"SHOP_VARIANT": "errors"},
        "Health check green",
        r"web in green does not answer as it should through the router: GET / .* answered 500",
        (r"probe: GET / .*answered 500", r"green-web-1 \| .*\(errors\) starts", r"-> .*x-nself-deploy\.probe"),
    ),
    "crashes after 5 seconds": Broken(
        {"SHOP_VARIANT": "crash"},
        "Health check green",
        r"web in green is not healthy .*(exit code 1|it stopped and was restarted)",
        (r"green-web-1 \| .*crashes on purpose", r"-> Mend .+"),
        ("--drain", "3s", "--health-timeout", "240s", "--standby", "0"),  # the default time to be believed
    ),
    "the api never listens": Broken(
        {"SHOP_API_VARIANT": "nolisten", "HEALTHCHECK_TIMEOUT_API": "enough"},
        "Start green",
        r"api in green is not healthy after \d+ s: its healthcheck says",
        (r"healthcheck: no answer on port 9000", r"green-api-1 \| .*\(nolisten\) starts", r"-> .*--health-timeout"),
    ),
    "the api starts slower than allowed": Broken(
        {"SHOP_API_VARIANT": "slow-start", "HEALTHCHECK_TIMEOUT_API": "2s"},
        "Start green",
        r"api in green is not healthy after \d+ s: its healthcheck says starting",
        (r"green-api-1(: its log is empty| \| .*\(slow-start\) starts)", r"-> .*--health-timeout"),
    ),
    "the api answers 500, and web does not stop when told": Broken(
        {"SHOP_API_VARIANT": "errors", "SHOP_VARIANT": "stubborn"},
        "Health check green",
        r"api in green does not answer as it should through the router: GET / .* answered 500",
        (r"probe: GET / .*answered 500", r"green-api-1 \| .*\(errors\) starts", r"-> .+"),
    ),
}


@contextmanager
def later(stack: Stack) -> Iterator[None]:
    """What starts slowly is made to take so long that no slow machine finds it healthy in time."""
    edit(stack, USUAL_START, "SLOW_START_SECONDS = 120.0", SERVING)
    try:
        yield
    finally:
        edit(stack, "SLOW_START_SECONDS = 120.0", USUAL_START, SERVING)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_release_is_refused_and_users_notice_nothing(site: Site, broken: Broken) -> None:
    shop, limit = site.stack, f"{max(15, 2.5 * site.start_s):.0f}s"
    env = {name: value.replace("enough", limit) for name, value in broken.env.items()}
    before = everything_that_serves(shop)
    with users(shop) as load, later(shop):
        outcome = shop.deploy("2", *broken.words, check=False, **env)
        nothing_failed(load, LIVE)

    check_refusal(shop, outcome, broken.step, broken.error, broken.evidence)
    assert everything_that_serves(shop) == before


def test_a_job_that_fails_ends_the_deploy_before_a_container_starts(site: Site) -> None:
    shop = site.stack
    before = everything_that_serves(shop)
    migration = shop.root / "api/migrations/004_mistake.sql"
    migration.write_text("ALTER TABLE nothing_like_that ADD COLUMN colour text;\n")
    try:
        with users(shop) as load:
            outcome = shop.deploy("2", *STANDBY_FREE, check=False)
            nothing_failed(load, LIVE)
    finally:
        migration.unlink()

    evidence = (r"green-migrate-1 \| .*nothing_like_that", r"-> .+")
    document = check_refusal(shop, outcome, "Run job migrate", r"job migrate ended with exit code 1", evidence)
    assert "Start green" not in [name for _, name in steps_of(document)]
    assert everything_that_serves(shop) == before
    assert [run["release"] for run in shop.get_json("/api/migrations")["runs"]].count(LIVE) == 1


class Held(Wire):
    """An engine that tells of green's containers once after traffic has moved, and again when the release was struck.

    So a deploy has seen it healthy under traffic, and does not believe it before it breaks, however late that is.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack, self._told = stack, 0
        self.struck = threading.Event()
        self._green = f"{stack.name}-green".encode()
        super().__init__()

    def _is_lost(self, piece: bytes) -> bool:
        asked = piece.partition(b"\r\n")[0]
        if b"/containers/json" in asked and self._green in asked and split(self._stack) == "green":
            self._told += 1
            if self._told > 1:
                self.struck.wait(240)
        return False


def test_a_release_that_breaks_under_traffic_is_taken_back(site: Site) -> None:
    shop = site.stack
    before = everything_that_serves(shop)
    with users(shop, short_requests()) as load, Held(shop) as engine:
        found: list[int] = []

        def strike(line: str) -> None:
            """Kill the process of web as soon as traffic is on it, as a crash would; it is looked up before."""
            if line.startswith("[done] Start green"):
                found.append(process_of(shop, f"{shop.name}-green-web-1"))
            if line.startswith("[done] Move traffic to green"):
                load.mark("moved")
                load.wait_until(lambda now: now.per_release.get("3", 0) >= 20)
                os.kill(found[0], signal.SIGKILL)
                engine.struck.set()
            if line.startswith("[done] Move traffic back to blue"):
                load.mark("back")

        driven = drive(shop, load, STANDBY_FREE, say=strike, SHOP_RELEASE="3", DOCKER_HOST=engine.host)
        load.wait_requests(100)
        report = load.stop()

    assert driven.status == 5, driven
    found_out = (
        r"exit code|it stopped and was restarted|its healthcheck says|through the router, (answered 50\d|had no answer)"
    )
    assert re.search(rf"error: web in green .*({found_out})", driven.errors), driven.errors
    assert re.search(r"green-web-1 \| .*release 3 \(good\) starts", driven.errors), driven
    assert "traffic is on blue" in driven.errors
    assert report.per_release.get("3"), "it did get traffic"
    assert not report.wrong_after("back", LIVE), report.table()
    moved, back = report.moment("moved"), report.moment("back")
    lost = [a for a in report.records if a.outcome != "ok"]
    assert all(a.end >= moved and a.sent <= back for a in lost), report.table()
    state = private_state(shop, "state/deploy.json", DEPLOY_STATE, "error", "blue_green_state_file")
    assert (state["success"], state["rolled_back"]) == (False, True)
    assert shop.state("bluegreen/state.json")["last_rollback"] > shop.state("bluegreen/state.json")["last_deploy"]
    assert everything_that_serves(shop) == before


def test_a_slow_start_is_waited_for_and_an_old_version_that_will_not_stop_costs_nothing(site: Site) -> None:
    shop = site.stack
    with users(shop, short_requests(Stream(Kind.SLOW, "/slow?seconds=2", clients=2, timeout_s=60))) as load:
        driven = drive(
            shop,
            load,
            ["--drain", "120s", *STANDBY_FREE[2:]],
            moved="moved",
            SHOP_RELEASE="4",
            SHOP_VARIANT="slow-start",
        )
        load.wait_requests(50)
        report = load.stop()

    assert driven.status == 0, driven
    assert report.failed == 0, report.table()
    assert not report.wrong_after("moved", "4"), report.table()
    assert set(report.per_release) == {LIVE, "4"}
    stop = next(seconds for _, name, seconds in driven.steps if name == "Stop blue")
    assert stop > 14, "it was given its whole stop_grace_period"
    drained = next(line for line in driven.lines if line.startswith("[done] Drain blue"))
    assert "nothing in flight" in drained
    assert shop.slots()["blue"] == []


def short_requests(*more: Stream) -> LoadMix:
    """Clients without connections that outlive their release."""
    return LoadMix(
        rate=100,
        limits=Limits(duration_s=1500, requests=150_000, connect_timeout_s=60),
        streams=(
            Stream(Kind.GET, "/", share=0.4, name="get"),
            Stream(Kind.POST, "/echo", share=0.3, name="post"),
            Stream(Kind.ONE_SHOT_GET, "/", share=0.3, name="one-shot get"),
            *more,
        ),
    )


def process_of(stack: Stack, container: str) -> int:
    """The first process of a container, as the machine numbers it."""
    return next(int(c["State"]["Pid"]) for c in stack.containers() if c["Name"] == f"/{container}")


def everything_that_serves(stack: Stack) -> dict[str, Any]:
    """Shared services and the live slot with their start times, what is in the slots, and where traffic goes."""
    blue = {c["Name"]: (c["Id"], c["State"]["StartedAt"]) for c in stack.containers(f"{stack.name}-blue")}
    return {"shared": lives(stack, *SHARED), "blue": blue, "slots": stack.slots(), "split": split(stack)}


def check_refusal(stack: Stack, outcome: Outcome, step: str, error: str, evidence: tuple[str, ...]) -> dict[str, Any]:
    """Exit 5, a document and files that tell the truth, and words for the person on stderr."""
    assert outcome.status == 5, outcome.text
    document = check_document(outcome, success=False)
    assert document["rolled_back"] is False
    assert re.search(error, document["error"]), outcome.text
    *_, removed, persisted = steps_of(document)
    failed = [s["name"] for s in document["steps"] if s["status"] in ("failed", "unhealthy")]
    assert failed == [step], outcome.text
    assert (removed, persisted) == (("done", "Remove green"), ("done", "Persist state")), outcome.text
    for wanted in (error, *evidence, r"traffic is on blue; everything was undone"):
        assert re.search(wanted, outcome.err), f"{wanted!r} is not in\n{outcome.err}"
    state = private_state(stack, "state/deploy.json", DEPLOY_STATE, "error", "blue_green_state_file")
    assert (state["success"], state["rolled_back"], state["error"]) == (False, False, document["error"])
    split_state = private_state(stack, "bluegreen/state.json", BLUE_GREEN_STATE)
    assert [split_state[k] for k in ("active", "canary_percent", "green_version")] == ["blue", 0, ""]
    assert stack.release_served() == LIVE
    return document
