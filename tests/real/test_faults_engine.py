"""A real engine is restarted during a deploy; with live-restore its containers outlive it, and no request fails."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.real.engines import Abroad, OwnEngine
from tests.real.faults import UNHURRIED, Act, Visitor, at_moments, check_clean, fresh, no_traceback, released
from tests.real.scene import FAST
from tests.real.stack import copy_of

pytestmark = pytest.mark.real

ONCE = (*UNHURRIED, "--standby", "0")


def abroad(engine: OwnEngine) -> Abroad:
    """The tiny project, live with release 1 on that engine."""
    made = copy_of("tiny", prefix="flt")
    stack = Abroad(made.root, made.name, made.port)
    stack.engine = engine
    stack.nself("init", "--yes")
    stack.nself(*FAST)
    stack.find_router()
    return stack


@pytest.fixture(scope="module")
def lasting() -> Iterator[Abroad]:
    with OwnEngine(live_restore=True) as engine:
        stack = abroad(engine)
        yield stack
        stack.remove()


def restart_beside(engine: OwnEngine, number: signal.Signals, deploy: subprocess.Popen[str]) -> None:
    """Back again while the deploy goes on."""
    engine.stop(number)
    deploy.send_signal(signal.SIGCONT)
    engine.start()


@pytest.mark.parametrize(
    ("moment", "number", "statuses"),
    [
        ("[done] Start {to}", signal.SIGTERM, (2, 5)),
        ("[done] Move traffic to {to}", signal.SIGKILL, (2, 5)),
        ("[done] Health check {to} with the traffic on", signal.SIGTERM, (0, 2)),
    ],
    ids=["upgraded with the candidate up", "crashed with the traffic moved", "upgraded at the end"],
)
def test_an_engine_whose_containers_outlive_it(
    lasting: Abroad, moment: str, number: signal.Signals, statuses: tuple[int, ...]
) -> None:
    acts: dict[str, Act] = {moment: lambda _: lasting.engine.stop(number), "[failed]": lambda _: lasting.engine.start()}
    if 0 in statuses:  # it may end well: whether it notices is a matter of time
        acts = {moment: lambda deploy: restart_beside(lasting.engine, number, deploy)}
    with Visitor(lasting) as visitor:
        outcome = at_moments(lasting, acts, *ONCE, RELEASE=fresh())
        assert no_traceback(outcome).status in statuses, outcome.text
        no_traceback(lasting.nself(*ONCE, RELEASE=(release := fresh())))
        check_clean(lasting, release)
    assert visitor.failed == []


def test_an_engine_that_takes_its_containers_with_it() -> None:
    """Users are without the site as long as its containers are; then one deploy brings all of it back."""
    with OwnEngine(live_restore=False) as engine:
        stack = abroad(engine)
        before = released(stack)
        acts: dict[str, Act] = {
            "[done] Start {to}": lambda _: engine.stop(),
            "[failed]": lambda _: engine.start(),
        }
        outcome = at_moments(stack, acts, *ONCE, RELEASE=fresh())
        assert no_traceback(outcome).status in (2, 5), outcome.text

        again = no_traceback(stack.nself(*ONCE, RELEASE=before))

        assert "[done] Start router" in again.out, again.text
        stack.find_router()
        check_clean(stack, before)
        stack.remove()
