"""Watching a canary: the access log is read as it is written, and the judge is told, until it is known what follows.

What is known is written down every few seconds, with the place in the log up to which it was read. Whoever goes on
after a kill reads from there: no request counts twice, and no evidence is lost.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence

import msgspec

from nself_deploy.app import judge_records
from nself_deploy.app.log_keeping import stop_recording
from nself_deploy.app.measuring import Measuring
from nself_deploy.app.pausing import paused
from nself_deploy.app.ports import LogView, RequestLog
from nself_deploy.app.slo_watch import bake_key
from nself_deploy.app.watching import Containers, LogGuard, Waiting, catch_up, unix_now
from nself_deploy.app.world import World
from nself_deploy.core import audit
from nself_deploy.core import record_lines as lines
from nself_deploy.core.analysis import Analysis
from nself_deploy.core.asking import Answer, Ask, Wanted, answer_key, ask_key
from nself_deploy.core.canary import Consent, Session, Way, known_words, pause_is_due, progress_words
from nself_deploy.core.effects import Judge as JudgeEffect
from nself_deploy.core.evidence import RULES, Verdict
from nself_deploy.core.latency import ENOUGH, cut_points
from nself_deploy.core.log_moves import Move
from nself_deploy.core.log_position import LogPosition
from nself_deploy.core.machine import Run
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.pauses import Then
from nself_deploy.core.recorder import Recorder, opened
from nself_deploy.errors import NselfError, Parked, Unhealthy

LOOK_S = 0.25
"""How often the log is read."""
SAVE_S = 2.0
"""How often what is known is written down."""
LATE_S = 0.5
"""So late may a line be in the log."""
BACK_S = 2.0
"""By so much the clock may be corrected."""
_LATELY_S = 600.0
_LATELY_BYTES = 8 << 20


def session_key(run_id: str) -> str:
    """Where the session of a run is kept."""
    return f"canary:{run_id}"


def load(world: World, run: Run) -> Session | None:
    """The session as it was last written down.

    Raises:
        NselfError: it can't be read.
    """
    text = world.store.meta(session_key(run.id))
    try:
        return msgspec.json.decode(text, type=Session) if text else None
    except (msgspec.DecodeError, ValueError) as error:
        remedy = "Abort the deploy and begin anew."
        raise NselfError(f"What was known of the canary can't be read: {error}.", remedy) from error


def save(world: World, run: Run, recorder: Recorder) -> None:
    """Write it down, durably: first what it was told, then what it knows."""
    judge_records.write(world, run, recorder)
    world.store.set_meta(session_key(run.id), msgspec.json.encode(recorder.session).decode())


def forget(world: World, run: Run) -> None:
    """The run ends: what was said is in its steps and in its record, and what was known is not needed any more."""
    with _never_in_the_way():
        session = load(world, run)
        if session is not None:
            judge_records.close(world, run, session)
    for key in (session_key(run.id), ask_key(run.id), answer_key(run.id), bake_key(run.id)):
        if world.store.meta(key):
            world.store.set_meta(key, "")


async def keep_log(world: World, run: Run, split: Split) -> None:
    """A run that is judged is about to give users to the candidate: the log must not miss an answer that they get.

    It is off before that when nobody has read it since a pause.
    """
    candidate = run.plan.candidate
    if run.plan.judged and candidate is not None and split.percent_of(candidate):
        await world.router.record(on=True)


def before_move(world: World, run: Run, split: Split) -> None:
    """A run that is judged is about to move traffic: from now on requests may belong to the new share."""
    candidate = run.plan.candidate
    if not run.plan.judged or candidate is None:
        return
    percent = split.percent_of(candidate)
    with _never_in_the_way() if percent == 0 else contextlib.nullcontext():
        session = load(world, run)
        if session is not None and session.percent:
            recorder = Recorder(session)
            if percent > session.percent and session.consent is not None and not session.consent.full:
                recorder.consent(None)  # it was for this share: not before the step that it let pass is on record
            recorder.tell(lines.Moving(split.name, unix_now(world)))
            save(world, run, recorder)
        elif 0 < percent < 100:
            save(world, run, _begin(world, run, candidate, split, session))
        elif session is not None:
            save(world, run, Recorder(session))


def after_move(world: World, run: Run, split: Split) -> None:
    """The router has it: from now on they do for certain."""
    if not run.plan.judged or run.plan.candidate is None:
        return
    with _never_in_the_way() if split.percent_of(run.plan.candidate) == 0 else contextlib.nullcontext():
        session = load(world, run)
        if session is not None:
            recorder = Recorder(session)
            recorder.tell(lines.Moved(split.name, unix_now(world)))
            save(world, run, recorder)


def _never_in_the_way() -> contextlib.AbstractContextManager[None]:
    """Users are taken back also when what is known of a canary can't be read or written."""
    return contextlib.suppress(NselfError)


