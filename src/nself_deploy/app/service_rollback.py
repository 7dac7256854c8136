"""Rolling back one service: which release that is, whether it may be, and what others can read about it meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from nself_deploy.app import breaker
from nself_deploy.app.breaker import BreakerStore
from nself_deploy.app.result import Result
from nself_deploy.app.world import World
from nself_deploy.core.audit import AuditEvent, event_id
from nself_deploy.core.breaker import Allowed, Refused, Turn
from nself_deploy.core.document import run_document
from nself_deploy.core.machine import Outcome, Run
from nself_deploy.core.model import Release, Slot, Strategy
from nself_deploy.core.moments import Moment
from nself_deploy.core.plan import Kind
from nself_deploy.core.release import image_tag
from nself_deploy.core.rollback import (
    STATUS,
    Request,
    RollbackDocument,
    RollbackUIState,
    ServiceRollback,
    key_of,
)
from nself_deploy.core.service_release import prior_release, version_of, with_service
from nself_deploy.core.slot_records import live_slot
from nself_deploy.core.times import seconds_between
from nself_deploy.errors import GateRefused, StateFileError, UsageError

if TYPE_CHECKING:
    from nself_deploy.app.stores import Store

HISTORY = 200
"""Runs that are looked at for a prior version."""
UNHEARD_S = 600.0
"""So long the same request is answered with a rollback that nobody was told of; later it is another one."""


class Found(msgspec.Struct, frozen=True):
    """What a rollback of a service goes from and to."""

    live: Release
    to: Release
    origin: str
    """The service's version now."""
    version: str
    """The one that it goes back to."""
    since: str
    """When a deploy brought that one live last; empty when it is not known."""


def look(world: World, request: Request) -> Found | None:
    """The release to go back to; None when there is no prior version. Nothing is written.

    Raises:
        UsageError: there is no such service, or it does not belong to a slot.
    """
    slots = world.store.slots()
    slot = live_slot(slots)
    live = world.store.release(slots[slot].release) if slot not in (None, Slot.PLAIN) and slot is not None else None
    if live is None:
        return None
    if request.service not in {s.name for s in live.apps()}:
        known = ", ".join(s.name for s in live.apps())
        if request.service in world.project.services:
            what = f"The service {request.service} is shared by all releases: there is no prior version of it."
        else:
            what = f"There is no service {request.service!r} in what runs."
        raise UsageError(what, f"Services that can be rolled back: {known}.")
    runs = world.store.history(HISTORY)
    prior = prior_release(live, request.service, request.environment, runs, world.store.release)
    if prior is None:
        return None
    version, now = version_of(prior, request.service), world.clock.now()
    to = prior if request.whole else with_service(live, prior, request.service, now, (world.user, world.host))
    to = world.store.release_by_fingerprint(to.fingerprint) or to
    return Found(live, to, version_of(live, request.service), version, _since(world, request.service, version, runs))


def _since(world: World, service: str, version: str, runs: list[Run]) -> str:
    for run in runs:
        if run.plan.kind is Kind.DEPLOY and run.outcome is Outcome.DONE:
            release = world.store.release(run.plan.release)
            if release is not None and version_of(release, service) == version:
                return run.started_at
    return ""


async def put_right(world: World, request: Request, interrupted: asyncio.Event) -> tuple[Result | None, str]:
    """Put right what was interrupted; its result if that was a rollback of this service, which is done now.

    If it was one that is undone now, there is its attempt in place of a result: to try again is no other one.

    Raises:
        Parked: a deploy waits for a person.
        NselfError: it can't be put right now.
    """
    from nself_deploy.app.recovery import recover  # a way back to a warm release does not wait for it
    from nself_deploy.core.recovery import Wish

    found = await recover(world, interrupted, Wish.ONWARD)
    plan = found.run.plan if found is not None else None
    if found is None or plan is None or plan.kind is not Kind.ROLLBACK or plan.cause.service != request.service:
        return None, ""
    if found.run.outcome is not Outcome.DONE:
        return None, plan.cause.attempt
    return Result(plan, found.run, (found.line,)), ""


async def keep(world: World, found: Found) -> None:
    """The release is on record, with names for its images; jobs that ran for the live one don't run again for it.

    Raises:
        EngineError: the engine can't be asked.
    """
    if world.store.release(found.to.id) is None:
        world.store.save_release(found.to)
        for job in found.to.jobs():
            done = world.store.meta(f"job-done:{found.live.id}:{job.name}")
            if done and version_of(found.to, job.name) == version_of(found.live, job.name):
                world.store.set_meta(f"job-done:{found.to.id}:{job.name}", done)
    for name, image in sorted(found.to.images.items()):
        if await world.engine.image(image.id) is not None:  # one that is gone is pulled, or missed, later
            await world.engine.tag(image.id, image_tag(world.project.name, name, found.to.id))


def unheard(world: World, request: Request) -> Result | None:
    """The same rollback, done lately by a process that was killed before it could say so; nothing came after it."""
    state, newest = load_state(world.store, request.environment, request.service), world.store.history(1)
    if state is None or state.heard or not newest:
        return None
    run = newest[0]
    same = event_id(run) == state.audit_event_id and run.outcome is Outcome.DONE
    lately = same and seconds_between(run.completed_at, world.clock.now()) < UNHEARD_S
    return Result(run.plan, run) if lately else None


