"""A canary while it is judged: all that must survive of it, as one value; and what follows from what is known.

Times ending in `_s` are seconds since the candidate got its first share, by the clock that the access log goes by.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from nself_deploy.core.acceptance import FAR, MIN_CLIENTS, needed_rate
from nself_deploy.core.analysis import Analysis, Mode, OnInconclusive
from nself_deploy.core.bake import Bake
from nself_deploy.core.effects import Judge as JudgeEffect
from nself_deploy.core.evidence import Decision, Evidence, MetricEvidence, Request, Side, Verdict
from nself_deploy.core.explanation import explain
from nself_deploy.core.latency import ENOUGH
from nself_deploy.core.log_moves import Move
from nself_deploy.core.log_position import LogPosition
from nself_deploy.core.metrics_judge import MetricsJudge, explain_metrics, worst
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.silence import Silence
from nself_deploy.core.verdict import Judge
from nself_deploy.core.windows import WINDOW_S

NOT_SHOWN = "a metric is not shown to be good enough yet"
LEAST_TIME = 2.0
"""A share that is reached late may still be kept this many times as long as planned."""


class Consent(msgspec.Struct, frozen=True):
    """A person moves the canary on."""

    by: str
    reason: str = ""
    """Why, when it lacks proof; empty when it does not."""
    full: bool = False
    """To all of the traffic, not only to the next share."""


class Session(msgspec.Struct):
    """All that is known about a canary."""

    judge: Judge
    candidate: Slot
    began: float
    """When the candidate got its first share, in seconds since 1970."""
    salt: str
    """What clients are hashed with, of this deployment alone."""
    position: LogPosition
    moves: list[Move]
    """The split that was in force before, and all that followed; one that is not certain yet has no `until`."""
    deadline_s: float
    """When a verdict is not waited for any more."""
    consent: Consent | None = None
    containers: dict[str, str] = {}
    """Container -> when it was started, and how often anew."""
    skipped: int = 0
    """Lines of the log that could not be understood."""
    bake: Bake | None = None
    bake_began_s: float = 0.0
    metrics: MetricsJudge | None = None
    """What is known from metrics of the user's own; None when there are none."""
    silence: Silence = msgspec.field(default_factory=Silence)
    recorded: int = 0
    """Bytes of the judge's record up to here."""
    unrecorded: bool = False
    """Nothing is added to that record any more."""

    @classmethod
    def begin(
        cls, judge: Judge, candidate: Slot, began: float, salt: str, position: LogPosition, moves: list[Move]
    ) -> Session:
        """The candidate gets its first share now."""
        return cls(judge, candidate, began, salt, position, moves, judge.settings.max_soak_s)

    @property
    def percent(self) -> int:
        """The candidate's share."""
        return self.moves[-1].split.percent_of(self.candidate)

    @property
    def share_began_s(self) -> float:
        """When it got it."""
        return max(0.0, self.moves[-1].until - self.began)

    @property
    def decision(self) -> Decision | None:
        """What stands, whatever comes; the worse one when both judges have decided."""
        found = [self.judge.decision, self.metrics.decision if self.metrics is not None else None]
        verdict = worst(*(one.verdict for one in found if one is not None))
        return next((one for one in found if one is not None and one.verdict is verdict), None)

    @property
    def verdict(self) -> Verdict:
        """What requests and metrics say together."""
        return self.judge.verdict if self.metrics is None else worst(self.judge.verdict, self.metrics.verdict)

    @property
    def metrics_pass(self) -> bool:
        """Whether each metric is shown to be good, now."""
        return self.metrics is None or self.metrics.verdict is Verdict.PASS

    def moves_to(self, split: Split, now: float) -> None:
        """The router is about to get this split; said again after a kill, it may have got it in the meantime."""
        if self.moves[-1].split != split:
            self.moves.append(Move(split, now))

    def moved_to(self, split: Split, now: float) -> None:
        """It has it."""
        last = self.moves[-1]
        if last.split == split and not last.until:
            self.moves[-1] = msgspec.structs.replace(last, until=now)
            self.silence.begin(self.share_began_s)

    def feed(self, requests: tuple[Request, ...]) -> None:
        """Requests, as they are read: those under a share are judged, those of a release that has all are its bake."""
        for request in requests:
            if 0.0 < request.share < 1.0:
                self.judge.request(request)
                self.silence.request(request)
            elif self.bake is not None and request.share == 1.0 and request.at >= self.bake_began_s:
                self.bake.request(msgspec.structs.replace(request, at=request.at - self.bake_began_s))

    def enter(self, at: float, hold_s: float) -> None:
        """A share begins to be judged, or goes on to be after a pause: there is time for it."""
        longest = self.judge.settings.max_soak_s
        self.silence.begin(at)
        self.deadline_s = at + longest if at >= self.deadline_s else max(self.deadline_s, at + LEAST_TIME * hold_s)


