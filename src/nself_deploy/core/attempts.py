"""How many attempts with a deploy key may fail, and what the audit trail hears of them (no I/O).

Two buckets have a place for each failure and get places back with time: one for the source of the attempt, one for all
sources. While one is empty, attempts are refused without regard to their key. Refusals take no place, so a good key is
let in again as soon as one place is back: after `WAIT_LIMIT_S` at most, however many failed before.

A source that a good key came from lately is not kept out by what others do.

The trail gets the first failures of an episode one by one, then a sum whenever their number has doubled, and a last one
when nothing failed for a while. So ten thousand attempts are some twenty events.
"""

from __future__ import annotations

import msgspec

from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.deploy_keys import Reason
from nself_deploy.core.moments import Moment, elapsed_s, in_past
from nself_deploy.core.times import seconds_between

SOURCE_PLACES, SOURCE_BACK_S = 10, 6.0
"""Failures of one source at a stretch; seconds after which one more may fail."""
ALL_PLACES, ALL_BACK_S = 100, 0.6
"""The same for all sources together."""
WAIT_LIMIT_S = SOURCE_BACK_S
"""A good key is refused at most for so long after the last failure."""
PROVED_FOR_S = 30 * 86400.0
"""So long a source is trusted that a good key came from."""
ONE_BY_ONE = 10
"""Failures of an episode that are events of their own."""
QUIET_S = 600.0
"""An episode ends when nothing failed for so long."""
SOURCES_LIMIT = 1000
"""Sources that are remembered."""
SOURCES_TOLD = 10
"""Sources that a sum names."""
SOURCE_CHARS = 100

DENIED = "denied-attempt"
"""Type of the event that an attempt was denied, or of a sum of them (then its outcome is `summary`)."""


class Bucket(msgspec.Struct, frozen=True):
    """Places for failures."""

    left: float
    at: Moment
    """When they were counted."""


class Source(msgspec.Struct, frozen=True):
    """Where attempts come from."""

    name: str
    bucket: Bucket
    failed: int = 0
    refused: int = 0
    proved_at: str = ""
    """When a good key came from there last."""


class Episode(msgspec.Struct, frozen=True):
    """Failures without a long pause."""

    began: str
    last: Moment
    failed: int = 0
    refused: int = 0
    told: int = 0
    """How many of them the audit trail knows."""
    reasons: dict[str, int] = {}
    sources: dict[str, int] = {}
    """A few of them with most attempts."""

    @property
    def attempts(self) -> int:
        """All that were denied."""
        return self.failed + self.refused


class Overall(msgspec.Struct, frozen=True):
    """All sources together."""

    bucket: Bucket
    episode: Episode | None = None


class Attempt(msgspec.Struct, frozen=True):
    """What was tried."""

    source: str
    action: str
    environment: str
    service: str
    now: Moment
    key: str = ""
    """Id of the key, if it is one of ours."""


class Weighed(msgspec.Struct, frozen=True):
    """What an attempt comes to, and what has to be remembered of it."""

    reason: Reason | None
    """Why it is denied; None when it is not."""
    wait_s: float
    """Seconds after which it may be tried again, when it is `limited`."""
    source: Source
    overall: Overall
    events: tuple[AuditEvent, ...] = ()


def weigh(attempt: Attempt, verdict: Reason | None, source: Source | None, overall: Overall | None) -> Weighed:
    """Decide about an attempt whose key was judged already.

    Args:
        attempt: what was tried.
        verdict: what the key alone comes to.
        source: what is remembered of its source.
        overall: what is remembered of all.
    """
    now = attempt.now
    known = source or Source(attempt.source, Bucket(SOURCE_PLACES, now))
    everyone = overall or Overall(Bucket(ALL_PLACES, now))
    own = refilled(known.bucket, SOURCE_PLACES, SOURCE_BACK_S, now)
    shared = refilled(everyone.bucket, ALL_PLACES, ALL_BACK_S, now)
    trusted = bool(known.proved_at) and seconds_between(known.proved_at, now.at) < PROVED_FOR_S
    wait_s = max(_wait_s(own, SOURCE_BACK_S), 0.0 if trusted else _wait_s(shared, ALL_BACK_S))
    reason = Reason.LIMITED if wait_s > 0 else verdict
    failed = int(reason is not None and reason is not Reason.LIMITED)
    known = msgspec.structs.replace(
        known,
        bucket=_less(own, failed),
        failed=known.failed + failed,
        refused=known.refused + int(reason is Reason.LIMITED),
        proved_at=now.at if reason is None else known.proved_at,
    )
    events, episode = _audited(attempt, reason, everyone.episode)
    return Weighed(reason, wait_s, known, Overall(_less(shared, failed), episode), events)


