"""What somebody removes by hand, before and during a deploy: each outcome is the one that a user expects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.real.faults import (
    LONG,
    UNHURRIED,
    Act,
    Visitor,
    at_moments,
    check_clean,
    fresh,
    idle_slot,
    live_slot,
    no_traceback,
    released,
    remove_networks,
    router_of,
    side_by_side,
    sites,
    step_of,
)
from tests.real.scene import FAST, check_message, edit
from tests.real.stack import Stack, docker

pytestmark = pytest.mark.real

ONCE = (*UNHURRIED, "--standby", "0")


@pytest.fixture(scope="module")
def stacks() -> Iterator[list[Stack]]:
    with sites() as made:
        yield made


def remove_candidate(stack: Stack) -> None:
    docker("rm", "-f", f"{stack.name}-{idle_slot(stack)}-web-1")


def link(stack: Stack) -> Path:
    return stack.root / ".nself/router/current"


def lose_link(stack: Stack) -> None:
    link(stack).unlink()


class Case(msgspec.Struct, frozen=True):
    """What is removed at which moment of a deploy, and how that ends."""

    act: Callable[[Stack], None]
    moment: str
    statuses: tuple[int, ...]
    says: str
    words: tuple[str, ...] = ONCE


CASES = (
    Case(
        remove_candidate,
        "[done] Start {to}",
        (5,),
        "containers of {to} do not exist",
        (*LONG, "--health-timeout", "5s"),
    ),
    Case(remove_networks, "[done] Prepare networks", (2, 5), "network"),
    Case(remove_networks, "[done] Start {to}", (5,), "{to}", LONG),
)


def check_case(stack: Stack, case: Case) -> None:
    before = released(stack)
    says = step_of(stack, case.says)
    with Visitor(stack) as visitor:
        outcome = at_moments(stack, {case.moment: lambda _: case.act(stack)}, *case.words, RELEASE=fresh())
        assert outcome.status in case.statuses, outcome.text
        check_message(outcome, outcome.status, says, "everything was undone")
        release = fresh()
        no_traceback(stack.nself(*ONCE, RELEASE=release))
        check_clean(stack, release)
    assert visitor.failed == []
    assert f"release {before}\n".encode() in visitor.seen


def test_removed_during_a_deploy(stacks: list[Stack]) -> None:
    side_by_side(stacks, CASES, check_case)


def test_a_link_that_is_lost_during_a_deploy(stacks: list[Stack]) -> None:
    """nginx then sends requests to blue, which is why this begins with blue live: users must notice nothing."""
    stack = stacks[0]
    if live_slot(stack) != "blue":
        stack.nself(*ONCE, RELEASE=fresh())
    before = released(stack)
    with Visitor(stack) as visitor:
        moments: list[dict[str, Act]] = [
            {"[done] Start green": lambda _: lose_link(stack)},
            {"[done] Health check blue with the traffic on": lambda _: lose_link(stack)},
        ]
        outcome = no_traceback(at_moments(stack, moments[0], *ONCE, RELEASE=(release := fresh())))
        assert outcome.status == 0, outcome.text
        check_clean(stack, release)
        outcome = at_moments(stack, moments[1], *ONCE, RELEASE=(last := fresh()))
        assert no_traceback(outcome).status == 0, outcome.text
        check_clean(stack, last)
    assert visitor.failed == []
    assert f"release {before}\n".encode() in visitor.seen


def test_a_standby_that_was_removed_is_started_again_by_a_rollback(stacks: list[Stack]) -> None:
    stack, before = stacks[1], released(stacks[1])
    stack.nself(*FAST, RELEASE=fresh())
    docker("rm", "-f", f"{stack.name}-{idle_slot(stack)}-web-1")
    with Visitor(stack) as visitor:
        outcome = no_traceback(stack.nself("rollback", *ONCE))
        assert step_of(stack, "[done] Start {live}") in outcome.out, outcome.text
        check_clean(stack, before)
    assert visitor.failed == []


def test_a_network_that_was_removed_between_deploys_is_made_again(stacks: list[Stack]) -> None:
    stack, release = stacks[2], fresh()
    remove_networks(stack)
    with Visitor(stack) as visitor:
        no_traceback(stack.nself(*ONCE, RELEASE=release))
        check_clean(stack, release)
    assert visitor.failed == []


def test_a_live_container_that_was_removed_is_brought_back(stacks: list[Stack]) -> None:
    """Users are without it until the next deploy, which does not take it for live because it was once."""
    stack = stacks[2]
    release = released(stack)
    docker("rm", "-f", f"{stack.name}-{live_slot(stack)}-web-1")

    outcome = no_traceback(stack.nself(*ONCE, RELEASE=release))

    assert "Unchanged" not in outcome.out, outcome.text
    check_clean(stack, release)


FLAPPING = (
    'test: ["CMD-SHELL", "n=$$(cat /n 2>/dev/null || echo 0); echo $$((n + 1)) >/n; [ $$((n / 2 % 2)) = 0 ]"], '
    "interval: 1s, retries: 1, start_period: 2s"
)
STEADY = 'test: ["CMD", "wget", "-qO-", "http://127.0.0.1:8000/"], interval: 30s, start_period: 20s'


def test_a_candidate_that_flaps_is_refused_with_evidence(stacks: list[Stack]) -> None:
    stack, before = stacks[0], released(stacks[0])
    edit(stack, STEADY, FLAPPING)
    try:
        with Visitor(stack) as visitor:
            outcome = stack.nself(*LONG, "--health-timeout", "30s", check=False, RELEASE=fresh())
            check_message(outcome, 5, "web in", "it was healthy and then not, ", "healthcheck", "everything was undone")
            check_clean(stack, before)
        assert (visitor.failed, visitor.seen) == ([], {f"release {before}\n".encode()})
    finally:
        edit(stack, FLAPPING, STEADY)
    assert docker("ps", "-q", "--filter", f"name={router_of(stack)}")
