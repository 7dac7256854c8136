"""What a canary's judge was told and what it said, as lines of JSON: one short array each, its first word says what.

Requests of one look are one line, in columns: when each was answered (milliseconds since the one before it, the first
one since the candidate got its first share; a number with a point is a time itself, in seconds), clients, marks (1 for
the candidate, 2 for a failure, 3 for both), and what else the judge goes by. All numbers are read again exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

import msgspec

from nself_deploy.core.analysis import Analysis
from nself_deploy.core.canary import Consent, Way
from nself_deploy.core.evidence import Decision, Request, Trouble, Verdict
from nself_deploy.core.log_moves import Move
from nself_deploy.core.metrics import Metric, Reading
from nself_deploy.core.model import Slot

FORM = 1
"""Version of these lines."""
LIMIT = 32 << 20
"""Bytes that a record may have: about 1.5 million requests."""


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One line."""


class Begun(Line, frozen=True, array_like=True, tag="begin"):
    """A judge begins, with all that it is made of; a later one of a run begins anew."""

    form: int
    rules: int
    """Version of the judge's rules."""
    settings: Analysis
    routes: tuple[str, ...]
    cuts: tuple[float, ...]
    candidate: Slot
    began: float
    """Seconds since 1970; all other times of the record count from here."""
    moves: tuple[Move, ...]
    consent: Consent | None = None
    metrics: tuple[Metric, ...] = ()


class Requests(Line, frozen=True, array_like=True, tag="r"):
    """Requests that were answered under one share."""

    share: float
    times: list[int | float]
    clients: list[int]
    marks: str
    routes: list[int] = []
    """Which of the judge's routes, -1 for another one; empty when it has none."""
    seconds: list[float | None] = []
    """Empty when times are not compared."""


class Incident(Line, frozen=True, array_like=True, tag="incident"):
    """A container broke down, or requests wait for the candidate."""

    at: float
    candidate: bool
    trouble: Trouble
    container: str
    detail: str = ""


class Fault(Line, frozen=True, array_like=True, tag="fault"):
    """The measurement can't be trusted any more."""

    at: float
    reason: str


class Time(Line, frozen=True, array_like=True, tag="t"):
    """It is this time."""

    at: float


class Measured(Line, frozen=True, array_like=True, tag="metric"):
    """A metric was asked for, and this was the answer."""

    at: float
    name: str
    reading: Reading


class Clock(Line, frozen=True, array_like=True, tag="clock"):
    """The clock was set: times count from here now (seconds since 1970)."""

    began: float


class Entered(Line, frozen=True, array_like=True, tag="enter"):
    """A share begins to be judged, or goes on to be."""

    at: float
    hold_s: float


class Moving(Line, frozen=True, array_like=True, tag="move"):
    """The router is about to get this split (a name, such as blue-green-10)."""

    split: str
    now: float


class Moved(Line, frozen=True, array_like=True, tag="moved"):
    """It has it."""

    split: str
    now: float


class Consented(Line, frozen=True, array_like=True, tag="consent"):
    """A person moves it on; none: that was done."""

    consent: Consent | None


class Baking(Line, frozen=True, array_like=True, tag="bake"):
    """The bake begins."""

    seconds: float
    began_s: float


class Looked(Line, frozen=True, array_like=True, tag="way"):
    """What was decided at this time about a share that is kept for `hold_s`, and why."""

    at: float
    hold_s: float
    next_percent: int
    way: Way = Way.WAIT
    reason: str = ""


class Asked(Line, frozen=True, array_like=True, tag="asked"):
    """A person asked for the next share: whether it was shown to be good enough."""

    next_percent: int
    good: bool = False


