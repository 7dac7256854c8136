"""What a judge is told, and what it says: requests, incidents and faults; verdicts with their evidence."""

from __future__ import annotations

from enum import StrEnum

import msgspec

RULES = 2
"""Version of the rules by which verdicts are made: another number when the same events may have another verdict.

1: times are compared only with cut points that were known before the first share.
2: the part of alpha for times is kept for them anyway, and cut points may be found later.
"""


class Verdict(StrEnum):
    """What is known about a candidate."""

    PASS = "pass"  # noqa: S105 - no password
    """It is shown to be good enough."""
    FAIL = "fail"
    """It is worse than the live slot, or broke down by itself."""
    HOLD = "hold"
    """It misses the objective, but is not shown to be worse than the live slot."""
    INCONCLUSIVE = "inconclusive"
    """Neither is shown."""
    INVALID = "invalid"
    """The measurement can't be trusted."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request, as it was answered by the slot that it was first sent to."""

    at: float
    """Seconds since the candidate got its first share of the traffic."""
    client: int
    """What the client's key and a salt of this deployment were hashed to: at least 32 evenly distributed bits."""
    candidate: bool
    failed: bool
    share: float
    """The part of the clients that the candidate was given at that time, 0 to 1."""
    route: str = ""
    seconds: float | None = None
    """How long the answer took; None when that is not known."""


class Trouble(StrEnum):
    """What a container does that needs no statistics."""

    RESTARTED = "restarted"
    OUT_OF_MEMORY = "out of memory"
    UNHEALTHY = "unhealthy"
    SILENT = "silent"
    """Requests wait for the candidate. That proves nothing yet, but explains why it has so few in the log."""
    HANGING = "hanging"


class Incident(msgspec.Struct, frozen=True):
    """Something that happened to a container, or to all of the candidate's."""

    at: float
    candidate: bool
    trouble: Trouble
    container: str = ""
    detail: str = ""
    """What else there is to say."""

    @property
    def says(self) -> str:
        """It in words."""
        if self.trouble in (Trouble.SILENT, Trouble.HANGING):
            return f"the candidate {_TROUBLES[self.trouble]}: {self.detail}"
        return f"the candidate's container {self.container}".rstrip() + f" {_TROUBLES[self.trouble]}"


_TROUBLES = {
    Trouble.RESTARTED: "stopped and was restarted",
    Trouble.OUT_OF_MEMORY: "was killed because it used too much memory",
    Trouble.UNHEALTHY: "is unhealthy",
    Trouble.SILENT: "does not answer",
    Trouble.HANGING: "hangs",
}


class Decision(msgspec.Struct, frozen=True):
    """A verdict that stands: no request changes it any more."""

    verdict: Verdict
    at: float
    reason: str


class Side(msgspec.Struct, frozen=True):
    """What was seen of one slot."""

    requests: int
    failed: int
    clients: int
    """Distinct ones that were first seen there; an estimate beyond some thousands."""
    failed_clients: int
    """Clients whose first error in this deployment was there."""
    rate: float
    """Failed requests of one client within ten seconds count once."""


class MetricEvidence(msgspec.Struct, frozen=True):
    """A metric's part in the verdict, and what it rests on."""

    name: str
    verdict: Verdict
    wanted: str
    good: int
    bad: int
    between: int
    no_data: int
    errors: int
    value: float | None = None
    """The last one; None when the last answer had none."""
    detail: str = ""
    """Why there is none."""
    at: float | None = None
    missing: tuple[str, ...] = ()
    """What a promotion still needs, in words."""
    expected_s: float | None = None
    """Seconds until it may have that, if all goes well; None when it is decided."""


class Evidence(msgspec.Struct, frozen=True):
    """A verdict and all that it rests on. `log_*` are natural logarithms of evidence values."""

    verdict: Verdict
    final: bool
    """Nothing that comes will change it (or the longest soak is over)."""
    at: float
    reason: str
    candidate: Side
    live: Side
    ratio: float | None
    """The candidate's rate over the live slot's; None when the live slot has no error."""
    log_errors: float
    log_errors_needed: float
    matters: bool
    """Whether the difference is as large as the settings demand."""
    log_latency: float | None
    log_latency_needed: float
    log_objective: float
    log_objective_needed: float
    log_proof: float
    log_proof_needed: float
    log_split: float
    log_split_needed: float
    missing: tuple[str, ...] = ()
    """What a promotion still needs, in words."""
    expected_s: float | None = None
    """Seconds until a promotion is possible, at the traffic seen; None when that can't be said."""
    metrics: tuple[MetricEvidence, ...] = ()
    """What metrics of the user's own have shown."""
    times_known: int | None = None
    """Answers of the live slot that cut points can be made of, while these are too few; None: they are not needed."""
    rules: int = RULES
    """Version of the rules."""
