"""What the journal knows about alerts: what is live and since when, and which alerts are over."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from nself_deploy.core import alerts as core
from nself_deploy.core.alerts import Alert, Heard, Live, Rules, Taken
from nself_deploy.core.journal_records import Entry, EntryKind
from nself_deploy.core.machine import Outcome, Run
from nself_deploy.core.model import Release, Slot
from nself_deploy.core.plan import Kind
from nself_deploy.core.slot_records import SlotRecord, live_slot
from nself_deploy.errors import StateFileError

HISTORY = 200
"""Runs that are looked at."""
HEARD_LIMIT = 500
"""Alerts that are remembered."""

_RULES, _HEARD = "alert-rules", "alerts-heard"
"""Words of the journal."""


class AlertStore(Protocol):
    """The part of the journal that is needed here."""

    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside are one."""

    def slots(self) -> dict[Slot, SlotRecord]:
        """What is in each slot."""

    def release(self, release_id: str) -> Release | None:
        """A release by id."""

    def history(self, limit: int = 20) -> list[Run]:
        """Runs, newest first."""

    def entries(self, run_id: str) -> list[Entry]:
        """The journal of one run, in order."""

    def meta(self, key: str) -> str:
        """A remembered word, empty when there is none."""

    def set_meta(self, key: str, value: str) -> None:
        """Remember a word."""


def live(store: AlertStore, service: str) -> Live | None:
    """What users are served by our records; None when nothing of ours is live.

    A rollback of another service alone left this one as it was: it does not make what is live any younger.

    Raises:
        NselfError: the journal can't be read.
    """
    slots = store.slots()
    slot = live_slot(slots)
    release = store.release(slots[slot].release) if slot is not None else None
    if release is None:
        return None
    services = tuple(service.name for service in release.apps())
    for run in store.history(HISTORY):
        plan = run.plan
        brought = run.outcome is Outcome.DONE and plan.kind in (Kind.DEPLOY, Kind.ROLLBACK)
        if brought and plan.cause.service in ("", service):
            return Live(release.id, services, _moved(run, store.entries(run.id)), plan.kind is Kind.ROLLBACK)
    return Live(release.id, services, "")


def _moved(run: Run, entries: list[Entry]) -> str:
    """When a run gave all the traffic to its release."""
    moves = {step.key for step in run.plan.steps if step.moves_traffic}
    times = [entry.at for entry in entries if entry.kind is EntryKind.OUTCOME and entry.step in moves]
    return times[-1] if times else run.completed_at or run.started_at


def unwanted(store: AlertStore, alerts: Iterable[Alert], service: str) -> dict[str, tuple[Taken, str]]:
    """Which of these alerts about a service, that all fire, must not roll it back now, and why; by their ids.

    Raises:
        NselfError: the journal can't be read.
    """
    over = {heard.id: f"its rollback ended at {heard.at}: {heard.ui_state}" for heard in _heard(store)}
    now, known, runs = live(store, service), rules(store), store.history(HISTORY)
    found = {}
    for alert in alerts:
        why = (Taken.REPEATED, over[alert.id]) if alert.id in over else core.unwanted(alert, now, known, runs)
        if why is not None:
            found[alert.id] = why
    return found


def settle(store: AlertStore, alerts: list[Alert], ui_state: str, now: str) -> None:
    """The rollback that these alerts asked for is over; they ask for no other one.

    Raises:
        NselfError: the journal can't be written.
    """
    new = [Heard(alert.id, ui_state, now) for alert in alerts]
    with store.transaction():
        known = core.remembered(_heard(store), new, HEARD_LIMIT)
        store.set_meta(_HEARD, msgspec.json.encode(known).decode())


def _heard(store: AlertStore) -> list[Heard]:
    text = store.meta(_HEARD)
    try:
        return msgspec.json.decode(text, type=list[Heard]) if text else []
    except ValueError as error:
        raise StateFileError(f"the alerts can't be read: {error}.", where=".nself/nself.db") from error


def rules(store: AlertStore) -> Rules:
    """How alerts are understood, as the project's file had it at the last deploy.

    Raises:
        StateFileError: it can't be read.
    """
    text = store.meta(_RULES)
    try:
        return msgspec.json.decode(text, type=Rules) if text else Rules()
    except ValueError as error:
        raise StateFileError(f"the rules of alerts can't be read: {error}.", where=".nself/nself.db") from error


def keep_rules(store: AlertStore, found: Rules) -> None:
    """Remember the rules, if they are not those in force."""
    if found != rules(store):
        store.set_meta(_RULES, msgspec.json.encode(found).decode())
