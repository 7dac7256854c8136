"""Something is left over or was changed by hand: doctor says so, puts right what is ours, and users notice nothing."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.real.faults import LONG, Visitor, watched
from tests.real.scene import FAST, check_same, facts, tiny
from tests.real.stack import Outcome, Stack, docker, wait_for

pytestmark = pytest.mark.real

EASY = (*FAST, "--drain", "240s", "--standby", "2h")
"""No answer is cut short, however late a busy machine gives it: a drain ends with the last one. And nobody comes to
remove a standby, which takes the lock, while later tests compare what there is."""
GONE = ("--standby", "0")
_releases = itertools.count(2)


@pytest.fixture(scope="module")
def made() -> Iterator[Stack]:
    stack = tiny()
    try:
        stack.nself(*EASY)
        yield stack
    finally:
        docker("rm", "-f", f"{stack.name}-hand", f"{stack.name}-stranger")
        stack.remove()


@pytest.fixture
def site(made: Stack) -> Iterator[Stack]:
    """The tiny project, live in blue, with nothing else; doctor finds nothing at the end."""
    if link(made) != "splits/blue" or made.slots()["green"]:
        deploy(made, *GONE)
    if link(made) != "splits/blue":
        deploy(made, *GONE)
    yield made
    assert codes(doctor(made)) == {}


def deploy(stack: Stack, *words: str) -> str:
    """A new release; what it serves."""
    release = str(next(_releases))
    stack.nself(*EASY, *words, RELEASE=release)
    assert stack.get("/")[2] == f"release {release}\n".encode()
    return release


def link(stack: Stack) -> str:
    return str((stack.root / ".nself/router/current").readlink())


def doctor(stack: Stack, *words: str, **env: str) -> Outcome:
    return stack.nself("doctor", "--json", *words, check=False, **env)


def codes(outcome: Outcome) -> dict[str, str]:
    """Code -> severity of what was found; the exit status is as it has to be."""
    document = outcome.json
    found = {finding["code"]: finding["severity"] for finding in document["findings"]}
    assert set(document) == {"project", "well", "findings", "repaired"}
    assert document["well"] is (outcome.status == 0)
    assert document["well"] is not bool({"error", "warning"} & set(found.values())), outcome.text
    return found


def check_fixed(stack: Stack, *wanted: str) -> dict[str, Any]:
    """Doctor finds this and changes nothing; with --fix it puts it right, and finds nothing any more (nor later)."""
    before = facts(stack)
    looked = doctor(stack)
    assert set(codes(looked)) == set(wanted), looked.text
    assert looked.status == 7
    check_same(before, facts(stack))
    fixed = doctor(stack, "--fix")
    assert codes(fixed) == {}, fixed.text
    assert {repair["code"] for repair in fixed.json["repaired"]} >= set(wanted)
    return before


def check_left(stack: Stack, status: int, *wanted: str) -> Outcome:
    """Doctor finds this, and changes nothing: with --fix neither."""
    before = facts(stack)
    for words in ((), ("--fix",)):
        outcome = doctor(stack, *words)
        assert set(codes(outcome)) == set(wanted), outcome.text
        assert (outcome.status, outcome.json["repaired"]) == (status, [])
    check_same(before, facts(stack))
    return outcome


def sql(stack: Stack, words: str) -> None:
    """Change the journal as no command would."""
    with closing(sqlite3.connect(stack.root / ".nself/nself.db")) as database:
        database.execute(words)
        database.commit()


def test_a_killed_deploy_is_undone(site: Stack) -> None:
    before = facts(site)
    process = site.start_nself(*LONG, RELEASE="killed")
    with Visitor(site) as visitor:
        watched(process, "[done] Start green", process.kill)
        assert site.slots()["green"]
        check_fixed(site, "run-interrupted")
    assert (visitor.failed, len(visitor.seen)) == ([], 1)
    check_same(before, facts(site), but=("file ",))


def test_a_leftover_candidate_and_a_log_that_is_left_on(site: Stack) -> None:
    """As after a crash between two records: the slot is nobody's, and something runs in it."""
    with Visitor(site) as visitor:
        deploy(site)
        assert link(site) == "splits/green"
        sql(site, "UPDATE slots SET role = 'candidate', standby_until = '' WHERE slot = 'blue'")
        check_fixed(site, "slot-leftover", "recording-left")
        assert site.slots()["blue"] == []
    assert visitor.failed == []


