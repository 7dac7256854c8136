"""Projects as people have them: several on one engine, own networks, names, ports, replicas, no nginx, an override."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.load import Kind, LoadMix, LoadProcess, Report, Stream
from tests.load.drive import Driven, drive
from tests.load.mix import Limits
from tests.real.people import SHORT, ids, lives, removed_at_the_end, served_by, site, split, told
from tests.real.stack import Stack, docker, wait_for

pytestmark = pytest.mark.real
RATE = 40.0
CALLS = 100


def visitors(path: str = "/") -> LoadMix:
    """Short requests, with and without keep-alive; who answers is in the site's own headers."""
    return LoadMix(
        rate=RATE,
        limits=Limits(duration_s=900, requests=40_000, connect_timeout_s=60),
        streams=(
            Stream(Kind.GET, path, share=0.5, name="get", timeout_s=60),
            Stream(Kind.ONE_SHOT_GET, path, share=0.2, name="one-shot get", timeout_s=60),
            Stream(Kind.POST, path, share=0.3, name="post", timeout_s=60),
        ),
        release_header="X-Release",
        instance_header="X-Instance",
    )


def under_load(stack: Stack, release: str, *words: str, **env: str) -> tuple[Driven, Report]:
    """One deploy with visitors on the site."""
    wait_for(lambda: stack.get("/")[0] == 200, "the site")
    with LoadProcess(visitors(), stack.url) as load:
        load.wait_requests(int(RATE / 2), 600)
        driven = drive(stack, load, [*SHORT, *words], moved="moved", RELEASE=release, **env)
        load.wait_requests(int(RATE), 600)
        return driven, load.stop()


def nothing_lost(stack: Stack, driven: Driven, report: Report, release: str) -> None:
    assert driven.status == 0, str(driven)
    assert report.failed == 0, f"{told(report)}\n{driven}"
    assert report.wrong_after("moved", f"{stack.name}/web/{release}") == []


def in_container(container: str, path: str, port: int) -> Any:
    """What a container of the site answers itself; `path` is asked inside of it."""
    program = (
        f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}{path}', timeout=120).read().decode())"
    )
    return json.loads(docker("exec", container, "python", "-c", program))


def names_of(stack: Stack, slot: str) -> list[str]:
    return [name.removeprefix(f"{stack.name}-{slot}-") for name in stack.slots()[slot]]


# Two projects with everything, at the same time


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[Stack, Stack]]:
    """One that plain Compose started and `init` adopted, one that was never up before its first deploy."""
    left, right = site(), site()
    with removed_at_the_end(left, right):
        left.compose("up", "-d", "--build", "--wait", RELEASE="1")
        wait_for(lambda: left.get("/")[0] == 200, "an nginx that can load other files")
        left.nself("init", "--yes", RELEASE="1")
        right.nself("init", "--yes", RELEASE="1")
        right.nself(*SHORT, RELEASE="1")
        yield left, right


def everything_of(stack: Stack) -> dict[str, Any]:
    """What another project's deploy must not change."""
    return {
        "lives": {c["Name"]: (c["Id"], c["State"]["StartedAt"]) for c in stack.containers()},
        "networks": sorted(docker("network", "ls", "-q", "--no-trunc", "--filter", f"name={stack.name}").split()),
        "attached": {c["Name"]: sorted(c["NetworkSettings"]["Networks"]) for c in stack.containers()},
        "split": split(stack),
        "released": served_by(stack),
    }


def test_one_projects_deploy_changes_nothing_of_the_other(two: tuple[Stack, Stack]) -> None:
    left, right = two
    before = everything_of(right)
    driven, report = under_load(left, "2")
    nothing_lost(left, driven, report, "2")
    assert everything_of(right) == before
    assert served_by(left) == f"{left.name}/web/2"
    assert split(left) == "blue"


