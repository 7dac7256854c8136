"""A canary's session whose calls are written down, so that all that was decided can be recomputed from them.

What happens and what is recomputed later is one function (`told`): the session that is judged is told of things by the
very lines that go into its record.
"""

from __future__ import annotations

from nself_deploy.core import record_lines as lines
from nself_deploy.core.canary import Consent, Session, Way, explained, new_bake, proved, way
from nself_deploy.core.evidence import Incident, Request
from nself_deploy.core.log_position import LogPosition
from nself_deploy.core.metrics_judge import MetricsJudge
from nself_deploy.core.model import Split
from nself_deploy.core.verdict import Judge

_LEAST = -1e6
"""Evidence that is less is recorded as this: JSON knows no infinity."""


def opened(line: lines.Begun, salt: str = "", position: LogPosition | None = None) -> Session:
    """The session that begins with this line."""
    judge = Judge.begin(line.settings, line.routes, line.cuts)
    at = position or LogPosition()
    session = Session.begin(judge, line.candidate, line.began, salt, at, list(line.moves))
    session.consent = line.consent
    session.metrics = MetricsJudge.begin(line.metrics) if line.metrics else None
    return session


def told(session: Session, line: lines.Told | lines.Said) -> lines.Told | lines.Said:
    """Tell a session of something, or ask it; the line as it is then recorded: with the answer, if it is a question.

    Raises:
        ValueError: there is no such split.
    """
    if isinstance(line, lines.Said):
        return _asked(session, line)
    if isinstance(line, lines.Steering):
        _steer(session, line)
        return line
    judge, metrics = session.judge if session.bake is None else session.bake, session.metrics
    match line:
        case lines.Time(at):
            judge.advance(at)
            if metrics is not None and session.bake is None:
                metrics.advance(at)
        case lines.Measured(at, name, reading) if metrics is not None:
            metrics.measured(name, at, reading)
        case lines.Incident(at, candidate, trouble, container, detail):
            judge.incident_seen(Incident(at, candidate, trouble, container, detail))
        case lines.Fault(at, reason):
            session.judge.fault(at, reason)
    return line


def _steer(session: Session, line: lines.Steering) -> None:
    match line:
        case lines.Clock(began):
            session.began = began
        case lines.Entered(at, hold_s):
            session.enter(at, hold_s)
        case lines.Moving(split, now):
            session.moves_to(Split.parse(split), now)
        case lines.Moved(split, now):
            session.moved_to(Split.parse(split), now)
        case lines.Consented(consent):
            session.consent = consent
        case lines.Baking(seconds, began_s):
            session.bake = new_bake(session.judge.settings, session.judge, seconds)
            session.bake_began_s = began_s


def _asked(session: Session, line: lines.Said) -> lines.Said:
    match line:
        case lines.Looked(at, hold_s, next_percent):
            return lines.Looked(at, hold_s, next_percent, *way(session, hold_s, next_percent, at))
        case lines.Asked(next_percent):
            return lines.Asked(next_percent, proved(session, next_percent))
    return known(session)


def known(session: Session) -> lines.Known | lines.Baked:
    """What is known at this moment."""
    bake = session.bake
    if bake is not None:
        return lines.Baked(
            bake.verdict, bake.requests, bake.failed, max(_LEAST, bake.absolute.log_value), bake.decision
        )
    found, judge = explained(session), session.judge
    return lines.Known(
        judge.verdict,
        tuple(judge.requests),
        found.log_errors,
        found.log_latency,
        found.log_objective,
        found.log_proof,
        found.log_split,
        judge.decision,
        session.metrics.verdict if session.metrics is not None else None,
    )


class Recorder:
    """A session, and the lines about it that are not written yet."""

    def __init__(self, session: Session, begun: lines.Begun | None = None) -> None:
        """A session that was written down, or one that begins with a line.

        One that was written down without a record goes on without.
        """
        self.session = session
        self._lines: list[lines.AnyLine] = [] if begun is None else [begun]
        if begun is None and not session.recorded:
            session.unrecorded = True

    def feed(self, requests: tuple[Request, ...]) -> None:
        """Requests, as they are read."""
        session = self.session
        if requests and not session.unrecorded:
            judge = session.judge
            timed = judge.latency is not None
            self._lines += lines.packed(requests, session.began, tuple(judge.routes), timed=timed)
        session.feed(requests)

    def tell(self, line: lines.Told) -> None:
        """Something that happens."""
        self._note(told(self.session, line))

    def incidents(self, found: list[Incident]) -> None:
        """What broke down, or waits."""
        for one in found:
            self.tell(lines.Incident(one.at, one.candidate, one.trouble, one.container, one.detail))

    def way(self, hold_s: float, next_percent: int, at: float) -> tuple[Way, str]:
        """Where it goes at this time, and why."""
        line = lines.Looked(at, hold_s, next_percent, *way(self.session, hold_s, next_percent, at))
        self._note(line)
        return line.way, line.reason

    def proved(self, next_percent: int) -> bool:
        """Whether it is shown to be good enough for its next share."""
        line = lines.Asked(next_percent, proved(self.session, next_percent))
        self._note(line)
        return line.good

    def consent(self, consent: Consent | None) -> None:
        """A person moves it on, or that was done."""
        self.tell(lines.Consented(consent))

    def taken(self) -> bytes:
        """The lines since the last time, with what is known now at their end; none when none are wanted."""
        found, self._lines = self._lines, []
        return b"" if self.session.unrecorded else lines.encoded([*found, known(self.session)])

    def _note(self, line: lines.AnyLine) -> None:
        if not self.session.unrecorded:
            self._lines.append(line)