def hear(store: Store, state: ServiceRollback) -> None:
    """Who asked for it knows that it is complete."""
    with store.transaction():
        known = load_state(store, state.environment, state.service)
        if known is not None and not known.heard and known.audit_event_id == state.audit_event_id:
            save_state(store, msgspec.structs.replace(known, heard=True))


class Attempt:
    """One rollback of a service, however often it is tried: the breaker hears of it once, and others read its state."""

    def __init__(self, request: Request, found: Found, now: Moment, id_: str) -> None:
        self._request = request
        self._turn = Turn(id_, now, found.origin, found.version)
        self._found = found
        self.loading: ServiceRollback | None = None
        """What others read while it runs."""

    def look_again(self, guards: BreakerStore, found: Found, id_: str) -> None:
        """What was found, and what it is a try of, may be another one by now; what the breaker has heard of stays."""
        self._found = found
        if not self._counted(guards):
            self._turn = msgspec.structs.replace(self._turn, id=id_, origin=found.origin, to=found.version)

    def refusal(self, guards: BreakerStore) -> GateRefused | None:
        """Why the breaker refuses it, which is on record then; None when it does not, and nothing is changed yet."""
        answer = None if self._counted(guards) else self._ask(guards, only_refusals=True)
        return answer.error() if isinstance(answer, Refused) else None

    def begin(self, store: Store, guards: BreakerStore, now: str) -> None:
        """It counts, and is loading for others. Call it in the transaction that begins its run: all or nothing.

        Raises:
            GateRefused: the breaker is open.
        """
        request, turn = self._request, self._turn
        if not self._counted(guards):
            answer = self._ask(guards)
            if isinstance(answer, Refused):
                raise answer.error()
            breaker.record(guards, request.environment, request.service, turn, turn.at)
        self.loading = ServiceRollback(
            RollbackUIState.LOADING, request.service, request.environment, self._found.to.id, at=now
        )
        save_state(store, self.loading)

    def _ask(self, guards: BreakerStore, *, only_refusals: bool = False) -> Allowed | Refused:
        request, turn = self._request, self._turn
        return breaker.ask(
            guards, request.environment, request.service, turn.origin, turn.to, turn.at,
            to_live_since=self._found.since, only_refusals=only_refusals,
        )  # fmt: skip

    def _counted(self, guards: BreakerStore) -> bool:
        known = guards.breaker(self._request.environment, self._request.service)
        return known is not None and any(turn.id == self._turn.id for turn in known.turns)


def ended(run: Run, request: Request) -> ServiceRollback:
    """How a run ended, as a state."""
    error = run.failure.message if run.failure and run.outcome is not Outcome.DONE else ""
    state = RollbackUIState.POPULATED if run.outcome is Outcome.DONE else RollbackUIState.ERROR
    status = int(STATUS[state])
    if run.left:
        state, error = RollbackUIState.OFFLINE, f"users are back on {run.plan.release}; the rest waits: {error}"
        status = int(STATUS[state])
    elif run.outcome is not Outcome.DONE and run.failure is not None:
        status = run.failure.exit_status
    event = event_id(run) if run.ended else ""
    return ServiceRollback(
        state, request.service, request.environment, run.plan.release, error, event, exit_status=status,
        heard=run.outcome is not Outcome.DONE,
    )  # fmt: skip


def document_of(state: ServiceRollback, result: Result | None) -> RollbackDocument:
    """The document that programs read; `result` is the run, if there was one."""
    done = state.ui_state is RollbackUIState.POPULATED
    run = result.run if result else None
    found = run_document(run, result.before if result else (), state.duration_ms) if run else None
    return RollbackDocument(
        target=state.environment,
        strategy=found.strategy if found else Strategy.BLUE_GREEN.value,
        release=found.release if found else "",
        previous_release=found.previous_release if found else "",
        steps=found.steps if found else (),
        duration_ms=state.duration_ms,
        success=done,
        rolled_back=found.rolled_back if found else False,
        final_percent=found.final_percent if found else 0,
        error=state.error,
        service=state.service,
        environment=state.environment,
        ui_state=state.ui_state,
        prior_version=state.prior_version,
        audit_event_id=state.audit_event_id,
    )


def save_state(store: Store, state: ServiceRollback) -> None:
    """Keep it for others."""
    store.set_meta(key_of(state.environment, state.service), msgspec.json.encode(state).decode())


def load_state(store: Store, environment: str, service: str) -> ServiceRollback | None:
    """How the last rollback of a service stands; None when there was none.

    Raises:
        StateFileError: it can't be read.
    """
    text = store.meta(key_of(environment, service))
    try:
        return msgspec.json.decode(text, type=ServiceRollback) if text else None
    except msgspec.MsgspecError as error:
        what = f"the state of the rollback of {service} can't be read: {error}."
        raise StateFileError(what, where=".nself/nself.db") from error


def note(store: Store, request: Request, outcome: str, error: str, key: str) -> str:
    """An event of the audit trail for a rollback that never became a run; its id."""
    event = AuditEvent(
        event_type=Kind.ROLLBACK.value,
        environment=request.environment,
        outcome=outcome,
        service=request.service,
        reason=request.reason,
        error=error,
        metadata={
            **({"key": key} if key else {}),
            **({"evidence": list(request.evidence)} if request.evidence else {}),
        },
    )
    return store.add_event(event).id
