"""What a kill may not change: the session of a canary, compared with one that reads the same log in one go."""

from __future__ import annotations

import time
from contextlib import closing

import msgspec

from nself_deploy.adapters.journal import Journal
from nself_deploy.app.judging import session_key
from nself_deploy.core.canary import Session
from nself_deploy.core.log_clock import Tick
from nself_deploy.core.log_line import LineReader, Rules
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
    """A judge for the same deployment that nobody interrupted: it reads the log from its beginning to its end."""
    judge = session.judge
    cuts = () if judge.latency is None or judge.latency.late else judge.latency.cuts
    fresh = Session.begin(
        Judge.begin(judge.settings, tuple(judge.routes), cuts),
        session.candidate,
        session.began,
        session.salt,
        session.position,
        session.moves,
    )
    rules = Rules(session.candidate, tuple(session.moves), session.began, session.salt, *cuts[-1:])
    data = (stack.root / ".nself/router/log/access.log").read_bytes()
    now = Tick(time.time(), time.monotonic())
    fresh.feed(LineReader(rules).read(data[: data.rfind(b"\n") + 1], now).requests)
    fresh.judge.advance(judge.now)
    return fresh.judge


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
    return found + [
        f"evidence ({name}): {mine!r} after kills, {other!r} without"
        for name, (mine, other) in evidence.items()
        if abs(mine - other) > CLOSE
    ]
