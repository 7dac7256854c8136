"""The circuit breaker: may this service be rolled back once more, and how it went.

Call `ask` and `record` under the project's lock. `record` the rollback in the transaction that begins its run, and
again with its outcome in the one that ends it: then a process that dies between is counted as well.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from nself_deploy.core import breaker as core
from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.breaker import Allowed, Breaker, BreakerLine, Refused, Rules, Turn
from nself_deploy.core.moments import Moment


class BreakerStore(Protocol):
    """What the journal keeps of breakers."""

    def transaction(self, *, durable: bool = True) -> AbstractContextManager[None]:
        """All writes inside are one; may stand inside a transaction of the journal's."""

    def breaker(self, environment: str, service: str) -> Breaker | None:
        """One of them."""

    def breakers(self) -> list[Breaker]:
        """All that are remembered, by environment and service."""

    def save_breaker(self, breaker: Breaker) -> None:
        """Remember one."""

    def rules(self) -> Rules | None:
        """The rules as the project's file had them last; None: the usual ones."""

    def add_event(self, event: AuditEvent) -> AuditEvent:
        """Add to the audit trail."""


def ask(
    store: BreakerStore,
    environment: str,
    service: str,
    origin: str,
    to: str,
    now: Moment,
    *,
    rules: Rules | None = None,
    to_live_since: str = "",
    only_refusals: bool = False,
) -> Allowed | Refused:
    """Whether a rollback may begin. What this changes (it opens, it closes, a trial) is on record when it returns.

    Args:
        store: `Journal.guards` of a journal that is open for writing.
        environment: such as prod.
        service: the Compose service.
        origin: a word for the version that the service runs, such as the id of its image; not one that is made anew
            for each rollback, or two bad versions would not be recognised.
        to: the same for the version that it would run again.
        now: `wiring.guards.now()`.
        rules: when it opens and closes; None: as the project's file had it at the last deploy.
        to_live_since: when a deploy brought `to` live last (RFC 3339); empty when that is not known.
        only_refusals: change nothing when it may begin: it is asked again in the transaction that begins its run.

    Raises:
        NselfError: the journal can't be read or written.
    """
    with store.transaction():
        known = store.breaker(environment, service) or Breaker(environment, service)
        in_force = _rules(store, rules)
        asked = core.ask(known, origin, to, in_force, now, to_live_since=to_live_since)
        if not only_refusals or isinstance(asked.answer, Refused):
            _keep(store, known, asked.breaker, asked.events)
    return asked.answer


def record(
    store: BreakerStore, environment: str, service: str, turn: Turn, now: Moment, *, rules: Rules | None = None
) -> None:
    """Remember a rollback: `Turn(run_id, now, origin, to)` when it begins, with its outcome when it ends.

    Raises:
        NselfError: the journal can't be read or written.
    """
    with store.transaction():
        known = store.breaker(environment, service) or Breaker(environment, service)
        _keep(store, known, *core.record(known, turn, _rules(store, rules), now))


def status(store: BreakerStore, now: Moment, *, rules: Rules | None = None) -> list[BreakerLine]:
    """All breakers that are not as if nothing had ever been rolled back. Nothing is changed."""
    in_force = _rules(store, rules)
    return [core.line_of(known, in_force, now) for known in store.breakers()]


def reset(store: BreakerStore, environment: str, service: str, reason: str) -> bool:
    """Close a breaker and forget what it remembers; False when there is nothing to forget.

    Raises:
        NselfError: the journal can't be read or written.
    """
    with store.transaction():
        known = store.breaker(environment, service)
        if known is None or known == Breaker(environment, service):
            return False
        after, event = core.reset(known, reason)
        _keep(store, known, after, (event,))
    return True


def _rules(store: BreakerStore, given: Rules | None) -> Rules:
    return given or store.rules() or Rules()


def _keep(store: BreakerStore, before: Breaker, after: Breaker, events: tuple[AuditEvent, ...]) -> None:
    for event in events:
        store.add_event(event)
    if after != before:
        store.save_breaker(after)
