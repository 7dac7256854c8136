"""What was seen, one compact row per request. Times are seconds of the machine's monotonic clock (CLOCK_MONOTONIC),
so rows of one process can be compared with moments taken in another."""

from __future__ import annotations

import base64
import sys
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple, Self


class Outcome(StrEnum):
    """How a request ended. Everything but `ok` is a failure."""

    OK = "ok"
    RESET = "reset"  # connection reset, or closed before any byte of an answer on a fresh connection
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"  # closed in the middle of the answer
    BAD_STATUS = "bad_status"
    BAD_BODY = "bad_body"  # not valid HTTP/1.1, not the expected content, or bytes that nobody asked for
    REFUSED = "refused"
    STALE = "unexpected_close_on_reused_connection"  # no byte of an answer on a reused keep-alive connection
    WEBSOCKET_ABNORMAL = "websocket_abnormal"  # ended without a close frame 1000/1001
    NOT_SENT = "not_sent"  # no free place within the limits: the server is too slow for the rate
    CLIENT_ERROR = "client_error"  # trouble of the client itself; counted as failed so that it cannot hide one


OUTCOMES: Final = tuple(Outcome)
NO_NAME: Final = ""
MAX_NAMES: Final = 1000
OTHER_NAME: Final = "(other)"
_COLUMNS: Final = {
    "start": "d", "end": "d", "sent": "f", "late": "f", "stream": "B",
    "outcome": "B", "status": "H", "release": "H", "instance": "H", "bytes": "I", "person": "H",
}  # fmt: skip


@dataclass(slots=True)
class Attempt:
    """One request under way; what is known so far."""

    stream: int
    start: float
    due: float = 0.0  # when it should have started; 0 when it was not paced
    sent: float = 0.0  # first byte of the request handed to the kernel; 0 if never
    end: float = 0.0
    status: int = 0
    release: str = NO_NAME
    instance: str = NO_NAME
    received: int = 0
    local_port: int = 0
    nth: int = 0  # position of the request on its connection, from 1
    person: int = 0  # which client asked, from 1; 0: not told apart


class Answer(NamedTuple):
    """One row, readable. `sent` is when the request's first byte left, `start` includes the time to connect."""

    stream: str
    outcome: Outcome
    start: float
    sent: float
    end: float
    late_s: float
    status: int
    release: str
    instance: str
    received: int
    person: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Details of one failed request. `at_s` counts from the start of the load, `at` is monotonic."""

    at_s: float
    at: float
    stream: str
    outcome: Outcome
    detail: str
    status: int
    release: str
    instance: str
    local_port: int
    received: int
    nth_on_connection: int
    took_s: float


@dataclass
class Records:
    """Columns of equal length; names of releases, instances and streams are interned."""

    streams: tuple[str, ...]
    names: list[str] = field(default_factory=lambda: [NO_NAME])
    columns: dict[str, Any] = field(default_factory=lambda: {name: array(code) for name, code in _COLUMNS.items()})

    def __post_init__(self) -> None:
        self._ids = {name: index for index, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.columns["start"])

    def name_id(self, name: str) -> int:
        """Index of a name; -1 is never returned: beyond `MAX_NAMES` different ones all are `(other)`."""
        known = self._ids.get(name)
        if known is not None:
            return known
        if len(self.names) >= MAX_NAMES:
            return self.name_id(OTHER_NAME) if OTHER_NAME in self._ids else self._intern(OTHER_NAME)
        return self._intern(name)

    def _intern(self, name: str) -> int:
        self._ids[name] = len(self.names)
        self.names.append(name)
        return self._ids[name]

    def add(self, attempt: Attempt, outcome: Outcome) -> None:
        c = self.columns
        c["start"].append(attempt.start)
        c["end"].append(attempt.end)
        c["sent"].append(attempt.sent - attempt.start if attempt.sent else -1.0)
        c["late"].append(max(0.0, attempt.start - attempt.due) if attempt.due else 0.0)
        c["stream"].append(attempt.stream)
        c["outcome"].append(_OUTCOME_ID[outcome])
        c["status"].append(min(attempt.status, 65535))
        c["release"].append(self.name_id(attempt.release))
        c["instance"].append(self.name_id(attempt.instance))
        c["bytes"].append(min(attempt.received, 0xFFFFFFFF))
        c["person"].append(attempt.person)

    def __iter__(self) -> Iterator[Answer]:
        c, names = self.columns, self.names
        rows = zip(*(c[name] for name in _COLUMNS), strict=True)
        for start, end, sent, late, stream, outcome, status, release, instance, size, person in rows:
            yield Answer(
                self.streams[stream], OUTCOMES[outcome], start, start + max(0.0, sent), end, late, status,
                names[release], names[instance], size, person,
            )  # fmt: skip

    def successes(self) -> Iterator[tuple[int, float, float]]:
        """(stream index, completion time, seconds from due to complete) of every request that was ok."""
        c, ok = self.columns, _OUTCOME_ID[Outcome.OK]
        for stream, outcome, start, end, late in zip(
            c["stream"], c["outcome"], c["start"], c["end"], c["late"], strict=True
        ):
            if outcome == ok:
                yield stream, end, end - start + late

    def to_dict(self) -> dict[str, Any]:
        packed = {
            name: base64.b64encode(zlib.compress(column.tobytes(), 1)).decode() for name, column in self.columns.items()
        }
        return {"streams": list(self.streams), "names": self.names, "byteorder": sys.byteorder, "columns": packed}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        columns = {}
        for name, code in _COLUMNS.items():
            column = array(code)
            column.frombytes(zlib.decompress(base64.b64decode(raw["columns"][name])))
            if raw["byteorder"] != sys.byteorder:
                column.byteswap()
            columns[name] = column
        if len({len(column) for column in columns.values()}) != 1:
            raise ValueError("load records: the columns differ in length")
        return cls(tuple(raw["streams"]), list(raw["names"]), columns)


_OUTCOME_ID: Final = {outcome: index for index, outcome in enumerate(OUTCOMES)}