class Known(Line, frozen=True, array_like=True, tag="known"):
    """The verdict, and the evidence (natural logarithms) that it rests on."""

    verdict: Verdict = Verdict.INCONCLUSIVE
    requests: tuple[int, ...] = ()
    """Of candidate and live slot, then failed ones."""
    errors: float = 0.0
    later: float | None = None
    objective: float = 0.0
    proof: float = 0.0
    split: float = 0.0
    decision: Decision | None = None
    metrics: Verdict | None = None
    """What metrics of the user's own say; None without any."""


class Baked(Line, frozen=True, array_like=True, tag="baked"):
    """The same of a bake."""

    verdict: Verdict = Verdict.INCONCLUSIVE
    requests: int = 0
    failed: int = 0
    objective: float = 0.0
    decision: Decision | None = None


class Full(Line, frozen=True, array_like=True, tag="full"):
    """What came after this was not recorded: the record has its `LIMIT`."""


class Ended(Line, frozen=True, array_like=True, tag="end"):
    """The run has ended, and all was recorded."""


Steering = Clock | Entered | Moving | Moved | Consented | Baking
"""What is done with a canary."""
Told = Incident | Fault | Time | Measured | Steering
"""What a judge is told, beside requests."""
Said = Looked | Asked | Known | Baked
"""What it says."""
AnyLine = Begun | Requests | Told | Said | Full | Ended

_DECODER: msgspec.json.Decoder[AnyLine] = msgspec.json.Decoder(AnyLine)
_ENCODER = msgspec.json.Encoder()


def encoded(lines: Iterable[AnyLine]) -> bytes:
    """Lines as bytes, each with its newline."""
    return _ENCODER.encode_lines(lines)


def decoded(line: bytes) -> AnyLine:
    """One line.

    Raises:
        ValueError: it is none.
    """
    return _DECODER.decode(line)


def packed(requests: Iterable[Request], began: float, routes: tuple[str, ...], *, timed: bool) -> Iterator[Requests]:
    """Requests as lines, in their order. With all of the traffic neither routes nor times are compared.

    Args:
        requests: what was read of the log.
        began: what their times count from, in seconds since 1970.
        routes: those that are judged by themselves.
        timed: whether times are compared.
    """
    known = {route: number for number, route in enumerate(routes)}
    for share, group in groupby(requests, key=attrgetter("share")):
        found, compared = list(group), share < 1.0
        yield Requests(
            share,
            _times(found, began),
            [r.client for r in found],
            "".join(["0123"[r.candidate + 2 * r.failed] for r in found]),
            [known.get(r.route, -1) for r in found] if known and compared else [],
            [r.seconds for r in found] if timed and compared else [],
        )


def _times(requests: list[Request], began: float) -> list[int | float]:
    """The log has milliseconds since 1970: differences of those are short. What isn't exact that way stays as it is."""
    times: list[int | float] = []
    last = round(began * 1000)
    for request in requests:
        at = request.at
        stamp = round((at + began) * 1000)
        if stamp / 1000 - began == at:
            times.append(stamp - last)
            last = stamp
        else:
            times.append(at)
    return times


def unpacked(line: Requests, began: float, routes: tuple[str, ...]) -> tuple[Request, ...]:
    """The requests of a line; see `packed`.

    Raises:
        ValueError: its columns don't fit.
    """
    count, names = len(line.times), (*routes, "")
    if not all(len(column) == count for column in (line.clients, line.marks, line.routes or line.clients)):
        raise ValueError("columns of different lengths")
    if len(line.seconds or line.clients) != count or not set(line.routes) <= set(range(-1, len(routes))):
        raise ValueError("columns that don't fit")
    found, last = [], round(began * 1000)
    for number, (time, client, mark) in enumerate(zip(line.times, line.clients, line.marks, strict=True)):
        if isinstance(time, int):
            last += time
            at = last / 1000 - began
        else:
            at = time
        marks = "0123".index(mark)
        route = names[line.routes[number]] if line.routes else ""
        seconds = line.seconds[number] if line.seconds else None
        found.append(Request(at, client, marks in (1, 3), marks > 1, line.share, route, seconds))
    return tuple(found)
