"""Objectives whose numbers Prometheus has: which windows are asked for, what the answers mean, and which alerts fire.

The windows are those of the router's log: none reaches back before the release went live. What was burning already at
that moment is asked of Prometheus itself, which remembers. What it can't say is not taken for good, nor for bad: an
alert without numbers does not fire and does not stop, and what burns while nobody knows whether it burnt before counts
as older than the release, until it was seen not to burn.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from nself_deploy.core.durations import format_duration
from nself_deploy.core.metrics import Outcome, Reading
from nself_deploy.core.slo import ALERTS, Objective, Pace, Queries, Windows, least_windows, windows_at
from nself_deploy.core.slo_alerts import Alert, Burning, Watch, fires, is_worse

MOST_REQUESTS = 1e15
"""A larger number is none of requests."""
_NONE_AT_ALL = "; if that means that there was none, write `or vector(0)` behind it"
_LONGEST_WAIT_S = 15.0
_LOOKS = 4


class Counts(msgspec.Struct, frozen=True):
    """The answers about one objective at one time."""

    windows: dict[int, tuple[int, int]] = {}
    """Length of a window (seconds) -> requests, bad ones."""
    problem: str = ""
    """In words, why there are no numbers."""
    again: bool = False
    """Whether they may come when the same is asked for later."""

    def over(self, seconds: int, /) -> tuple[int, int]:
        """Requests and bad ones of a window that was asked for."""
        return self.windows[seconds]


class Question(msgspec.Struct, frozen=True):
    """What is to be asked about one objective."""

    objective: Objective
    live_since: float
    """When the release went live, in seconds since the watch began to be told."""
    alerts: tuple[Windows, ...]
    windows: tuple[int, ...]
    """Back from now on."""
    before: tuple[int, ...]
    """Back from before the release had any request."""


class Answer(msgspec.Struct, frozen=True):
    """What came of it."""

    question: Question
    counts: Counts
    before: Counts | None = None
    """None: it was not asked for."""


class Before(StrEnum):
    """Whether it is known what burnt when the release went live."""

    UNASKED = "unasked"
    KNOWN = "known"
    UNKNOWN = "unknown"
    """Nothing was measured then."""


class Line(msgspec.Struct):
    """What is known of one objective while one release is live."""

    before: Before = Before.UNASKED
    old: list[Pace] = msgspec.field(default_factory=lambda: [alert.pace for alert in ALERTS])
    """Alerts that may be older than the release."""
    begun: dict[Pace, float] = {}
    """Of those that had just begun when it went live: the share of bad requests then."""
    firing: dict[Pace, float] = {}
    """Since when."""
    burning: dict[Pace, Burning] = {}
    """What burnt at the last answer, old or not."""
    asked: bool = False
    """Whether there was a number since the release went live."""
    requests: int = 0
    bad: int = 0
    problem: str = ""
    """Why the last answer had none."""

    @property
    def doubt(self) -> str:
        """What can't be judged though there are numbers."""
        if self.before is Before.KNOWN or Pace.FAST not in self.old or Pace.FAST not in self.burning:
            return ""
        return f"it burns {self.burning[Pace.FAST].burn:.0f}x, and nobody knows whether it did before the release"


class Asked(msgspec.Struct):
    """The objectives that Prometheus is asked about, while one release is live."""

    objectives: tuple[Objective, ...] = ()
    live_since: float = 0.0
    lines: list[Line] = []

    @classmethod
    def begin(cls, objectives: tuple[Objective, ...], live_since: float) -> Asked:
        """Nothing is known yet."""
        return cls(objectives, live_since, [Line() for _ in objectives])

    def goes_live(self, at: float) -> None:
        """Another release went, or goes, live."""
        self.live_since = at
        self.lines = [Line() for _ in self.objectives]

    def question(self, number: int, now: float) -> Question | None:
        """What to ask about an objective at this time; None while the release is too young to be judged."""
        objective, line = self.objectives[number], self.lines[number]
        alerts = asked_windows(objective, now - self.live_since)
        if not alerts:
            return None
        known = {alert.short_s for alert in alerts} | {alert.long_s for alert in alerts}
        if line.old:
            known |= {alert.short_s for alert in ALERTS}
        before = windows_before(objective) if line.before is Before.UNASKED else ()
        return Question(objective, self.live_since, alerts, tuple(sorted(known)), before)

    def tell(self, number: int, now: float, answer: Answer) -> None:
        """The answer to a question that was put at this time; one about another release is forgotten."""
        objective, line, question = self.objectives[number], self.lines[number], answer.question
        if question.live_since != self.live_since:
            return
        _learn(line, objective, answer.before)
        counts = answer.counts
        line.problem = counts.problem
        if counts.problem:
            return
        line.asked = True
        line.requests, line.bad = counts.over(max(alert.long_s for alert in question.alerts))
        found = {alert.pace: fires(counts, objective, alert) for alert in question.alerts}
        line.burning = {pace: burning for pace, burning in found.items() if burning is not None}
        for whole, young in zip(ALERTS, question.alerts, strict=True):
            if young.pace not in line.old:
                continue
            if _stopped(counts, objective, (whole, young)) or _worse(line, young.pace):
                line.old.remove(young.pace)
        line.firing = {pace: line.firing.get(pace, now) for pace in line.burning if pace not in line.old}

    def look(self) -> tuple[Alert, ...]:
        """What fires, by numbers that are there, and is this release's doing."""
        return tuple(
            _alert(objective, line.burning[pace], since)
            for objective, line in zip(self.objectives, self.lines, strict=True)
            for pace, since in line.firing.items()
            if not line.problem
        )

    def silent(self) -> dict[str, str]:
        """Name of each objective that can't be judged by the last answer -> why."""
        found = {one.name: line.problem or line.doubt for one, line in zip(self.objectives, self.lines, strict=True)}
        return {name: why for name, why in found.items() if why}

    def unmeasured(self) -> dict[str, str]:
        """Those, and whichever nothing was asked about since the release went live."""
        young = {
            one.name: f"the release is not {format_duration(queries.least_s)} old, or there was no answer yet"
            for one, line in zip(self.objectives, self.lines, strict=True)
            if (queries := one.queries) is not None and not line.asked
        }
        return young | self.silent()