def test_a_removed_standby(site: Stack) -> None:
    with Visitor(site) as visitor:
        deploy(site)
        docker("rm", "-f", *site.slots()["blue"])
        check_fixed(site, "standby-gone")
        assert site.nself("status", "--json").json["slots"][0]["role"] == "empty"
    assert visitor.failed == []


def test_a_stopped_standby_and_a_stopped_live_container(site: Stack) -> None:
    deploy(site)
    docker("stop", *site.slots()["blue"])
    check_fixed(site, "standby-stopped")
    site.nself("rollback", "--yes")
    assert link(site) == "splits/blue"
    docker("stop", *site.slots()["blue"])
    before = doctor(site)
    assert codes(before)["live-stopped"] == "error"
    assert codes(doctor(site, "--fix")) == {}
    assert site.get("/")[0] == 200


def test_an_expired_standby_whose_remover_was_killed(site: Stack) -> None:
    with Visitor(site) as visitor:
        deploy(site)
        sql(site, "UPDATE slots SET standby_until = '2026-01-01T00:00:00Z' WHERE slot = 'blue'")
        check_fixed(site, "standby-expired")
        assert site.slots()["blue"] == []
    assert visitor.failed == []


def test_removed_networks(site: Stack) -> None:
    names = [f"{site.name}-nself-router-green-default", f"{site.name}-nself-green-default"]
    with Visitor(site) as visitor:
        docker("network", "disconnect", names[0], f"{site.name}-router-1")
        docker("network", "rm", *names)
        assert set(codes(doctor(site))) == {"network-missing"}
        assert codes(doctor(site, "--fix")) == {}
        docker("network", "disconnect", names[0], f"{site.name}-router-1")
        check_fixed(site, "router-detached")
    assert visitor.failed == []
    deploy(site, *GONE)


def test_a_link_that_was_moved_by_hand(site: Stack) -> None:
    """The link is the truth about traffic; what was live stays warm for a while."""
    deploy(site)
    with Visitor(site) as visitor:
        current = site.root / ".nself/router/current"
        draft = current.with_name("by-hand")
        draft.symlink_to("splits/blue")
        draft.rename(current)
        found = doctor(site)
        assert codes(found)["records-wrong"] == "error"
        assert codes(doctor(site, "--fix")) == {}
        slots = {s["slot"]: s["role"] for s in site.nself("status", "--json").json["slots"]}
        assert slots == {"blue": "live", "green": "standby"}
        assert site.state("bluegreen/state.json")["active"] == "blue"
    assert visitor.failed == []


@pytest.mark.parametrize("target", ["", "splits/nowhere"])
def test_a_lost_link(site: Stack, target: str) -> None:
    current = site.root / ".nself/router/current"
    with Visitor(site) as visitor:
        current.unlink()
        if target:
            current.symlink_to(target)
        found = doctor(site)
        assert (found.status, codes(found)["link-lost"]) == (1, "error")
        assert "ln -sfn splits/blue" in found.text
        assert codes(doctor(site, "--fix")) == {}
        assert link(site) == "splits/blue"
    assert visitor.failed == []


def test_state_files(site: Stack) -> None:
    now, outcome = (site.root / ".nself" / name for name in ("bluegreen/state.json", "state/deploy.json"))
    wrong = json.loads(now.read_text()) | {"active": "green"}
    now.write_text(json.dumps(wrong))
    outcome.unlink()
    check_fixed(site, "state-stale")
    assert (json.loads(now.read_text())["active"], json.loads(outcome.read_text())["success"]) == ("blue", True)

    kept = now.read_bytes()
    now.write_bytes(b"{")
    check_left(site, 1, "state-unreadable")
    now.write_bytes(kept)


def test_files_of_killed_writers_and_generated_files(site: Stack) -> None:
    nself = site.root / ".nself"
    release = site.nself("history", "--json").json[0]["release"]
    orphan = nself / "releases/20200101T000000-0123abcd"
    (nself / "state/.deploy.json.nself-0123456789ab.tmp").write_text("{")
    (nself / "router/splits/.new-01234567").mkdir()
    (nself / "router/.current.01234567").symlink_to("splits/blue")
    orphan.mkdir()
    (orphan / "compose.blue.yaml").write_text("services: {}\n")
    (nself / f"releases/{release}/compose.blue.yaml").unlink()
    (site.root / "compose.override.yaml").write_text("# generated by nself-deploy\nservices: {}\n")
    check_fixed(site, "files-temporary", "release-orphaned", "slot-file-missing", "override-stale")
    assert not orphan.exists()
    assert [p for p in nself.rglob(".*") if p.name.endswith(".tmp") or "01234567" in p.name] == []

    mine = nself / "releases/mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    check_left(site, 7, "release-orphaned")
    shutil.rmtree(mine)