class Way(StrEnum):
    """Where a canary goes from here."""

    WAIT = "wait"
    ON = "on"
    BACK = "back"
    """The candidate is taken back, for good."""
    HOLD = "hold"
    """It loses its share, and a person decides."""
    STAY = "stay"
    """It keeps its share, and a person decides."""


def proved(session: Session, next_percent: int) -> bool:
    """Whether the candidate is shown to be good enough for its next share, whatever the time."""
    good = session.judge.accepted if next_percent == 100 else session.judge.may_grow(next_percent)
    return good and session.metrics_pass


def way(session: Session, hold_s: float, next_percent: int, at: float) -> tuple[Way, str]:
    """Where it goes at this time, and why."""
    judge, consent = session.judge, session.consent
    held, decision = at - session.share_began_s >= hold_s, session.decision
    if judge.settings.mode is Mode.OBSERVE:
        on = held or consent is not None
        return (Way.ON, f"{session.verdict}: it is only observed") if on else (Way.WAIT, "")
    if decision is not None:
        return (Way.BACK if decision.verdict is Verdict.FAIL else Way.HOLD), decision.reason
    if consent is not None:
        return Way.ON, _by(consent, "pass" if proved(session, next_percent) else "inconclusive")
    if held and next_percent < 100 and proved(session, next_percent):
        return Way.ON, f"{session.verdict}: good enough for {next_percent} %"
    if held and next_percent == 100 and session.verdict is Verdict.PASS:
        return Way.ON, "pass: it is shown to be good enough"
    if at < session.deadline_s:
        return Way.WAIT, ""
    blind = session.metrics is not None and session.metrics.blind  # nobody's fault but the measurement's
    back = judge.settings.on_inconclusive is OnInconclusive.ROLLBACK and not blind
    return Way.BACK if back else Way.STAY, "nothing was shown in the longest time that it is allowed"


def pause_is_due(session: Session, effect: JudgeEffect, at: float) -> bool:
    """Whether the share has a planned pause, and it is time for it."""
    if effect.pause is None or session.consent is not None:
        return False
    decided = session.decision is not None and session.judge.settings.mode is Mode.ENFORCE
    return not decided and at - session.share_began_s >= effect.hold_s


def _by(consent: Consent, verdict: str) -> str:
    return f"{verdict}: promoted by {consent.by}" + (f", because: {consent.reason}" if consent.reason else "")


def explained(session: Session) -> Evidence:
    """The verdict with all that it rests on, at the time of the last save."""
    judge, metrics = session.judge, session.metrics
    found = explain(judge, judge.now)
    if metrics is None:
        return found
    parts, decision, verdict = explain_metrics(metrics, metrics.now), session.decision, session.verdict
    waits = [part.expected_s for part in parts if part.missing]
    waits += [found.expected_s] if found.verdict is not Verdict.PASS else []
    return msgspec.structs.replace(
        found,
        verdict=verdict,
        final=decision is not None or verdict is Verdict.PASS or judge.now >= judge.settings.max_soak_s,
        at=found.at if decision is None else decision.at,
        reason=decision.reason if decision else found.reason if session.metrics_pass else NOT_SHOWN,
        missing=() if decision else (*found.missing, *(words for part in parts for words in part.missing)),
        expected_s=None if decision or None in waits else max((w for w in waits if w is not None), default=0.0),
        metrics=parts,
    )


