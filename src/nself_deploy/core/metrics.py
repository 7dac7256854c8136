"""User-defined metrics of a candidate: what is asked for, which values are good, and what an answer can be.

The types of `analysis.prometheus` and `analysis.metrics` below `x-nself-deploy`. Times are in seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from nself_deploy.core.durations import Duration

INTERVAL_S = 15.0
WINDOW_S = 60.0
TIMEOUT_S = 5.0
PLACEHOLDERS = ("slot", "live_slot", "release", "live_release", "project", "window")
"""What a query may say in double braces, e.g. `{{slot}}`."""
_PLACEHOLDER = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_SAFE = re.compile(r"[A-Za-z0-9_.:-]*")


class Missing(StrEnum):
    """What it means when a query has no value. There is no "success"."""

    WAIT = "wait"
    """Nothing is shown, and nothing is promoted until something is."""
    INVALID = "invalid"
    """The measurement can't be trusted, once there was none so many times in a row."""
    FAIL = "fail"
    """Each time counts as a failure."""


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which values meet it; exactly one of its keys is given."""

    below: Annotated[float | None, Meta(description="Less than this.")] = None
    above: Annotated[float | None, Meta(description="More than this.")] = None
    within: Annotated[
        tuple[float, float] | None,
        Meta(description="From the first to the second number, both included.", examples=[[0.5, 2]]),
    ] = None

    def met_by(self, value: float) -> bool:
        """Whether a value meets it; what is no finite number never does."""
        if not math.isfinite(value):
            return False
        if self.below is not None:
            return value < self.below
        if self.above is not None:
            return value > self.above
        return self.within is not None and self.within[0] <= value <= self.within[1]

    def overlaps(self, other: Condition) -> bool:
        """Whether one value may meet both."""
        if self.within is not None and other.within is not None:
            return max(self.within[0], other.within[0]) <= min(self.within[1], other.within[1])
        for ends, beyond in ((self.within, other), (other.within, self)):
            if ends is not None:
                return any(beyond.met_by(end) for end in ends)
        low, high = (self.above, other.below) if self.above is not None else (other.above, self.below)
        return low is None or high is None or low < high

    @property
    def says(self) -> str:
        """It in words."""
        if self.within is not None:
            return f"within {self.within[0]:g} and {self.within[1]:g}"
        return f"below {self.below:g}" if self.below is not None else f"above {self.above:g}"


class MetricRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query of the candidate's quality, and what its values mean."""

    name: Annotated[str, Meta(description="What it is called in explanations.", examples=["failed checkouts"])]
    query: Annotated[
        str,
        Meta(
            description="PromQL that gives one number, on one line. In it, `{{slot}}`, `{{live_slot}}`, `{{release}}`, "
            "`{{live_release}}`, `{{project}}` and `{{window}}` are filled in."
        ),
    ]
    success: Annotated[
        Condition | None, Meta(description="Values that are good; default: those that don't meet `failure`.")
    ] = None
    failure: Annotated[
        Condition | None, Meta(description="Values that are bad; default: those that don't meet `success`.")
    ] = None
    successes: Annotated[int, Meta(ge=1, le=1000, description="So many good values are needed for a promotion.")] = 3
    failures_in_a_row: Annotated[
        int, Meta(ge=0, le=1000, description="So many bad values in a row fail the candidate; 0: they don't.")
    ] = 3
    failures: Annotated[
        int, Meta(ge=0, le=1000, description="So many bad values in total fail the candidate; 0: they don't.")
    ] = 5
    missing: Annotated[Missing, Meta(description="What it means when there is no value. It is never a success.")] = (
        Missing.WAIT
    )
    gaps_in_a_row: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="After so many times in a row without a usable answer, the measurement can't be trusted.",
        ),
    ] = 4

    def good(self, value: float) -> bool | None:
        """Whether a finite value is good; None when it is neither good nor bad."""
        if self.failure is not None and self.failure.met_by(value):
            return False
        if self.success is None or self.success.met_by(value):
            return True
        return None if self.failure is not None else False

    @property
    def wanted(self) -> str:
        """The good values in words."""
        if self.success is not None:
            return self.success.says
        return f"not {self.failure.says}" if self.failure is not None else ""


