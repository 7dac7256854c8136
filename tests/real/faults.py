"""What tests of faults share: somebody who visits meanwhile, acting at a moment of a deploy, and what must hold."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import queue
import signal
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from nself_deploy.adapters.journal import Journal
from nself_deploy.core.slot_records import SlotRole
from tests.real.scene import FAST
from tests.real.stack import Outcome, Stack, copy_of, docker, stands_still, wait_for

LONG = ("--min-uptime", "10m", "--health-timeout", "240s", "--drain", "60s")
"""A candidate whose health takes longer to be believed than any test lasts."""
UNHURRIED = ("--min-uptime", "2s", "--health-timeout", "240s", "--drain", "60s")
"""Believed only after a while, so that what was done to a candidate shows before it is."""
LIMIT_S = 300.0
AT_ONCE = 3
"""Projects that deploy side by side in one test: most of a deploy is waiting."""

NETWORKS = 5
"""The project's own, and two of each slot."""

T = TypeVar("T")


class Visitor:
    """Somebody who asks for the page again and again, one request after the other, and was answered once already."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._visit, daemon=True)
        self.seen: set[bytes] = set()
        self.failed: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        wait_for(lambda: self.seen or self.failed, "the first answer")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join(120)

    def _visit(self) -> None:
        while not self._end.wait(0.02):
            try:
                status, _, body = self._stack.get("/")
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                continue
            self.seen.add(body)
            if status != 200:
                self.failed.append(f"{status} {body[:100]!r}")


def watched(process: subprocess.Popen[str], line_begins: str, act: Callable[[], object]) -> Outcome:
    """Follow a deploy to its end; `act` when it has printed a line that begins so, while it goes on."""
    lines: list[str] = []
    acted = False
    with process, contextlib.ExitStack() as at_the_end:
        at_the_end.callback(process.kill)
        assert process.stdout and process.stderr
        for line in process.stdout:
            lines.append(line)
            if not acted and line.startswith(line_begins):
                acted = True
                act()
        errors = process.stderr.read()
        outcome = Outcome(process.wait(LIMIT_S), "".join(lines), errors)
    assert acted, outcome.text
    return outcome


Act = Callable[[subprocess.Popen[str]], object]


def at_moments(stack: Stack, acts: Mapping[str, Act], *words: str, **env: str) -> Outcome:
    """A deploy that stands still at these moments, one after the other, until what belongs to each was done."""
    left = {step_of(stack, moment): act for moment, act in acts.items()}
    lines: list[str] = []
    process = stack.start_nself(*words, halts=tuple(left), **env)
    with process, contextlib.ExitStack() as at_the_end:
        at_the_end.callback(process.kill)
        assert process.stdout and process.stderr
        for line in process.stdout:
            lines.append(line)
            moment = next(iter(left), None)
            if moment is not None and line.startswith(moment):
                wait_for(partial(stands_still, process.pid), "it stands still")
                left.pop(moment)(process)
                process.send_signal(signal.SIGCONT)
        errors = process.stderr.read()
        outcome = Outcome(process.wait(LIMIT_S), "".join(lines), errors)
    assert not left, (list(left), outcome.text)
    return outcome


def no_traceback(outcome: Outcome) -> Outcome:
    """Nobody was shown a bug."""
    assert "Traceback" not in outcome.text, outcome.text
    assert "bug" not in outcome.err, outcome.text
    return outcome


def step_of(stack: Stack, words: str) -> str:
    """A moment's line with the slots' names: `{to}` will be the candidate, `{live}` has the traffic now."""
    live = live_slot(stack)
    return words.format(live=live, to="green" if live == "blue" else "blue")


def killed_at(stack: Stack, moment: str, *words: str, **env: str) -> Outcome:
    """A deploy that is killed with SIGKILL when it has printed the line of this moment, and does no more."""
    outcome = at_moments(stack, {moment: subprocess.Popen.kill}, *words, **env)
    assert outcome.status == -9, outcome.text
    return outcome


def live_slot(stack: Stack) -> str:
    """The slot that the link sends requests to."""
    return (stack.root / ".nself/router/current").readlink().name


def idle_slot(stack: Stack) -> str:
    """The other one."""
    return "green" if live_slot(stack) == "blue" else "blue"


def _removed(network: str) -> bool:
    """Try to remove a network; a container that is just being removed itself can't be disconnected, and goes."""
    look = ["docker", "network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", network]
    holders = subprocess.run(look, capture_output=True, text=True, timeout=300, check=False).stdout.split()
    for container in holders:
        words = ["docker", "network", "disconnect", "-f", network, container]
        subprocess.run(words, capture_output=True, timeout=300, check=False)
    subprocess.run(["docker", "network", "rm", network], capture_output=True, timeout=300, check=False)
    return network not in docker("network", "ls", "--format", "{{.Name}}").split()


