"""When an objective's error budget burns too fast, and whether that is the doing of the release that is live.

A watch counts twice: the requests of whichever release was live when they came, and those of the live release alone.
By the first count it knows what was wrong already when the release went live; by the second one an alert fires.
"""

from __future__ import annotations

from math import exp, log
from typing import Protocol

import msgspec

from nself_deploy.core.durations import format_duration
from nself_deploy.core.slo import ALERTS, Objective, Pace, Windows, windows_at
from nself_deploy.core.slo_tally import Tally

MIN_BAD = 5
"""Bad requests that an alert needs in its long window."""
BEGINS_S = (5, 10, 20, 40, 60, 120, 300)
"""So long before a release went live trouble may have begun that the alerts' own windows don't show yet."""
CHANCE = 1e-6
"""An alert needs evidence that the budget burns at all: the probability of so many bad requests if it did not."""
WORSE = 3.0
"""A release that is so many times as bad as what had just begun before it is to blame all the same."""
OVER = 1e-3
"""Trouble is over by evidence: the probability of so few bad requests if it still burnt at the alert's pace."""


class Alert(msgspec.Struct, frozen=True):
    """An alert that fires."""

    objective: Objective
    windows: Windows
    burn: float
    """Over the long window."""
    requests: int
    bad: int
    since: float
    """When it began to fire, in seconds since the beginning."""
    service: str = ""
    """Whose requests are bad: the one with most of them."""

    @property
    def words(self) -> str:
        """`availability 99.9 % burn 22x over 5m/1h`."""
        return f"{self.objective.name} burn {self.burn:.0f}x over {self.windows.words}"

    @property
    def evidence(self) -> str:
        """The counts behind it."""
        share = self.bad / max(1, self.requests)
        by = "" if self.objective.queries is None else " by Prometheus' count"
        return (
            f"{self.bad} of {self.requests} requests were bad ({share:.2%}) in {format_duration(self.windows.long_s)}"
            f"{by}; {100 * self.objective.budget:.4g} % are allowed"
        )


class Burning(msgspec.Struct, frozen=True):
    """What an alert goes by when it fires."""

    windows: Windows
    burn: float
    requests: int
    bad: int


class Counts(Protocol):
    """Whoever knows how many requests there were, and how many of them were bad."""

    def over(self, seconds: int, /) -> tuple[int, int]:
        """In the last so many seconds."""


def fires(tally: Counts, objective: Objective, windows: Windows, *, silent: bool = False) -> Burning | None:
    """What it goes by, when the alert fires; `silent`: also when there was no request lately."""
    requests, bad = tally.over(windows.long_s)
    lately, lately_bad = tally.over(windows.short_s)
    if bad < MIN_BAD or not (lately or silent):
        return None
    burn = bad / requests / objective.budget
    now = lately_bad / lately / objective.budget if lately else burn
    if burn <= windows.factor or now <= windows.factor or not _is_evidence(requests, bad, objective.budget):
        return None
    return Burning(windows, burn, requests, bad)


def _is_evidence(requests: int, bad: int, budget: float) -> bool:
    """Whether so many bad ones can't be chance."""
    return bad > requests * budget and _chance(requests, bad, budget) <= CHANCE


def _chance(requests: int, bad: int, share: float) -> float:
    """Chernoff's bound for so many bad ones, or more, where that share of all is (so few, or fewer, if it is less)."""
    rate = bad / requests
    good = (1 - rate) * log((1 - rate) / (1 - share)) if rate < 1 else 0.0
    return exp(-requests * (good + (rate * log(rate / share) if rate else 0.0)))


