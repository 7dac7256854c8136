"""The circuit breaker of rollbacks, one for each service and environment (no I/O).

It is *closed*: rollbacks go through, up to `rollbacks` in `window_s`. One more opens it: *open*, all are refused for
`cooldown_s`. Then it is *half-open*: one rollback is let through as a trial. When the trial fails, its end is not
known, or another rollback is asked for within `window_s` of it, the breaker opens again; when nobody asks for that
long, it closes.

Apart from that, a rollback to a version that was itself rolled back from is refused, for a day: two bad versions would
take turns.

Times are moments of two clocks (`core/moments.py`): a clock that is set while the machine runs changes nothing. After a
boot, what lies in the future counts as now, so that a wait starts anew and nothing is let through too early.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.durations import format_duration
from nself_deploy.core.moments import Moment, elapsed_s, in_past
from nself_deploy.core.times import plus_seconds, seconds_between
from nself_deploy.errors import GateRefused

MEMORY_S = 86400.0
"""How long a rollback is remembered, and the version that it left is not returned to."""
TURNS_LIMIT = 200
"""Rollbacks that are remembered of one breaker."""


class BreakerState(StrEnum):
    """Whether rollbacks go through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class TurnOutcome(StrEnum):
    """How a rollback ended."""

    BEGUN = "begun"
    """Not yet, or its process died."""
    DONE = "done"
    FAILED = "failed"


class Refusal(StrEnum):
    """Why a rollback is refused."""

    OPEN = "open"
    BACK_AND_FORTH = "back-and-forth"


class Rules(msgspec.Struct, frozen=True):
    """When it opens and closes."""

    rollbacks: int = 3
    window_s: float = 3600.0
    cooldown_s: float = 3600.0


class Turn(msgspec.Struct, frozen=True):
    """One rollback, however often it was tried."""

    id: str
    """Of its run; the same one again is the same rollback."""
    at: Moment
    """When it began."""
    origin: str
    """What the service ran: a word for its version, such as the id of its image."""
    to: str
    """What it was to run again."""
    outcome: TurnOutcome = TurnOutcome.BEGUN


class Breaker(msgspec.Struct, frozen=True):
    """What is remembered of one service in one environment."""

    environment: str
    service: str
    turns: tuple[Turn, ...] = ()
    """Oldest first."""
    opened: Moment | None = None
    """When it opened; None while it is closed."""
    trial: str = ""
    """Id of the rollback that was let through since."""


class Allowed(msgspec.Struct, frozen=True):
    """The rollback may begin."""

    trial: bool = False
    """It is the one that a half-open breaker lets through."""


class Refused(msgspec.Struct, frozen=True):
    """The rollback may not begin: `rate-limited`, exit status 4."""

    refusal: Refusal
    what: str
    remedy: str
    closes: str
    """What would close the breaker, or let this rollback through."""
    at: str
    """When that is, at the earliest: UTC, RFC 3339."""

    def error(self) -> GateRefused:
        """The error to show."""
        return GateRefused(self.what, self.remedy, evidence=(self.closes,))


class Asked(msgspec.Struct, frozen=True):
    """What is answered, and the breaker from now on."""

    answer: Allowed | Refused
    breaker: Breaker
    events: tuple[AuditEvent, ...] = ()


class BreakerLine(msgspec.Struct, frozen=True):
    """A breaker as people and programs may see it."""

    environment: str
    service: str
    state: BreakerState
    rollbacks: int
    """In the window."""
    limit: int
    window_s: float
    closes: str
    """What would close it; empty while it is closed."""
    at: str
    """When it lets a rollback through, or closes; empty while it is closed."""
    bad: tuple[str, ...]
    """Versions that are not returned to."""


def state_of(breaker: Breaker, rules: Rules, now: Moment) -> BreakerState:
    """Whether rollbacks go through now."""
    if breaker.opened is None:
        return BreakerState.CLOSED
    if elapsed_s(breaker.opened, now) < rules.cooldown_s:
        return BreakerState.OPEN
    return BreakerState.CLOSED if _quiet(breaker, rules, now) else BreakerState.HALF_OPEN