def test_two_projects_deploy_at_the_same_time(two: tuple[Stack, Stack]) -> None:
    left, right = two
    kept = {s.name: lives(s, "router", "store") for s in two}
    with (
        LoadProcess(visitors(), left.url) as left_load,
        LoadProcess(visitors(), right.url) as right_load,
        right.start_nself(*SHORT, RELEASE="3") as other,
    ):
        driven = drive(left, left_load, SHORT, moved="moved", RELEASE="3")
        words, errors = other.communicate(timeout=600)
        right_load.mark("moved")
        left_load.wait_requests(int(RATE / 2), 600)
        right_load.wait_requests(int(RATE / 2), 600)
        reports = left_load.stop(), right_load.stop()
    assert driven.status == 0, str(driven)
    assert other.returncode == 0, words + errors
    for stack, report in zip(two, reports, strict=True):
        assert report.failed == 0, told(report)
        assert report.wrong_after("moved", f"{stack.name}/web/3") == []
        assert {release.split("/")[0] for release in report.per_release} == {stack.name}, "somebody else's answer"
        assert lives(stack, "router", "store") == kept[stack.name]
        assert {name.split("-")[0] for slot in stack.slots().values() for name in slot} == {stack.name}
    assert networks_in_common(left, right) == set()


def networks_in_common(left: Stack, right: Stack) -> set[str]:
    found = [
        {network for c in stack.containers() for network in c["NetworkSettings"]["Networks"]} for stack in (left, right)
    ]
    return found[0] & found[1]


def test_services_find_only_their_own_slot_and_project(two: tuple[Stack, Stack]) -> None:
    for stack in two:
        slot = split(stack)
        for replica in (1, 2, 3):
            answer = in_container(f"{stack.name}-{slot}-web-{replica}", f"/who?host=api&port=9000&n={CALLS}", 8000)
            assert answer["answers"] == {f"{stack.name}/api/3": CALLS}
        named = in_container(f"{stack.name}-{slot}-web-1", f"/who?host={stack.name}-the-api&port=9000&n={CALLS}", 8000)
        assert named["answers"] == {f"{stack.name}/api/3": CALLS}, "the user's container_name goes on being a name"


def test_networks_keep_their_separation(two: tuple[Stack, Stack]) -> None:
    left, right = two
    for stack, other in ((left, right), (right, left)):
        slot = split(stack)
        web, api = f"{stack.name}-{slot}-web-1", f"{stack.name}-{slot}-api-1"
        store = in_container(api, "/reach?host=store&port=6379", 9000)
        assert store["connected"], store
        assert in_container(web, "/reach?host=store&port=6379", 8000)["addresses"] == [], "web is not on backend"
        joined = set(addresses_of(web))
        assert not joined & set(addresses_of(f"{stack.name}-store-1")), "no network in common, so no way to it"
        assert not joined & set(addresses_of(f"{other.name}-{split(other)}-api-1"))
        assert {network for network in addresses_of(api) if "backend" in network} == {
            f"{stack.name}_backend",
            f"{stack.name}-nself-{slot}-backend",
        }
        assert all(docker("network", "inspect", "-f", "{{.Internal}}", n).strip() == "true" for n in closed_of(stack))


def closed_of(stack: Stack) -> list[str]:
    """The user's internal network and its twins."""
    return [f"{stack.name}_backend", *(f"{stack.name}-nself-{slot}-backend" for slot in ("blue", "green"))]


def addresses_of(container: str) -> dict[str, str]:
    """Network -> address."""
    (found,) = json.loads(docker("inspect", container))
    return {name: network["IPAddress"] for name, network in found["NetworkSettings"]["Networks"].items()}


def test_a_container_name_and_a_port_of_the_machine_hinder_nothing(two: tuple[Stack, Stack]) -> None:
    for stack in two:
        apps = [c for slot in ("blue", "green") for c in stack.containers(f"{stack.name}-{slot}")]
        assert names_of(stack, split(stack)) == ["api-1", "web-1", "web-2", "web-3"]
        assert f"/{stack.name}-the-api" not in [c["Name"] for c in stack.containers()]
        assert [c["HostConfig"]["PortBindings"] for c in apps if c["HostConfig"]["PortBindings"]] == []


