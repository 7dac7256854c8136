"""Looking only: status, history, standbys whose time is over."""

from __future__ import annotations

import contextlib

import msgspec

from nself_deploy.app.judging import load
from nself_deploy.app.log_keeping import SEEN_KEY, watched
from nself_deploy.app.observe import check_link
from nself_deploy.app.pausing import moment
from nself_deploy.app.recovery import standing
from nself_deploy.app.stores import Store
from nself_deploy.app.world import World
from nself_deploy.core.canary import explained, known_words, next_words
from nself_deploy.core.effects import Judge
from nself_deploy.core.evidence import Evidence
from nself_deploy.core.lock_rules import LockOwner
from nself_deploy.core.machine import Phase, Run
from nself_deploy.core.model import Slot, Split, slot_project
from nself_deploy.core.recovery import Wish, decide
from nself_deploy.core.slot_records import SlotRole, standby_slot
from nself_deploy.core.times import seconds_between
from nself_deploy.errors import NselfError, StateFileError


class SlotStatus(msgspec.Struct, frozen=True):
    """One slot."""

    slot: str
    role: str
    release: str
    percent: int
    containers: int
    healthy: int
    since: str
    until: str = ""


class RunStatus(msgspec.Struct, frozen=True):
    """A run, in short."""

    id: str
    kind: str
    strategy: str
    release: str
    previous_release: str
    started_at: str
    outcome: str
    error: str = ""
    step: str = ""
    """Where it is, when it has not ended."""
    duration_s: float = 0.0
    """From its beginning to its end; 0 when it has not ended."""
    migration_override: bool = False
    """Whether it went on with migrations that break a release."""


class RecoveryStatus(msgspec.Struct, frozen=True):
    """What a command would do about the run that was interrupted."""

    command: str
    finish: bool
    why: str
    waits: bool = False
    """It does nothing, and is refused."""


class CanaryStatus(msgspec.Struct, frozen=True):
    """A canary that runs or is parked."""

    percent: int
    """The candidate's share of the users."""
    parked: str
    """Why it waits for a person, empty while it runs."""
    remedy: str
    """What that person can do."""
    evidence: Evidence | None
    """What was known at the last save; None before it got its first share."""
    words: tuple[str, ...] = ()
    """The same for people."""
    expiry: str = ""
    """How long it waits, and what is done then, for people; empty when it runs or waits for ever."""
    next: str = ""
    """What is missing for the next share, for people; empty when nothing is, or nobody would give it."""


class Status(msgspec.Struct, frozen=True):
    """What `status` prints."""

    project: str
    split: str
    router: str
    slots: tuple[SlotStatus, ...]
    last: RunStatus | None
    under_way: RunStatus | None
    engine: str
    """`ok`, or why it can't be asked."""
    holder: str = ""
    """Who holds the lock, that of this directory or that on the engine."""
    problem: str = ""
    """A state file that can't be understood: deploys are refused because of it."""
    recovery: tuple[RecoveryStatus, ...] = ()
    """What each command would do about an interrupted run."""
    canary: CanaryStatus | None = None
    """The canary that runs or is parked."""
    watched: str = ""
    """When a watch of objectives that runs was heard of last (UTC, RFC 3339); empty when none runs."""


async def status(world: World) -> Status:
    """The state of the project now; an engine that is away, or a damaged state file, is said and not raised."""
    split, slots = world.router.split(), world.store.slots()
    engine, lines = "ok", []
    for slot in (Slot.BLUE, Slot.GREEN):
        record = slots.get(slot)
        count = healthy = 0
        try:
            found = await world.engine.containers(compose_project=slot_project(world.project.name, slot))
            count = len([c for c in found if c.state == "running"])
            healthy = len([c for c in found if c.state == "running" and c.health in ("", "healthy")])
        except NselfError as error:
            engine = error.what
        lines.append(
            SlotStatus(
                slot.value,
                record.role.value if record else SlotRole.EMPTY.value,
                record.release if record else "",
                split.percent_of(slot) if split else 0,
                count,
                healthy,
                record.since if record else "",
                record.until if record else "",
            )
        )
    runs, under_way = world.store.history(1), world.store.unfinished()
    owner = world.lock.owner() or (await _on_engine(world) if engine == "ok" else None)
    return Status(
        project=world.project.name,
        split=split.name if split else "none",
        router=await _router_words(world),
        slots=tuple(lines),
        last=run_status(runs[0]) if runs else None,
        under_way=run_status(under_way) if under_way else None,
        engine=engine,
        holder=f"{owner.user}@{owner.host} (pid {owner.pid}): {owner.purpose}, since {owner.since}" if owner else "",
        problem=_problem(world),
        recovery=await _recovery(world, under_way) if under_way and not owner and engine == "ok" else (),
        canary=_canary(world, under_way) if under_way and under_way.plan.judged else None,
        watched=world.store.meta(SEEN_KEY) if watched(world.store, world.clock.now()) else "",
    )