def refilled(bucket: Bucket, places: int, back_s: float, now: Moment) -> Bucket:
    """The bucket as it is now."""
    return Bucket(min(bucket.left + elapsed_s(bucket.at, now) / back_s, places), now)


def _wait_s(bucket: Bucket, back_s: float) -> float:
    return 0.0 if bucket.left >= 1 else (1 - bucket.left) * back_s


def _less(bucket: Bucket, failed: int) -> Bucket:
    return msgspec.structs.replace(bucket, left=max(bucket.left - failed, 0.0))


def closing(overall: Overall | None, now: Moment) -> tuple[tuple[AuditEvent, ...], Overall | None]:
    """End an episode after which nothing failed for a while: the sum of what was not told yet."""
    if overall is None or overall.episode is None:
        return (), overall
    episode = msgspec.structs.replace(overall.episode, last=in_past(overall.episode.last, now))
    if elapsed_s(episode.last, now) < QUIET_S:
        return (), msgspec.structs.replace(overall, episode=episode)
    events = (_sum(episode),) if episode.attempts > episode.told else ()
    return events, msgspec.structs.replace(overall, episode=None)


def _audited(
    attempt: Attempt, reason: Reason | None, before: Episode | None
) -> tuple[tuple[AuditEvent, ...], Episode | None]:
    """What the trail hears of this attempt, and the episode after it."""
    now = attempt.now
    events, rest = closing(Overall(Bucket(0, now), before), now)
    episode = rest.episode if rest is not None else None
    if reason is None:
        return events, episode
    episode = _counted(episode or Episode(now.at, now), attempt, reason)
    if episode.attempts <= ONE_BY_ONE:
        events = (*events, _denied(attempt, reason))
    elif episode.attempts >= 2 * episode.told:
        events = (*events, _sum(episode))
    else:
        return events, episode
    return events, msgspec.structs.replace(episode, told=episode.attempts)


def _counted(episode: Episode, attempt: Attempt, reason: Reason) -> Episode:
    limited = reason is Reason.LIMITED
    sources = dict(episode.sources)
    name = attempt.source
    if name not in sources and len(sources) >= SOURCES_TOLD:
        del sources[min(sources, key=lambda other: sources[other])]
    sources[name] = sources.get(name, 0) + 1
    return msgspec.structs.replace(
        episode,
        last=attempt.now,
        failed=episode.failed + int(not limited),
        refused=episode.refused + int(limited),
        reasons=episode.reasons | {reason.value: episode.reasons.get(reason.value, 0) + 1},
        sources=sources,
    )


def _denied(attempt: Attempt, reason: Reason) -> AuditEvent:
    return AuditEvent(
        event_type=DENIED,
        environment=attempt.environment,
        outcome="denied",
        service=attempt.service,
        reason=reason.value,
        metadata={"action": attempt.action, "source": attempt.source, "key": attempt.key},
    )


def _sum(episode: Episode) -> AuditEvent:
    by_count = sorted(episode.sources.items(), key=lambda item: -item[1])
    return AuditEvent(
        event_type=DENIED,
        environment="",
        outcome="summary",
        reason=f"{episode.attempts} attempts were denied since {episode.began}",
        metadata={
            "since": episode.began,
            "until": episode.last.at,
            "attempts": episode.attempts,
            "failed": episode.failed,
            "refused": episode.refused,
            "reasons": [f"{reason}: {count}" for reason, count in sorted(episode.reasons.items())],
            "sources": [f"{name}: {count}" for name, count in by_count],
        },
    )
