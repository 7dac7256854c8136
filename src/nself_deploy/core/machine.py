"""The order of things: `advance(run, event) -> (run, effects)`. No clock, no I/O, no randomness.

A run walks its plan's steps forward. When one fails (or a person interrupts) before the run is committed, the undo
steps of everything that was begun are walked in reverse order; a committed run is finished instead. After a crash the
same machine goes on from the journalled run with `Resumed`: it repeats the effect that was under way (all effects are
safe to repeat) or turns back. A run that only a person can decide about is parked: it waits, unfinished, with users
where they are or taken back to the live slot, until somebody resumes or aborts it.

The effects returned must be journalled as intents before they are performed; there is at most one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from nself_deploy.core.effects import Bringing, Effect, MoveTraffic, RemoveSlot
from nself_deploy.core.model import Slot, StepStatus
from nself_deploy.core.pauses import Expiry
from nself_deploy.core.plan import Plan, Step
from nself_deploy.errors import Exit

_Which = Callable[["StepState"], bool]
PROCESS_ENDED = "the process that ran it ended"


class Phase(StrEnum):
    """Which way the run goes."""

    FORWARD = "forward"
    PARKING = "parking"
    """Users are taken back before it waits."""
    PARKED = "parked"
    """It waits for a person."""
    UNDO = "undo"
    ENDED = "ended"


class Outcome(StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    """Failed, and everything was undone."""
    INTERRUPTED = "interrupted"
    """A person stopped it, and everything was undone."""


class StepState(msgspec.Struct, frozen=True):
    """What is known about one step of the run."""

    key: str
    name: str
    status: StepStatus = StepStatus.PENDING
    seconds: float = 0.0
    detail: str = ""


class Failure(msgspec.Struct, frozen=True):
    """Why a step did not work."""

    message: str
    remedy: str = ""
    evidence: tuple[str, ...] = ()
    exit_status: int = int(Exit.FAILED)
    unhealthy: bool = False


class Parking(msgspec.Struct, frozen=True):
    """Why a run waits for a person."""

    reason: str
    verdict: str = ""
    """`hold`, `invalid`, `inconclusive`; empty when a person paused it."""
    back: bool = False
    """Whether users were taken back to the live slot."""
    remedy: str = ""
    evidence: tuple[str, ...] = ()
    expiry: Expiry | None = None
    """When it does not wait any longer, and what is done then; None: it waits for ever."""
    planned: bool = False
    """Whether it is the pause that the plan has at this step."""
    asked: str = ""
    """The question of another terminal that it is the answer to; empty: nobody asked."""


class Run(msgspec.Struct, frozen=True):
    """All that is known about one execution of a plan; this value is what the journal holds."""

    id: str
    plan: Plan
    started_at: str
    phase: Phase = Phase.FORWARD
    steps: tuple[StepState, ...] = ()
    """Forward steps, then undo steps once there are some."""
    undo: tuple[Step, ...] = ()
    position: int = 0
    """Index into `plan.steps` (forward) or `undo` (undo)."""
    committed: bool = False
    outcome: Outcome | None = None
    failure: Failure | None = None
    completed_at: str = ""
    parking: Parking | None = None
    """While it is parked, or about to be."""
    paused: tuple[str, ...] = ()
    """Steps at which it made its planned pause; each is made once."""
    aborted_by: str = ""
    """The person who asked to turn it back, if somebody did."""

    @property
    def waits(self) -> bool:
        """Whether it is parked, or about to be."""
        return self.phase in (Phase.PARKING, Phase.PARKED)

    @property
    def percent(self) -> int:
        """The share of the traffic (percent) that the candidate was given by what is done of the run."""
        if self.phase is Phase.ENDED:
            return 100 if self.outcome is Outcome.DONE and self.plan.candidate else 0
        if self.parking is not None and self.parking.back:
            return 0
        done = {s.key for s in self.steps if s.status is StepStatus.DONE}
        moves = [s.effect.split for s in self.plan.steps if s.key in done and isinstance(s.effect, MoveTraffic)]
        return moves[-1].percent_of(self.plan.candidate) if moves and self.plan.candidate else 0

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do."""
        return self.phase is Phase.ENDED

    @property
    def rolled_back(self) -> bool:
        """Whether traffic had been moved and was taken back."""
        moved = {s.key for s in self.plan.steps if s.moves_traffic}
        undone = {u.key for u in self.undo}
        return any(f"undo:{k}" in undone for k in moved)

    @property
    def left(self) -> bool:
        """Whether users are where they should be, and the rest can't be done now: the next command does it."""
        step = self.current() if self.phase is Phase.FORWARD else None
        return self.failure is not None and step is not None and step.stays

    @property
    def paused_here(self) -> bool:
        """Whether the step under way has had its planned pause."""
        step = self.current()
        return step is not None and step.key in self.paused

    def current(self) -> Step | None:
        """The step that is under way; the one that a parked run waits in."""
        if self.phase is Phase.PARKING:
            return self.plan.park
        if self.phase is Phase.PARKED:
            return self.plan.steps[self.position]
        steps = self.plan.steps if self.phase is Phase.FORWARD else self.undo
        return None if self.ended or self.position >= len(steps) else steps[self.position]


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Start."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """The effect under way took effect."""

    seconds: float = 0.0
    detail: str = ""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The effect under way did not work."""

    failure: Failure
    seconds: float = 0.0


