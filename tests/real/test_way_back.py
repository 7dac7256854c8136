"""Back to a warm release: users first. What needs the engine comes after them, now or when there is one again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.real.scene import FAST, tiny
from tests.real.stack import Stack, docker

pytestmark = pytest.mark.real

NOWHERE = {"DOCKER_HOST": "unix:///nowhere.sock"}


@pytest.fixture(scope="module")
def site() -> Iterator[Stack]:
    stack = tiny()
    try:
        for release in ("one", "two"):
            stack.nself(*FAST, "--standby", "10m", RELEASE=release)
        yield stack
    finally:
        stack.remove()


def served(stack: Stack) -> str:
    return stack.get("/")[2].decode().removeprefix("release ").strip()


def under_way(stack: Stack, **env: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = stack.nself("status", "--json", **env).json["under_way"]
    return found


def test_without_an_engine_users_are_back_and_the_rest_is_done_when_there_is_one(site: Stack) -> None:
    document = site.nself("rollback", "--json", *FAST, **NOWHERE).json

    assert served(site) == "one"
    assert (document["success"], document["final_percent"], document["error"]) == (True, 100, "")
    assert [s["status"] for s in document["steps"]] == ["done", "done", "failed", "pending", "pending", "pending"]
    left = under_way(site, **NOWHERE)
    assert left is not None and left["outcome"] == "unfinished" and "can't be reached" in left["error"], left
    assert "nself deploy resume" in site.nself("status", **NOWHERE).out

    site.nself("resume")
    assert served(site) == "one" and under_way(site) is None
    events = site.nself("audit", "list", "--json").json
    assert [e["outcome"] for e in events if e["event_type"] == "rollback"] == ["done"]


def test_the_next_deploy_does_what_was_left(site: Stack) -> None:
    before = served(site)
    said = site.nself("rollback", **NOWHERE)
    assert "Users are back on" in said.out and "nself deploy resume" in said.err, said.text
    assert served(site) != before

    site.nself(*FAST, RELEASE="three")
    assert served(site) == "three" and under_way(site) is None


def test_the_compose_file_may_be_broken(site: Stack) -> None:
    """It is read after users are back; what is wrong with it is said then."""
    file, before = site.root / "compose.yaml", served(site)
    text = file.read_text()
    try:
        file.write_text("services: [")
        said = site.nself("rollback")
        assert served(site) != before
        assert "compose.yaml" in said.err and "Users are back on" in said.out, said.text
    finally:
        file.write_text(text)
    site.nself("resume")
    assert under_way(site) is None


def test_a_standby_that_does_not_answer_gets_no_users(site: Stack) -> None:
    before = served(site)
    idle = "blue" if site.state("bluegreen/state.json")["active"] == "green" else "green"
    docker("stop", "-t", "0", f"{site.name}-{idle}-web-1")

    said = site.nself("rollback", *FAST)
    assert "Probe standby" not in said.out and f"[done] Start {idle}" in said.out, said.text
    assert served(site) != before