class Standing(msgspec.Struct, frozen=True):
    """How one objective stands."""

    objective: Objective
    requests: int
    bad: int
    silence: str = ""
    """Why it can't be judged; empty: it can."""

    @property
    def burn(self) -> float:
        """How many times faster than allowed its budget burnt."""
        return self.bad / self.requests / self.objective.budget if self.requests else 0.0


def standings(watch: Watch, asked: Asked) -> tuple[Standing, ...]:
    """One for each objective: those of the router's log first."""
    logged = (Standing(one, *watch.counts(number)) for number, one in enumerate(watch.objectives))
    silent = asked.unmeasured()
    lines = zip(asked.objectives, asked.lines, strict=True)
    return (*logged, *(Standing(one, line.requests, line.bad, silent.get(one.name, "")) for one, line in lines))


def asked_windows(objective: Objective, age_s: float) -> tuple[Windows, ...]:
    """Its alerts for a release of this age; none while that is less than the shortest window."""
    least_s = _least(objective)
    if age_s < least_s:
        return ()
    return tuple(least_windows(windows_at(alert, age_s), least_s) for alert in ALERTS)


def windows_before(objective: Objective) -> tuple[int, ...]:
    """The windows that show what burnt at some moment: the alerts' own, and the shortest for what has just begun."""
    return tuple(sorted({_least(objective), *(one.short_s for one in ALERTS), *(one.long_s for one in ALERTS)}))


def every_s(objective: Objective) -> float:
    """How often it is asked about: several times in its shortest window."""
    return max(1.0, min(_LONGEST_WAIT_S, _least(objective) / _LOOKS))


def counted(queries: Queries, total: Reading, part: Reading) -> tuple[int, int] | Counts:
    """Requests and bad ones, or why these answers are no numbers of requests."""
    for key, reading in (("total", total), (queries.key, part)):
        if reading.value is None:
            none = _NONE_AT_ALL if reading.outcome is Outcome.NO_DATA else ""
            return Counts(problem=f"`{key}`: {reading.detail}{none}", again=reading.outcome is Outcome.ERROR)
        if not 0 <= reading.value <= MOST_REQUESTS:
            return Counts(problem=f"`{key}` is {reading.value:g}, which is no number of requests")
    requests, found = total.value or 0.0, part.value or 0.0
    if found > 1.1 * requests + 1:  # Prometheus extends each count to its window's ends: a little more is no mistake
        return Counts(problem=f"`{queries.key}` is {found:g}, and `total` only {requests:g}")
    bad = max(0.0, requests - found) if queries.good else found
    return round(requests), min(round(requests), round(bad))


def _least(objective: Objective) -> int:
    return objective.queries.least_s if objective.queries is not None else 1


def _learn(line: Line, objective: Objective, before: Counts | None) -> None:
    """What burnt when the release went live; what has stopped since is not old again."""
    if line.before is not Before.UNASKED or before is None or before.again:
        return
    if before.problem:
        line.before = Before.UNKNOWN
        return
    line.before, least_s = Before.KNOWN, _least(objective)
    for alert in ALERTS:
        just_begun = fires(before, objective, msgspec.structs.replace(alert, short_s=least_s, long_s=least_s))
        if fires(before, objective, alert) is not None or alert.pace not in line.old:
            continue
        if just_begun is None:
            line.old.remove(alert.pace)
        else:
            line.begun[alert.pace] = just_begun.bad / just_begun.requests


def _worse(line: Line, pace: Pace) -> bool:
    """Whether what had just begun is evidently much worse with the release."""
    return pace in line.burning and pace in line.begun and is_worse(line.burning[pace], line.begun[pace])


def _stopped(counts: Counts, objective: Objective, alerts: tuple[Windows, ...]) -> bool:
    """Whether an old alert stopped: in its short windows there were requests, and the budget burns slower."""
    for alert in alerts:
        requests, bad = counts.over(alert.short_s)
        if not requests or bad / requests / objective.budget > alert.factor:
            return False
    return True


def _alert(objective: Objective, found: Burning, since: float) -> Alert:
    seen = (found.windows, found.burn, found.requests, found.bad)
    return Alert(objective, *seen, since=since, service=objective.service)
