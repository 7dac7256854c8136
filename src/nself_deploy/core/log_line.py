"""Lines of the router's access log (`nginx_names.LOG_FIELDS`) as requests that a judge takes.

A request belongs to the slot that it was given, and so does the first answer: what another server made of it
afterwards does not count. It failed if that answer has a status of 500 or more (a refused or broken connection has 502,
a time-out 504), or if there was none. A client that went away (499) before there was an answer is a failure when it had
waited longer than `patience_s`, and says nothing when it had not. The router's own probes are not in the log.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import Counter
from enum import Enum, auto
from functools import lru_cache
from typing import Annotated

import msgspec

from nself_deploy.core.evidence import Request
from nself_deploy.core.log_clock import LogClock, Tick
from nself_deploy.core.log_moves import Move, Spell, spells
from nself_deploy.core.model import Slot
from nself_deploy.core.nginx_flags import ASKED

LINE_LIMIT = 64 << 10
"""Bytes; nginx writes less than a tenth of that."""
PATIENCE_S = 1.0
_CLIENTS = 1 << 16
_BROKEN, _CLIENT_LEFT, _SWITCHED = 500, "499", 101
_FIRST = re.compile(r"([0-9]{1,3}|-)(?:(?:, | : ).*)?", re.DOTALL)
_LONGEST_S = 1e7
_SLOTS = frozenset(slot.value for slot in Slot)
_ENOUGH, _MANY = 20, 200


class Rules(msgspec.Struct, frozen=True):
    """How the lines of one deployment are read."""

    candidate: Slot
    moves: tuple[Move, ...]
    """The split that was in force before, and all that followed."""
    began: float = 0.0
    """When the candidate got its first share of the traffic (seconds since the epoch)."""
    salt: str = ""
    """A word of this deployment."""
    patience_s: float = PATIENCE_S
    """The highest cut point of the live slot's times, if they are compared."""


class Other(Enum):
    """A line that is no request for the judge."""

    NOT_OURS = auto()
    """It has nothing to do with these two slots, or says nothing about them."""
    AT_A_MOVE = auto()
    """It could have met the split before the move or the one after it."""
    CONTRADICTS = auto()
    """It went to a slot that the split in force does not send it to."""
    NOT_UNDERSTOOD = auto()


class Line(msgspec.Struct, frozen=True, gc=False):
    """What is needed of a line."""

    time: Annotated[float, msgspec.Meta(ge=0, le=1e10)]
    slot: str
    route: str
    bucket: str
    client: str
    status: str
    request_time: Annotated[float, msgspec.Meta(ge=0, le=_LONGEST_S)]
    upstream_status: str
    upstream_response_time: str


class Batch(msgspec.Struct, frozen=True):
    """What some lines gave; see `LogRead`."""

    requests: tuple[Request, ...]
    skipped: int = 0
    skipped_bytes: int = 0
    problem: str = ""