# Replicas


def test_all_replicas_serve_and_their_number_changes_without_loss(two: tuple[Stack, Stack]) -> None:
    stack = two[1]
    for release, count in (("4", 2), ("5", 3)):
        driven, report = under_load(stack, release, WEB_REPLICAS=str(count))
        nothing_lost(stack, driven, report, release)
        live = [f"web-{n}" for n in range(1, count + 1)]
        assert names_of(stack, split(stack)) == ["api-1", *live]
        after = {a.instance for a in report.records if a.sent > report.moment("moved")}
        assert after <= copies_of_web(stack)
        every_copy_serves(stack, after)
    rolled = stack.nself("rollback", *SHORT, RELEASE="5", WEB_REPLICAS="3")
    assert names_of(stack, split(stack)) == ["api-1", "web-1", "web-2"], rolled.text
    every_copy_serves(stack, set())
    assert {stack.get("/")[1]["x-instance"] for _ in range(60)} <= copies_of_web(stack)


def copies_of_web(stack: Stack) -> set[str]:
    """What the containers of web in the live slot call themselves."""
    return {c["Id"][:12] for c in stack.containers(f"{stack.name}-{split(stack)}") if "-web-" in c["Name"]}


def every_copy_serves(stack: Stack, seen: set[str]) -> None:
    """Each worker of nginx takes them in turn."""
    copies = copies_of_web(stack)

    def asked() -> bool:
        seen.add(stack.get("/")[1]["x-instance"])
        return copies <= seen

    wait_for(lambda: copies <= seen or asked(), "every copy")
    assert copies == seen


# Addresses


def test_a_service_that_restarts_in_the_middle_of_a_deploy_keeps_its_address(two: tuple[Stack, Stack]) -> None:
    """The live api crashes while the new version's containers start: never does anybody else answer for it."""
    stack = two[0]
    slot = split(stack)
    api, before = f"{stack.name}-{slot}-api-1", served_by(stack, "/api/")
    fixed = fixed_addresses(api)
    assert len(fixed) == 3, "two twins, and where the router meets it"
    crashes = 0

    def crash(line: str) -> None:
        nonlocal crashes
        if line.startswith(("[done] Prepare networks", "[done] Start", "[done] Health check")) and crashes < 3:
            crashes += 1
            wait_for(lambda: crashed(api), "the api runs and is told to crash")

    with LoadProcess(visitors("/api/"), stack.url) as api_load, LoadProcess(visitors(), stack.url) as web_load:
        driven = drive(stack, api_load, SHORT, moved="moved", say=crash, RELEASE="6")
        api_load.wait_requests(int(RATE), 600)
        web_load.wait_requests(int(RATE), 600)
        api_report, web_report = api_load.stop(), web_load.stop()
    assert driven.status == 0, str(driven)
    assert crashes == 3
    assert web_report.failed == 0, f"nobody asks the api for a page\n{told(web_report)}"
    assert set(api_report.per_release) <= {before, f"{stack.name}/api/6", ""}, told(api_report)
    # What was sent to the old one before the move, while it was down, may take a second to fail.
    lost = [a for a in api_report.failed_between("moved") if a.sent > api_report.moment("moved")]
    assert lost == [], told(api_report)
    wait_for(lambda: json.loads(docker("inspect", api))[0]["RestartCount"], "a restart of the api")
    wait_for(lambda: fixed_addresses(api) == fixed, "the old api at its own addresses")


def fixed_addresses(container: str) -> dict[str, str]:
    """On the slot's own networks."""
    return {network: address for network, address in addresses_of(container).items() if "-nself-" in network}


def crashed(container: str) -> bool:
    """Tell it to crash; whether it could be told: not while it is being started again."""
    words = ["docker", "exec", "-d", container, "python", "-c", _CRASH]
    return subprocess.run(words, capture_output=True, timeout=300, check=False).returncode == 0