def remove_networks(stack: Stack) -> None:
    """The idle slot's networks, with force."""
    idle = f"-{idle_slot(stack)}-"
    for name in docker("network", "ls", "--format", "{{.Name}}", "--filter", f"name={stack.name}").split():
        if idle in name:
            wait_for(partial(_removed, name), f"{name} is gone")


def released(stack: Stack) -> str:
    """The release that answers users."""
    return stack.get("/")[2].decode().split()[-1]


_NUMBERS = itertools.count(2)


def fresh() -> str:
    """A release that nobody has deployed yet."""
    return str(next(_NUMBERS))


def check_clean(stack: Stack, release: str) -> None:
    """Users are on `release`; one slot is live, at most a warm standby beside it; no leftovers, true state files."""
    served, live = released(stack), live_slot(stack)
    assert served == release, f"users are on {served} instead of {release}"
    with Journal.open(stack.root, create=False) as journal:
        assert journal.all_unfinished() == [], "a run has not ended"
        roles = {slot.value: record.role for slot, record in journal.slots().items()}
        runs = sorted(f"{run.id}-{run.plan.kind}" for run in journal.history(1000))
        ends = sorted(event.id for event in journal.events(1000) if event.id in runs)
    assert ends == runs, f"audited {ends}, ran {runs}"
    assert roles[live] is SlotRole.LIVE, f"{live} has the traffic: {roles}"
    for slot, containers in stack.slots().items():
        expected = 1 if roles.get(slot) in (SlotRole.LIVE, SlotRole.STANDBY) else 0
        assert len(containers) == expected, (slot, roles, containers)
    active = stack.state("bluegreen/state.json")["active"]
    assert active == live, f"{live} has the traffic, the file says {active}"
    stack.state("state/deploy.json")
    networks = docker("network", "ls", "--format", "{{.Name}}", "--filter", f"name={stack.name}").split()
    assert len(set(networks)) == len(networks) == NETWORKS, networks
    assert not list((stack.root / ".nself").rglob("*.tmp")), "a draft of a file was left over"


def tiny() -> Stack:
    """A copy of the tiny project, ready for its first deploy."""
    stack = copy_of("tiny", prefix="flt")
    stack.nself("init", "--yes")
    return stack


@contextlib.contextmanager
def sites(count: int = AT_ONCE) -> Iterator[list[Stack]]:
    """So many tiny projects, each live with release 1 in blue and nothing beside it."""
    made: list[Stack] = []
    try:
        with ThreadPoolExecutor(count) as pool:
            made += [future.result() for future in [pool.submit(tiny) for _ in range(count)]]
            list(pool.map(lambda stack: stack.nself(*FAST), made))
        yield made
    finally:
        for stack in made:
            stack.remove()


def side_by_side(stacks: Sequence[Stack], cases: Sequence[T], check: Callable[[Stack, T], object]) -> None:
    """Check every case on some stack that is free; says of each case that fails how."""
    free: queue.SimpleQueue[Stack] = queue.SimpleQueue()
    for stack in stacks:
        free.put(stack)

    def one(case: T) -> str:
        stack = free.get()
        try:
            check(stack, case)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            return f"{case!r}: {last.name}:{last.lineno}: {type(error).__name__}: {error}"
        finally:
            free.put(stack)
        return ""

    with ThreadPoolExecutor(len(stacks)) as pool:
        failed = [words for words in pool.map(one, cases) if words]
    assert not failed, "\n\n".join(failed)


def batches(cases: Sequence[T]) -> list[Sequence[T]]:
    """As many cases for one test as are checked side by side."""
    return [cases[n : n + AT_ONCE] for n in range(0, len(cases), AT_ONCE)]


def journal_of(stack: Stack) -> Path:
    """Where the journal is."""
    return stack.root / ".nself/nself.db"


def router_of(stack: Stack) -> str:
    """The name of the router's container."""
    return f"{stack.name}-router-1"


def document(outcome: Outcome) -> dict[str, object]:
    """The one JSON document on stdout."""
    found = json.loads(outcome.out)
    assert isinstance(found, dict)
    return found
