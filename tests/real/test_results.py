"""What programs get: documents, exit statuses, state files, and the library's functions."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import nself_deploy
from nself_deploy import BlueGreenConfig, StepStatus, UsageError, load_deploy_state, run_blue_green
from tests.load.drive import drive
from tests.real.contract import (
    BLUE_GREEN_STATE,
    DEPLOY_STATE,
    ROLLBACK_STATE,
    check_document,
    check_keys,
    check_plan,
    moment,
    private_state,
    steps_of,
    tree_of,
)
from tests.real.people import QUICK
from tests.real.people import shop as patient_shop
from tests.real.stack import Stack, docker

pytestmark = pytest.mark.real

LOOKS = (["plan", "--json"], ["--dry-run", "--json"], ["plan"], ["status", "--json"], ["status"], ["history", "--json"])


@pytest.fixture(scope="module")
def shop() -> Iterator[Stack]:
    """A project for which only `init` has been run."""
    stack = patient_shop("res")
    try:
        stack.nself("init", "--yes")
        yield stack
    finally:
        stack.remove()


@contextmanager
def nothing_is_written(stack: Stack) -> Iterator[None]:
    """No file of the project changes, and no container, network or image of it comes or goes."""
    before = tree_of(stack.root), things(stack)
    yield
    assert tree_of(stack.root) == before[0]
    assert things(stack) == before[1]


def things(stack: Stack) -> list[list[str]]:
    """Containers (with their start times), networks and images of a project."""
    containers = sorted(f"{c['Id']} {c['State']['StartedAt']}" for c in stack.containers())
    networks = sorted(docker("network", "ls", "-q", "--filter", f"name={stack.name}").split())
    images = docker("images", "-q", "--no-trunc", "--filter", f"reference=*{stack.name}*").split()
    return [containers, networks, sorted(images)]


@contextmanager
def readers_of(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Programs that read a state file all the time: every different content in its order, its mode checked."""
    seen: list[dict[str, Any]] = []
    trouble: list[Exception] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.wait(0.002):
            try:
                value = json.loads(path.read_bytes())
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
            except (ValueError, OSError, AssertionError) as error:
                trouble.append(error)
                return
            if not seen or seen[-1] != value:
                seen.append(value)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(60)
    assert not trouble, trouble


