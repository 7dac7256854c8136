"""A rollback that a person asks for, as the circuit breakers remember it.

No breaker refuses it: a person may go back at any time. But it counts, and no watcher brings back what a person left.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from nself_deploy.app import breaker
from nself_deploy.app.breaker import BreakerStore
from nself_deploy.core.breaker import Turn, TurnOutcome
from nself_deploy.core.machine import Outcome, Run
from nself_deploy.core.model import Release
from nself_deploy.core.moments import Moment
from nself_deploy.core.plan import Plan
from nself_deploy.core.service_release import version_of


class PersonTurns:
    """What one rollback is for each service that it changes."""

    def __init__(self, guards: BreakerStore, release: Callable[[str], Release | None], id_: str) -> None:
        """Remember it with these guards under this id; `release` gives a release by its own."""
        self._guards, self._release, self._id = guards, release, id_
        self._turns: dict[str, Turn] = {}
        self._environment = ""

    def begin(self, plan: Plan, now: Moment) -> None:
        """It begins, or has begun; again is the same one.

        Raises:
            NselfError: the journal can't be read or written.
        """
        live, to = self._release(plan.previous_release), self._release(plan.release)
        if self._turns or live is None or to is None:
            return
        self._environment = plan.target
        versions = {
            name: (version_of(live, name), version_of(to, name)) for name in sorted(s.name for s in live.apps())
        }
        for name, (origin, version) in versions.items():
            if origin != version:
                self._turns[name] = Turn(self._id, now, origin, version)
        self._record(now)

    def end(self, run: Run | None, now: Moment) -> None:
        """How it went; without a run nothing was left.

        Raises:
            NselfError: the journal can't be read or written.
        """
        done = run is not None and (run.left or run.outcome is Outcome.DONE)
        outcome = TurnOutcome.DONE if done else TurnOutcome.FAILED
        self._turns = {name: msgspec.structs.replace(turn, outcome=outcome) for name, turn in self._turns.items()}
        self._record(now)

    def _record(self, now: Moment) -> None:
        if not self._turns:
            return
        with self._guards.transaction():
            for name, turn in self._turns.items():
                breaker.record(self._guards, self._environment, name, turn, now)