class Interrupt(msgspec.Struct, frozen=True, tag=True):
    """A person asks to stop, `by` a command of its own or with a signal; the effect under way was cancelled."""

    reason: str = "interrupted"
    seconds: float = 0.0
    by: str = ""


class Park(msgspec.Struct, frozen=True, tag=True):
    """A person has to decide; the effect under way has ended without success or failure."""

    parking: Parking
    seconds: float = 0.0


class Resumed(msgspec.Struct, frozen=True, tag=True):
    """The process that ran it died; another one goes on."""

    finish: bool = False
    """Whether a run that is not committed yet is finished (see `recovery.decide`); False turns it back."""
    aborted_by: str = ""
    """The person who asked to turn it back, if somebody did."""
    why: str = ""
    """Why it is turned back, if that is not what it was parked for."""
    again: bool = False
    """Whether a committed run proves its candidate once more before it does the rest."""


Event = Begin | Done | Failed | Interrupt | Park | Resumed


def new_run(run_id: str, plan: Plan, started_at: str) -> Run:
    """A run of `plan` that has not begun."""
    return Run(run_id, plan, started_at, steps=tuple(StepState(s.key, s.name) for s in plan.steps))


def advance(run: Run, event: Event) -> tuple[Run, tuple[Effect, ...]]:
    """The next state and the effect to perform now (none when the run has ended).

    Raises:
        ValueError: an event for a run that has ended.
    """
    if run.ended:
        raise ValueError(f"run {run.id} has ended")
    match event:
        case Begin():
            return _enter(run)
        case Done(seconds, detail):
            return _done(run, seconds, detail)
        case Failed(failure, seconds):
            return _failed(run, failure, seconds)
        case Interrupt():
            return _interrupted(run, event)
        case Park(parking, seconds):
            return _park(run, parking, seconds)
        case Resumed():
            return _resumed(run, event)


def _enter(run: Run) -> tuple[Run, tuple[Effect, ...]]:
    """Begin the step at `position`, or end the run. What was done already and is done once is passed."""
    done = {s.key for s in run.steps if s.status is StepStatus.DONE}
    step = run.current()
    while run.phase is Phase.FORWARD and step and (step.once or run.committed) and step.key in done:
        run = msgspec.structs.replace(run, position=run.position + 1)
        step = run.current()
    if step is None:
        return _end(run), ()
    return _mark(run, step.key, StepStatus.RUNNING), (step.effect,)


def _done(run: Run, seconds: float, detail: str) -> tuple[Run, tuple[Effect, ...]]:
    step = run.current()
    if step is None:
        return _end(run), ()
    run = _mark(run, step.key, StepStatus.DONE, seconds, detail)
    if run.phase is Phase.PARKING:
        return msgspec.structs.replace(run, phase=Phase.PARKED), ()
    committed = run.committed or (run.phase is Phase.FORWARD and step.commits)
    return _enter(msgspec.structs.replace(run, position=run.position + 1, committed=committed))


