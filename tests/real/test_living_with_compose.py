"""People go on typing `docker compose …`, between deploys and in the middle of them: the site stays, deploys work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence

import pytest

from tests.load import LoadProcess
from tests.load.drive import Driven, drive
from tests.real.faults import watched
from tests.real.people import (
    QUICK,
    RATE,
    everyday_load,
    ids,
    lives,
    page_load,
    shop,
    split,
    stray_apps,
    told,
    unhurried,
    worker,
    workers_running,
)
from tests.real.stack import Outcome, Stack, wait_for

pytestmark = pytest.mark.real
SHARED = ("cache", "db")
SLOWLY = ("--min-uptime", "2s")
"""So that a command can be typed before the new version is believed."""
BACK_S = 240.0
"""A router that was started again answers long before that, on a busy machine too."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The shop with a live slot and a warm one."""
    made = unhurried(shop("living"))
    try:
        made.nself("init", "--yes")
        made.nself(*QUICK, SHOP_RELEASE="one")
        made.nself(*QUICK, SHOP_RELEASE="two")
        yield made
        record = worker(made)
        assert record["overlap_count"] == 0, record["overlaps"]
    finally:
        made.remove()


def type_it(stack: Stack, *words: str, check: bool = True) -> Outcome:
    """What a person types, with the release that is live: nobody asks Compose for another one."""
    return stack.compose(*words, check=check, SHOP_RELEASE=stack.release_served() or "two")


def healthy_site(stack: Stack, release: str) -> None:
    """The site as it has to be: right release, right slot, shared services found, one worker, no strays."""
    wait_for(lambda: stack.get("/api/items")[0] == 200, "the api with its database and cache")
    assert stack.release_served() == release
    chain = stack.get_json("/chain?n=50")
    assert (chain["failed"], chain["other_release"]) == (0, 0), chain
    assert stray_apps(stack) == []
    assert worker(stack)["overlap_count"] == 0
    assert workers_running(stack) == [f"{stack.name}-{split(stack)}-worker-1"]


def next_deploy(stack: Stack, release: str) -> None:
    """A deploy under load, with no request failed; the shared services and the router stay the same containers."""
    kept = lives(stack, "router", *SHARED)
    with LoadProcess(everyday_load(), stack.url) as load:
        load.wait_requests(int(RATE / 2), 600)
        driven = drive(stack, load, QUICK, moved="moved", SHOP_RELEASE=release)
        load.wait_requests(int(RATE / 2), 600)
        report = load.stop()
    assert driven.status == 0, str(driven)
    assert report.failed == 0, f"{told(report)}\n{driven}"
    assert report.wrong_after("moved", release) == []
    assert lives(stack, "router", *SHARED) == kept
    healthy_site(stack, release)


def test_up_logs_exec_and_restarts_of_app_services_change_nothing(stack: Stack) -> None:
    kept, slots, release = lives(stack, "router", *SHARED), stack.slots(), stack.release_served()
    with LoadProcess(everyday_load(), stack.url) as load:
        load.wait_requests(int(RATE / 2), 600)
        type_it(stack, "up", "-d")
        assert "router" in type_it(stack, "ps").out
        wait_for(lambda: "GET" in type_it(stack, "logs", "--tail", "20", "router").out, "a line of the router's log")
        assert type_it(stack, "exec", "-T", "cache", "redis-cli", "ping").out.strip() == "PONG"
        type_it(stack, "exec", "-T", "router", "nginx", "-t")
        for words in (
            ("restart", "web"),
            ("stop", "api", "worker"),
            ("start", "api", "worker"),
            ("up", "-d", "worker"),
        ):
            type_it(stack, *words, check=False)  # Compose may say that there is nothing of that name
        type_it(stack, "up", "-d", "--remove-orphans")
        report = load.stop()
    assert report.failed == 0, told(report)
    assert set(report.per_release) == {release}
    assert lives(stack, "router", *SHARED) == kept
    assert stack.slots() == slots
    healthy_site(stack, release)


def test_a_restarted_or_recreated_shared_service_is_found_again(stack: Stack) -> None:
    before, release = ids(stack, "router", *SHARED), stack.release_served()
    with LoadProcess(page_load(), stack.url) as load:
        for service in SHARED:
            type_it(stack, "restart", service)
            wait_for(lambda: stack.get("/api/items")[0] == 200, f"{service} after its restart")
            type_it(stack, "stop", service)
            type_it(stack, "start", service)
            wait_for(lambda: stack.get("/api/items")[0] == 200, f"{service} after stop and start")
        assert ids(stack, "router", *SHARED) == before
        type_it(stack, "up", "-d", "--wait", "--no-deps", "--force-recreate", *SHARED)
        wait_for(lambda: stack.get("/api/items")[0] == 200, "shared services that were made anew")
        report = load.stop()
    assert report.failed == 0, f"pages need no shared service\n{told(report)}"
    healthy_site(stack, release)
    next_deploy(stack, "after-shared")


ROUTER_WORDS = {
    "restarted": (("restart", "router"),),
    "stopped-and-started": (("stop", "router"), ("start", "router")),
    "recreated": (("up", "-d", "--no-deps", "--force-recreate", "router"),),
    "removed-and-made-anew": (("rm", "-sf", "router"), ("up", "-d")),
}