def _quiet(breaker: Breaker, rules: Rules, now: Moment) -> bool:
    """Whether the trial went well and nobody asked since for as long as the window."""
    trial = _trial(breaker)
    return trial is not None and trial.outcome is TurnOutcome.DONE and elapsed_s(trial.at, now) >= rules.window_s


def _trial(breaker: Breaker) -> Turn | None:
    return next((turn for turn in breaker.turns if turn.id == breaker.trial), None) if breaker.trial else None


def settled(breaker: Breaker, rules: Rules, now: Moment) -> tuple[Breaker, tuple[AuditEvent, ...]]:
    """The breaker as time has made it: nothing in the future, nothing forgotten too late, closed when it was quiet."""
    turns = [msgspec.structs.replace(turn, at=in_past(turn.at, now)) for turn in breaker.turns]
    kept = tuple(turn for turn in turns if elapsed_s(turn.at, now) < MEMORY_S or turn.id == breaker.trial)
    opened = in_past(breaker.opened, now) if breaker.opened is not None else None
    after = msgspec.structs.replace(breaker, turns=kept[-TURNS_LIMIT:], opened=opened)
    if opened is None or state_of(after, rules, now) is not BreakerState.CLOSED:
        return after, ()
    reason = f"no other rollback within {format_duration(rules.window_s)} of the trial"
    return msgspec.structs.replace(after, opened=None, trial=""), (_event("breaker-closed", after, reason),)


def ask(breaker: Breaker, origin: str, to: str, rules: Rules, now: Moment, *, to_live_since: str = "") -> Asked:
    """Whether a rollback may begin.

    Args:
        breaker: what is remembered.
        origin: what the service runs.
        to: what it would run again.
        rules: when it opens and closes.
        now: when it is asked.
        to_live_since: when a deploy brought `to` live last (RFC 3339), empty when that is not known. A rollback from it
            before that time does not make it a bad version.
    """
    breaker, events = settled(breaker, rules, now)
    left = _left(breaker, to, to_live_since)
    if left is not None and to != origin:
        return Asked(_back_and_forth(breaker, left, now), breaker, events)
    state = state_of(breaker, rules, now)
    if state is BreakerState.CLOSED and len(_in_window(breaker, rules, now)) < rules.rollbacks:
        return Asked(Allowed(), breaker, events)
    if state is BreakerState.HALF_OPEN and not breaker.trial:
        reason = f"one rollback is let through after {format_duration(rules.cooldown_s)}"
        return Asked(Allowed(trial=True), breaker, (*events, _event("breaker-trial", breaker, reason)))
    if state is not BreakerState.OPEN:
        breaker, event = _open(breaker, rules, now)
        events = (*events, event)
    return Asked(_refused(breaker, rules, now), breaker, events)


def record(breaker: Breaker, turn: Turn, rules: Rules, now: Moment) -> tuple[Breaker, tuple[AuditEvent, ...]]:
    """Remember a rollback: when it begins, and again (with the same id) when it ends. Begun ones count."""
    breaker, events = settled(breaker, rules, now)
    known = any(other.id == turn.id for other in breaker.turns)
    if known:
        turns = tuple(
            msgspec.structs.replace(other, outcome=turn.outcome) if other.id == turn.id else other
            for other in breaker.turns
        )
    else:
        turns = (*breaker.turns, turn)
    half = state_of(breaker, rules, now) is BreakerState.HALF_OPEN
    trial = turn.id if half and not known and not breaker.trial else breaker.trial
    breaker = msgspec.structs.replace(breaker, turns=turns[-TURNS_LIMIT:], trial=trial)
    if turn.outcome is TurnOutcome.FAILED and turn.id == trial:
        breaker, event = _open(breaker, rules, now, "the trial failed")
        events = (*events, event)
    return breaker, events


def reset(breaker: Breaker, reason: str) -> tuple[Breaker, AuditEvent]:
    """Close it and forget everything, because a person says so."""
    event = _event("breaker-reset", breaker, reason)
    return Breaker(breaker.environment, breaker.service), event


def bad(breaker: Breaker, now: Moment) -> tuple[str, ...]:
    """Versions that are not returned to."""
    recent = (turn for turn in breaker.turns if elapsed_s(turn.at, now) < MEMORY_S)
    return tuple(dict.fromkeys(turn.origin for turn in recent if turn.outcome is not TurnOutcome.FAILED))