_CRASH = "import urllib.request as r; r.urlopen('http://127.0.0.1:9000/crash')"


def test_nobody_takes_the_address_of_a_service_that_is_down(two: tuple[Stack, Stack]) -> None:
    stack = two[0]
    slot = split(stack)
    api, network = f"{stack.name}-{slot}-api-1", f"{stack.name}-nself-{slot}-frontend"
    (found,) = json.loads(docker("inspect", api))
    address = found["NetworkSettings"]["Networks"][network]["IPAddress"]
    image = found["Config"]["Image"]
    docker("kill", api)
    run = ("run", "-d", "--network", network, *_STRANGER, image, "python", "/app.py")
    strangers = [docker(*run).strip() for _ in range(3)]
    try:
        assert address not in [addresses_of(stranger)[network] for stranger in strangers]
        assert "stranger" not in served_by(stack, "/api/")
        docker("start", api)
        wait_for(lambda: served_by(stack, "/api/").startswith(f"{stack.name}/api/"), "the api at its own address")
    finally:
        docker("rm", "-f", *strangers)


_STRANGER = ("-e", "PROJECT=stranger", "-e", "SERVICE=api", "-e", "PORT=9000")


# No nginx, and an override of the user's own


def test_a_project_without_an_nginx_gets_one() -> None:
    stack = site("bare.yaml")
    with removed_at_the_end(stack):
        shown = stack.nself("init", "--yes", RELEASE="1")
        assert "router" in shown.out
        stack.nself(*SHORT, RELEASE="1")
        assert served_by(stack) == f"{stack.name}/web/1"
        kept = lives(stack, "router", "store")
        driven, report = under_load(stack, "2")
        nothing_lost(stack, driven, report, "2")
        plain_compose_changes_nothing(stack, kept, f"{stack.name}/web/2")


OVERRIDE = """
services:
  web:
    environment: {NOTE: from my own override}
"""


def test_an_override_of_the_users_own_goes_on_being_read() -> None:
    stack = site()
    with removed_at_the_end(stack):
        (stack.root / "compose.override.yml").write_text(OVERRIDE)
        stack.compose("up", "-d", "--build", "--wait", RELEASE="1")
        wait_for(lambda: stack.get("/")[0] == 200, "an nginx that can load other files")
        stack.nself("init", "--yes", RELEASE="1")
        assert (stack.root / "compose.override.yml").read_text() == OVERRIDE
        env = (stack.root / ".env").read_text()
        assert "COMPOSE_FILE=compose.yaml:compose.override.yml:.nself/compose.nself.yaml" in env.splitlines()
        driven, report = under_load(stack, "2")
        nothing_lost(stack, driven, report, "2")
        assert stack.get_json("/")["note"] == "from my own override"
        assert "router" in stack.compose("ps", "--services", RELEASE="2").out
        stack.compose("up", "-d", "--wait", RELEASE="2")  # mounts and networks of the generated file: the router is new
        plain_compose_changes_nothing(stack, lives(stack, "router", "store"), f"{stack.name}/web/2")
        driven, report = under_load(stack, "3")
        nothing_lost(stack, driven, report, "3")


def plain_compose_changes_nothing(stack: Stack, kept: dict[str, tuple[str, str]], release: str) -> None:
    """`docker compose up -d` and `ps`, as a person types them."""
    stack.compose("up", "-d", "--wait", RELEASE=release.rpartition("/")[2])
    assert ids(stack, "router", "store") == {service: life[0] for service, life in kept.items()}
    assert lives(stack, "router", "store") == kept
    assert stack.service_containers("web", "api") == {}
    wait_for(lambda: stack.get("/")[0] == 200, "the router")
    assert served_by(stack) == release
    assert json.loads(stack.compose("ps", "--format", "json", "router").out)["State"] == "running"