@pytest.fixture
def as_user(shop: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The library is called in this process, so what the commands see is set here."""
    for name, value in {**shop.environment(), "HEALTHCHECK_TIMEOUT_API": "240s"}.items():
        monkeypatch.setenv(name, value)
    return shop


def test_before_the_first_deploy_looking_writes_nothing(shop: Stack) -> None:
    with nothing_is_written(shop):
        plan = check_plan(shop.nself("plan", "--json"))
        for words in LOOKS:
            shop.nself(*words)

    assert plan["previous_release"] == ""
    assert [s["name"] for s in plan["steps"]][-1] == "Persist state"
    roles = {s["name"]: s["role"] for s in plan["services"]}
    assert roles == dict.fromkeys(("web", "api", "worker"), "app") | dict.fromkeys(("db", "cache"), "shared") | {
        "router": "router",
        "migrate": "job",
    }
    assert {r["service"] for r in plan["routes"]} == {"web", "api"}
    assert {s["name"]: s["origin"] for s in plan["settings"]}["health_timeout"] == "default"


def test_a_deploy_prints_one_document_and_its_files_say_the_same(shop: Stack) -> None:
    document = check_document(shop.deploy("1", *QUICK), success=True)

    assert all(status == "done" for status, _ in steps_of(document))
    assert (document["target"], document["previous_release"]) == ("local", "")
    assert document["duration_ms"] >= sum(s["seconds"] for s in document["steps"]) * 1000 * 0.9
    state = private_state(shop, "state/deploy.json", DEPLOY_STATE, "blue_green_state_file")
    assert (state["schema_version"], state["strategy"], state["target"]) == (1, "blue-green", "local")
    assert (state["success"], state["rolled_back"]) == (True, False)
    assert moment(state["started_at"]) < moment(state["completed_at"])
    split = private_state(shop, state["blue_green_state_file"].removeprefix(".nself/"), BLUE_GREEN_STATE)
    assert (split["active"], split["blue_version"], split["green_version"]) == ("blue", document["release"], "")
    assert load_deploy_state(shop.root).success


def test_a_deploy_of_the_same_again_says_so_and_does_nothing(shop: Stack) -> None:
    before, files = things(shop)[0], (shop.root / ".nself/state/deploy.json").read_bytes()

    document = check_document(shop.deploy("1", *QUICK), success=True)
    words = drive(shop, None, QUICK, SHOP_RELEASE="1")

    assert steps_of(document) == [("done", "Unchanged")]
    assert document["release"] == shop.state("bluegreen/state.json")["blue_version"]
    assert (words.status, words.errors) == (0, "")
    assert [name for _, name, _ in words.steps] == ["Unchanged"]
    assert f"release {document['release']} is live already" in "\n".join(words.lines)
    assert things(shop)[0] == before
    assert (shop.root / ".nself/state/deploy.json").read_bytes() == files


def test_looking_at_a_site_that_is_live_writes_nothing(shop: Stack) -> None:
    with nothing_is_written(shop):
        for words in LOOKS:
            shop.nself(*words, SHOP_RELEASE="2")
        plan = check_plan(shop.nself("--dry-run", "--json", "--drain", "5s", SHOP_RELEASE="2"))

    assert plan["previous_release"] == shop.state("bluegreen/state.json")["blue_version"]
    assert [s["name"] for s in plan["steps"]][-8:] == [
        "Start green",
        "Health check green",
        "Move traffic to green",
        "Health check green with the traffic on",
        "Hand single services over to green",
        "Drain blue",
        "Keep blue warm",
        "Persist state",
    ]
    assert {s["name"]: s["origin"] for s in plan["settings"]}["drain"] == "flag"


def test_the_library_deploys_and_the_files_are_true_all_the_time(
    as_user: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_RELEASE", "2")
    before = as_user.state("bluegreen/state.json")
    with nothing_is_written(as_user):
        preview = run_blue_green(BlueGreenConfig(as_user.root, dry_run=True))
    assert preview.success and {s.status for s in preview.steps} == {StepStatus.PENDING}

    with readers_of(as_user.root / ".nself/bluegreen/state.json") as seen:
        result = run_blue_green(BlueGreenConfig(str(as_user.root), health_timeout_sec=240))

    assert (result.success, result.error, result.rolled_back) == (True, "", False), result
    assert {s.status for s in result.steps} == {StepStatus.DONE}
    assert result.steps[0].name == "Build and pin images"
    assert timedelta() < result.duration < timedelta(minutes=60)
    assert as_user.release_served() == "2"
    after = as_user.state("bluegreen/state.json")
    assert (after["active"], after["blue_version"]) == ("green", before["blue_version"])
    assert moment(after["last_deploy"]) > moment(before["last_deploy"])
    states = [value["active"] for value in seen]
    assert states == sorted(states), "blue, then green, and never back"
    assert all(value["green_version"] == after["green_version"] for value in seen if value["active"] == "green")
    for service in ("web", "api", "worker", "migrate"):
        record = private_state(as_user, f"rollback-state/local/{service}.json", ROLLBACK_STATE)
        assert record["prior_tag"] == f"{as_user.name}-{service}:1-good"
        assert record["prior_hash"] == docker("image", "inspect", "-f", "{{.Id}}", record["prior_tag"]).strip()
        moment(record["updated_at"])


def test_the_library_says_that_nothing_changed(as_user: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_RELEASE", "2")

    result = run_blue_green(BlueGreenConfig(as_user.root))

    assert result.success
    assert [(s.name, s.status) for s in result.steps] == [("Unchanged", StepStatus.DONE)]


def test_a_deploy_that_fails_is_a_result_not_an_exception(as_user: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_RELEASE", "3")
    monkeypatch.setenv("SHOP_API_VARIANT", "nolisten")
    monkeypatch.setenv("HEALTHCHECK_TIMEOUT_API", "2s")

    result = run_blue_green(BlueGreenConfig(as_user.root))

    assert not result.success and not result.rolled_back
    assert "api in blue is not healthy" in result.error
    assert [s.name for s in result.steps if s.status is StepStatus.UNHEALTHY] == ["Start blue"]
    state = load_deploy_state(as_user.root)
    assert (state.success, state.error) == (False, result.error)
    assert as_user.release_served() == "2"


def test_a_project_that_cannot_be_read_is_a_result_too(as_user: Stack, tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text("services: [\n")

    result = run_blue_green(BlueGreenConfig(tmp_path))

    assert not result.success and result.steps == []
    assert "docker-compose.yml" in result.error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"health_timeout_sec": -1}, "health_timeout_sec"),
        ({"health_timeout_sec": 100_000}, "out of range"),
        ({"target": "the moon"}, "not a target"),
        ({"target": "moon"}, "no target"),
        ({"project_root": "/no/such/directory"}, "/no/such/directory"),
    ],
)
def test_wrong_arguments_raise(as_user: Stack, arguments: dict[str, Any], words: str) -> None:
    with nothing_is_written(as_user), pytest.raises(UsageError, match=words):
        run_blue_green(BlueGreenConfig(**{"project_root": as_user.root, **arguments}))


async def test_a_running_event_loop_is_not_blocked_but_refused(as_user: Stack) -> None:
    with pytest.raises(UsageError, match="event loop"):
        run_blue_green(BlueGreenConfig(as_user.root, dry_run=True))
    result = await asyncio.to_thread(run_blue_green, BlueGreenConfig(as_user.root, dry_run=True))
    assert result.success, result


def test_history_and_status_tell_what_happened(shop: Stack) -> None:
    history = shop.nself("history", "--json").json
    status = shop.nself("status", "--json").json

    assert [run["outcome"] for run in history] == ["failed", "done", "done"]
    assert [slot["role"] for slot in status["slots"]] == ["empty", "live"]
    assert status["last"] == history[0]
    assert (status["under_way"], status["engine"], status["holder"]) == (None, "ok", "")
    numbers = dict.fromkeys(("percent", "containers", "healthy"), int)
    check_keys(status["slots"][1], dict.fromkeys(("slot", "role", "release", "since", "until"), str) | numbers)
    assert status["slots"][1]["percent"] == 100


def test_the_package_names_its_functions_and_imports_them_late() -> None:
    program = (
        "import sys, nself_deploy; print([m for m in sys.modules if m.startswith('nself_deploy.') or m == 'msgspec'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)

    assert done.stdout.strip() == "[]"
    public = [name for name in nself_deploy.__all__ if not name.startswith("_")]
    assert public == sorted(public, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert all(getattr(nself_deploy, name) is not None for name in nself_deploy.__all__)
    assert set(nself_deploy.__all__) <= set(dir(nself_deploy))
    with pytest.raises(AttributeError, match="no attribute 'run_purple'"):
        nself_deploy.run_purple  # noqa: B018 - the attribute is asked for