def _failed(run: Run, failure: Failure, seconds: float) -> tuple[Run, tuple[Effect, ...]]:
    step = run.current()
    if step is None:
        return _end(run), ()
    status = StepStatus.UNHEALTHY if failure.unhealthy else StepStatus.FAILED
    run = _mark(run, step.key, status, seconds, failure.message)
    stays = step.stays and failure.exit_status != Exit.FAILED
    if run.phase is not Phase.FORWARD or run.committed or stays:
        # Nothing to turn back to: the run stays unfinished, and the next command goes on from here.
        return msgspec.structs.replace(run, failure=run.failure or failure), ()
    return _turn_back(msgspec.structs.replace(run, failure=failure, outcome=Outcome.FAILED))


def _interrupted(run: Run, event: Interrupt) -> tuple[Run, tuple[Effect, ...]]:
    step = run.current()
    if run.phase is not Phase.FORWARD or run.committed or step is None:
        return _enter(run)
    run = _mark(run, step.key, StepStatus.FAILED, event.seconds, event.reason)
    run = msgspec.structs.replace(run, aborted_by=event.by)
    failure = Failure(event.reason, exit_status=int(Exit.INTERRUPTED))
    return _turn_back(msgspec.structs.replace(run, failure=failure, outcome=Outcome.INTERRUPTED))


def _park(run: Run, parking: Parking, seconds: float) -> tuple[Run, tuple[Effect, ...]]:
    step, back = run.current(), run.plan.park
    if run.phase is not Phase.FORWARD or run.committed or step is None:
        return _enter(run)
    run = _mark(run, step.key, StepStatus.PENDING, seconds, parking.reason)
    paused = (*run.paused, step.key) if parking.planned else run.paused
    run = msgspec.structs.replace(run, parking=parking, paused=paused)
    if back is None or not parking.back:
        return msgspec.structs.replace(run, phase=Phase.PARKED), ()
    known = run.steps if back.key in {s.key for s in run.steps} else (*run.steps, StepState(back.key, back.name))
    return _enter(msgspec.structs.replace(run, phase=Phase.PARKING, steps=known))


def _go_on(run: Run) -> Run:
    """A parked run that a person resumes. Users who were taken back are given to the candidate anew, step by step."""
    parking, steps, paused = run.parking, run.steps, run.paused
    if parking is not None and parking.back:
        again = {s.key for s in run.plan.steps if s.once}
        steps, paused = tuple(StepState(s.key, s.name) if s.key in again else s for s in steps), ()
    return msgspec.structs.replace(run, phase=Phase.FORWARD, parking=None, steps=steps, paused=paused)


def _resumed(run: Run, event: Resumed) -> tuple[Run, tuple[Effect, ...]]:
    run = msgspec.structs.replace(run, aborted_by=event.aborted_by or run.aborted_by)
    if run.committed:
        return _enter(_proved_anew(run) if event.again else _past_proof(run))
    if run.phase is Phase.UNDO or (run.phase is Phase.PARKING and not event.aborted_by):
        return _enter(run)
    if event.finish:
        return _enter(_back_to_proof(_go_on(run)))
    if run.phase is Phase.PARKING and run.plan.park is not None:
        run = _mark(run, run.plan.park.key, StepStatus.FAILED, 0.0, PROCESS_ENDED)
    parking = run.parking
    run = msgspec.structs.replace(run, phase=Phase.FORWARD, parking=None)
    step = run.current()
    if step is not None:
        run = _mark(run, step.key, StepStatus.FAILED, 0.0, parking.reason if parking else PROCESS_ENDED)
    if event.aborted_by:
        failure = Failure(f"aborted by {event.aborted_by}", exit_status=int(Exit.INTERRUPTED))
        return _turn_back(msgspec.structs.replace(run, failure=failure, outcome=Outcome.INTERRUPTED))
    why = event.why or (parking.reason if parking else "") or f"the process that ran this {run.plan.kind} ended"
    failure = run.failure or Failure(why, exit_status=int(Exit.FAILED))
    return _turn_back(msgspec.structs.replace(run, failure=failure, outcome=run.outcome or Outcome.FAILED))


