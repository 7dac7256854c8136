"""The router is stopped, killed, restarted or made anew at every moment of a deploy: the split is a file, and stays."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from tests.real.faults import (
    UNHURRIED,
    Visitor,
    at_moments,
    batches,
    check_clean,
    fresh,
    no_traceback,
    released,
    router_of,
    side_by_side,
    sites,
    step_of,
    watched,
)
from tests.real.stack import Stack, docker, wait_for

pytestmark = pytest.mark.real

ONCE = (*UNHURRIED, "--standby", "0")


@pytest.fixture(scope="module")
def stacks() -> Iterator[list[Stack]]:
    with sites() as made:
        yield made


def restart(stack: Stack) -> None:
    docker("restart", router_of(stack))


def kill(stack: Stack) -> None:
    """Its container dies, and somebody starts it again."""
    docker("kill", router_of(stack))
    docker("start", router_of(stack))


def anew(stack: Stack) -> None:
    stack.compose("up", "-d", "--force-recreate", "--no-deps", "router")


def stay_down(stack: Stack) -> None:
    docker("kill", router_of(stack))


MOMENTS = (
    "  + {to}/web",
    "[done] Prepare networks",
    "[done] Configure router",
    "[done] Start {to}",
    "[done] Health check {to} (",
    "[done] Move traffic to {to}",
    "[done] Health check {to} with the traffic on",
    "[done] Drain {live}",
)


class Case(msgspec.Struct, frozen=True):
    """What is done to the router, and when."""

    act: Callable[[Stack], None]
    moment: str
    ends: tuple[int, ...] = (0,)
    """Exit statuses that are right."""


BACK = tuple(Case((restart, kill, anew)[number % 3], moment) for number, moment in enumerate(MOMENTS))
DOWN = tuple(
    Case(stay_down, moment, ends)
    for moment, ends in (
        ("[done] Prepare networks", (2,)),
        ("[done] Start {to}", (2,)),
        ("[done] Move traffic to {to}", (2, 5)),
        ("[done] Health check {to} with the traffic on", (0,)),
    )
)


def check_case(stack: Stack, case: Case) -> None:
    before, release = released(stack), fresh()
    if case.act is stay_down:
        outcome = at_moments(stack, {case.moment: lambda _: stay_down(stack)}, *ONCE, RELEASE=release)
    else:
        acting = threading.Thread(target=case.act, args=(stack,))
        process = stack.start_nself(*ONCE, RELEASE=release)
        outcome = watched(process, step_of(stack, case.moment), acting.start)
        acting.join()
    no_traceback(outcome)
    assert outcome.status in case.ends, outcome.text
    after = release if outcome.status == 0 else before
    if case.act is stay_down:
        if outcome.status:
            assert "router" in outcome.err, outcome.text
            assert "-> Start it" in outcome.err, outcome.text
        docker("start", router_of(stack))
    wait_for(lambda: stack.get("/")[0] == 200, "the router")
    with Visitor(stack) as visitor:
        assert released(stack) == after, outcome.text
        if outcome.status == 2:
            no_traceback(stack.nself(*ONCE, RELEASE=after))
        check_clean(stack, after)
    assert visitor.failed == []


@pytest.mark.parametrize("cases", batches(BACK))
def test_a_router_that_comes_back_hinders_no_deploy(stacks: list[Stack], cases: Sequence[Case]) -> None:
    side_by_side(stacks, cases, check_case)


@pytest.mark.parametrize("cases", batches(DOWN))
def test_a_router_that_stays_down(stacks: list[Stack], cases: Sequence[Case]) -> None:
    """The deploy is undone, or is finished if it had proved itself; users are on the right release when it is back."""
    side_by_side(stacks, cases, check_case)


def test_nginx_that_is_killed_is_down_only_as_long_as_it_is(stacks: list[Stack]) -> None:
    """Workers that die are replaced by nginx itself, at every moment; the deploy goes on."""
    stack, release = stacks[0], fresh()
    shot: list[str] = []

    def shoot(deploy: subprocess.Popen[str]) -> None:
        pid = docker("inspect", "-f", "{{.State.Pid}}", router_of(stack)).strip()
        for worker in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):  # one of before may just have finished
                os.kill(int(worker), signal.SIGKILL)
                shot.append(worker)

    outcome = no_traceback(at_moments(stack, {"[done] Move traffic to {to}": shoot}, *ONCE, RELEASE=release))

    assert outcome.status == 0 and shot, outcome.text
    check_clean(stack, release)