def _begin(world: World, run: Run, candidate: Slot, split: Split, earlier: Session | None) -> Recorder:
    analysis, now, salt = run.plan.analysis or Analysis(), unix_now(world), secrets.token_hex(16)
    before = Move(Split.all_to(split.base))
    log = _reader(world, LogView(candidate, (before,), now - _LATELY_S, salt))
    position = log.end()
    release = world.store.release(run.plan.release)
    routes = tuple(sorted(r.key for r in release.routes)) if release else ()
    cuts = _cuts(world, _lately(log, position), analysis) if analysis.latency.cuts else ()
    consent = earlier.consent if earlier else None
    moves = (before, Move(split, now))
    begun = lines.Begun(lines.FORM, RULES, analysis, routes, cuts, candidate, now, moves, consent, run.plan.metrics)
    session = opened(begun, salt, position)
    if earlier is not None:
        session.recorded, session.unrecorded = earlier.recorded, earlier.unrecorded
    return Recorder(session, begun)


def _cuts(world: World, seconds: Sequence[float], analysis: Analysis) -> tuple[float, ...]:
    """The cut points of the live slot's times; none yet, and a word about it, when too few are known."""
    cuts = cut_points(seconds, analysis.latency.cuts)
    if not cuts:
        world.note(
            f"times are compared from the {ENOUGH:,}th answer of the live version on: "
            f"{len(seconds)} were in the log before the first share"
        )
    return cuts


def _lately(log: RequestLog, end: LogPosition) -> Sequence[float]:
    """The times of the live slot's answers in the last minutes, as far as they are in the log."""
    position, seconds = LogPosition(end.inode, max(0, end.offset - _LATELY_BYTES)), list[float]()
    while position.inode == end.inode and position.offset < end.offset:
        read = log.read(position)
        if read.problem or read.position.offset <= position.offset:
            break
        seconds += [r.seconds for r in read.requests if r.seconds is not None and r.at > 0.0]
        position = read.position
    return seconds


def open_log(world: World, session: Session) -> RequestLog:
    """The access log, seen for this session."""
    latency = session.judge.latency
    patience = None if latency is None or latency.late else latency.cuts[-1]  # the same all along
    view = LogView(session.candidate, tuple(session.moves), session.began, session.salt, patience)
    return _reader(world, view)


def _reader(world: World, view: LogView) -> RequestLog:
    if world.request_log is None:
        raise NselfError("The router's access log can't be read here.", "Deploy with --strategy blue-green.")
    return world.request_log(view)


async def judge(world: World, run: Run, effect: JudgeEffect) -> str:
    """Watch the candidate under its share until it may be given the next one; what was seen, in words.

    Raises:
        Unhealthy: it is worse than the live slot, or broke down.
        Parked: a person has to decide, or asked to pause.
    """
    session = load(world, run)
    if session is None:
        raise NselfError("Nothing is known of the canary: its record is gone.", "Abort the deploy and begin anew.")
    await world.router.record(on=True)
    try:
        return await _watched(world, run, effect, session)
    except Parked:
        await stop_recording(world)  # nobody reads it while it waits, and it would grow for ever
        raise


async def _watched(world: World, run: Run, effect: JudgeEffect, session: Session) -> str:
    recorder = Recorder(session)
    async with Measuring(world, run.plan, recorder) as measuring:
        return await _until_known(world, run, effect, _Watch(world, run, effect, recorder, measuring))


async def _until_known(world: World, run: Run, effect: JudgeEffect, watch: _Watch) -> str:
    recorder, session = watch.recorder, watch.recorder.session
    if not (await world.router.observe()).mounted:
        recorder.tell(lines.Fault(watch.at, UNMOUNTED))
    recorder.tell(lines.Entered(watch.at, effect.hold_s))
    saved = world.clock.monotonic()
    while True:
        await watch.look()
        watch.answer()
        where, why = recorder.way(effect.hold_s, effect.next_percent, watch.at)
        if not run.paused_here and pause_is_due(session, effect, watch.at):
            save(world, run, recorder)
            raise paused(world, f"paused at {session.percent} %, as planned", PAUSED, effect.pause, planned=True)
        world.progress(progress_words(session))
        now = world.clock.monotonic()
        if where is not Way.WAIT or now - saved >= SAVE_S:
            save(world, run, recorder)
            saved = now
        if where is Way.ON:
            return f"{why}; {_seen(session)}"
        if where is not Way.WAIT:
            raise _ended(session, where, why)
        await world.clock.sleep(LOOK_S)


def proved_now(world: World, recorder: Recorder, next_percent: int) -> bool:
    """Whether a canary that waits is shown to be good enough: a metric that was good before a long pause is not."""
    recorder.tell(lines.Time(unix_now(world) - recorder.session.began - LATE_S))
    return recorder.proved(next_percent)


def promote_if_proved(world: World, run: Run) -> None:
    """At the end of a pause after which it is to be promoted: it goes on at once if it is shown to be good enough."""
    step, session = run.current(), load(world, run)
    expiry = run.parking.expiry if run.parking is not None else None
    if expiry is None or expiry.then is not Then.PROMOTE or step is None or not isinstance(step.effect, JudgeEffect):
        return
    if session is None or not session.percent:
        return
    recorder = Recorder(session)
    if proved_now(world, recorder, step.effect.next_percent):
        promote(world, run, recorder, Consent(END_OF_PAUSE))
    else:
        save(world, run, recorder)


