"""The engine obeys and its answer is lost: the deploy is done or undone, the next one is clean, users are served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import pytest

from tests.real.faults import (
    Visitor,
    batches,
    check_clean,
    fresh,
    no_traceback,
    released,
    remove_networks,
    side_by_side,
    sites,
)
from tests.real.scene import FAST
from tests.real.stack import Stack, docker
from tests.real.wire import Loss, Wire

pytestmark = pytest.mark.real

ONCE = (*FAST, "--standby", "0")


@pytest.fixture(scope="module")
def stacks() -> Iterator[list[Stack]]:
    with sites() as made:
        yield made


class Case(msgspec.Struct, frozen=True):
    """Which answer is lost."""

    loss: Loss
    status: int
    """2: undone, the engine failed us; 5: undone, Compose did not start the candidate; 0: done, by a second call."""
    stripped: bool = False
    """Whether the idle slot's networks have to be made anew, so that there is such a call."""


CASES = (
    Case(Loss("POST .*/networks/create", hang=True), 2, stripped=True),  # waits for its limit, so it is first
    Case(Loss("POST .*/networks/[^/]+/connect"), 2, stripped=True),
    Case(Loss("POST .*/volumes/create"), 2),  # the lock
    Case(Loss("POST .*/containers/create"), 5),  # by Compose, as is the next one
    Case(Loss("POST .*/containers/[^/]+/start"), 5),
    Case(Loss("DELETE .*/containers/"), 0),
)


def check_loss(stack: Stack, case: Case) -> None:
    before, release = released(stack), fresh()
    if case.stripped:
        remove_networks(stack)
    with Visitor(stack) as visitor, Wire(case.loss) as wire:
        outcome = no_traceback(stack.nself(*ONCE, check=False, DOCKER_HOST=wire.host, RELEASE=release))
        assert wire.lost, outcome.text
        assert outcome.status == case.status, (wire.lost, outcome.text)
        assert released(stack) == (release if outcome.status == 0 else before), (wire.lost, outcome.text)
        if outcome.status and "  ~ split" in outcome.out:  # the run had begun
            assert "everything was undone" in outcome.err, outcome.text
        again = fresh()
        stack.nself(*ONCE, RELEASE=again)
        check_clean(stack, again)
        left = docker("volume", "ls", "--quiet", "--filter", f"name={stack.name}-nself").split()
        assert not left, f"{left} are left of the lock, after the answer to {wire.lost} was lost"
    assert visitor.failed == []


@pytest.mark.parametrize("cases", batches(CASES))
def test_answers_that_are_lost(stacks: list[Stack], cases: Sequence[Case]) -> None:
    side_by_side(stacks, cases, check_loss)
