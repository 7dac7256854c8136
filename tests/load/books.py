"""The one place where outcomes are written down while the load runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from tests.load.mix import LoadMix
from tests.load.records import Attempt, Failure, Outcome, Records


@dataclass
class WebSocketStats:
    """Counts over all WebSocket clients. `unanswered` are own messages that a proper close overtook."""

    opened: int = 0
    proper_closes: int = 0  # by the server, with 1000 or 1001
    abnormal: int = 0  # without such a close frame: a failure each
    ended_by_client: int = 0  # at the end of the load, with a closing handshake
    ticks: int = 0
    echoes: int = 0
    unanswered: int = 0
    longest_reconnect_ms: float = 0.0


@dataclass
class Books:
    """Every started request gets exactly one row here. `started` and `len(records)` must meet in the end."""

    mix: LoadMix
    started_at: float
    started: int = 0
    extra: int = 0  # failures beside a request: stray bytes, a WebSocket that ended badly after its handshake
    paced_due: int = 0
    paced_started: int = 0
    stale_retries: int = 0
    idle_closes: int = 0  # keep-alive connections that the server closed while idle: allowed, not a failure
    websocket: WebSocketStats = field(default_factory=WebSocketStats)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    releases: Counter[str] = field(default_factory=Counter)
    marks: dict[str, float] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    last_ok: float = 0.0

    def __post_init__(self) -> None:
        self.records = Records(tuple(stream.label for stream in self.mix.streams))

    @property
    def failed(self) -> int:
        return len(self.records) - self.outcomes[Outcome.OK]

    def add(self, attempt: Attempt, outcome: Outcome, detail: str = "") -> None:
        """Close one attempt's account."""
        if not attempt.end:
            attempt.end = moment()
        self.records.add(attempt, outcome)
        self.outcomes[outcome] += 1
        if attempt.status:
            self.releases[attempt.release] += 1
        if outcome is Outcome.OK:
            self.last_ok = max(self.last_ok, attempt.end)
        elif len(self.failures) < self.mix.limits.failures_kept:
            self.failures.append(self._details(attempt, outcome, detail))

    def add_extra(self, attempt: Attempt, outcome: Outcome, detail: str) -> None:
        """A failure that belongs to no request of its own: it gets a row too."""
        self.extra += 1
        self.add(attempt, outcome, detail)

    def _details(self, attempt: Attempt, outcome: Outcome, detail: str) -> Failure:
        return Failure(
            at_s=round(attempt.end - self.started_at, 6),
            at=attempt.end,
            stream=self.mix.streams[attempt.stream].label,
            outcome=outcome,
            detail=detail,
            status=attempt.status,
            release=attempt.release,
            instance=attempt.instance,
            local_port=attempt.local_port,
            received=attempt.received,
            nth_on_connection=attempt.nth,
            took_s=round(attempt.end - attempt.start, 6),
        )


def moment() -> float:
    """Seconds by the event loop's clock: in real loads the machine's monotonic one, which is their parent's as well."""
    return asyncio.get_running_loop().time()
