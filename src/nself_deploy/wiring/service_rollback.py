"""A rollback of one service with a deploy key, from its first word to its state: what the command and the API share."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from nself_deploy import wiring
from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.lock import FileLock
from nself_deploy.adapters.system import is_gone, lock_owner, moment
from nself_deploy.app import service_rollback as use_case
from nself_deploy.app.keys import Denied, authorize
from nself_deploy.app.locking import held, held_here, is_warm
from nself_deploy.app.result import Result
from nself_deploy.app.way_back import back_at_once
from nself_deploy.app.world import World
from nself_deploy.core.machine import Run
from nself_deploy.core.plan import Cause, Plan
from nself_deploy.core.rollback import STATUS, Request, RollbackUIState, ServiceRollback, failed
from nself_deploy.core.step_lines import StepLine
from nself_deploy.errors import ConfigError, Exit, NselfError
from nself_deploy.wiring.way_back import journal_root, open_way_back

ACTION = "rollback"
_MAY_PASS = (int(Exit.INFRASTRUCTURE), int(Exit.FAILED))
"""Exit statuses of failures after which it is tried again."""


@dataclass
class Told:
    """Who is told what goes on, and asked to stop."""

    watcher: Callable[[StepLine], None] = lambda line: None
    progress: Callable[[str], None] = lambda line: None
    note: Callable[[str], None] = lambda line: None
    stop: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class By:
    """Who asks for it, when that is not the user of this process with a key."""

    source: str = ""
    """Where the key came from; empty: from this process's user."""
    own: bool = False
    """This machine's own user asks, by a watch: who may go back by hand needs no key."""
    unwanted: Callable[[Journal], str] = lambda store: ""
    """Asked under the lock, before anything is changed: why it is not wanted any more; empty when it is."""


@dataclass
class Outcome:
    """How it went."""

    state: ServiceRollback
    result: Result | None = None
    """The run, if there was one."""
    remedy: str = ""
    evidence: tuple[str, ...] = ()
    root: str = ""
    denied: Denied | None = None
    """What is wrong with the key."""
    unwanted: bool = False
    """It was not wanted any more; nothing was done."""


