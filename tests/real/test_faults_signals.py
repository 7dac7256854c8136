"""Signals and lost terminals at each part of a deploy: it is undone in order, or finished, or stopped at once."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.real.faults import (
    LIMIT_S,
    LONG,
    UNHURRIED,
    Act,
    Visitor,
    at_moments,
    check_clean,
    fresh,
    no_traceback,
    released,
    side_by_side,
    sites,
    step_of,
)
from tests.real.scene import FAST, check_message, edit, nself_argv
from tests.real.stack import Outcome, Stack

pytestmark = pytest.mark.real

PAGE, MISSING = "http://127.0.0.1:8000/", "http://127.0.0.1:8000/missing"


@pytest.fixture(scope="module")
def stacks() -> Iterator[list[Stack]]:
    with sites() as made:
        yield made


def stopped_twice(stack: Stack, number: signal.Signals) -> Outcome:
    """A deploy that gets the signal with its candidate up, and again while it undoes."""

    def again(deploy: subprocess.Popen[str]) -> None:
        deploy.send_signal(number)

    return at_moments(stack, {"[done] Start {to}": again, "[failed]": again}, *LONG, RELEASE=fresh())


def test_a_second_signal_stops_at_once_and_the_next_command_understands(stacks: list[Stack]) -> None:
    def check(stack: Stack, case: tuple[signal.Signals, tuple[str, ...], int]) -> None:
        number, command, status = case
        before = released(stack)
        with Visitor(stack) as visitor:
            outcome = no_traceback(stopped_twice(stack, number))
            assert outcome.status == 130, outcome.text
            assert "Stopped at once" in outcome.err, outcome.text
            shown = stack.nself("status")
            assert "nself deploy resume undoes it" in " ".join(shown.out.split()), shown.text
            again = no_traceback(stack.nself(*command, check=False, RELEASE=before))
            assert again.status == status, again.text
            check_clean(stack, before)
        assert (visitor.failed, visitor.seen) == ([], {f"release {before}\n".encode()})

    cases: list[tuple[signal.Signals, tuple[str, ...], int]] = [
        (signal.SIGINT, ("resume",), 130),
        (signal.SIGTERM, ("abort",), 0),
        (signal.SIGINT, FAST, 0),
    ]
    side_by_side(stacks, cases, check)


def test_a_lost_session_does_not_end_a_deploy(stacks: list[Stack]) -> None:
    """Neither the signal nor a terminal that is really gone, nor Ctrl-C once there is nothing to undo any more."""

    def hung_up(stack: Stack, release: str) -> Outcome:
        acts: dict[str, Act] = {"[done] Start {to}": lambda deploy: deploy.send_signal(signal.SIGHUP)}
        return at_moments(stack, acts, *UNHURRIED, "--standby", "0", RELEASE=release)

    def too_late(stack: Stack, release: str) -> Outcome:
        proved = "[done] Health check {to} with the traffic on"
        acts: dict[str, Act] = {proved: lambda deploy: deploy.send_signal(signal.SIGINT)}
        outcome = at_moments(stack, acts, *UNHURRIED, "--standby", "0", RELEASE=release)
        assert "interrupted: what has proved itself is finished" in outcome.out, outcome.text
        return outcome

    def check(stack: Stack, how: str) -> None:
        release = fresh()
        with Visitor(stack) as visitor:
            outcome = {"hung up": hung_up, "too late": too_late, "terminal closed": terminal_closed}[how](
                stack, release
            )
            assert (outcome.status, outcome.err) == (0, ""), outcome.text
            check_clean(stack, release)
        assert visitor.failed == []

    side_by_side(stacks, ["hung up", "too late", "terminal closed"], check)


def terminal_closed(stack: Stack, release: str) -> Outcome:
    """A deploy in a terminal of its own, which is closed with the candidate up."""
    candidate = step_of(stack, "Start {to}").encode()
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *nself_argv(*UNHURRIED, "--standby", "0")],
        cwd=stack.root,
        env={**stack.environment(), "RELEASE": release, "NO_COLOR": "1", "TERM": "xterm"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    while b"[done] " + candidate not in shown:
        shown += os.read(master, 4096)
    os.close(master)
    return Outcome(process.wait(LIMIT_S), shown.decode(), "")


def test_ctrl_c_does_not_break_an_undo(stacks: list[Stack]) -> None:
    """A candidate is refused; Ctrl-C comes while it is removed: the refusal is the result, and all of it is undone."""
    stack, before = stacks[0], released(stacks[0])
    edit(stack, PAGE, MISSING)
    try:
        with Visitor(stack) as visitor:
            removed = step_of(stack, "[done] Remove {to}")
            acts: dict[str, Act] = {"[unhealthy] Health check {to}": lambda deploy: deploy.send_signal(signal.SIGINT)}
            outcome = at_moments(stack, acts, *FAST, "--health-timeout", "2s", RELEASE=fresh())
            check_message(outcome, 5, "is not healthy", "everything was undone")
            assert removed in outcome.out
            check_clean(stack, before)
        assert visitor.failed == []
    finally:
        edit(stack, MISSING, PAGE)