class Metric(MetricRules, frozen=True, forbid_unknown_fields=True):
    """A metric as a judge knows it; it can be journalled."""

    interval_s: float = INTERVAL_S
    window_s: float = WINDOW_S


class MetricKeys(MetricRules, frozen=True, forbid_unknown_fields=True):
    """A query of the candidate's quality, and what its values mean."""

    interval: Annotated[
        Duration | None, Meta(description="How often it is asked for; default: 15s.", extra={"low": "1s", "high": "1h"})
    ] = None
    window: Annotated[
        Duration | None,
        Meta(
            description="What `{{window}}` stands for. It is asked for the first time when the candidate has had "
            "traffic for so long; default: 1m.",
            extra={"low": "1s", "high": "1h"},
        ),
    ] = None

    @property
    def metric(self) -> Metric:
        """The same without the words."""
        rules = {name: getattr(self, name) for name in MetricRules.__struct_fields__}
        return Metric(**rules, interval_s=float(self.interval or INTERVAL_S), window_s=float(self.window or WINDOW_S))


class Prometheus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Prometheus, or another program with its HTTP API, that answers the queries."""

    url: Annotated[
        str,
        Meta(description="Where it is, without `/api/v1/query`.", examples=["http://127.0.0.1:9090"]),
    ]
    username: Annotated[str, Meta(description="For basic authentication, with `password_file`.")] = ""
    password_file: Annotated[
        str, Meta(description="A file with the password that only its owner may read, relative to the project.")
    ] = ""
    token_file: Annotated[
        str, Meta(description="A file with a bearer token that only its owner may read, relative to the project.")
    ] = ""
    ca_file: Annotated[
        str, Meta(description="Certificates that are trusted in place of the machine's, relative to the project.")
    ] = ""
    timeout: Annotated[
        Duration | None, Meta(description="Limit of one answer; default: 5s.", extra={"low": "100ms", "high": "1m"})
    ] = None

    @property
    def timeout_s(self) -> float:
        """Seconds that one answer may take."""
        return float(self.timeout or TIMEOUT_S)


class Outcome(StrEnum):
    """What a question gave."""

    VALUE = "value"
    NO_DATA = "no data"
    ERROR = "error"
    WRONG = "wrong"
    """The question itself has no number for an answer, now or ever."""


class Reading(msgspec.Struct, frozen=True):
    """The answer to one query."""

    outcome: Outcome
    value: float | None = None
    """A finite number if the outcome is `VALUE`, else None."""
    detail: str = ""
    """In words, why there is no number."""

    @classmethod
    def of(cls, value: float) -> Reading:
        """A number; what is none has no value, and says so."""
        if math.isfinite(value):
            return cls(Outcome.VALUE, value)
        if math.isnan(value):
            return cls.no_data("it is NaN: mostly nothing divided by nothing")
        return cls.error(f"it is {'+' if value > 0 else '-'}Inf: mostly a division by nothing")

    @classmethod
    def no_data(cls, detail: str) -> Reading:
        """There is nothing to be measured."""
        return cls(Outcome.NO_DATA, None, detail)

    @classmethod
    def error(cls, detail: str) -> Reading:
        """It could not be measured."""
        return cls(Outcome.ERROR, None, detail)

    @classmethod
    def wrong(cls, detail: str) -> Reading:
        """It can't be measured in this way."""
        return cls(Outcome.WRONG, None, detail)


def placeholders(query: str) -> list[str]:
    """The names in double braces in a query, known or not."""
    return _PLACEHOLDER.findall(query)


def fill(query: str, values: Mapping[str, str], window_s: float) -> str:
    """The query to send. Every placeholder but the window has its value in `values`.

    Raises:
        ValueError: a value has characters that mean something in a query; names it.
    """
    known = {**values, "window": _promql_duration(window_s)}
    for name, value in known.items():
        if not _SAFE.fullmatch(value):
            raise ValueError(f"{name}: {value!r} can't be part of a query")
    return _PLACEHOLDER.sub(lambda found: known[found[1]], query)


def _promql_duration(seconds: float) -> str:
    """Prometheus knows no fractions: 1.5 seconds are `1500ms`."""
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms"