def evidence_words(found: Evidence) -> tuple[str, ...]:
    """What a verdict rests on, for people: counts and rates, evidence, what is missing."""
    lines = [f"candidate: {_side(found.candidate)}", f"live slot: {_side(found.live)}"]
    ratio = "" if found.ratio is None else f"; the rates' ratio is {found.ratio:.1f}"
    lines.append(f"evidence of more errors: {_log(found.log_errors)} of {_log(found.log_errors_needed)}{ratio}")
    if found.log_latency is not None:
        lines.append(f"evidence of later answers: {_log(found.log_latency)} of {_log(found.log_latency_needed)}")
    if found.times_known is not None:
        lines.append(f"times are compared from the {ENOUGH:,}th answer on: {found.times_known} of {ENOUGH:,}")
    lines.append(f"proof that it is good enough: {_log(found.log_proof)} of {_log(found.log_proof_needed)}")
    lines += [_metric(part) for part in found.metrics]
    lines += [f"missing: {words}" for words in found.missing]
    if found.expected_s:
        lines.append(f"expected in about {found.expected_s:.0f} s, at the present traffic")
    return tuple(lines)


def next_words(session: Session, effect: JudgeEffect) -> str:
    """What is missing for the next share, and how long that may take; empty when nothing is, or it is decided."""
    judge, percent = session.judge, effect.next_percent
    if session.decision is not None:
        return ""
    settings, last = judge.settings, percent == 100
    until = settings.soak_s if last else session.share_began_s + effect.hold_s
    limit = settings.slo_error_rate if last else needed_rate(percent, settings.slo_error_rate)
    relative = judge.log_accept if last else None
    more = judge.trials.more_needed(limit, settings.beta, relative)
    clients = MIN_CLIENTS - len(judge.trials.clients) if last else 0
    left = max(0.0, until - judge.now)
    missing = [f"{left:.0f} s of its time"] if left else []
    missing += [f"{more} good requests to the candidate"] if more else []
    missing += [f"{clients} clients on the candidate"] if clients > 0 else []
    missing += [] if session.metrics_pass else ["a proof of each metric"]
    if not missing:
        return ""
    pace = _pace(judge)
    wait = max(left, max(more, clients) / pace) if pace else left
    unknown = more >= FAR or (not pace and max(more, clients) > 0) or not session.metrics_pass
    when = "when is not known" if unknown else f"in about {max(1.0, wait):.0f} s"
    return f"for {percent} %: {', '.join(missing)}; {when}"


def _pace(judge: Judge) -> float:
    """Requests per second that count for the proof: of the last minute."""
    seen, part = judge.overall.counts.recent[0], judge.trials.requests / max(1, judge.requests[0])
    return seen * part / max(1.0, min(WINDOW_S, judge.now))


def progress_words(session: Session) -> str:
    """One short line: the share, the verdict, what was seen."""
    judge = session.judge
    ours, theirs, bad, their_bad = judge.requests
    seen = f"{bad} of {ours} requests failed, {their_bad} of {theirs} on the live slot"
    measured = "" if session.metrics is None else f"; metrics: {session.metrics.verdict}"
    return f"{session.percent} %, {session.verdict}: {seen}{measured}"


def bake_words(bake: Bake) -> str:
    """The same of a bake."""
    return f"{bake.failed} of {bake.requests} requests failed, up to {bake.absolute.objective:.2%} are allowed"


def new_bake(analysis: Analysis, judge: Judge, seconds: float) -> Bake:
    """A bake that allows for how often the live slot failed lately, as far as that is known."""
    lately = None
    if judge.requests[1] >= 1000:
        counts = judge.overall.counts.total
        lately = counts[3] / max(1, counts[1])
    return Bake.begin(
        analysis.slo_error_rate, lately, max(1.0, seconds), analysis.alpha, analysis.beta, analysis.min_errors
    )


def _side(side: Side) -> str:
    failed = f"{side.failed} failed, of {side.failed_clients} clients" if side.failed else "none failed"
    return f"{side.requests} requests of about {side.clients} clients, {failed} ({side.rate:.2%})"


def _metric(part: MetricEvidence) -> str:
    last = "not asked for yet" if part.at is None else f"{part.value:.4g}" if part.value is not None else part.detail
    counts = ((part.good, "good"), (part.bad, "bad"), (part.between, "neither"), (part.no_data, "without data"))
    seen = ", ".join(f"{count} {word}" for count, word in (*counts, (part.errors, "not measured")) if count)
    return f"metric {part.name}: {last}; {part.wanted} is wanted" + (f" ({seen})" if seen else "")


def _log(value: float) -> str:
    """Evidence in powers of ten: 3 is one chance in a thousand."""
    return f"{value / 2.302585:.1f}"
