"""What a kill may not change: the session of a canary, compared with one that reads the same log in one go."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing

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
from nself_deploy.core.verdict import Judge
from tests.real.stack import Stack

CLOSE, LATE_S = 0.2, 1.0
"""Evidence and times may be apart by so much: on a busy machine a line is in the log later than its time, and whoever
read the log in the meantime takes it as answered then."""


def parked_session(stack: Stack) -> Session:
    """What is known of the canary that is under way."""
    with closing(Journal.open(stack.root, create=False)) as journal:
        text = journal.meta(session_key(journal.all_unfinished()[0].id))
    return msgspec.json.decode(text, type=Session)


def uninterrupted(stack: Stack, session: Session) -> Judge:
    """A judge for the same deployment that nobody interrupted: it reads the log in one go.

    It knows the moves that were made while the other one judged. What is close to a move of afterwards, such as the one
    that took the candidate's users away, was read before that was known.
    """
    judge = session.judge
    moves = [move for move in session.moves if move.since - session.began <= judge.now]
    fresh = Session.begin(
        Judge.begin(judge.settings, tuple(judge.routes), _cuts(judge)),
        session.candidate,
        session.began,
        session.salt,
        session.position,
        moves,
    )
    fresh.feed(_logged(stack, session, moves))
    fresh.judge.advance(judge.now)
    return fresh.judge


def _logged(stack: Stack, session: Session, moves: Sequence[Move]) -> tuple[Request, ...]:
    """The requests in the log, as these moves say, up to where the session read it."""
    rules = Rules(session.candidate, tuple(moves), session.began, session.salt, *_cuts(session.judge)[-1:])
    path = stack.root / ".nself/router/log/access.log"
    assert path.stat().st_ino == session.position.inode, "the log was rotated meanwhile"
    data = path.read_bytes()[: session.position.offset]
    return LineReader(rules).read(data, Tick(time.time(), time.monotonic())).requests


def _cuts(judge: Judge) -> tuple[float, ...]:
    return () if judge.latency is None or judge.latency.late else judge.latency.cuts


def _recorded(stack: Stack, session: Session) -> list[Request]:
    """The requests that the judge was told of, by its record."""
    with closing(Journal.open(stack.root, create=False)) as journal:
        data = RecordFiles(stack.root).read(journal.all_unfinished()[0].id) or b""
    found = map(record_lines.decoded, data[: session.recorded].splitlines(keepends=True))
    routes = tuple(session.judge.routes)
    requests = (record_lines.unpacked(r, session.began, routes) for r in found if isinstance(r, record_lines.Requests))
    return [request for some in requests for request in some]


def twice_or_never(stack: Stack, session: Session) -> list[str]:
    """Requests that a kill let be told twice, or not at all, in words: how many.

    What is close to a move counts as it was when it was read: the move may not have been known then.
    """
    told = _shared(_recorded(stack, session))
    certain = _shared(_logged(stack, session, session.moves))
    most = Counter[tuple[object, ...]]()
    for known in range(1, len(session.moves) + 1):
        most |= _shared(_logged(stack, session, session.moves[:known]))
    twice, never = (told - most).total(), (certain - told).total()
    found = [f"{twice} of {told.total()} requests were told twice, or are not in the log"] if twice else []
    found += [f"{never} of {certain.total()} requests in the log were never told"] if never else []
    return found + ([] if told else ["no request is in the record"])


def _shared(requests: Iterable[Request]) -> Counter[tuple[object, ...]]:
    """Requests under a share; the record has no more of them than this."""
    known = ((r.at, r.client, r.candidate, r.failed, r.share) for r in requests if 0.0 < r.share < 1.0)
    return Counter(known)


def differences(stack: Stack) -> list[str]:
    """What the killed and resumed judge says otherwise than one that was never interrupted, in words."""
    session = parked_session(stack)
    killed, fresh = session.judge, uninterrupted(stack, session)
    told = {
        "decision": tuple((j.decision.verdict, j.decision.reason) if j.decision else None for j in (killed, fresh)),
        "requests": (killed.requests, fresh.requests),
        "clients that failed": tuple(
            (j.overall.comparison.candidate, j.overall.comparison.live) for j in (killed, fresh)
        ),
        "trials": tuple((j.trials.requests, j.trials.failed) for j in (killed, fresh)),
    }
    found = [f"{name}: {mine} after kills, {other} without" for name, (mine, other) in told.items() if mine != other]
    evidence = {
        "time of the decision": tuple(j.decision.at * CLOSE / LATE_S if j.decision else 0.0 for j in (killed, fresh)),
        "errors": tuple(j.overall.comparison.mixture.log_value for j in (killed, fresh)),
        "objective": tuple(j.absolute.log_value for j in (killed, fresh)),
        "proof": tuple(j.log_proof(j.settings.slo_error_rate) for j in (killed, fresh)),
        "split": tuple(j.split.log_value for j in (killed, fresh)),
    }
    found += twice_or_never(stack, session)
    return found + [
        f"evidence ({name}): {mine!r} after kills, {other!r} without"
        for name, (mine, other) in evidence.items()
        if abs(mine - other) > CLOSE
    ]
