"""One project under load, killed at one boundary after the other, and put right after each."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nself_deploy.core.machine import Outcome, Run
from tests.crash.checks import HEADER, Baseline, Records, faults, leftovers
from tests.crash.scenarios import COLD, Scenario
from tests.crash.service_back import SAME
from tests.crash.site import Site
from tests.load import Kind, Limits, LoadMix, LoadProcess, Report, Stream
from tests.real.stack import ROOT, Stack, expirers

RATE = 40.0
_FEW = 4
_LIMIT_S = 480.0
_RESUMED = {Outcome.DONE: {0}, Outcome.FAILED: {0, 5}, Outcome.INTERRUPTED: {0, 130}}
"""Exit statuses of resume, by how the run ends; 0 is also for a run that never began."""
_ONWARD = (SAME, "the next deploy")
"""Ways in which one more run is begun when the killed one could not be finished."""


@dataclass
class Kill:
    """One kill, and what became of it."""

    scenario: str
    number: int
    where: str
    """The last thing that the process did."""
    way: str
    seconds: float
    ended: str = ""
    """How the killed run ended."""
    faults: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    failed: int = 0
    """Requests that failed since the boundary before."""

    @property
    def healed(self) -> bool:
        return not self.faults and not self.leftovers

    def __str__(self) -> str:
        words = f"{self.scenario} {self.number:2} {self.where}: {self.way}: {self.ended} ({self.seconds:.1f} s)"
        bad = [*self.faults, *(f"left over: {name}" for name in self.leftovers)]
        bad += [f"{self.failed} requests failed"] if self.failed else []
        return f"{'ok' if not bad else 'BAD'} {words}" + "".join(f"\n    {line}" for line in bad)


@dataclass
class Share:
    """What one lane does of a scenario: the boundaries `first`, `first + step`, …"""

    scenario: Scenario
    first: int = 1
    step: int = 1
    only: int = 0
    """At most so many; 0 is all."""


@dataclass
class Told:
    """What came of a share."""

    kills: list[Kill] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    requests: int = 0
    failed: int = 0
    problem: str = ""
    """Why the lane could not go on."""


def crash(share: Share, told: Told, say: Callable[[str], None]) -> None:
    """Kill and heal at each boundary of the share, until a run gets through; add to what is told."""
    number = share.first
    while number:
        with _users(share.scenario, told) as (site, baseline, load):
            number = _on_one_site(share, site, baseline, load, told, number, say)


@contextlib.contextmanager
def _users(scenario: Scenario, told: Told) -> Iterator[tuple[Site, Baseline, LoadProcess]]:
    """A project with users on it; what they saw is told."""
    site = scenario.make()
    try:
        with LoadProcess(_mix(), site.stack.url) as load:
            load.wait_requests(_FEW, _LIMIT_S)
            try:
                yield site, Baseline.of(site.stack), load
            finally:
                _add(told, load.stop())
    finally:
        site.stack.remove()


def _mix() -> LoadMix:
    """Short requests; late is not lost on a busy machine, but what fails is not sent again."""
    return LoadMix(
        rate=RATE,
        limits=Limits(duration_s=3600, requests=int(RATE * 3600), connect_timeout_s=60),
        release_header=HEADER,
        streams=(
            Stream(Kind.GET, "/", share=0.4, name="get", timeout_s=60),
            Stream(Kind.POST, "/", share=0.3, name="post", check_echo=False, timeout_s=60),
            Stream(Kind.ONE_SHOT_GET, "/", share=0.2, name="one-shot get", timeout_s=60),
            Stream(Kind.ONE_SHOT_POST, "/", share=0.1, name="one-shot post", check_echo=False, timeout_s=60),
        ),
    )


def _add(told: Told, report: Report) -> None:
    told.requests += report.requests
    told.failed += report.failed
    told.failures += [f"{f.at_s:.3f} s {f.stream}: {f.outcome}: {f.detail}" for f in report.failures]


def _on_one_site(
    share: Share,
    site: Site,
    baseline: Baseline,
    load: LoadProcess,
    told: Told,
    number: int,
    say: Callable[[str], None],
) -> int:
    """Go on from boundary `number`; the next one to do in a project of its own, 0 when there is none."""
    while True:
        before = load.snapshot().failed
        share.scenario.ready(site)
        kill = _kill_and_heal(share.scenario, site, baseline, load, number)
        if kill is None:
            return 0
        _end_expirers(site.stack)
        kill.failed = load.snapshot().failed - before
        told.kills.append(kill)
        say(str(kill))
        if share.only and len(told.kills) >= share.only:
            return 0
        number += share.step
        if share.scenario.anew or not kill.healed:
            return number


def _kill_and_heal(scenario: Scenario, site: Site, baseline: Baseline, load: LoadProcess, number: int) -> Kill | None:
    """One kill; None when the run got through before boundary `number`."""
    start, known = time.monotonic(), {run.id for run in Records.of(site.stack).runs}
    release, promise = site.next_release(), scenario.promise(site) if scenario.promise else None
    if scenario.first_killed:
        _first_kill(scenario, site, release)
    status, where, out = _run_child(site.stack, scenario, scenario.words, str(number), release)
    if status != -signal.SIGKILL:
        _got_through(scenario, site, baseline, status, out)
        return None
    load.wait_requests(_FEW, _LIMIT_S)
    ways = [way for way in scenario.ways if way != SAME or where != scenario.said]
    way = ways[(number + number // len(ways)) % len(ways)]
    begun = [run for run in Records.of(site.stack).runs if run.id not in known]
    kill = Kill(scenario.name, number, where, way, 0.0)
    kill.faults += [f"{len(begun)} runs began"] if len(begun) > 1 else []
    past_undoing = any(run.committed for run in Records.of(site.stack).unfinished)
    kill.faults += promise.killed(where) if promise else []
    kill.faults += _heal(scenario, site, way, release, past_undoing=past_undoing)
    kill.ended = _end_of(scenario, way, begun[0], site, known, kill) if begun else "never began"
    kill.faults += promise.healed(way) if promise else []
    load.wait_requests(_FEW, _LIMIT_S)
    kill.leftovers, kill.seconds = leftovers(site.stack, baseline), time.monotonic() - start
    kill.faults += faults(site.stack, baseline)
    return kill


def _end_of(scenario: Scenario, way: str, begun: Run, site: Site, known: set[str], kill: Kill) -> str:
    """How the killed run ended, in a word; what is wrong with that is told."""
    ended = {run.id: run for run in Records.of(site.stack).runs}
    outcome = ended[begun.id].outcome
    kill.faults += _wrong_end(scenario, way, outcome, committed=begun.committed)
    kill.faults += _extra(way, len(ended) - len(known) - 1)
    return str(outcome or "not ended")


def _first_kill(scenario: Scenario, site: Site, release: str) -> None:
    """Have something that the scenario's command can put right."""
    status, where, out = _run_child(site.stack, scenario, COLD, scenario.first_killed, release)
    if status != -signal.SIGKILL or where != scenario.first_killed:
        raise RuntimeError(f"{scenario.name}: the deploy that was to die first ended with {status} {where}\n{out}")


