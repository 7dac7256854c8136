"""Resume and abort: from another terminal while a deploy lives, after it was killed, and with nothing to do."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing

import msgspec
import pytest

from nself_deploy.adapters.journal import Journal
from nself_deploy.app.runner import request_key
from tests.real.faults import (
    LIMIT_S,
    LONG,
    UNHURRIED,
    Visitor,
    at_moments,
    batches,
    check_clean,
    document,
    fresh,
    killed_at,
    no_traceback,
    released,
    side_by_side,
    sites,
    step_of,
    watched,
)
from tests.real.scene import FAST, check_message
from tests.real.stack import Outcome, Stack, wait_for

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def stacks() -> Iterator[list[Stack]]:
    with sites() as made:
        yield made


@pytest.mark.parametrize("command", ["resume", "abort"])
def test_with_nothing_to_do(stacks: list[Stack], command: str) -> None:
    before = released(stacks[0])
    words = stacks[0].nself(command)
    found = stacks[0].nself(command, "--json").json

    assert "Nothing was interrupted: there is nothing to do." in words.out
    assert (found["success"], [step["name"] for step in found["steps"]]) == (True, ["Nothing to do"])
    check_clean(stacks[0], before)


def test_a_live_deploy_is_aborted_from_another_terminal(stacks: list[Stack]) -> None:
    stack, before = stacks[0], released(stacks[0])
    others: dict[str, Outcome] = {}

    def meanwhile() -> None:
        others["resume"] = stack.nself("resume", check=False)
        others["abort"] = stack.nself("abort", "--json", check=False)

    with Visitor(stack) as visitor:
        process = stack.start_nself(*LONG, RELEASE=fresh())
        outcome = watched(process, step_of(stack, "[done] Start {to}"), meanwhile)

    check_message(others["resume"], 6, f"(process {process.pid})", "Wait until it has ended")
    assert (others["abort"].status, others["abort"].err) == (0, ""), others["abort"].text
    assert document(others["abort"])["success"] is False
    check_message(outcome, 130, "aborted by ", "everything was undone")
    assert (visitor.failed, visitor.seen) == ([], {f"release {before}\n".encode()})
    check_clean(stack, before)


def asked_to_abort(stack: Stack) -> bool:
    """Whether somebody asked for it, and the deploy has not heard of it yet."""
    with closing(Journal.open(stack.root, create=False)) as journal:
        return any(journal.meta(request_key(run)) for run in journal.all_unfinished())


def test_an_abort_that_comes_too_late(stacks: list[Stack]) -> None:
    """The new release has proved itself: the deploy ends as it would have, and the abort says so."""
    stack, release = stacks[0], fresh()
    aborts: list[subprocess.Popen[str]] = []

    def too_late(deploy: subprocess.Popen[str]) -> None:
        aborts.append(stack.start_nself("abort", "--json"))
        wait_for(lambda: asked_to_abort(stack), "the abort is asked for")

    proved = "[done] Health check {to} with the traffic on"
    outcome = at_moments(stack, {proved: too_late}, *FAST, "--standby", "0", RELEASE=release)
    out, err = aborts[0].communicate(timeout=LIMIT_S)

    assert (outcome.status, outcome.err) == (0, ""), outcome.text
    refused = Outcome(aborts[0].returncode, out, err)
    check_message(refused, 4, "had proved itself under traffic already", "nself deploy rollback")
    assert document(refused)["success"] is True
    check_clean(stack, release)


class Killed(msgspec.Struct, frozen=True):
    """When a deploy is killed, by which command it is met, and how that ends."""

    moment: str
    command: str
    says: str
    status: int = 0
    new: bool = False
    """Whether users are on the new release in the end."""


PREPARED, STARTED = "[done] Prepare networks", "[done] Start {to}"
MOVED, PROVED = "[done] Move traffic to {to}", "[done] Health check {to} with the traffic on"

KILLED = (
    Killed(PREPARED, "abort", "undo it: users have not reached {to}"),
    Killed(STARTED, "resume", "finish it: users have not reached {to} yet; its health is proved anew", new=True),
    Killed(STARTED, "deploy", "undo it: users have not reached {to}, so nobody misses it"),
    Killed(MOVED, "resume", "finish it: users are on {to} already, and it is healthy", new=True),
    Killed(MOVED, "abort", "undo it: users are on {to}, and you asked to abort"),
    Killed(MOVED, "deploy", "finish it: users are on {to} already", new=True),
    Killed(PROVED, "abort", "finish it: {to} had proved itself under traffic", status=4, new=True),
)


def check_killed(stack: Stack, case: Killed) -> None:
    before, release = released(stack), fresh()
    says = step_of(stack, case.says)
    with Visitor(stack) as visitor:
        killed_at(stack, case.moment, *UNHURRIED, "--standby", "0", RELEASE=release)
        shown = stack.nself("status", "--json").json
        asked = "the next deploy" if case.command == "deploy" else f"nself deploy {case.command}"
        planned = {way["command"]: way["finish"] for way in shown["recovery"]}
        assert planned[asked] is says.startswith("finish"), shown

        after = release if case.new else before
        words = FAST if case.command == "deploy" else (case.command,)
        outcome = no_traceback(stack.nself(*words, "--json", check=False, RELEASE=after))
        assert outcome.status == case.status, outcome.text
        steps = document(outcome)["steps"]
        assert isinstance(steps, list)
        assert says in steps[0]["detail"], outcome.text
        check_clean(stack, after)
    assert visitor.failed == []
    assert visitor.seen <= {f"release {before}\n".encode(), f"release {release}\n".encode()}


@pytest.mark.parametrize("cases", batches(KILLED))
def test_a_killed_deploy_is_met_by_each_command(stacks: list[Stack], cases: Sequence[Killed]) -> None:
    side_by_side(stacks, cases, check_killed)
