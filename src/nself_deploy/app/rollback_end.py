"""What the end of a rollback changes beside its run, in the same transaction: breakers, and what others read.

Whoever ends it: its own process, or the command that puts it right after a kill. So each counts once, and nobody is
told for ever that one of them is still loading.

No breaker refuses a rollback that a person asks for: a person may go back at any time. But it counts, and no watcher
brings back what a person left.
"""

from __future__ import annotations

import contextlib
from typing import Protocol

import msgspec

from nself_deploy.app import breaker
from nself_deploy.app.breaker import BreakerStore
from nself_deploy.app.service_rollback import ended, save_state
from nself_deploy.app.stores import Store
from nself_deploy.core.breaker import Turn, TurnOutcome
from nself_deploy.core.machine import Outcome, Run
from nself_deploy.core.moments import Moment
from nself_deploy.core.rollback import Request
from nself_deploy.core.service_release import version_of
from nself_deploy.core.times import seconds_between
from nself_deploy.errors import StateFileError


class GuardedStore(Store, Protocol):
    """A journal with its guards."""

    @property
    def guards(self) -> BreakerStore:
        """Circuit breakers among them."""


def settle(store: GuardedStore, run: Run, now: Moment) -> None:
    """A rollback ends: its services' breakers know how, and so do those who read about the one service it was for.

    Breakers that can't be read hinder no run's end.

    Raises:
        NselfError: the journal can't be written.
    """
    plan = run.plan
    for service, turn in turns_of(store, run, now).items():
        with contextlib.suppress(StateFileError):
            breaker.record(store.guards, plan.target, service, turn, now)
    if plan.cause.service:
        state = ended(run, Request(plan.cause.service, plan.target))
        took = round(seconds_between(run.started_at, now.at) * 1000)
        save_state(store, msgspec.structs.replace(state, at=now.at, duration_ms=max(took, 0)))


def turns_of(store: Store, run: Run, now: Moment) -> dict[str, Turn]:
    """What it is for the breaker of each service that it changes; one that was asked for by itself, for that alone."""
    plan, cause = run.plan, run.plan.cause
    left, to = store.release(plan.previous_release), store.release(plan.release)
    if left is None or to is None:
        return {}
    names = [cause.service] if cause.service else sorted(service.name for service in left.apps())
    outcome = TurnOutcome.DONE if run.outcome is Outcome.DONE else TurnOutcome.FAILED
    versions = {name: (version_of(left, name), version_of(to, name)) for name in names}
    return {
        name: Turn(cause.attempt or run.id, now, origin, version, outcome)
        for name, (origin, version) in versions.items()
        if origin != version
    }