@pytest.mark.parametrize("commands", ROUTER_WORDS.values(), ids=ROUTER_WORDS.keys())
def test_a_router_is_down_only_while_it_is_down(stack: Stack, commands: Sequence[Sequence[str]]) -> None:
    release, where = stack.release_served(), split(stack)
    kept, slots, networks = lives(stack, *SHARED), stack.slots(), router_networks(stack)
    with LoadProcess(page_load(), stack.url) as load:
        load.wait_requests(int(RATE / 2), 600)
        load.mark("down")
        for words in commands:
            stack.compose(*words, SHOP_RELEASE=release)
        load.mark("started")
        wait_for(lambda: stack.get("/")[0] == 200, "the router", BACK_S)
        load.mark("back")
        load.wait_requests(int(RATE), 600)
        report = load.stop()
    failed = [a for a in report.records if a.outcome != "ok"]
    # What was sent before and not yet answered may be lost with it, however late an answer is.
    outside = [a for a in failed if a.end < report.moment("down") or a.start > report.moment("back")]
    assert outside == [], told(report)
    assert set(report.per_release) <= {release, ""}, told(report)
    assert report.releases_between("back") == {release: sum(report.releases_between("back").values())}
    assert split(stack) == where and stack.slots() == slots
    assert lives(stack, *SHARED) == kept
    assert router_networks(stack) == networks
    healthy_site(stack, release)


def test_down_leaves_the_slots_and_up_brings_the_site_back(stack: Stack) -> None:
    release, slots = stack.release_served(), stack.slots()
    type_it(stack, "down", check=False)  # Compose says that the slots are still on the project's network
    stack.compose("up", "-d", "--wait", SHOP_RELEASE=release)
    wait_for(lambda: stack.get("/")[0] == 200, "the router", BACK_S)
    assert stack.slots() == slots
    healthy_site(stack, release)


def test_a_deploy_after_all_that_loses_no_request(stack: Stack) -> None:
    next_deploy(stack, "after-router")


def interfere(stack: Stack, step: str, commands: Sequence[Sequence[str]], release: str) -> Driven:
    """Deploy, and type commands the moment a step is done, while the deploy goes on."""
    live = stack.release_served()
    typed: list[threading.Thread] = []

    def type_all() -> None:
        for words in commands:
            stack.compose(*words, SHOP_RELEASE=live)

    def say(line: str) -> None:
        if line.startswith(f"[done] {step}") and not typed:
            typed.append(threading.Thread(target=type_all))
            typed[0].start()

    driven = drive(stack, None, [*QUICK, *SLOWLY], say=say, SHOP_RELEASE=release)
    assert typed, f"there was no step {step!r}: {driven}"
    typed[0].join(600)
    assert not typed[0].is_alive()
    return driven


MEANWHILE = {
    "router-restarted-before-its-files-are-loaded": ("Prepare networks", (("restart", "router"),)),
    "router-restarted-while-the-new-version-is-proved": ("Start", (("restart", "router"),)),
    "router-restarted-at-the-move": ("Health check", (("restart", "router"),)),
    "router-recreated-while-draining": (
        "Move traffic",
        (("up", "-d", "--no-deps", "--force-recreate", "router"),),
    ),
    "up-and-a-shared-service-restarted": ("Start", (("up", "-d"), ("restart", "cache"), ("logs", "--tail", "3"))),
}


@pytest.mark.parametrize(("step", "commands"), MEANWHILE.values(), ids=MEANWHILE.keys())
def test_commands_typed_during_a_deploy_leave_it_done_or_undone(
    stack: Stack, step: str, commands: Sequence[Sequence[str]], request: pytest.FixtureRequest
) -> None:
    before, release = stack.release_served(), f"m{len(request.node.name)}-{step[:3].lower()}"
    driven = interfere(stack, step, commands, release)
    wait_for(lambda: stack.get("/")[0] == 200, "the router", BACK_S)
    assert driven.status == 0 or "everything was undone" in driven.errors, str(driven)
    healthy_site(stack, release if driven.status == 0 else before)


def test_a_router_stopped_in_the_middle_of_a_deploy(stack: Stack) -> None:
    before, release = stack.release_served(), "router-stopped"
    process = stack.start_nself(*QUICK, "--min-uptime", "15s", SHOP_RELEASE=release)

    def stop_it() -> None:
        process.send_signal(signal.SIGSTOP)  # nothing is proved meanwhile, however long it takes
        stack.compose("stop", "router", SHOP_RELEASE=before)
        process.send_signal(signal.SIGCONT)

    outcome = watched(process, "[done] Start", stop_it)
    assert outcome.status != 0, "the new version was never proved through the router"
    assert "router" in outcome.err, outcome.text
    stack.compose("start", "router", SHOP_RELEASE=before)
    wait_for(lambda: stack.get("/")[0] == 200, "the router", BACK_S)
    healthy_site(stack, before)


def test_a_deploy_after_that_loses_no_request(stack: Stack) -> None:
    next_deploy(stack, "at-last")


def router_networks(stack: Stack) -> list[str]:
    """The networks that the router's container is on."""
    return sorted(
        network
        for c in stack.containers(stack.name)
        if c["Config"]["Labels"]["com.docker.compose.service"] == "router"
        for network in c["NetworkSettings"]["Networks"]
    )