def _back_to_proof(run: Run) -> Run:
    """Where an uncommitted run goes on: what proved the candidate before the pause is done anew, and all after it.

    What was begun stays known as begun: if the candidate does not prove itself now, traffic that was moved to it must
    be taken back before it is removed.
    """
    again = [n for n, step in enumerate(run.plan.steps[: run.position + 1]) if step.again]
    steps = _changed(run, StepStatus.FAILED, lambda s: s.status is StepStatus.RUNNING, PROCESS_ENDED)
    return msgspec.structs.replace(run, position=min([run.position, *again]), steps=steps)


def _proved_anew(run: Run) -> Run:
    """A committed run brings its candidate live once more, without shares and judges, then does all that follows."""

    def brings(step: Step) -> bool:
        share = isinstance(step.effect, MoveTraffic) and step.effect.split.candidate is not None
        return isinstance(step.effect, Bringing) and not share

    after = _commit_at(run) + 1
    again = {step.key for n, step in enumerate(run.plan.steps) if n >= after or brings(step)}
    steps = _changed(run, StepStatus.PENDING, lambda s: s.key in again)
    return msgspec.structs.replace(run, position=0, steps=steps)


def _past_proof(run: Run) -> Run:
    """Where a committed run goes on: after what committed it, also when proving it anew failed or was cut short."""
    after = _commit_at(run) + 1
    before = {step.key for step in run.plan.steps[:after]}
    steps = _changed(run, StepStatus.DONE, lambda s: s.key in before and s.status is not StepStatus.DONE)
    return msgspec.structs.replace(run, position=max(run.position, after), steps=steps)


def _commit_at(run: Run) -> int:
    return next((n for n, step in enumerate(run.plan.steps) if step.commits), -1)


def _turn_back(run: Run) -> tuple[Run, tuple[Effect, ...]]:
    """Skip what was not begun and undo, in reverse order, what was."""
    begun = {s.key for s in run.steps if s.status not in (StepStatus.PENDING, StepStatus.SKIPPED)}
    undo: list[Step] = []
    for step in reversed(run.plan.steps):
        if step.key in begun:
            undo += [u for u in step.undo if u.effect not in [known.effect for known in undo]]
    if run.plan.keep_failed and run.outcome is Outcome.FAILED and "start" in begun:
        undo = [u for u in undo if u.effect != RemoveSlot(run.plan.candidate or Slot.BLUE)]
    undo += run.plan.closing
    states = tuple(
        msgspec.structs.replace(s, status=StepStatus.SKIPPED) if s.status is StepStatus.PENDING else s
        for s in run.steps
    ) + tuple(StepState(u.key, u.name) for u in undo)
    return _enter(msgspec.structs.replace(run, phase=Phase.UNDO, undo=tuple(undo), position=0, steps=states))


def _end(run: Run) -> Run:
    outcome = Outcome.DONE if run.phase is Phase.FORWARD else run.outcome or Outcome.FAILED
    return msgspec.structs.replace(run, phase=Phase.ENDED, outcome=outcome)


def _changed(run: Run, status: StepStatus, which: _Which, detail: str = "") -> tuple[StepState, ...]:
    """Its steps, some of them in another status."""
    return tuple(msgspec.structs.replace(s, status=status, detail=detail) if which(s) else s for s in run.steps)


def _mark(run: Run, key: str, status: StepStatus, seconds: float = 0.0, detail: str = "") -> Run:
    at = next((n for n, s in enumerate(run.steps) if s.key == key), None)
    if at is None:
        return run
    s = run.steps[at]
    marked = StepState(s.key, s.name, status, round(s.seconds + seconds, 3), detail or s.detail)
    return msgspec.structs.replace(run, steps=(*run.steps[:at], marked, *run.steps[at + 1 :]))