def _run_child(
    stack: Stack, scenario: Scenario, words: tuple[str, ...], place: str, release: str
) -> tuple[int, str, str]:
    """The command with its death: exit status, the last boundary, what it printed."""
    log = stack.root.parent / "boundaries"
    log.unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.child", place, str(log), str(int(scenario.writes)), "deploy", *words],
        cwd=stack.root,
        env=stack.environment(RELEASE=release, PYTHONPATH=path, **scenario.env),
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode, _last_line(log), done.stdout + done.stderr


def _last_line(log: Path) -> str:
    return log.read_text().splitlines()[-1] if log.exists() else "before anything"


def _got_through(scenario: Scenario, site: Site, baseline: Baseline, status: int, out: str) -> None:
    """The run that nobody killed ended as such a run does, or the whole scenario proves nothing."""
    wrong = [*faults(site.stack, baseline), *leftovers(site.stack, baseline)]
    if status != (5 if scenario.outcome is Outcome.FAILED else 0) or wrong:
        raise RuntimeError(f"{scenario.name}: a run that nobody killed ended with {status}: {wrong}\n{out}")


def _heal(scenario: Scenario, site: Site, way: str, release: str, *, past_undoing: bool) -> list[str]:
    """Put it right in one of the ways; what was not as it should be."""
    if way == "resume":
        outcome, expected = site.stack.nself("resume", check=False), _RESUMED[scenario.outcome]
    elif way == "abort":
        outcome, expected = site.stack.nself("abort", check=False), {4} if past_undoing else {0}
    elif way == SAME:
        outcome, expected = site.stack.nself(*scenario.words, check=False), scenario.repeated
        if outcome.status == 1:  # nothing is left to do, no lock is taken: a dead one is for the next command
            site.stack.nself("resume")
    else:
        version = release if scenario.same_version else site.next_release()
        outcome, expected = site.stack.nself(*scenario.mend, check=False, RELEASE=version), {0}
    return [] if outcome.status in expected else [f"{way}: {outcome.text}"]


def _wrong_end(scenario: Scenario, way: str, outcome: Outcome | None, *, committed: bool) -> list[str]:
    """Whether the killed run ended as the table of `docs/recovery.md` has it."""
    if committed or (way == "resume" and scenario.outcome is Outcome.DONE):
        expected = {Outcome.DONE}
    elif way == "abort":
        expected = {Outcome.INTERRUPTED, *({Outcome.FAILED} & {scenario.outcome})}
    else:
        expected = {scenario.outcome, *({Outcome.FAILED} if scenario.outcome is Outcome.DONE else ())}
    return [] if outcome in expected else [f"the run ended as {outcome}"]


def _extra(way: str, count: int) -> list[str]:
    """Runs beside the killed one: a deploy or the same request may add its own, nobody else."""
    return [] if 0 <= count <= (way in _ONWARD) else [f"{count} more runs on record"]


def _end_expirers(stack: Stack) -> None:
    """The processes that wait for a standby's end: one for each deploy would be many."""
    for process in expirers(stack.root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
