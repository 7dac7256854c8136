"""The result of a load run: totals, and questions that can be asked of the single requests."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.load.books import Books, WebSocketStats
from tests.load.mix import LoadError
from tests.load.records import Answer, Failure, Outcome, Records


@dataclass(frozen=True, slots=True)
class StreamStats:
    """One stream. Latencies are those of the answers that were ok, from when the request was due, in milliseconds."""

    requests: int
    failed: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class PacedStats:
    """Was the rate really offered? `due` requests should have started, `started` did, `late_*` says how much later."""

    offered_rate: float
    due: int
    started: int
    rate: float
    late_p99_ms: float
    late_max_ms: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Totals so far, while the load runs. `at` is monotonic."""

    at: float
    requests: int
    ok: int
    failed: int
    in_flight: int
    outcomes: dict[str, int]
    per_release: dict[str, int]
    websocket: WebSocketStats
    running: bool
    failures: list[Failure] = field(default_factory=list)


@dataclass
class Report:
    """Times are seconds of the machine's monotonic clock; a mark's name may stand for its time in every method.

    `requests` counts rows: every request that was started or could not be sent, and one more for each failure beside a
    request (stray bytes, a WebSocket that ended badly). `longest_gap_ms` is the longest time without a successful
    answer, the time before the first and after the last one included.
    """

    requests: int
    failed: int
    failures: list[Failure]
    outcomes: dict[str, int]
    longest_gap_ms: float
    per_release: dict[str, int]
    per_instance: dict[str, int]
    per_kind: dict[str, StreamStats]
    websocket: WebSocketStats
    paced: PacedStats
    rate: float
    stale_retries: int
    idle_closes: int
    started_at: float
    stopped_at: float
    ended_at: float
    stopped_because: str
    client_cpu_share: float
    marks: dict[str, float]
    records: Records

    def moment(self, at: float | str) -> float:
        """Time of a mark, or the time itself."""
        if isinstance(at, str):
            if at not in self.marks:
                raise LoadError(f"no mark {at!r}; there are: {', '.join(self.marks) or 'none'}")
            return self.marks[at]
        return at

    def first_after(self, at: float | str, release: str) -> Answer | None:
        """The first request sent after `at` that `release` answered."""
        return min(
            (a for a in self._answers(sent_after=self.moment(at)) if a.release == release),
            key=lambda a: a.sent,
            default=None,
        )

    def last_from(self, release: str) -> Answer | None:
        """The last answer (by completion) that `release` gave."""
        return max((a for a in self._answers() if a.release == release), key=lambda a: a.end, default=None)

    def wrong_after(self, at: float | str, expected: str, until: float | str | None = None) -> list[Answer]:
        """Answered requests that were sent after `at` (and before `until`) and that another release answered.

        An answer that names no release counts as another one: nobody knows whose it is.
        """
        end = None if until is None else self.moment(until)
        answers = self._answers(sent_after=self.moment(at))
        return [a for a in answers if a.release != expected and (end is None or a.sent < end)]

    def releases_between(self, since: float | str, until: float | str | None = None) -> dict[str, int]:
        """Answers per release among the requests sent in that time."""
        end = self.ended_at if until is None else self.moment(until)
        return dict(Counter(a.release for a in self._answers(sent_after=self.moment(since)) if a.sent <= end))

    def failed_between(self, since: float | str, until: float | str | None = None) -> list[Answer]:
        """Failed requests that ended in that time."""
        start, end = self.moment(since), self.ended_at if until is None else self.moment(until)
        return [a for a in self.records if a.outcome is not Outcome.OK and start <= a.end <= end]

    def gap_ms(self, since: float | str | None = None, until: float | str | None = None) -> float:
        """Longest time without a successful answer within [since, until]; the whole run by default."""
        start = self.started_at if since is None else self.moment(since)
        end = self.stopped_at if until is None else self.moment(until)
        return longest_gap_ms(self.records, start, end)

    def latency_ms(self, quantile: float, stream: str | None = None) -> float:
        """Quantile (0-1) of the successful requests' time from due to complete."""
        names = self.records.streams
        times = [s * 1000 for index, _, s in self.records.successes() if stream is None or names[index] == stream]
        return _quantile(times, quantile)

    def _answers(self, sent_after: float | None = None) -> list[Answer]:
        """Rows with an answer (whatever its status), of requests that were sent after a moment."""
        return [a for a in self.records if a.status and (sent_after is None or a.sent > sent_after)]

    def result_line(self, **more: object) -> str:
        """`RESULT requests=… failed=… longest_gap_ms=…` and whatever else is given."""
        values = {
            "requests": self.requests,
            "failed": self.failed,
            "longest_gap_ms": round(self.longest_gap_ms),
            **more,
        }
        return "RESULT " + " ".join(f"{name}={value}" for name, value in values.items())

    def table(self) -> str:
        """For a terminal."""
        totals = f"requests {self.requests}   failed {self.failed}   rate {self.rate:.1f}/s"
        client = f"client: {self.client_cpu_share:.0%} of a core, late p99 {self.paced.late_p99_ms:.1f} ms"
        lines = [
            f"{totals}   longest gap {self.longest_gap_ms:.0f} ms   ({client}, max {self.paced.late_max_ms:.1f} ms)",
            f"{'stream':<24}{'requests':>10}{'failed':>8}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}",
        ]
        for name, s in self.per_kind.items():
            numbers = f"{s.requests:>10}{s.failed:>8}{s.p50_ms:>10.1f}{s.p99_ms:>10.1f}{s.max_ms:>10.1f}"
            lines.append(f"{name:<24}{numbers}")
        lines += [f"answered by {name or '(nobody named)':<12}{count:>10}" for name, count in self.per_release.items()]
        if self.idle_closes or self.stale_retries:
            retried = f"GET sent again on a new connection: {self.stale_retries}"
            lines.append(f"idle connections closed by the server (allowed): {self.idle_closes}; {retried}")
        ws = self.websocket
        if ws.opened or ws.abnormal:
            lines.append(
                f"websocket: opened {ws.opened}, closed properly {ws.proper_closes}, abnormal {ws.abnormal}, "
                f"ticks {ws.ticks}, echoes {ws.echoes}"
            )
        if self.failed:
            counts = ", ".join(f"{name} {count}" for name, count in self.outcomes.items() if name != Outcome.OK)
            lines.append(f"failures: {counts}; the first {len(self.failures)}:")
        lines += [
            f"  {f.at_s:9.3f} s  {f.stream}: {f.outcome}: {f.detail} [port {f.local_port}, {f.received} bytes, "
            f"request {f.nth_on_connection} of its connection, after {f.took_s * 1000:.0f} ms]"
            for f in self.failures
        ]
        return "\n".join(lines)

    def to_json(self) -> str:
        flat = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "records"}
        return json.dumps({**flat, "records": self.records.to_dict()}, default=dataclasses.asdict)

    @classmethod
    def from_json(cls, text: str) -> Self:
        raw: dict[str, Any] = json.loads(text)
        raw["failures"] = [failure_from_dict(item) for item in raw["failures"]]
        raw["per_kind"] = {name: StreamStats(**item) for name, item in raw["per_kind"].items()}
        raw["websocket"] = WebSocketStats(**raw["websocket"])
        raw["paced"] = PacedStats(**raw["paced"])
        raw["records"] = Records.from_dict(raw["records"])
        return cls(**raw)

    def save(self, path: Path) -> None:
        path.write_text(self.to_json())


