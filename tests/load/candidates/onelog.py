"""What a kill may not change: the session of a canary, compared with two that nobody interrupted.

One is told the same at the same times, but the requests are those of the log: it knows the same, in each number. The
other one reads the log in one go: it says the same, and knows the same when no line came late.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import msgspec

from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.judge_record import RecordFiles
from nself_deploy.app.judging import session_key
from nself_deploy.core import record_lines
from nself_deploy.core.canary import Session
from nself_deploy.core.evidence import Request
from nself_deploy.core.log_clock import Tick
from nself_deploy.core.log_line import LineReader, Rules
from nself_deploy.core.log_moves import Move
from nself_deploy.core.recorder import opened, told
from nself_deploy.core.verdict import Judge
from tests.real.stack import Stack

CLOSE, LATE_S = 0.2, 1.0
"""Evidence and times of the one that reads in one go may be apart by so much: it is asked at other times."""


@dataclass(frozen=True)
class Kept:
    """What is there of a canary that is under way."""

    session: Session
    record: tuple[record_lines.AnyLine, ...]
    """What its judge was told and said since it began."""
    log: bytes
    """Up to where it was read."""


def parked_session(stack: Stack) -> Session:
    """What is known of the canary that is under way."""
    return _parked(stack)[1]


def _parked(stack: Stack) -> tuple[str, Session]:
    with closing(Journal.open(stack.root, create=False)) as journal:
        run = journal.all_unfinished()[0].id
        text = journal.meta(session_key(run))
    return run, msgspec.json.decode(text, type=Session)


def kept(stack: Stack) -> Kept:
    """All of it, as it is now."""
    run, session = _parked(stack)
    path = stack.root / ".nself/router/log/access.log"
    assert path.stat().st_ino == session.position.inode, "the log was rotated meanwhile"
    record = (RecordFiles(stack.root).read(run) or b"")[: session.recorded]
    return Kept(session, lines_of(record), path.read_bytes()[: session.position.offset])


def lines_of(record: bytes) -> tuple[record_lines.AnyLine, ...]:
    """A record's lines from where its last judge began."""
    found = [record_lines.decoded(line) for line in record.splitlines(keepends=True)]
    begun = [number for number, line in enumerate(found) if isinstance(line, record_lines.Begun)]
    return tuple(found[begun[-1] :]) if begun else ()


def differences(stack: Stack) -> list[str]:
    """What the killed and resumed judge knows otherwise than one that was never interrupted, in words."""
    return compared(kept(stack))


def compared(of: Kept) -> list[str]:
    """The same of what is at hand."""
    killed, found = of.session.judge, twice_or_never(of)
    if of.session.began + killed.now > time.time():
        found.append(f"it is {killed.now:.1f} s later for the judge than by the clock")
    if not of.record:
        return found
    same, late_s = told_the_same(of)
    found += _unlike(_said(killed) | _known(killed), _said(same) | _known(same), "told the same")
    if not found and msgspec.json.decode(msgspec.json.encode(same), type=Judge) != killed:
        found.append("what is known after kills is not what one knows that was told the same")
    return found + _unlike_one_go(killed, uninterrupted(of), late_s)


def _unlike_one_go(killed: Judge, other: Judge, late_s: float) -> list[str]:
    """What one that reads the log in one go says otherwise.

    When lines came late, it takes them at other times than whoever read the log meanwhile: it may know less at the end,
    but does not say anything else. That each number is right is known from the one that is told the same.
    """
    who = "that reads in one go"
    if late_s > 0.0:
        return [] if other.decision is None else _unlike(_said(killed), _said(other), who)
    found = _unlike(_said(killed) | _counts(killed), _said(other) | _counts(other), who)
    times = [j.decision.at * CLOSE / LATE_S if j.decision else 0.0 for j in (killed, other)]
    mine = {**_evidence(killed), "time of the decision": times[0]}
    theirs = {**_evidence(other), "time of the decision": times[1]}
    return found + [
        f"evidence ({name}): {mine[name]!r} after kills, {theirs[name]!r} of one {who}"
        for name in mine
        if abs(mine[name] - theirs[name]) > CLOSE
    ]