class Watch(msgspec.Struct):
    """All objectives of a project while one release is live. Times are seconds since the watch began to be told."""

    objectives: tuple[Objective, ...]
    live_since: float
    """When the release went live: what came before belongs to another one, and only tells what was wrong already."""
    every: list[Tally]
    """Of the release that was live at that time."""
    since: list[Tally]
    """Of the release; their times count from when it went live."""
    to_blame: list[dict[str, int]]
    """Service -> bad requests of the release."""
    firing: dict[str, float] = {}
    """`<number of the objective> <pace>` -> since when."""
    old: list[str] = []
    """Those that were firing when the release went live, and have not stopped since: not its doing."""
    begun: dict[str, float] = {}
    """Of those that had just begun: the share of bad requests then."""
    now: float = 0.0

    @classmethod
    def begin(cls, objectives: tuple[Objective, ...], live_since: float) -> Watch:
        """A watch that is told of requests from time 0 on."""
        every, since = [Tally() for _ in objectives], [Tally() for _ in objectives]
        return cls(objectives, live_since, every, since, [{} for _ in objectives])

    def goes_live(self, at: float) -> None:
        """Another release went, or goes, live at this time, which is not long ago."""
        self.live_since = at
        self.since = [Tally() for _ in self.objectives]
        self.to_blame = [{} for _ in self.objectives]
        self.firing = {}
        self.old, self.begun = [], {}
        if at <= self.now:
            self._remember(self.now)

    def request(
        self, at: float, *, service: str, route: str, failed: bool, seconds: float | None, ours: bool = True
    ) -> None:
        """A request that was answered by the live release (`ours`) or another one, in the order of time.

        What it answered before it was live, as a candidate, says nothing about what was wrong without it; nor does what
        another candidate answers now.
        """
        self.advance(at)
        if ours is not (at >= self.live_since):
            return
        for number, objective in enumerate(self.objectives):
            if not objective.covers(service, route):
                continue
            bad = objective.is_bad(failed=failed, seconds=seconds)
            self.every[number].add(at, bad=bad)
            if ours:
                self.since[number].add(at - self.live_since, bad=bad)
                if bad:
                    self.to_blame[number][service] = self.to_blame[number].get(service, 0) + 1

    def advance(self, at: float) -> None:
        """It is this time now."""
        if self.now < self.live_since <= at:
            self._remember(self.live_since)
        self.now = max(self.now, at)

    def look(self) -> tuple[Alert, ...]:
        """What fires now and is this release's doing. Ask at least once a bucket, so that none stops unseen."""
        if self.now < self.live_since:
            return ()
        burning = self._burning(self.now - self.live_since)
        self.old = [key for key in self.old if not self._stopped(key) and not self._worse(key, burning.get(key))]
        self.firing = {key: self.firing.get(key, self.now) for key in burning if key not in self.old}
        return tuple(self._alert(key, burning[key], since) for key, since in self.firing.items())

    def counts(self, number: int) -> tuple[int, int]:
        """Requests and bad ones of the release that are remembered, for one objective."""
        return self.since[number].over(ALERTS[-1].long_s)

    def _alert(self, key: str, found: Burning, since: float) -> Alert:
        number, _ = _parts(key)
        blame = self.to_blame[number]
        service = max(sorted(blame), key=lambda name: blame[name], default="")
        seen = (found.windows, found.burn, found.requests, found.bad)
        return Alert(self.objectives[number], *seen, since=since, service=service)

    def _burning(self, age_s: float) -> dict[str, Burning]:
        """What fires by the requests of the release, which is so old."""
        found = {}
        for number, objective in enumerate(self.objectives):
            self.since[number].advance(age_s)
            for alert in ALERTS:
                seen = fires(self.since[number], objective, windows_at(alert, age_s))
                if seen is not None:
                    found[f"{number} {alert.pace}"] = seen
        return found

    def _remember(self, at: float) -> None:
        """What burns at this time, at which the release goes live, is older than it."""
        self.old, self.begun = [], {}
        for number, objective in enumerate(self.objectives):
            tally = self.every[number]
            tally.advance(at)
            for alert in ALERTS:
                key, found = f"{number} {alert.pace}", _burning_already(tally, objective, alert, at)
                if found:
                    self.old.append(key)
                if found and fires(tally, objective, windows_at(alert, at), silent=True) is None:
                    self.begun[key] = max(one.bad / one.requests for one in found)

    def _worse(self, key: str, found: Burning | None) -> bool:
        """Whether what had just begun is evidently much worse with the release."""
        share = self.begun.get(key)
        return found is not None and share is not None and is_worse(found, share)

    def _stopped(self, key: str) -> bool:
        """Whether an old alert stopped. Silence proves nothing."""
        number, pace = _parts(key)
        tally, since, objective = self.every[number], self.since[number], self.objectives[number]
        tally.advance(self.now)
        since.advance(self.now - self.live_since)
        alert = next(alert for alert in ALERTS if alert.pace is pace)
        lately, bad = tally.over(alert.short_s)
        over = (lately > 0 and not bad) or _is_over(since, objective, alert)
        return over and not _burning_already(tally, objective, alert, self.now)


def is_worse(found: Burning, share: float) -> bool:
    """Whether there is evidence that it burns more than `WORSE` times as fast as when that share was bad."""
    limit = WORSE * share
    return found.bad > limit * found.requests and _chance(found.requests, found.bad, limit) <= CHANCE


def _is_over(tally: Tally, objective: Objective, alert: Windows) -> bool:
    """Whether there is evidence in what the live release answered that it burns slower now."""
    limit = objective.budget * alert.factor
    counts = (tally.over(seconds) for seconds in (*BEGINS_S, alert.short_s, alert.long_s))
    return any(n and bad < n * limit and _chance(n, bad, min(limit, 0.999)) <= OVER for n, bad in counts)


def _burning_already(tally: Tally, objective: Objective, alert: Windows, age_s: float) -> list[Burning]:
    """How the alert fires, or would if the live release had gone live when the trouble began; empty when it does not.

    Silence since then does not show that it is over.
    """
    ages = (age_s, *(begun for begun in BEGINS_S if begun < age_s))
    found = (fires(tally, objective, windows_at(alert, age), silent=True) for age in ages)
    return [burning for burning in found if burning is not None]


def _parts(key: str) -> tuple[int, Pace]:
    number, _, pace = key.partition(" ")
    return int(number), Pace(pace)