def failure_from_dict(raw: dict[str, Any]) -> Failure:
    return Failure(**{**raw, "outcome": Outcome(raw["outcome"])})


def snapshot_of(books: Books, running: bool) -> Snapshot:
    """The books' totals at this moment; `Snapshot.at` is for the caller to compare with its own clock."""
    rows = len(books.records)
    return Snapshot(
        at=time.monotonic(),
        requests=rows,
        ok=rows - books.failed,
        failed=books.failed,
        in_flight=books.started + books.extra - rows,
        outcomes={str(name): count for name, count in books.outcomes.items()},
        per_release=dict(books.releases),
        websocket=dataclasses.replace(books.websocket),
        running=running,
        failures=list(books.failures),
    )


def snapshot_from_dict(raw: dict[str, Any]) -> Snapshot:
    failures = [failure_from_dict(item) for item in raw["failures"]]
    return Snapshot(**{**raw, "websocket": WebSocketStats(**raw["websocket"]), "failures": failures})


def build_report(books: Books, stopped_at: float, because: str, client_cpu_share: float) -> Report:
    """Close the books. Raises `LoadError` if a started request has no row: then no number could be trusted."""
    records = books.records
    if len(records) != books.started + books.extra:
        raise LoadError(f"bug in the load client: {books.started} requests started, {len(records)} rows")
    ended_at = max(stopped_at, max(records.columns["end"], default=0.0))
    seconds = max(stopped_at - books.started_at, 1e-6)
    paced = {index for index, stream in enumerate(books.mix.streams) if stream.share}
    columns = records.columns
    late = [s * 1000 for s, stream in zip(columns["late"], columns["stream"], strict=True) if stream in paced]
    return Report(
        requests=len(records),
        failed=books.failed,
        failures=books.failures,
        outcomes={str(name): count for name, count in books.outcomes.items()},
        longest_gap_ms=longest_gap_ms(records, books.started_at, stopped_at),
        per_release=_answered_by(records, "release"),
        per_instance=_answered_by(records, "instance"),
        per_kind=_stream_stats(records),
        websocket=books.websocket,
        paced=PacedStats(
            books.mix.rate,
            books.paced_due,
            books.paced_started,
            round(books.paced_started / seconds, 2),
            _quantile(late, 0.99),
            max(late, default=0.0),
        ),
        rate=round(len(records) / seconds, 2),
        stale_retries=books.stale_retries,
        idle_closes=books.idle_closes,
        started_at=books.started_at,
        stopped_at=stopped_at,
        ended_at=ended_at,
        stopped_because=because,
        client_cpu_share=client_cpu_share,
        marks=dict(books.marks),
        records=records,
    )


def longest_gap_ms(records: Records, since: float, until: float) -> float:
    """Longest time without a successful completion within [since, until], both ends included."""
    ends = sorted(end for _, end, _ in records.successes() if since <= end <= until)
    moments = [since, *ends, until]
    return max(after - before for before, after in itertools.pairwise(moments)) * 1000


def _answered_by(records: Records, column: str) -> dict[str, int]:
    c = records.columns
    ids = Counter(name for name, status in zip(c[column], c["status"], strict=True) if status)
    return {records.names[name]: count for name, count in ids.items()}


def _stream_stats(records: Records) -> dict[str, StreamStats]:
    rows = Counter(records.columns["stream"])
    times: dict[int, list[float]] = {index: [] for index in range(len(records.streams))}
    for stream, _, seconds in records.successes():
        times[stream].append(seconds * 1000)
    return {
        label: StreamStats(
            rows[index],
            rows[index] - len(times[index]),
            _quantile(times[index], 0.5),
            _quantile(times[index], 0.99),
            max(times[index], default=0.0),
        )
        for index, label in enumerate(records.streams)
    }


def _quantile(values: list[float], quantile: float) -> float:
    """Nearest rank; 0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]
