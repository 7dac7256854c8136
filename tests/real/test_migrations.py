"""Migrations at the gate, on real Docker: refused before anything starts, and gone on with when a person says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nself_deploy import BlueGreenConfig, CanaryConfig, run_blue_green, run_canary
from tests.real.scene import FAST, edit, tiny
from tests.real.stack import Outcome, Stack

pytestmark = pytest.mark.real

JOB = """
  migrate:
    image: busybox:1.37
    pull_policy: never
    restart: "no"
    command: ["sh", "-c", "cat /db/*.sql > /applied/all"]
    volumes: ["./db:/db:ro", "./applied:/applied"]
    x-nself-deploy: {role: job}

  store:"""
SETTINGS = "{min_uptime: 1s, drain: 1s, health_timeout: 60s, migrations: ['db/*.sql']}"
DROPS = "ALTER TABLE orders\n  DROP COLUMN note;\n"


@pytest.fixture(scope="module")
def site() -> Iterator[Stack]:
    """Release one is live, with a first migration."""
    stack = tiny(init=False)
    try:
        edit(stack, "services:", f"x-nself-deploy: {SETTINGS}\n\nservices:")
        edit(stack, "\n  store:", JOB)
        (stack.root / "applied").mkdir(mode=0o777)
        (stack.root / "db").mkdir()
        (stack.root / "db/1.sql").write_text("DROP TABLE IF EXISTS older;\nCREATE TABLE orders (note text);\n")
        stack.nself("init", "--yes")
        stack.nself(*FAST, RELEASE="one")
        yield stack
    finally:
        stack.remove()


def served(stack: Stack) -> str:
    return stack.get("/")[2].decode().removeprefix("release ").strip()


def overrides(stack: Stack) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = stack.nself("audit", "list", "--json").json
    return [event for event in events if event["event_type"] == "migration-override"]


def refused(stack: Stack, outcome: Outcome, *says: str) -> None:
    """Nothing was done, and it is said why and what to do."""
    assert outcome.status == 4, outcome.text
    assert "Traceback" not in outcome.err
    for words in ("db/2.sql:2: ALTER TABLE orders DROP COLUMN note", "--force-migration", *says):
        assert words in outcome.err, outcome.text


def test_the_first_deploy_breaks_nobody(site: Stack) -> None:
    assert served(site) == "one"
    assert (site.root / "applied/all").read_text() == (site.root / "db/1.sql").read_text()
    assert overrides(site) == []


@pytest.mark.parametrize("strategy", ["blue-green", "canary"])
def test_a_migration_that_breaks_the_live_release_is_refused_before_anything_starts(site: Stack, strategy: str) -> None:
    (site.root / "db/2.sql").write_text(DROPS)
    before = [(c["Id"], c["State"]["StartedAt"]) for c in site.containers()]

    refused(site, site.nself("--strategy", strategy, check=False, RELEASE="two"), "would break release")
    assert [(c["Id"], c["State"]["StartedAt"]) for c in site.containers()] == before
    assert len(site.nself("history", "--json").json) == 1
    planned = site.nself("plan", "--strategy", strategy, "--json", RELEASE="two").json
    assert any(words.startswith("the deploy would be refused: 1 statement") for words in planned["warnings"])
    assert any(change["what"] == "migrations: db/2.sql" for change in planned["changes"])


def test_the_library_refuses_as_well(site: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in site.environment(RELEASE="two").items():
        monkeypatch.setenv(name, value)
    for result in (run_blue_green(BlueGreenConfig(site.root)), run_canary(CanaryConfig(site.root))):
        assert not result.success
        assert "1 statement of pending migrations would break release" in result.error
    assert served(site) == "one"


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"DORP TABLE orders;\n", 4, "db/3.sql:1: DORP TABLE orders; - it is not understood as PostgreSQL"),
        (b"SELECT 1;\n\xff\n", 1, "db/3.sql:2: is not UTF-8."),
    ],
)
def test_what_cant_be_read_is_refused_by_name(site: Stack, content: bytes, status: int, words: str) -> None:
    wrong = site.root / "db/3.sql"
    wrong.write_bytes(content)
    try:
        outcome = site.nself(check=False, RELEASE="two")
    finally:
        wrong.unlink()

    assert (outcome.status, words in outcome.err) == (status, True), outcome.text


def test_a_person_may_go_on_and_that_is_on_the_trail_once(site: Stack) -> None:
    outcome = site.nself(*FAST, "--force-migration", RELEASE="two")

    assert "db/2.sql:2: ALTER TABLE orders DROP COLUMN note" in outcome.out
    assert served(site) == "two"
    assert DROPS in (site.root / "applied/all").read_text()
    (event,) = overrides(site)
    (run, first) = site.nself("history", "--json").json
    assert event["metadata"]["run"] == run["id"]
    assert event["metadata"]["release"] == run["release"]
    assert "db/2.sql:2" in event["metadata"]["breaks"][0]
    assert (run["migration_override"], first["migration_override"]) == (True, False)
    assert "migration override" in site.nself("history").out
    (two, one) = site.nself("history", "--releases", "--json").json
    assert (one["migrations"], two["migrations"]) == (["db/1.sql"], ["db/1.sql", "db/2.sql"])
    site.nself("audit", "verify")


def test_the_way_back_is_refused_too_also_with_a_key(site: Stack) -> None:
    refused(site, site.nself("rollback", check=False), "migrations are never undone")
    first = site.nself("history", "--json").json[-1]["release"]
    refused(site, site.nself("rollback", "--to", first, check=False), "migrations are never undone")

    key = site.nself("keys", "create", "night", "--service", "web", "--env", "local").out.strip()
    words = ("--rollback", "--service", "web", "--env", "local", "--json")
    outcome = site.nself(*words, check=False, NSELF_DEPLOY_KEY=key)
    refused(site, outcome, "migrations are never undone")
    assert (outcome.json["ui_state"], outcome.json["success"]) == ("error", False)
    newest = site.nself("audit", "list", "--json").json[0]
    assert (newest["event_type"], newest["outcome"], newest["service"]) == ("rollback", "refused", "web")
    unwanted = site.nself(*words, "--force-migration", check=False, NSELF_DEPLOY_KEY=key)
    assert (unwanted.status, "--force-migration does not go with --rollback" in unwanted.err) == (1, True)
    assert served(site) == "two"
    assert len(site.nself("history", "--json").json) == 2


def test_a_person_may_go_back_all_the_same(site: Stack) -> None:
    outcome = site.nself("rollback", "--force-migration")

    assert served(site) == "one"
    assert "stay applied: db/2.sql" in outcome.out
    assert [event["metadata"]["kind"] for event in overrides(site)] == ["rollback", "deploy"]
    site.nself("audit", "verify")
