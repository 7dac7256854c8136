"""A deploy that is cut short half-way: by its engine, by a signal, by another deploy, by a reader who goes away."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.faults import LIMIT_S, LONG, UNHURRIED, Visitor, at_moments, watched
from tests.real.scene import FAST, check_message, check_same, facts, nself_argv, tiny
from tests.real.stack import Outcome, Stack
from tests.real.wire import Wire

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def site() -> Iterator[Stack]:
    """The tiny project, live with release 1."""
    stack = tiny()
    try:
        stack.nself(*FAST)
        yield stack
    finally:
        stack.remove()


def steps(outcome: Outcome, after: str) -> list[str]:
    """The steps that ended after the one named, with how."""
    found = re.findall(r"^\[(\w+)\] (.+?)(?: \(|  |$)", outcome.out, re.MULTILINE)
    names = [name for _, name in found]
    return [f"{status} {name}" for status, name in found[names.index(after) + 1 :]]


def network_part(found: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in found.items() if not name.startswith("file ")}


@pytest.mark.parametrize(
    ("moment", "undone"),
    [
        ("  + green/web", ["failed Prepare networks", "done Persist state"]),
        ("[done] Start green", ["failed Health check green"]),
        (
            "[done] Move traffic to green",
            ["failed Health check green with the traffic on", "done Move traffic back to blue", "done Drain green"],
        ),
    ],
    ids=["before anything", "with the candidate up", "with the traffic moved"],
)
def test_an_engine_that_dies_half_way(site: Stack, moment: str, undone: list[str]) -> None:
    """Users notice nothing; the next deploy finishes the undoing."""
    before = network_part(facts(site))
    with Visitor(site) as visitor, Wire() as wire:
        outcome = at_moments(site, {moment: lambda _: wire.cut()}, *UNHURRIED, DOCKER_HOST=wire.host, RELEASE="2")

        check_message(outcome, 2, wire.host, "(DOCKER_HOST) can't be reached", "Start Docker", "traffic is on blue")
        last = moment.removeprefix("[done] ") if moment.startswith("[") else "Build and pin images"
        assert steps(outcome, last) == undone
        assert (site.root / ".nself/router/current").readlink() == Path("splits/blue")
        away = site.nself("status", DOCKER_HOST=wire.host)
        assert "can't be reached" in away.out

        half_way = site.slots()["green"] != []
        assert half_way is ("everything was undone" not in outcome.err)
        status = site.nself("status", "--json").json
        assert (status["under_way"] is not None) is half_way

        again = site.nself(*FAST)
        assert ("Remove green" in again.out) is half_way
    assert visitor.failed == []
    assert b"release 1\n" in visitor.seen
    check_same(before, network_part(facts(site)))
    assert site.nself("status", "--json").json["under_way"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_undoes_in_order(site: Stack, number: signal.Signals) -> None:
    before = network_part(facts(site))
    with Visitor(site) as visitor:
        outcome = at_moments(
            site, {"[done] Start green": lambda deploy: deploy.send_signal(number)}, *LONG, RELEASE="2"
        )

    check_message(outcome, 130, "interrupted", "traffic is on blue; everything was undone")
    assert "interrupted: undoing in order" in outcome.out
    assert steps(outcome, "Start green") == ["failed Health check green", "done Remove green", "done Persist state"]
    assert (visitor.failed, visitor.seen) == ([], {b"release 1\n"})
    check_same(before, network_part(facts(site)))
    assert site.nself("status", "--json").json["under_way"] is None
    assert site.state("state/deploy.json")["success"] is False


def test_a_second_deploy_names_the_first(site: Stack) -> None:
    first = site.start_nself(*LONG, RELEASE="2")
    held: list[Outcome] = []

    def while_it_runs() -> None:
        held.extend(site.nself(*words, check=False) for words in ((), ("rollback",), ("--json",), ("status",)))
        first.terminate()

    outcome = watched(first, "[done] Start green", while_it_runs)

    assert outcome.status == 130, outcome.text
    *refused, status = held
    for other in refused:
        check_message(other, 6, ".nself/lock", f"(process {first.pid})", "deploy (local)", "Wait until it has ended")
    assert f"process {first.pid}" in refused[2].json["error"]
    assert status.status == 0 and f"pid {first.pid}" in status.out and "under way: deploy" in status.out
    assert site.get("/")[2] == b"release 1\n"


def test_a_reader_who_goes_away_stops_nothing(site: Stack) -> None:
    """`nself deploy | head -1`: the deploy goes on, and ends as it would have."""
    with site.start_nself(*FAST, "--standby", "0", RELEASE="3") as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()

        assert (process.wait(LIMIT_S), errors) == (0, "")
    assert site.get("/")[2] == b"release 3\n"
    assert site.slots()["blue"] == []
    site.nself(*FAST, "--standby", "0")
    assert site.get("/")[2] == b"release 1\n"


@pytest.mark.parametrize("words", [("status",), ("status", "--json"), ("history",), ("plan",), ("--help",)])
def test_output_that_nobody_reads_is_no_error(site: Stack, words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        nself_argv(*words), cwd=site.root, env=site.environment(), stdout=writing, stderr=subprocess.PIPE, text=True,
        check=False, timeout=LIMIT_S,
    )  # fmt: skip
    os.close(writing)

    assert done.stderr == ""
    assert done.returncode == (1 if words == ("--help",) else 0)


def test_output_that_can_not_be_written_is_one(site: Stack) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            nself_argv("status"), cwd=site.root, env=site.environment(), stdout=full, stderr=subprocess.PIPE, text=True,
            check=False, timeout=LIMIT_S,
        )  # fmt: skip

    check_message(Outcome(done.returncode, "", done.stderr), 2, "The output could not be written: No space left")