def test_what_is_not_ours_is_never_touched(site: Stack) -> None:
    """A container by hand with all our labels, a stranger in our Compose project, a plain one that somebody started."""
    (live,) = site.slots()["blue"]
    labels = json.loads(docker("inspect", live))[0]["Config"]["Labels"]
    ours = [f"--label={name}={value}" for name, value in labels.items() if name.startswith("nself.deploy.")]
    for name, words in ((f"{site.name}-hand", ours), (f"{site.name}-stranger", [compose_label(site)])):
        docker("run", "-d", "--name", name, *words, "busybox:1.37", "sleep", "600")
    site.compose("-f", "compose.yaml", "up", "-d", "--no-deps", "web")
    with Visitor(site) as visitor:
        outcome = check_left(site, 7, "container-by-hand", "container-foreign", "container-stray")
        said = site.nself("doctor", check=False).out
    for words in ("docker rm -f", "docker compose rm -sf web", f"{site.name}-hand", f"{site.name}-stranger"):
        assert words in said, said
    assert not any(finding["fixable"] for finding in outcome.json["findings"])
    assert visitor.failed == []
    docker("rm", "-f", f"{site.name}-hand", f"{site.name}-stranger")
    site.compose("-f", "compose.yaml", "rm", "-sf", "web")


def compose_label(stack: Stack) -> str:
    return f"--label=com.docker.compose.project={stack.name}-green"


def test_a_stranger_at_a_reserved_address(site: Stack) -> None:
    network = f"{site.name}-nself-green-default"
    (live,) = site.slots()["blue"]
    mine = json.loads(docker("inspect", live))[0]["NetworkSettings"]["Networks"][f"{site.name}-nself-blue-default"]
    subnet = json.loads(docker("network", "inspect", network))[0]["IPAM"]["Config"][0]["Subnet"]
    address = f"{subnet.rpartition('.')[0]}.{mine['IPAddress'].rpartition('.')[2]}"
    name = f"{site.name}-stranger"
    docker("run", "-d", "--name", name, "--network", network, "--ip", address, "busybox:1.37", "sleep", "600")
    outcome = check_left(site, 7, "address-taken")
    assert f"docker network disconnect {network} {name}" in outcome.text
    docker("rm", "-f", name)


def test_a_router_that_is_down_and_one_whose_files_are_refused(site: Stack) -> None:
    config = site.root / "nginx/site.conf"
    kept = config.read_text()
    config.write_text(kept.replace("listen 80;", "listen 80 nonsense;"))
    outcome = check_left(site, 7, "router-refuses")
    assert "nonsense" in outcome.text
    config.write_text(kept)

    docker("stop", f"{site.name}-router-1")
    check_left(site, 7, "router-down")
    site.compose("up", "-d", "router")
    wait_for(lambda: site.get("/")[0] == 200, "the router")


def test_a_journal_that_is_damaged_and_an_engine_that_is_away(site: Stack) -> None:
    journal, kept = site.root / ".nself/nself.db", site.root / "kept.db"
    shutil.copyfile(journal, kept)
    journal.write_bytes(b"no database")
    (site.root / ".nself/.lock.nself-0123456789ab.tmp").write_text("")
    try:
        check_left(site, 1, "journal-unreadable", "files-temporary")
    finally:
        shutil.copyfile(kept, journal)
    away = doctor(site, DOCKER_HOST="tcp://127.0.0.1:9")
    assert (away.status, codes(away)) == (2, {"engine-unreachable": "error", "files-temporary": "warning"})
    kept.unlink()
    check_fixed(site, "files-temporary")


def test_while_somebody_is_at_work(site: Stack) -> None:
    first = site.start_nself(*LONG, "--min-uptime", "9m", RELEASE="slow")
    held: list[Outcome] = []

    def look() -> None:
        held.extend(doctor(site, *words) for words in ((), ("--fix",)))
        first.terminate()

    watched(first, "[done] Start green", look)
    for outcome in held:
        assert (outcome.status, codes(outcome)) == (0, {"run-under-way": "note"})
        assert f"process {first.pid}" in outcome.text


def test_a_project_that_was_never_deployed() -> None:
    stack = tiny()
    before = facts(stack)
    try:
        for words in ((), ("--fix",)):
            assert codes(doctor(stack, *words)) == {}
        check_same(before, facts(stack))
    finally:
        stack.remove()