class _Ended(Exception):
    """It ended before there was a run."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


async def execute(directory: str, request: Request, key: str, told: Told, by: By | None = None) -> Outcome:
    """Roll back a service. What fails is in the outcome; nothing is raised but for wrong use.

    Args:
        directory: the project's.
        request: what is asked for.
        key: a deploy key.
        told: who is told what goes on.
        by: who asks, when that is not the user of this process with a key.

    Raises:
        UsageError: a variable is wrong.
    """
    rollback = _Rollback(directory, request, key, told, by or By())
    outcome = await rollback.run()
    outcome.state = rollback.timed(outcome.state)
    with contextlib.suppress(NselfError):  # the outcome is told in any case
        rollback.keep(outcome)
    return outcome


class _Rollback:
    def __init__(self, directory: str, request: Request, key: str, told: Told, by: By) -> None:
        self._directory = directory
        self._by = by
        self._request = request
        self._key = key
        self._told = told
        self._flags: dict[str, object] = {"target": request.environment}
        self._key_name = ""
        self._allowed = by.own
        self._id = f"r{secrets.token_hex(8)}"
        self._attempt: use_case.Attempt | None = None
        self._clock = wiring.clock()
        self._start = self._clock.monotonic()
        self._saved = False
        """How it ended is on record already, since under the lock."""

    async def run(self) -> Outcome:
        """All of it, tried again after failures that may pass."""
        tries = self._request.max_retries + 1
        while True:
            tries -= 1
            self._saved = False
            try:
                outcome = await self._once()
            except _Ended as ended:
                return ended.outcome
            except NselfError as error:
                outcome = self._failure(error)
            again = outcome.state.ui_state is RollbackUIState.ERROR and outcome.state.exit_status in _MAY_PASS
            if not again or not tries or self._told.stop.is_set():
                return outcome
            self._told.note(f"trying again: {outcome.state.error}")

    def timed(self, state: ServiceRollback) -> ServiceRollback:
        """A state of now."""
        took = round((self._clock.monotonic() - self._start) * 1000)
        return msgspec.structs.replace(state, duration_ms=took, at=self._clock.now())

    def keep(self, outcome: Outcome) -> None:
        """For other processes, and for the audit trail, when it was more than a question that was turned away.

        What ended under the lock is on record since then; the rest is not written over what somebody else does now.
        """
        root, state = journal_root(self._directory), outcome.state
        if self._saved or root is None or not self._allowed or outcome.unwanted:
            return
        if state.ui_state is RollbackUIState.LOADING:
            return
        with contextlib.closing(wiring.open_journal(root)) as store, store.transaction():
            if not state.audit_event_id and store.unfinished() is None:  # a run's end is an event by itself
                how = "refused" if state.exit_status == Exit.REFUSED else "failed"
                event = use_case.note(store, self._request, how, state.error, self._key_name)
                outcome.state = state = msgspec.structs.replace(state, audit_event_id=event)
            if not self._others_turn(root, store):
                use_case.save_state(store, state)

    def _others_turn(self, root: Path, store: Journal) -> bool:
        """Whether another rollback of this service runs now."""
        known = use_case.load_state(store, self._request.environment, self._request.service)
        own = self._attempt.loading if self._attempt is not None else None
        if known is None or known.ui_state is not RollbackUIState.LOADING or known == own:
            return False
        return FileLock(root, self._request.environment, lock_owner, is_gone).owner() is not None

    def _save(self, world: World, state: ServiceRollback) -> None:
        """How it ended, for other processes, while nobody else can begin another one."""
        with contextlib.suppress(NselfError):  # it is tried once more, and told in any case
            use_case.save_state(world.store, self.timed(state))
            self._saved = True

    async def _once(self) -> Outcome:
        with contextlib.ExitStack() as meanwhile:
            self._authorize(meanwhile)
            result, root = await self._at_once()
        if result is None:
            result, root = await self._in_full()
        if result.run is None:
            raise NselfError("There was nothing to do.")
        state = use_case.ended(result.run, self._request)
        return Outcome(state, result, result.run.failure.remedy if result.run.failure else "", root=root)

    def _authorize(self, meanwhile: contextlib.ExitStack) -> None:
        """Ask whether the key may do this. The journal stays open: to close it is to write it back while users wait."""
        if self._allowed:
            return
        store = meanwhile.enter_context(contextlib.closing(_journal(self._directory)))
        request, source = self._request, self._by.source or wiring.actor()
        answer = authorize(store.guards, self._key, ACTION, request.environment, request.service, source, moment())
        if not isinstance(answer, Denied):
            store.at_end = lambda _: None  # the journal is opened and closed once more
        if isinstance(answer, Denied):
            state = self._state(RollbackUIState(answer.ui_state), answer.what)
            raise _Ended(Outcome(state, remedy=answer.remedy, denied=answer))
        self._key_name, self._allowed = answer.name, True
        if answer.warning:
            self._told.note(answer.warning)

    async def _at_once(self) -> tuple[Result | None, str]:
        """While the release to go back to is warm: users first."""
        async with open_way_back(self._directory, self._flags) as ajar:
            if ajar is None:
                return None, ""
            world, settings = self._listening(ajar.world), ajar.settings
            async with held_here(world, self._purpose, settings.target, self._told.stop) as on_engine:
                if world.store.unfinished() is not None or use_case.unheard(world, self._request):
                    return None, ""  # what a killed process left, its lock on the engine too, is put right first
                found = self._find(world)
                result = await back_at_once(
                    world, wiring.timing_of(settings), settings.target, self._told.stop, self._begin(world, found),
                    lambda: ajar.complete(on_engine), to=found.to.id, cause=self._cause,
                )  # fmt: skip
                self._end(world, result)
            return result, str(world.root)

    async def _in_full(self) -> tuple[Result, str]:
        """The release is started again first."""
        from nself_deploy.app import deploy

        async with wiring.open_world(self._directory, self._flags, write=True) as opened:
            world, settings = self._listening(opened.world), opened.settings
            await world.engine.info()  # before anything else: an engine that is away is said within seconds
            warm = is_warm(world, "")
            async with held(world, self._purpose, settings.target, self._told.stop, warm=warm):
                result, attempt = self._unheard(world), ""
                if result is None:
                    result, attempt = await use_case.put_right(world, self._request, self._told.stop)
                if result is not None:
                    self._end(world, result)
                    return result, str(world.root)
                self._id = attempt or self._id
                found = self._find(world)
                await use_case.keep(world, found)
                result = await deploy.rollback(
                    world, opened.timing, settings.target, self._told.stop, self._begin(world, found),
                    to=found.to.id, cause=self._cause,
                )  # fmt: skip
                self._end(world, result)
            return result, str(world.root)

    def _unheard(self, world: World) -> Result | None:
        assert isinstance(world.store, Journal)
        result = use_case.unheard(world, self._request)
        if result is None or self._by.unwanted(world.store):
            return None
        self._told.note("it was done already, by a process that was killed before it could say so")
        return result

    def _find(self, world: World) -> use_case.Found:
        assert isinstance(world.store, Journal)
        if words := self._by.unwanted(world.store):
            raise _Ended(Outcome(self._state(RollbackUIState.ERROR, words), unwanted=True))
        found = use_case.look(world, self._request)
        if found is None:
            what = f"There is no prior version of {self._request.service} in {self._request.environment}."
            remedy = "Deploy another version first, or name the environment that was deployed to with --env."
            raise _Ended(Outcome(self._noted(world.store, RollbackUIState.EMPTY, "failed", what), remedy=remedy))
        return found

    def _noted(self, store: Journal, ui_state: RollbackUIState, outcome: str, what: str) -> ServiceRollback:
        """How it ended without a run: an event, and what others read."""
        with store.transaction():
            event = use_case.note(store, self._request, outcome, what, self._key_name)
            state = self._state(ui_state, what, event)
            use_case.save_state(store, self.timed(state))
        self._saved = True
        return state

    def _begin(self, world: World, found: use_case.Found) -> Callable[[Plan], None]:
        """What is asked before a run is begun; that it counts is written with the run itself."""
        store = world.store
        assert isinstance(store, Journal)
        if self._attempt is None:
            self._attempt = use_case.Attempt(self._request, found, moment(), self._id)
        attempt, settle = self._attempt, store.at_run
        attempt.look_again(store.guards, found, self._id)

        def at_run(journal: Journal, run: Run) -> None:
            settle(journal, run)
            if not run.ended:
                attempt.begin(journal, journal.guards, world.clock.now())

        def begin(_plan: Plan) -> None:
            with store.transaction():
                error = attempt.refusal(store.guards)
                state = self._noted(store, RollbackUIState.RATE_LIMITED, "refused", error.what) if error else None
            if error is not None and state is not None:
                raise _Ended(Outcome(state, remedy=error.remedy, evidence=error.evidence)) from error
            store.at_run = at_run

        return begin

    def _end(self, world: World, result: Result | None) -> None:
        if result is not None and result.run is not None:
            self._save(world, use_case.ended(result.run, self._request))

    def _failure(self, error: NselfError) -> Outcome:
        """What failed before a run began, or broke it off."""
        ui_state, status = failed(error)
        if isinstance(error, ConfigError) and journal_root(self._directory) is None:
            ui_state, status = RollbackUIState.OFFLINE, Exit.INFRASTRUCTURE  # no project here
        state = self._state(ui_state, f"{error.where}: {error.what}" if error.where else error.what)
        state = msgspec.structs.replace(state, exit_status=int(status))
        return Outcome(state, remedy=error.remedy, evidence=error.evidence)

    def _state(self, ui_state: RollbackUIState, error: str, event: str = "") -> ServiceRollback:
        request = self._request
        return ServiceRollback(
            ui_state, request.service, request.environment, error=error, audit_event_id=event,
            exit_status=int(STATUS[ui_state]),
        )  # fmt: skip

    def _listening(self, world: World) -> World:
        world.watcher, world.progress, world.note = self._told.watcher, self._told.progress, self._told.note
        return world

    @property
    def _purpose(self) -> str:
        return f"rollback of {self._request.service} ({self._request.environment})"

    @property
    def _cause(self) -> Cause:
        return Cause(self._request.service, self._request.reason, self._key_name, self._request.evidence, self._id)


def hear(outcome: Outcome) -> None:
    """Who asked for the rollback knows how it ended."""
    if outcome.result is None or outcome.state.heard:
        return
    with contextlib.suppress(NselfError), contextlib.closing(wiring.open_journal(outcome.root)) as store:
        use_case.hear(store, outcome.state)


def read_state(directory: str, request: Request) -> ServiceRollback | None:
    """How the last rollback of a service stands; None when there was none. One whose process died is an error.

    Raises:
        NselfError: the journal can't be read.
    """
    root = journal_root(directory)
    found = _known(root, request) if root is not None else None
    if root is None or found is None or found.ui_state is not RollbackUIState.LOADING:
        return found
    if FileLock(root, request.environment, lock_owner, is_gone).owner() is not None:
        return found
    found = _known(root, request)  # it may have ended between the two looks
    if found is None or found.ui_state is not RollbackUIState.LOADING:
        return found
    what = "The process that rolled back ended before it was done; nself deploy resume puts it right."
    return msgspec.structs.replace(found, ui_state=RollbackUIState.ERROR, error=what, exit_status=int(Exit.FAILED))


def _known(root: Path, request: Request) -> ServiceRollback | None:
    with contextlib.closing(Journal.open(root, create=False)) as store:
        return use_case.load_state(store, request.environment, request.service)


def _journal(directory: str) -> Journal:
    """The project's journal, to write; made when there is a project without one.

    Raises:
        ConfigError: there is no project.
    """
    return wiring.open_journal(wiring.project_root(directory))
