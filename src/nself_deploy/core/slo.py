"""Service level objectives, and when their error budget burns too fast: multi-window, multi-burn-rate alerts.

The burn rate is the share of bad requests divided by the share that the objective allows: at 1 the budget of the
objective's period is used up exactly at its end. An alert fires when the burn rate is above its factor over a long
window (it matters) and over a short one (it is still so). Windows and factors are the Site Reliability Workbook's,
chapter 5, table 5-8: 14.4 over 1 h and 5 min uses 2 % of a month's budget, 6 over 6 h and 30 min uses 5 %.

For a release that is younger than a window, the windows are what there is of it: see `windows_at`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from math import ceil, log

import msgspec

from nself_deploy.core.durations import format_duration, parse_duration

BUCKET_S = 5
"""Requests are counted in buckets of so many seconds; windows are whole buckets."""
LONGEST_S = 6 * 3600
MIN_BAD = 5
"""Bad requests that an alert needs in its long window."""
CHANCE = 1e-6
"""An alert needs evidence that the budget burns at all: the probability of so many bad requests if it did not."""
_YOUNG = 12
"""The short window is this part of the long one, as 5 min are of 1 h and 30 min of 6 h."""


class Kind(StrEnum):
    """What an objective is about."""

    AVAILABILITY = "availability"
    LATENCY = "latency"


class Pace(StrEnum):
    """How fast an alert's budget burns."""

    FAST = "fast"
    """For this one a release is rolled back."""
    SLOW = "slow"


class Objective(msgspec.Struct, frozen=True):
    """A share of the requests that must be good."""

    kind: Kind
    target: float
    """The share, 0 to 1 (both excluded)."""
    limit_s: float = 0.0
    """A latency objective: answers that take longer are bad."""
    service: str = ""
    """Of requests to this service only; empty: of all."""
    path: str = ""
    """Of this route only (its key), empty: of all."""

    @property
    def budget(self) -> float:
        """The share of bad requests that is allowed."""
        return 1.0 - self.target

    @property
    def name(self) -> str:
        """For people: `availability 99.9 %`, `latency 99 % < 300ms of web`."""
        limit = f" < {format_duration(self.limit_s)}" if self.kind is Kind.LATENCY else ""
        of = f" of {self.path or self.service}" if self.path or self.service else ""
        return f"{self.kind} {self.target * 100:g} %{limit}{of}"

    def is_bad(self, *, failed: bool, seconds: float | None) -> bool:
        """Whether an answer counts against it. A failed one counts against every objective."""
        return failed or (self.kind is Kind.LATENCY and seconds is not None and seconds > self.limit_s)


class Windows(msgspec.Struct, frozen=True):
    """One alert: two windows (seconds) and the burn rate above which it fires."""

    pace: Pace
    short_s: int
    long_s: int
    factor: float
    scaled: bool = False
    """The release is younger than the long window."""

    @property
    def words(self) -> str:
        """`5m/1h`, `25s/5m (the release is no older)`."""
        young = " (the release is no older)" if self.scaled else ""
        return f"{format_duration(self.short_s)}/{format_duration(self.long_s)}{young}"


ALERTS = (
    Windows(Pace.FAST, 300, 3600, 14.4),
    Windows(Pace.SLOW, 1800, 21600, 6.0),
)


def windows_at(windows: Windows, age_s: float) -> Windows:
    """The alert for a release of this age: no window reaches back before it went live, the short one stays 1/12."""
    if age_s >= windows.long_s:
        return windows
    long_s = max(BUCKET_S, int(age_s))
    short_s = max(BUCKET_S, min(windows.short_s, ceil(long_s / _YOUNG / BUCKET_S) * BUCKET_S))
    return msgspec.structs.replace(windows, short_s=short_s, long_s=long_s, scaled=True)


_PERCENT = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,4})?) *%?")
_LATENCY = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,4})?) *% *< *([0-9.]+(?:ms|s))")


def availability(text: str | float, service: str = "", path: str = "") -> Objective:
    """An objective from `99.9` or `99.9 %`.

    Raises:
        ValueError: it is none; says so in words.
    """
    match = _PERCENT.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"{text!r} is not an availability: write it like 99.9 %")
    return Objective(Kind.AVAILABILITY, _share(match[1]), service=service, path=path)


def latency(text: str, service: str = "", path: str = "") -> Objective:
    """An objective from `99 % < 300ms`.

    Raises:
        ValueError: it is none; says so in words.
    """
    match = _LATENCY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a latency objective: write it like 99 % < 300ms")
    limit_s = parse_duration(match[2])
    if not 0.001 <= limit_s <= 600:
        raise ValueError(f"{match[2]} is no limit for an answer: from 1ms to 600s is possible")
    return Objective(Kind.LATENCY, _share(match[1]), limit_s, service, path)


def _share(percent: str) -> float:
    share = float(percent) / 100
    if not 0.5 <= share < 1.0:
        raise ValueError(f"{percent} % is no objective: from 50 % to 99.9999 % is possible")
    return share


