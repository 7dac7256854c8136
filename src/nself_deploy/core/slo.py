"""Service level objectives: what they are, how they are written, and the alerts that are about them.

The burn rate is the share of bad requests divided by the share that the objective allows: at 1 the budget of the
objective's period is used up exactly at its end. An alert fires when the burn rate is above its factor over a long
window (it matters) and over a short one (it is still so). Windows and factors are the Site Reliability Workbook's,
chapter 5, table 5-8: 14.4 over 1 h and 5 min uses 2 % of a month's budget, 6 over 6 h and 30 min uses 5 %.

For a release that is younger than a window, the windows are what there is of it: see `windows_at`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from math import ceil

import msgspec

from nself_deploy.core.durations import format_duration, parse_duration

BUCKET_S = 5
"""Short windows are counted in buckets of so many seconds."""
LONGEST_S = 6 * 3600
_YOUNG = 12
"""The short window is this part of the long one, as 5 min are of 1 h and 30 min of 6 h."""


class Kind(StrEnum):
    """What an objective is about."""

    AVAILABILITY = "availability"
    LATENCY = "latency"
    RATIO = "ratio"
    """By two numbers of Prometheus."""


class Pace(StrEnum):
    """How fast an alert's budget burns."""

    FAST = "fast"
    """For this one a release is rolled back."""
    SLOW = "slow"
    """This one is only told."""


class Queries(msgspec.Struct, frozen=True):
    """What Prometheus is asked for: how many requests there were in a window, and how many of them were bad."""

    total: str
    part: str
    """How many of them were good, or bad."""
    good: bool = False
    """Whether `part` counts the good ones."""
    least_s: int = 60
    """A shorter window is not asked for: Prometheus has too few samples in it."""

    @property
    def key(self) -> str:
        """What `part` is called in the project's file."""
        return "good" if self.good else "bad"


class Objective(msgspec.Struct, frozen=True):
    """A share of the requests that must be good."""

    kind: Kind
    target: float
    """The share, 0 to 1 (both excluded)."""
    limit_s: float = 0.0
    """A latency objective: answers that take longer are bad."""
    service: str = ""
    """Of requests to this service only; empty: of all."""
    route: str = ""
    """Of this route only, such as `web:8000`; empty: of all."""
    title: str = ""
    """One that Prometheus is asked about: what it is called."""
    queries: Queries | None = None
    """None: the router's own log says it."""

    @property
    def budget(self) -> float:
        """The share of bad requests that is allowed."""
        return 1.0 - self.target

    @property
    def name(self) -> str:
        """For people: `availability 99.9 %`, `latency 99 % < 300ms of web` (read by `objective`), `checkouts 99 %`."""
        if self.queries is not None:
            return f"{self.title} {self.target * 100:.6g} %"
        limit = f" < {format_duration(self.limit_s)}" if self.kind is Kind.LATENCY else ""
        of = f" of {self.route or self.service}" if self.route or self.service else ""
        return f"{self.kind} {self.target * 100:.6g} %{limit}{of}"

    def covers(self, service: str, route: str) -> bool:
        """Whether it is about requests to this service, by this route."""
        return self.service in ("", service) and self.route in ("", route)

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


def least_windows(windows: Windows, least_s: int) -> Windows:
    """The same alert, and no window of it shorter than that."""
    short_s = max(windows.short_s, least_s)
    return msgspec.structs.replace(windows, short_s=short_s, long_s=max(windows.long_s, short_s))


_SHARE = r"([0-9]{1,2}(?:\.[0-9]{1,4})?)"
_PERCENT = re.compile(rf"{_SHARE} *%?")
_LATENCY = re.compile(rf"{_SHARE} *% *< *((?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m))+)")
_WHOLE = re.compile(r"(availability|latency) +(.*?)(?: +of +(\S+))?")
_LONGEST_LIMIT_S = 600.0
HOW = "Write it like availability 99.9, or latency 99 % < 300ms, with `of web` or `of web:8000` behind it."


def availability(text: str | float, service: str = "", route: str = "") -> Objective:
    """An objective from `99.9` or `99.9 %`.

    Raises:
        ValueError: it is none; says so in words.
    """
    return Objective(Kind.AVAILABILITY, _percent(text, "an availability"), service=service, route=route)


def latency(text: str, service: str = "", route: str = "") -> Objective:
    """An objective from `99 % < 300ms`.

    Raises:
        ValueError: it is none; says so in words.
    """
    match = _LATENCY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a latency objective: write it like 99 % < 300ms")
    limit_s = round(parse_duration(match[2]), 6)
    if not 0.001 <= limit_s <= _LONGEST_LIMIT_S:
        raise ValueError(f"{match[2]} is no limit for an answer: from 1ms to 600s is possible")
    return Objective(Kind.LATENCY, _share(match[1]), limit_s, service, route)


def ratio(target: str | float, title: str, queries: Queries, service: str = "") -> Objective:
    """An objective about two numbers of Prometheus, from `99.9` or `99.9 %`.

    Raises:
        ValueError: it is none; says so in words.
    """
    share = _percent(target, "a share of the requests")
    return Objective(Kind.RATIO, share, service=service, title=title, queries=queries)


def _percent(text: str | float, what: str) -> float:
    written = text.strip() if isinstance(text, str) else f"{text:.8g}"
    match = _PERCENT.fullmatch(written)
    if match is None:
        raise ValueError(f"{written!r} is not {what}: write it like 99.9 %")
    return _share(match[1])


def objective(text: str) -> Objective:
    """An objective from one line, such as `availability 99.9` or `latency 99 % < 300ms of web:8000`.

    Raises:
        ValueError: it is none; says so in words.
    """
    match = _WHOLE.fullmatch(" ".join(text.split()))
    if match is None:
        raise ValueError(f"{text[:100]!r} is not an objective")
    of = match[3] or ""
    service, route = ("", of) if ":" in of else (of, "")
    read = availability if match[1] == Kind.AVAILABILITY else latency
    return read(match[2], service, route)


def _share(percent: str) -> float:
    share = round(float(percent) / 100, 8)
    if not 0.5 <= share < 1.0:
        raise ValueError(f"{percent} % is no objective: from 50 % to 99.9999 % is possible")
    return share
