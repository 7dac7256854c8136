"""Back: by one rename while the old release is warm, from its record when it is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.load import LoadProcess
from tests.load.drive import Driven, drive
from tests.real.contract import check_document, steps_of
from tests.real.people import QUICK, everyday_load, lives, split
from tests.real.people import shop as patient_shop
from tests.real.stack import Stack, docker

pytestmark = pytest.mark.real

GREETING = "GREETING: said by release "


@pytest.fixture(scope="module")
def shop() -> Iterator[Stack]:
    """Release 1, the first that was ever deployed; what web is told differs from release to release."""
    stack = patient_shop("rb")
    try:
        stack.nself("init", "--yes")
        deploy(stack, "1", "--standby", "10m")
        yield stack
    finally:
        stack.remove()


def deploy(stack: Stack, release: str, *words: str) -> dict[str, Any]:
    """Change the Compose file, then deploy it."""
    file = stack.root / "docker-compose.yml"
    lines = [line for line in file.read_text().splitlines() if GREETING not in line]
    at = next(i for i, line in enumerate(lines) if "API_URL:" in line)
    lines.insert(at + 1, f"      {GREETING}{release}")
    file.write_text("\n".join(lines) + "\n")
    return check_document(stack.deploy(release, *QUICK, *words), success=True)


def greeting(stack: Stack, slot: str) -> str:
    """What web is told in a slot."""
    return next(v for v in web(stack, slot)["Config"]["Env"] if v.startswith("GREETING="))


def web(stack: Stack, slot: str) -> dict[str, Any]:
    """The container of web in a slot."""
    return next(c for c in stack.containers(f"{stack.name}-{slot}") if c["Name"].endswith("-web-1"))


def started(stack: Stack, *suffixes: str) -> dict[str, str]:
    """Containers (but for the worker, of which there is only one) of the project, of its slots: when they started."""
    found = [c for suffix in suffixes for c in stack.containers(stack.name + suffix)]
    return {c["Id"]: c["State"]["StartedAt"] for c in found if "worker" not in c["Name"]}


def workers_of_nginx(stack: Stack) -> list[str]:
    """nginx's processes: a reload would bring other ones."""
    router = lives(stack, "router")["router"][0]
    return sorted(docker("top", router, "-o", "pid").split()[1:])


def back_under_load(stack: Stack, *words: str) -> Driven:
    """A rollback that no user may notice; the environment says something else than the release."""
    with LoadProcess(everyday_load(), stack.url) as load:
        load.wait_requests(50)
        driven = drive(stack, load, ["rollback", *QUICK, *words], moved="back", SHOP_RELEASE="nonsense")
        load.wait_requests(50)
        report = load.stop()
    assert driven.status == 0, driven
    assert report.failed == 0, report.table()
    assert not report.wrong_after("back", stack.release_served()), report.table()
    return driven


def names(driven: Driven) -> list[str]:
    """The steps that were done."""
    return [name for status, name, _ in driven.steps if status == "done"]


def test_after_the_first_deploy_there_is_nothing_to_go_back_to(shop: Stack) -> None:
    outcome = shop.nself("rollback", "--json", check=False)

    assert outcome.status == 1
    assert check_document(outcome, success=False)["steps"] == []
    assert "no previous release to go back to" in outcome.err
    assert "-> Deploy a second time first" in outcome.err
    assert shop.release_served() == "1"


def test_warm_it_is_one_rename(shop: Stack) -> None:
    deploy(shop, "2", "--standby", "10m")
    assert (shop.release_served(), split(shop)) == ("2", "green")
    before, existed = started(shop, "", "-blue"), started(shop, "-green")
    nginx, configured = workers_of_nginx(shop), (shop.root / ".nself/router/tree").stat().st_mtime_ns

    driven = back_under_load(shop)

    assert shop.release_served() == "1"
    assert names(driven)[:3] == ["Probe standby blue", "Move traffic to blue", "Health check blue with the traffic on"]
    assert not [n for n in names(driven) if n.startswith(("Start", "Configure", "Prepare", "Run job"))]
    assert started(shop, "", "-blue") == before
    assert started(shop, "-green").keys() == existed.keys(), "kept, at most restarted to close WebSockets"
    assert workers_of_nginx(shop) == nginx
    assert (shop.root / ".nself/router/tree").stat().st_mtime_ns == configured
    assert shop.state("bluegreen/state.json")["active"] == "blue"
    assert shop.state("bluegreen/state.json")["last_rollback"] > shop.state("bluegreen/state.json")["last_deploy"]


def test_cold_it_is_started_again_as_it_was(shop: Stack) -> None:
    """Images by id although their names mean others by now, settings of then although the file says others."""
    first, image = shop.state("bluegreen/state.json")["blue_version"], web(shop, "blue")["Image"]
    third = deploy(shop, "3", "--standby", "0")
    assert (third["previous_release"], shop.slots()["blue"]) == (first, [])
    assert greeting(shop, "green") == "GREETING=said by release 3"
    docker("tag", web(shop, "green")["Image"], f"{shop.name}-web:1-good")
    shared = lives(shop, "db", "cache", "router")

    driven = back_under_load(shop, "--standby", "0")

    assert shop.release_served() == "1"
    assert web(shop, "blue")["Image"] == image
    assert greeting(shop, "blue") == "GREETING=said by release 1"
    assert "Start blue" in names(driven) and "Health check blue" in names(driven)
    assert any("ran already for this release" in line for line in driven.lines), driven
    assert lives(shop, "db", "cache", "router") == shared
    assert shop.slots()["green"] == []


def test_to_an_older_release_than_the_previous_one(shop: Stack) -> None:
    history = shop.nself("history", "--json").json
    second = next(
        run["release"] for run in history if run["kind"] == "deploy" and run["release"] not in lately(history)
    )

    document = check_document(shop.nself("rollback", "--json", *QUICK, "--to", second), success=True)

    assert document["release"] == second
    assert shop.release_served() == "2"
    assert greeting(shop, "green") == "GREETING=said by release 2"
    assert ("done", "Start green") in steps_of(document)


def lately(history: list[dict[str, Any]]) -> set[str]:
    """The release that is live and the one before it."""
    return {history[0]["release"], history[0]["previous_release"]}


@pytest.mark.parametrize(
    ("release", "words"),
    [("20200101T000000-deadbeef", "There is no release '20200101T000000-deadbeef'"), ("live", "is live already")],
)
def test_to_what_cannot_be_is_refused(shop: Stack, release: str, words: str) -> None:
    live = shop.state("bluegreen/state.json")["green_version"]
    before, served = shop.slots(), shop.release_served()

    outcome = shop.nself("rollback", "--to", live if release == "live" else release, check=False)

    assert outcome.status == 1
    assert words in outcome.err and "->" in outcome.err
    assert (shop.slots(), shop.release_served()) == (before, served)


def test_to_a_release_whose_image_is_gone_is_refused_before_anything_is_done(shop: Stack) -> None:
    history = shop.nself("history", "--json").json
    third = max(run["release"] for run in history)
    tags = docker("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference=*/*:{third}").split()
    image = docker("inspect", "--format", "{{.Id}}", next(t for t in tags if "-web:" in t)).strip()
    docker("rmi", "-f", image)
    before, served = shop.slots(), shop.release_served()

    outcome = shop.nself("rollback", "--to", third, check=False)

    assert outcome.status == 1
    assert f"image of web in release {third}" in outcome.err and "-> Choose another release" in outcome.err
    assert (shop.slots(), shop.release_served()) == (before, served)