class Tally(msgspec.Struct):
    """Good and bad requests of one objective over the last six hours, in a ring of sums at the end of each bucket."""

    requests: int = 0
    """Since the beginning."""
    bad: int = 0
    bucket: int = 0
    """The present one."""
    sums: list[tuple[int, int]] = []
    """Ring: (requests, bad) since the beginning, at the end of bucket b at `sums[b % length]`."""

    def add(self, at: float, *, bad: bool) -> None:
        """A request that was answered at this time (seconds since the beginning)."""
        self.advance(at)
        self.requests += 1
        self.bad += bad

    def advance(self, at: float) -> None:
        """It is this time now; time that goes back is the present."""
        if not self.sums:
            self.sums = [(0, 0)] * (LONGEST_S // BUCKET_S + 1)
        now, length = int(at // BUCKET_S), len(self.sums)
        for passed in range(max(self.bucket, now - length), now):
            self.sums[passed % length] = (self.requests, self.bad)
        self.bucket = max(self.bucket, now)

    def over(self, seconds: int) -> tuple[int, int]:
        """Requests and bad ones of the last so many seconds (whole buckets, the present one included)."""
        first = self.bucket - ceil(seconds / BUCKET_S)
        if first < 0 or not self.sums:
            return self.requests, self.bad
        before = self.sums[first % len(self.sums)]
        return self.requests - before[0], self.bad - before[1]


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

    @property
    def words(self) -> str:
        """`availability 99.9 % burn 22x over 5m/1h`."""
        return f"{self.objective.name} burn {self.burn:.0f}x over {self.windows.words}"

    @property
    def evidence(self) -> str:
        """The counts behind it."""
        share = self.bad / max(1, self.requests)
        return (
            f"{self.bad} of {self.requests} requests were bad ({share:.2%}) in {format_duration(self.windows.long_s)}; "
            f"{self.objective.budget:.4%} are allowed"
        )


def fires(tally: Tally, objective: Objective, windows: Windows) -> tuple[float, int, int] | None:
    """(burn, requests, bad) over the long window when the alert fires."""
    requests, bad = tally.over(windows.long_s)
    lately, lately_bad = tally.over(windows.short_s)
    if not requests or not lately or bad < MIN_BAD:
        return None
    burn, now = bad / requests / objective.budget, lately_bad / lately / objective.budget
    if burn <= windows.factor or now <= windows.factor or not _is_evidence(requests, bad, objective.budget):
        return None
    return burn, requests, bad


def _is_evidence(requests: int, bad: int, budget: float) -> bool:
    """Whether so many bad ones can't be chance: Chernoff's bound for a binomial of the budget, below `CHANCE`."""
    rate = bad / requests
    if rate <= budget:
        return False
    divergence = rate * log(rate / budget) + ((1 - rate) * log((1 - rate) / (1 - budget)) if rate < 1 else 0.0)
    return requests * divergence >= -log(CHANCE)


class Watch(msgspec.Struct):
    """All objectives of a project while one release is live. Times are seconds since the watch began to be told."""

    objectives: tuple[Objective, ...]
    live_since: float
    """When the release went live: what came before belongs to another one, and only tells what was wrong already."""
    every: list[Tally]
    """Of all requests, whichever release was live."""
    since: list[Tally]
    """Of the release; its times count from when it went live."""
    firing: dict[str, float] = {}
    """`<number of the objective> <pace>` -> since when."""
    old: list[str] = []
    """Those that were firing when the release went live, and have not stopped since: not its doing."""
    now: float = 0.0

    @classmethod
    def begin(cls, objectives: tuple[Objective, ...], live_since: float) -> Watch:
        """A watch that is told of requests from time 0 on."""
        return cls(objectives, live_since, [Tally() for _ in objectives], [Tally() for _ in objectives])

    def request(self, at: float, *, service: str, path: str, failed: bool, seconds: float | None) -> None:
        """A request that was answered, in the order of time."""
        self.advance(at)
        for number, objective in enumerate(self.objectives):
            if objective.service in ("", service) and objective.path in ("", path):
                bad = objective.is_bad(failed=failed, seconds=seconds)
                self.every[number].add(at, bad=bad)
                if at >= self.live_since:
                    self.since[number].add(at - self.live_since, bad=bad)

    def advance(self, at: float) -> None:
        """It is this time now."""
        if self.now < self.live_since <= at:
            self.old = [*_burning(self.objectives, self.every, self.live_since)]
        self.now = max(self.now, at)

    def look(self) -> tuple[Alert, ...]:
        """What fires now and is this release's doing. Ask at least once a bucket, so that none stops unseen."""
        if self.now < self.live_since:
            return ()
        if self.old:
            still = _burning(self.objectives, self.every, self.now)
            self.old = [key for key in self.old if key in still]
        burning = _burning(self.objectives, self.since, self.now - self.live_since)
        self.firing = {key: self.firing.get(key, self.now) for key in burning if key not in self.old}
        return tuple(
            Alert(self.objectives[_number(key)], *burning[key], since=since) for key, since in self.firing.items()
        )


def _burning(
    objectives: tuple[Objective, ...], tallies: list[Tally], age_s: float
) -> dict[str, tuple[Windows, float, int, int]]:
    """What fires at this age of the tallies: key -> (windows, burn, requests, bad)."""
    found = {}
    for number, objective in enumerate(objectives):
        tallies[number].advance(age_s)
        for alert in ALERTS:
            windows = windows_at(alert, age_s)
            if (seen := fires(tallies[number], objective, windows)) is not None:
                found[f"{number} {alert.pace}"] = (windows, *seen)
    return found


def _number(key: str) -> int:
    return int(key.partition(" ")[0])