_DECODER = msgspec.json.Decoder(Line)
_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class LineReader:
    """Reads lines in the order in which they were written; remembers what it needs for that."""

    def __init__(self, rules: Rules) -> None:
        self._clock = LogClock()
        self._clients: dict[str, int] = {}
        self._fitting = self._contradicting = 0
        self.follow(rules)

    def follow(self, rules: Rules) -> None:
        """From now on, these are the rules."""
        self._rules = rules
        self._clients.clear()
        self._salted = hashlib.blake2b(f"{rules.salt} ".encode(), digest_size=4)
        self._spells = spells(rules.moves, rules.candidate)
        self._spell = self._spells[-1] if self._spells else Spell(0.0, 0.0, 0.0, {})

    def read(self, data: bytes, now: Tick) -> Batch:
        """Whole lines, each with its newline, that were read at this moment."""
        requests: list[Request] = []
        others: Counter[Other] = Counter()
        skipped_bytes = start = 0
        while start < len(data):
            end = data.rfind(b"\n", start, start + LINE_LIMIT) + 1 or data.find(b"\n", start) + 1 or len(data)
            if end - start > LINE_LIMIT:
                others[Other.NOT_UNDERSTOOD] += 1
                skipped_bytes += end - start
            else:
                skipped_bytes += self._piece(data[start:end], requests, others)
            start = end
        problem = self._clock.looked(now) or self._split_problem(len(requests), others[Other.CONTRADICTS])
        return Batch(() if problem else tuple(requests), others[Other.NOT_UNDERSTOOD], skipped_bytes, problem)

    def line(self, line: bytes) -> Request | Other:
        """One line."""
        try:
            return self._request(_DECODER.decode(line))
        except _NOT_JSON:
            return Other.NOT_UNDERSTOOD

    def _piece(self, piece: bytes, requests: list[Request], others: Counter[Other]) -> int:
        """Some lines; the bytes of those that were not understood. One by one only when there are such."""
        texts = piece.removesuffix(b"\n").split(b"\n")
        try:
            lines = list(map(_DECODER.decode, texts))
        except _NOT_JSON:
            return self._one_by_one(texts, requests, others)
        found = [self._request(line) for line in lines]
        good = [one for one in found if type(one) is Request]
        odd = [one for one in found if isinstance(one, Other)] if len(good) < len(found) else []
        if Other.NOT_UNDERSTOOD in odd:
            return self._one_by_one(texts, requests, others)
        self._clock.lines([line.time for line in lines])
        requests += good
        others.update(odd)
        return 0

    def _one_by_one(self, texts: list[bytes], requests: list[Request], others: Counter[Other]) -> int:
        skipped = 0
        for text in texts:
            try:
                line = _DECODER.decode(text)
            except _NOT_JSON:
                found: Request | Other = Other.NOT_UNDERSTOOD
            else:
                found = self._request(line)
                if found is not Other.NOT_UNDERSTOOD:
                    self._clock.lines((line.time,))
            if found is Other.NOT_UNDERSTOOD:
                skipped += len(text) + 1
            if isinstance(found, Other):
                others[found] += 1
            else:
                requests.append(found)
        return skipped

    def _request(self, line: Line) -> Request | Other:
        spell, began = self._spell, line.time - line.request_time
        if not spell.since <= began < spell.until:
            spell = self._spell_at(began)
        candidate = spell.sides.get(line.slot + line.bucket)
        if candidate is None or not line.route:
            return _misplaced(line, spell)
        first, seconds = first_status(line.upstream_status), first_seconds(line.upstream_response_time)
        if first < 0 or seconds < 0.0:
            return Other.NOT_UNDERSTOOD
        failed = first >= _BROKEN
        if not first:
            waited = line.request_time if seconds > _LONGEST_S else seconds
            if not self._left_without(line.status, waited):
                return Other.NOT_OURS
            failed = True
        client = self._clients.get(line.client)
        if client is None and (client := self._numbered(line.client)) is None:
            return Other.NOT_UNDERSTOOD
        known = seconds if not failed and first != _SWITCHED and seconds <= _LONGEST_S else None
        at = line.time - self._rules.began
        return Request(max(0.0, at), client, candidate, failed, spell.share, line.route, known)

    def _left_without(self, status: str, waited: float) -> bool:
        """Whether a request without an answer of the slot is the slot's fault: not if its client broke it off."""
        if status == _CLIENT_LEFT:
            return waited > self._rules.patience_s
        return not status.startswith("4")

    def _spell_at(self, time: float) -> Spell:
        for spell in reversed(self._spells):
            if spell.since <= time < spell.until:
                self._spell = spell
                return spell
        return _NO_SPELL

    def _numbered(self, client: str) -> int | None:
        """The number of a client's pseudonym, whose bits are even; None if that is none."""
        if len(client) != 6 or not (client.isascii() and client.isdigit()):
            return None
        if len(self._clients) >= _CLIENTS:
            self._clients.clear()
        hashed = self._salted.copy()
        hashed.update(client.encode())
        number = self._clients[client] = int.from_bytes(hashed.digest())
        return number

    def _split_problem(self, fitting: int, contradicting: int) -> str:
        """What is wrong when most lines went elsewhere than the split in force says."""
        self._fitting += fitting
        self._contradicting += contradicting
        known, wrong = self._fitting + self._contradicting, self._contradicting
        if known > _MANY or (wrong >= _ENOUGH and 2 * wrong > known):
            self._fitting = self._contradicting = 0
        if wrong < _ENOUGH or 2 * wrong <= known:
            return ""
        return f"{wrong} of {known} requests went to another slot than the split sends them to"


def lines_of(data: bytes) -> list[Line]:
    """The lines that can be understood."""
    found = []
    for text in data.splitlines():
        with contextlib.suppress(*_NOT_JSON):
            found.append(_DECODER.decode(text))
    return found


_NO_SPELL = Spell(0.0, 0.0, 0.0, {})


def _misplaced(line: Line, spell: Spell) -> Other:
    """Why a line has no side."""
    if not line.route or not line.slot or line.bucket in ASKED:
        return Other.NOT_OURS
    if line.slot not in _SLOTS or not (len(line.bucket) == 2 and line.bucket.isascii() and line.bucket.isdigit()):
        return Other.NOT_UNDERSTOOD
    if spell is _NO_SPELL:
        return Other.AT_A_MOVE
    return Other.CONTRADICTS if any(side.startswith(line.slot) for side in spell.sides) else Other.NOT_OURS


@lru_cache(maxsize=1024)
def first_status(statuses: str) -> int:
    """The first of `502, 200` or `302 : 200`; 0 for `-`, which is none; -1 for something else."""
    found = _FIRST.fullmatch(statuses)
    if not found:
        return -1
    return 0 if found[1] == "-" else int(found[1])


def first_seconds(times: str) -> float:
    """The first of `0.012, 0.001`; infinite for `-` or nothing, which are not known; negative for something else."""
    try:
        seconds = float(times)
    except ValueError:
        first = times.partition(", ")[0].partition(" : ")[0]
        if first in ("-", ""):
            return float("inf")
        try:
            seconds = float(first)
        except ValueError:
            return -1.0
    return seconds if 0.0 <= seconds <= _LONGEST_S else -1.0