def told_the_same(of: Kept) -> tuple[Judge, float]:
    """A judge that nobody killed: it is told the same at the same times, but of the requests that are in the log.

    Second: by how much a line came too late at most. A line is in the log later than its time on a busy machine, and
    who knows already that it is later takes it as answered then.
    """
    begun, *lines = of.record
    assert isinstance(begun, record_lines.Begun)
    fresh = opened(begun, of.session.salt)
    requests = iter([r for r in _logged(of, _moves_of_then(of.session)) if 0.0 < r.share < 1.0])
    newest = late_s = 0.0
    for line in lines:
        if isinstance(line, record_lines.Requests):
            for request in islice(requests, len(line.times) if 0.0 < line.share < 1.0 else 0):
                newest = max(newest, request.at)
                late_s = max(late_s, fresh.judge.now - newest)
                fresh.feed((request,))
        elif isinstance(line, record_lines.Told):
            told(fresh, line)
    fresh.feed(tuple(requests))
    return fresh.judge, late_s


def uninterrupted(of: Kept) -> Judge:
    """A judge for the same deployment that reads the log in one go, and knows the moves of when the other one judged.

    What is close to a move of afterwards, such as the one that took the candidate's users away, was read before that
    was known.
    """
    session, moves = of.session, _moves_of_then(of.session)
    judge = session.judge
    fresh = Session.begin(
        Judge.begin(judge.settings, tuple(judge.routes), _cuts(judge)),
        session.candidate,
        session.began,
        session.salt,
        session.position,
        list(moves),
    )
    fresh.feed(_logged(of, moves))
    fresh.judge.advance(judge.now)
    return fresh.judge


def _moves_of_then(session: Session) -> tuple[Move, ...]:
    """The moves that were made while it judged."""
    return tuple(move for move in session.moves if move.since - session.began <= session.judge.now)


def _logged(of: Kept, moves: Sequence[Move]) -> tuple[Request, ...]:
    """The requests in the log, as these moves say."""
    session = of.session
    rules = Rules(session.candidate, tuple(moves), session.began, session.salt, *_cuts(session.judge)[-1:])
    return LineReader(rules).read(of.log, Tick(time.time(), time.monotonic())).requests


def _cuts(judge: Judge) -> tuple[float, ...]:
    return () if judge.latency is None or judge.latency.late else judge.latency.cuts


def twice_or_never(of: Kept) -> list[str]:
    """Requests that a kill let be told twice, or not at all, in words: how many.

    What is close to a move counts as it was when it was read: the move may not have been known then.
    """
    session, routes = of.session, tuple(of.session.judge.routes)
    lines = (line for line in of.record if isinstance(line, record_lines.Requests))
    recorded = _shared(r for line in lines for r in record_lines.unpacked(line, session.began, routes))
    certain = _shared(_logged(of, session.moves))
    most = Counter[tuple[object, ...]]()
    for known in range(1, len(session.moves) + 1):
        most |= _shared(_logged(of, session.moves[:known]))
    twice, never = (recorded - most).total(), (certain - recorded).total()
    found = [f"{twice} of {recorded.total()} requests were told twice, or are not in the log"] if twice else []
    found += [f"{never} of {certain.total()} requests in the log were never told"] if never else []
    return found + ([] if recorded else ["no request is in the record"])


def _shared(requests: Iterable[Request]) -> Counter[tuple[object, ...]]:
    """Requests under a share; the record has no more of them than this."""
    known = ((r.at, r.client, r.candidate, r.failed, r.share) for r in requests if 0.0 < r.share < 1.0)
    return Counter(known)


def _unlike(mine: dict[str, object], theirs: dict[str, object], who: str) -> list[str]:
    return [
        f"{name}: {value} after kills, {theirs[name]} of one {who}"
        for name, value in mine.items()
        if value != theirs[name]
    ]


def _said(judge: Judge) -> dict[str, object]:
    return {"decision": (judge.decision.verdict, judge.decision.reason) if judge.decision else None}


def _known(judge: Judge) -> dict[str, object]:
    return {**_counts(judge), **_evidence(judge), "time": judge.decision.at if judge.decision else judge.now}


def _counts(judge: Judge) -> dict[str, object]:
    comparison = judge.overall.comparison
    return {
        "requests": judge.requests,
        "clients that failed": (comparison.candidate, comparison.live),
        "trials": (judge.trials.requests, judge.trials.failed),
    }


def _evidence(judge: Judge) -> dict[str, float]:
    """Logarithms."""
    return {
        "errors": judge.overall.comparison.mixture.log_value,
        "objective": judge.absolute.log_value,
        "proof": judge.log_proof(judge.settings.slo_error_rate),
        "split": judge.split.log_value,
    }