def promote(world: World, run: Run, recorder: Recorder, consent: Consent) -> None:
    """Let it go on: the consent and its event are on record, or none of them.

    One that was given already, before a kill, is one event.
    """
    if recorder.session.consent == consent:
        return
    recorder.consent(consent)
    with world.store.transaction():
        world.store.add_event(audit.promoted(run, consent.by, consent.reason, known_words(recorder.session)))
        save(world, run, recorder)


class _Watch:
    """What one process looks at while it watches."""

    def __init__(self, world: World, run: Run, effect: JudgeEffect, recorder: Recorder, measuring: Measuring) -> None:
        self._world, self._run, self._effect, self.recorder = world, run, effect, recorder
        self._session = session = recorder.session
        self._log = open_log(world, session)
        self._containers = Containers(world, run, session.containers)
        self._waiting = Waiting(world, session)
        self._guard = LogGuard(world)
        self._measuring = measuring

    @property
    def at(self) -> float:
        """Seconds since the candidate got its first share."""
        return unix_now(self._world) - self._session.began

    async def look(self) -> None:
        """What happened since the last look, up to now."""
        session, recorder = self._session, self.recorder
        count, problem = catch_up(self._log, recorder)
        if self.at < max(session.judge.now, session.share_began_s) - BACK_S:
            problem = "the machine's clock was set back"
        problem = problem or await self._guard.problem(count)
        recorder.incidents(await self._containers.incidents(self.at))
        recorder.incidents(await self._waiting.incidents(self.at))
        if problem:
            recorder.tell(lines.Fault(self.at, problem))
        self._measuring.look(self.at)
        recorder.tell(lines.Time(self.at - LATE_S))

    def answer(self) -> None:
        """What another terminal asked for meanwhile.

        Raises:
            Parked: it was to pause.
        """
        text = self._world.store.meta(ask_key(self._run.id))
        if not text:
            return
        ask, session, recorder = msgspec.json.decode(text, type=Ask), self._session, self.recorder
        if ask.wanted is Wanted.PAUSE:  # the parked run is the answer: before it is on record, nothing is paused
            save(self._world, self._run, recorder)
            parked = paused(self._world, f"paused by {ask.by} at {session.percent} %", PAUSED, ask.limit)
            parked.asked = ask.id
            raise parked
        good = recorder.proved(self._effect.next_percent)
        words = "all of the traffic" if ask.full else f"{self._effect.next_percent} %"
        answer = Answer(ask.id, done=True, words=f"it goes on to {words}")
        with self._world.store.transaction():
            if good or ask.reason:
                promote(self._world, self._run, recorder, Consent(ask.by, "" if good else ask.reason, ask.full))
            else:
                words = f"it is not shown to be good enough for {self._effect.next_percent} %"
                answer = Answer(ask.id, done=False, words=words, evidence=known_words(session))
            self._world.store.set_meta(ask_key(self._run.id), "")
            self._world.store.set_meta(answer_key(self._run.id), msgspec.json.encode(answer).decode())


END_OF_PAUSE = "the end of its pause"
UNMOUNTED = "the router's container is from before nself deploy init and keeps its log for itself: make it anew"
PAUSED = "nself deploy resume goes on, promote gives it the next share, abort takes it back."
_REMEDIES = {
    Verdict.HOLD: "Mend what both slots suffer from, then nself deploy resume judges it anew; abort removes it.",
    Verdict.INVALID: "Mend the measurement, then nself deploy resume judges it anew; abort removes it.",
    Verdict.INCONCLUSIVE: (
        "nself deploy resume gives it more time; promote --accept-inconclusive --reason TEXT goes on without proof; "
        "abort takes it back."
    ),
}


def _seen(session: Session) -> str:
    ours, theirs, bad, their_bad = session.judge.requests
    return f"{bad} of {ours} requests failed, {their_bad} of {theirs} on the live slot"


def _ended(session: Session, where: Way, why: str) -> NselfError:
    """The error that ends the watching."""
    evidence = known_words(session)
    clients = session.judge.overall.comparison.candidate
    if where is Way.BACK:
        hit = f"; {clients} client{'s were' if clients != 1 else ' was'} hit" if clients else ""
        if hit and session.moves[-1].split.shielded:
            hit += ", but for what the live slot answered in its place"
        what = f"The candidate failed at {session.percent} %: {why}{hit} ({_seen(session)})."
        return Unhealthy(what, "Mend it (what was seen is above), then deploy again.", evidence=evidence)
    decision = session.decision
    verdict = decision.verdict if decision else Verdict.INCONCLUSIVE
    parked = Parked(f"{verdict} at {session.percent} %: {why}", _REMEDIES[verdict], evidence=evidence)
    parked.verdict, parked.back = verdict.value, where is Way.HOLD
    return parked
