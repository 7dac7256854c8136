"""A stack that plain `docker compose up -d` started is taken over while users are on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.load import LoadProcess, Report
from tests.load.drive import Driven, drive
from tests.real.people import (
    QUICK,
    RATE,
    everyday_load,
    lives,
    removed_at_the_end,
    served_by,
    shop,
    site,
    split,
    told,
    unhurried,
    worker,
    workers_running,
)
from tests.real.stack import Stack, wait_for

pytestmark = pytest.mark.real
SHARED = ("cache", "db")
APPS = ("api", "web", "worker")


@dataclass
class Story:
    """What was done to one stack under one load, and what was seen after each act."""

    stack: Stack
    report: Report
    acts: dict[str, Driven] = field(default_factory=dict)
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)


def look(stack: Stack) -> dict[str, Any]:
    """What a person could see now."""
    plain = {c["Config"]["Labels"]["com.docker.compose.service"]: c for c in stack.containers(stack.name)}
    router = plain["router"]
    return {
        "release": stack.release_served(),
        "split": split(stack),
        "plain": sorted(name for name, c in plain.items() if c["State"]["Running"]),
        "slots": stack.slots(),
        "lives": lives(stack, "router", *SHARED),
        "networks": sorted(router["NetworkSettings"]["Networks"]),
        "overlaps": worker(stack)["overlap_count"],
        "workers": workers_running(stack),
    }


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    stack = unhurried(shop("adopt"))
    try:
        for release, variant in (("1", "good"), ("2", "good"), ("3", "good"), ("4", "unhealthy")):
            stack.compose("build", "-q", SHOP_RELEASE=release, SHOP_VARIANT=variant)
        stack.compose("up", "-d", "--wait", "web", "api", "worker", "router", "db", "cache")
        wait_for(lambda: stack.get("/")[0] == 200, "the router, which has no healthcheck")
        yield tell(stack)
    finally:
        stack.remove()


def tell(stack: Stack) -> Story:
    """Init, a deploy that fails, one that works, back to what was adopted, and on again: all under one load."""
    acts: dict[str, Driven] = {}
    seen: dict[str, dict[str, Any]] = {}
    before = {"lives": lives(stack, "router", *SHARED, *APPS), "plain": [*APPS, "router", *SHARED]}
    with LoadProcess(everyday_load(), stack.url) as load:

        def act(name: str, words: list[str], release: str, **env: str) -> None:
            load.wait_requests(int(RATE / 2), 600)
            load.mark(f"{name} begins")
            acts[name] = drive(stack, load, words, moved=f"{name} moved", SHOP_RELEASE=release, **env)
            seen[name] = look(stack)

        act("init", ["init", "--yes"], "1")
        act("broken", [*QUICK, "--health-timeout", "4s"], "4", SHOP_VARIANT="unhealthy")
        act("first", QUICK, "2")
        act("back", ["rollback", *QUICK], "2")
        act("next", QUICK, "3")
        act("warm", ["rollback", *QUICK], "3")
        load.wait_requests(int(RATE), 600)
        report = load.stop()
    return Story(stack, report, acts, {"before": before, **seen})


def test_every_command_ended_as_it_should(story: Story) -> None:
    statuses = {name: driven.status for name, driven in story.acts.items()}
    expected = {"init": 0, "broken": 5, "first": 0, "back": 0, "next": 0, "warm": 0}
    assert statuses == expected, "\n\n".join(f"{n}: {d}" for n, d in story.acts.items() if d.status != expected[n])


def test_no_request_failed_from_plain_compose_to_the_last_rollback(story: Story) -> None:
    assert story.report.failed == 0, told(story.report)
    assert story.report.requests > 1000
    assert story.report.websocket.abnormal == 0


def test_init_leaves_users_on_the_very_same_containers(story: Story) -> None:
    before, after = story.seen["before"], story.seen["init"]
    assert lives_of(after, "router", *SHARED) == lives_of(before, "router", *SHARED)
    assert after["split"] == "plain" and after["release"] == "1"
    assert after["slots"] == {"blue": [], "green": []}
    name = story.stack.name
    assert after["networks"] == sorted(
        [f"{name}_default", f"{name}-nself-router-blue-default", f"{name}-nself-router-green-default"]
    )


def test_a_first_deploy_that_fails_leaves_the_plain_stack_serving(story: Story) -> None:
    broken = story.seen["broken"]
    assert broken["release"] == "1" and broken["split"] == "plain"
    assert broken["plain"] == sorted([*APPS, "router", *SHARED])
    assert broken["slots"] == {"blue": [], "green": []}
    assert set(story.report.releases_between("broken begins", "first begins")) == {"1"}


def test_the_first_deploy_replaces_the_plain_app_containers(story: Story) -> None:
    name, first = story.stack.name, story.seen["first"]
    assert first["release"] == "2" and first["split"] == "blue"
    assert first["plain"] == sorted(["router", *SHARED])
    assert first["slots"]["blue"] == [f"{name}-blue-{app}-1" for app in ("api", "migrate", "web", "worker")]
    assert first["workers"] == [f"{name}-blue-worker-1"]


def test_the_router_and_shared_services_are_never_touched(story: Story) -> None:
    before = lives_of(story.seen["before"], "router", *SHARED)
    assert {name: lives_of(seen, "router", *SHARED) for name, seen in story.seen.items()} == dict.fromkeys(
        story.seen, before
    )


def test_rolling_back_the_first_deploy_starts_what_was_adopted(story: Story) -> None:
    back = story.seen["back"]
    assert back["release"] == "1" and back["split"] == "green"
    assert back["plain"] == sorted(["router", *SHARED])


def test_each_move_is_complete_when_it_is_confirmed(story: Story) -> None:
    moves = {"first": ("2", "back"), "back": ("1", "next"), "next": ("3", "warm"), "warm": ("1", None)}
    wrong = {
        name: story.report.wrong_after(f"{name} moved", release, f"{until} begins" if until else None)
        for name, (release, until) in moves.items()
    }
    assert wrong == {name: [] for name in moves}


def test_there_were_never_two_workers(story: Story) -> None:
    assert {name: seen["overlaps"] for name, seen in story.seen.items() if name != "before"} == dict.fromkeys(
        story.acts, 0
    )
    assert all(len(seen["workers"]) == 1 for name, seen in story.seen.items() if name != "before"), story.seen
    record = worker(story.stack)
    assert record["overlap_count"] == 0, record["overlaps"]
    starts = [run["release"] for run in reversed(record["runs"]) if run["event"] == "start"]
    assert starts == ["1", "2", "1", "3", "1"]


def test_plain_compose_gives_the_adopted_router_its_mounts_and_the_same_split(story: Story) -> None:
    stack = story.stack
    before, slots = lives(stack, "router", *SHARED), stack.slots()
    stack.compose("up", "-d", "--wait", SHOP_RELEASE="1")
    after = lives(stack, "router", *SHARED)
    assert lives_of({"lives": after}, *SHARED) == lives_of({"lives": before}, *SHARED)
    assert after["router"] != before["router"], "a router without our mounts has to be made anew, once"
    assert stack.service_containers(*APPS) == {}
    assert stack.slots() == slots
    wait_for(lambda: stack.get("/")[0] == 200, "the router")
    assert stack.release_served() == "1" and split(stack) == story.seen["warm"]["split"]
    mounts = {m["Destination"]: m["Source"] for m in router_container(stack)["Mounts"]}
    assert mounts["/var/lib/nself/router"] == str(stack.root / ".nself/router")
    stack.compose("up", "-d", "--wait", SHOP_RELEASE="1")
    assert lives(stack, "router", *SHARED) == after, "the second time there is nothing to do"


def test_a_deploy_under_load_after_that_uses_the_mounted_files(story: Story) -> None:
    stack = story.stack
    kept = lives(stack, "router", *SHARED)
    with LoadProcess(everyday_load(), stack.url) as load:
        load.wait_requests(int(RATE / 2), 600)
        driven = drive(stack, load, QUICK, moved="moved", SHOP_RELEASE="2")
        load.wait_requests(int(RATE / 2), 600)
        report = load.stop()
    assert driven.status == 0, str(driven)
    assert report.failed == 0, told(report)
    assert report.wrong_after("moved", "2") == []
    assert lives(stack, "router", *SHARED) == kept
    assert worker(stack)["overlap_count"] == 0


def lives_of(seen: dict[str, Any], *services: str) -> dict[str, tuple[str, str]]:
    return {service: seen["lives"][service] for service in services}


def router_container(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = next(
        c for c in stack.containers(stack.name) if c["Config"]["Labels"]["com.docker.compose.service"] == "router"
    )
    return found


def test_a_stack_that_is_stopped_is_brought_up_by_its_first_deploy() -> None:
    stack = site()
    with removed_at_the_end(stack):
        stack.compose("up", "-d", "--build", RELEASE="1")
        stack.compose("stop", RELEASE="1")
        stack.nself("init", "--yes", RELEASE="1")
        stack.nself(*QUICK, RELEASE="1")
        assert served_by(stack) == f"{stack.name}/web/1"
        before = lives(stack, "router", "store")
        stack.compose("start", RELEASE="1", check=False)
        stack.compose("up", "-d", RELEASE="1")
        assert lives(stack, "router", "store") == before
        assert stack.service_containers("web", "api") == {}, "what was stopped must not come back beside the slot"
        assert served_by(stack) == f"{stack.name}/web/1"


def test_what_people_type_between_init_and_the_first_deploy() -> None:
    stack = site()
    with removed_at_the_end(stack):
        stack.compose("up", "-d", "--build", RELEASE="1")
        wait_for(lambda: served_by(stack) == f"{stack.name}/web/1", "an nginx that can load other files")
        stack.nself("init", "--yes", RELEASE="1")
        stack.compose("restart", "router", RELEASE="1")
        wait_for(lambda: served_by(stack) == f"{stack.name}/web/1", "a router with copies of our files")
        plain = lives(stack, "api", "store")
        stack.compose("up", "-d", RELEASE="1")
        assert lives(stack, "api", "store") == plain
        wait_for(lambda: served_by(stack) == f"{stack.name}/web/1", "the plain stack behind a router with our mounts")
        assert split(stack) == "plain"
        stack.compose("restart", "web", RELEASE="1")
        wait_for(lambda: served_by(stack) == f"{stack.name}/web/1", "the plain stack after a restart")
        stack.compose("stop", RELEASE="1")
        stack.nself(*QUICK, RELEASE="2")
        assert served_by(stack) == f"{stack.name}/web/2"
        assert stack.service_containers("web", "api") == {}
        stack.nself("rollback", *QUICK, RELEASE="2")
        assert served_by(stack) == f"{stack.name}/web/1"