def line_of(breaker: Breaker, rules: Rules, now: Moment) -> BreakerLine:
    """What may be shown of a breaker."""
    breaker, _ = settled(breaker, rules, now)
    state = state_of(breaker, rules, now)
    closes, at = _way_out(breaker, rules, now) if state is not BreakerState.CLOSED else ("", "")
    return BreakerLine(
        environment=breaker.environment,
        service=breaker.service,
        state=state,
        rollbacks=len(_in_window(breaker, rules, now)),
        limit=rules.rollbacks,
        window_s=rules.window_s,
        closes=closes,
        at=at,
        bad=bad(breaker, now),
    )


def _in_window(breaker: Breaker, rules: Rules, now: Moment) -> list[Turn]:
    return [turn for turn in breaker.turns if elapsed_s(turn.at, now) < rules.window_s]


def _left(breaker: Breaker, version: str, live_since: str) -> Turn | None:
    """The newest rollback that left this version after it went live."""
    turns: Iterable[Turn] = (t for t in reversed(breaker.turns) if t.outcome is not TurnOutcome.FAILED)
    left = next((turn for turn in turns if turn.origin == version), None)
    if left is None or (live_since and seconds_between(left.at.at, live_since) > 0):
        return None
    return left


def _open(breaker: Breaker, rules: Rules, now: Moment, reason: str = "") -> tuple[Breaker, AuditEvent]:
    count, window = len(_in_window(breaker, rules, now)), format_duration(rules.window_s)
    if not reason and breaker.opened is not None:
        reason = f"another rollback was asked for within {window} of the trial"
    opened = msgspec.structs.replace(breaker, opened=now, trial="")
    return opened, _event("breaker-opened", opened, reason or f"{count} rollbacks within {window}")


def _refused(breaker: Breaker, rules: Rules, now: Moment) -> Refused:
    closes, at = _way_out(breaker, rules, now)
    what = f"The circuit breaker of {breaker.service} in {breaker.environment} is open: too many rollbacks."
    remedy = f"Find out why; nself deploy breaker reset {breaker.service} --env {breaker.environment} closes it now."
    return Refused(Refusal.OPEN, what, remedy, closes, at)


def _way_out(breaker: Breaker, rules: Rules, now: Moment) -> tuple[str, str]:
    """What closes a breaker that is not closed, and when the next thing happens."""
    window, trial = format_duration(rules.window_s), _trial(breaker)
    passed = elapsed_s(breaker.opened, now) if breaker.opened is not None else 0.0
    if passed < rules.cooldown_s:
        at = plus_seconds(now.at, rules.cooldown_s - passed)
        words = f"From {at} on one rollback is let through; when no other follows within {window}, it closes."
        return words, at
    if trial is None:
        return f"One rollback is let through now; when no other follows within {window}, it closes.", plus_seconds(
            now.at, 0
        )
    if trial.outcome is not TurnOutcome.DONE:
        return "A rollback was let through, and its end is not known.", plus_seconds(now.at, 0)
    at = plus_seconds(now.at, max(rules.window_s - elapsed_s(trial.at, now), 0.0))
    return f"A rollback was let through; when no other is asked for until {at}, it closes.", at


def _back_and_forth(breaker: Breaker, left: Turn, now: Moment) -> Refused:
    at = plus_seconds(now.at, max(MEMORY_S - elapsed_s(left.at, now), 0.0))
    what = f"{breaker.service} was rolled back from that very version at {left.at.at}: both versions are bad."
    remedy = (
        f"Deploy one that works; nself deploy breaker reset {breaker.service} --env {breaker.environment} "
        "forgets what was bad."
    )
    return Refused(
        Refusal.BACK_AND_FORTH, what, remedy, f"It is not returned to until {at}, or until it is deployed again.", at
    )


def _event(kind: str, breaker: Breaker, reason: str) -> AuditEvent:
    """A note that a breaker changed: `breaker-opened`, `-trial`, `-closed`, `-reset`."""
    return AuditEvent(
        event_type=kind,
        environment=breaker.environment,
        outcome="done",
        service=breaker.service,
        reason=reason,
        metadata={"rollbacks": [f"{t.at.at} {t.id} {t.outcome.value}" for t in breaker.turns]},
    )