def _canary(world: World, run: Run) -> CanaryStatus:
    reason, remedy = (run.parking.reason, run.parking.remedy) if run.parking else ("", "")
    limit = run.parking.expiry.words(moment(world)) if run.parking and run.parking.expiry else ""
    session = None
    with contextlib.suppress(NselfError):  # commands that need it say what is wrong with it
        session = load(world, run)
    if session is None:
        return CanaryStatus(run.percent, reason, remedy, None, expiry=limit)
    found, step = explained(session), run.current()
    judged = step.effect if step is not None and isinstance(step.effect, Judge) and session.percent else None
    missing = next_words(session, judged) if judged else ""
    return CanaryStatus(session.percent, reason, remedy, found, known_words(session), limit, missing)


async def _on_engine(world: World) -> LockOwner | None:
    """Who holds the lock on the engine: somebody on another machine, or in another directory."""
    try:
        return await world.engine_lock.owner() if world.engine_lock is not None else None
    except NselfError:
        return None  # that the engine can't be asked is said elsewhere


_WISHES = {"nself deploy resume": Wish.RESUME, "nself deploy abort": Wish.ABORT, "the next deploy": Wish.ONWARD}


async def _recovery(world: World, run: Run) -> tuple[RecoveryStatus, ...]:
    found = await standing(world, run)
    decisions = {command: decide(run, found, wish) for command, wish in _WISHES.items()}
    return tuple(RecoveryStatus(command, made.finish, made.why, made.waits) for command, made in decisions.items())


def _problem(world: World) -> str:
    try:
        check_link(world)
        world.states.load_deploy()
        world.states.load_blue_green()
    except StateFileError as error:
        return str(error)
    return ""


async def _router_words(world: World) -> str:
    try:
        state = await world.router.observe()
    except NselfError as error:
        return f"unknown ({error.what})"
    if not state.running:
        return "not running"
    version = ".".join(str(n) for n in state.version)
    files = "" if state.tree == state.loaded_tree else ", its files differ from what it has loaded"
    return f"nginx {version} running{files}".replace("  ", " ")


def run_status(run: Run) -> RunStatus:
    """A run in short."""
    step = run.current()
    error = run.failure.message if run.failure and run.outcome != "done" else ""
    return RunStatus(
        run.id,
        run.plan.kind.value,
        run.plan.strategy.value,
        run.plan.release,
        run.plan.previous_release,
        run.started_at,
        _outcome(run),
        error,
        step.name if step else "",
        max(round(seconds_between(run.started_at, run.completed_at), 1), 0.0) if run.completed_at else 0.0,
        bool(run.plan.override),
    )


def _outcome(run: Run) -> str:
    if run.outcome is not None and run.phase is Phase.ENDED:
        return run.outcome.value
    if run.left:
        return "unfinished"
    return "parked" if run.waits else "interrupted"


def history(store: Store, limit: int) -> list[RunStatus]:
    """Runs, newest first."""
    return [run_status(run) for run in store.history(limit)]


def expired_standby(store: Store, split: Split | None, now: str) -> Slot | None:
    """A standby whose time is over and that gets no traffic."""
    slots = store.slots()
    slot = standby_slot(slots)
    if slot is None or (split is not None and split.percent_of(slot) > 0):
        return None
    until = slots[slot].until
    return slot if until and seconds_between(until, now) >= 0 else None
