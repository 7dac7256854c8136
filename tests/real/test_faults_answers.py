"""The engine obeys and its answer is lost: the deploy ends well or is undone, nothing is doubled."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence

import msgspec
import pytest

from tests.real.faults import (
    LONG,
    Visitor,
    batches,
    check_clean,
    fresh,
    no_traceback,
    released,
    remove_networks,
    side_by_side,
    sites,
    step_of,
    watched,
)
from tests.real.scene import FAST
from tests.real.stack import Outcome, Stack
from tests.real.wire import Loss, Wire

pytestmark = pytest.mark.real

ONCE = (*FAST, "--standby", "0")


@pytest.fixture(scope="module")
def stacks() -> Iterator[list[Stack]]:
    with sites() as made:
        yield made


class Case(msgspec.Struct, frozen=True):
    """Which answer is lost, and how the deploy ends."""

    loss: Loss
    status: int
    says: str = ""
    stripped: bool = False
    """Whether the idle slot's networks have to be made anew."""
    interrupted: bool = False


CASES = (
    Case(Loss("POST .*/networks/create", hang=True), 2, "did not answer within 30 s", stripped=True),
    Case(Loss("POST .*/networks/create"), 2, "can't be reached", stripped=True),
    Case(Loss("POST .*/networks/[^/]+/connect"), 2, "can't be reached", stripped=True),
    Case(Loss("POST .*/exec/[^/]+/start"), 2, "can't be reached"),
    Case(Loss("POST .*/containers/create"), 5, "web"),
    Case(Loss("POST .*/containers/[^/]+/start"), 5, "web"),
    Case(Loss("POST .*/containers/[^/]+/stop"), 0),
    Case(Loss("DELETE .*/containers/"), 0),
    Case(Loss("DELETE .*/containers/"), 130, "interrupted", interrupted=True),
)


def deployed(stack: Stack, case: Case, host: str, release: str) -> Outcome:
    if not case.interrupted:
        return stack.nself(*ONCE, check=False, DOCKER_HOST=host, RELEASE=release)
    process = stack.start_nself(*LONG, DOCKER_HOST=host, RELEASE=release)
    return watched(process, step_of(stack, "[done] Start {to}"), lambda: process.send_signal(signal.SIGINT))


def check_loss(stack: Stack, case: Case) -> None:
    before, release = released(stack), fresh()
    if case.stripped:
        remove_networks(stack)
    with Visitor(stack) as visitor, Wire(case.loss) as wire:
        outcome = no_traceback(deployed(stack, case, wire.host, release))
        assert wire.lost, outcome.text
        assert outcome.status == case.status, (wire.lost, outcome.text)
        assert case.says in outcome.err, outcome.text
        if case.status and "  ~ split" in outcome.out:  # the run had begun
            assert "everything was undone" in outcome.err, outcome.text
        if not case.stripped:  # else the next deploy makes what is missing
            check_clean(stack, release if case.status == 0 else before)
        stack.nself(*ONCE, RELEASE=release)
        check_clean(stack, release)
    assert visitor.failed == []


@pytest.mark.parametrize("cases", batches(CASES))
def test_answers_that_are_lost(stacks: list[Stack], cases: Sequence[Case]) -> None:
    side_by_side(stacks, cases, check_loss)
