"""Watching objectives: the router's log is read as it is written, and what is known is written down every few seconds.

Prometheus is asked beside it, where an objective's numbers are there.
Which release answered a request is known from the journals of the runs, which have the time of each move of traffic.
Whoever goes on after a kill reads from where the last one was: no request counts twice, and none is left out.
"""

from __future__ import annotations

import msgspec

from nself_deploy.app.known_moves import RUNS, KnownMoves, brought
from nself_deploy.app.log_keeping import SEEN_KEY
from nself_deploy.app.ports import LogPosition, LogRead, LogView, RequestLog
from nself_deploy.app.slo_asking import Asking
from nself_deploy.app.watching import unix_now
from nself_deploy.app.world import World
from nself_deploy.core.log_moves import Move
from nself_deploy.core.machine import Run
from nself_deploy.core.model import Slot
from nself_deploy.core.past_moves import live_of, live_since, shared_since
from nself_deploy.core.service_release import version_of
from nself_deploy.core.slo import LONGEST_S, Objective
from nself_deploy.core.slo_alerts import Alert, Watch
from nself_deploy.core.slo_asked import Asked, Standing, standings
from nself_deploy.errors import NselfError, UsageError

STATE_KEY = "slo-watch"
SAVE_S = 5.0
"""How often what is known is written down."""
LATE_S = 0.5
"""So late may a line be in the log."""
BACK_S = 2.0
"""By so much the clock may be corrected."""
NOTHING_LIVE = ("Nothing is live here yet.", "Deploy first: nself deploy")
_SAME_S = 1.0
_BACK_BYTES = 32 << 20
"""So much of the log is read in the beginning, for what was before."""
_PROBLEMS = 20
"""So many different problems of the log are told."""


def bake_key(run_id: str) -> str:
    """Where what a bake knows of objectives is kept."""
    return f"slo-bake:{run_id}"


class State(msgspec.Struct):
    """All that must survive of a watch."""

    watch: Watch
    began: float
    """Time 0 of the watch (unix time)."""
    position: LogPosition
    slot: Slot
    """The live one."""
    release: str
    """The one that is live."""
    live_at: float = 0.0
    """When it went live (unix time); 0: longer ago than what is known."""
    strays: list[Move] = []
    """Moves that no run made."""
    runs_after: str = ""
    """The moves of this run, and of those before it, have no usable time: the clock was set back since."""
    skipped: int = 0
    """Lines of the log that could not be understood."""
    asked: Asked = msgspec.field(default_factory=Asked)
    """The objectives whose numbers Prometheus has; `watch` has the others."""


class SloWatch:
    """One process that watches. `state` is what it knows."""

    def __init__(self, world: World, objectives: tuple[Objective, ...], key: str = STATE_KEY) -> None:
        """Go on where the last one was, or begin; what is kept of it is under this key.

        Raises:
            UsageError: nothing is live.
            NselfError: the log or the journal can't be read.
        """
        self._world, self._key = world, key
        self._known = KnownMoves(world)
        self._moves: tuple[Move, ...] = ()
        self._saved = float("-inf")
        self._told: set[str] = set()
        self._routes: dict[str, tuple[str, str]] = {}
        self._asking, self._shared_at, self._silent = Asking(world), 0.0, dict[str, str]()
        self.state = self._resumed(objectives) or self._begun(objectives)
        if not self._follow():
            raise UsageError(*NOTHING_LIVE)

    @property
    def now(self) -> float:
        """Seconds since time 0 of the watch."""
        return unix_now(self._world) - self.state.began

    def look(self) -> tuple[Alert, ...]:
        """Read what was added to the log and what Prometheus said; the alerts that fire by it, of the release's doing.

        Raises:
            NselfError: the journal can't be read or written.
        """
        state = self.state
        if self.now < state.watch.now - BACK_S:
            self._set_back()
        self._follow()
        while True:
            read = self._log.read(state.position)
            if self._follow():
                continue  # traffic moved meanwhile: these lines were read as another release's
            onward = read.position != state.position
            self._count(read)
            if read.problem or not onward or read.position.offset >= read.size:
                break
        state.watch.advance(self.now - LATE_S)
        self._asking.look(state.asked, self.now, unix_now(self._world), self._shared_at)
        self._tell_silence()
        alerts = (*state.watch.look(), *state.asked.look())
        if self._world.clock.monotonic() - self._saved >= SAVE_S:
            self.save()
        return alerts

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """All that are watched: those of the log first."""
        return (*self.state.watch.objectives, *self.state.asked.objectives)

    def standings(self) -> tuple[Standing, ...]:
        """How each of them stands."""
        return standings(self.state.watch, self.state.asked)

    def silent(self) -> dict[str, str]:
        """Name of each objective that can't be judged by what was answered last -> why."""
        return self.state.asked.silent()

    async def close(self) -> None:
        """Wait for no answer of Prometheus any more."""
        await self._asking.close()

    def save(self) -> None:
        """Write down what is known, durably."""
        self._saved = self._world.clock.monotonic()
        self._world.store.set_meta(self._key, msgspec.json.encode(self.state).decode())
        if self._key == STATE_KEY:
            self._world.store.set_meta(SEEN_KEY, self._world.clock.now())

    async def keep_log(self) -> None:
        """Keep the log, if somebody switched it off, and put it aside when it is large."""
        try:
            await self._world.router.record(on=True)
        except NselfError as error:
            self._tell(f"the access log can't be kept: {error.what}")

    def brought_by(self) -> Run | None:
        """The deploy that brought the live release; None when that came back."""
        return brought(self._world.store.history(RUNS), self.state.release)

    def culprit(self, alert: Alert, run: Run) -> str:
        """The service to roll back: of those that the deploy changed, the one whose requests are bad."""
        store = self._world.store
        live, previous = store.release(run.plan.release), store.release(run.plan.previous_release)
        if live is None or previous is None:
            return alert.service
        names = sorted({s.name for s in live.apps()} & {s.name for s in previous.apps()})
        changed = [name for name in names if version_of(live, name) != version_of(previous, name)]
        if alert.service in changed or (alert.service and not changed):
            return alert.service
        return (changed or names or [""])[0]

    def _count(self, read: LogRead) -> None:
        state = self.state
        state.position, state.skipped = read.position, state.skipped + read.skipped
        for one in read.requests:
            if one.at <= 0.0:
                continue  # older than all that is remembered
            service, route = self._routes.get(one.route, ("", one.route))
            state.watch.request(
                one.at, service=service, route=route, failed=one.failed, seconds=one.seconds, ours=one.candidate
            )
        if read.problem:
            self._tell(f"not every request is seen: {read.problem}")

    def _resumed(self, objectives: tuple[Objective, ...]) -> State | None:
        text = self._world.store.meta(self._key)
        try:
            state = msgspec.json.decode(text, type=State) if text else None
        except (msgspec.DecodeError, ValueError):
            self._tell("what an earlier watch knew can't be read; this one begins anew")
            return None
        if state is None or (state.watch.objectives, state.asked.objectives) != _sorted(objectives):
            return None
        idle = unix_now(self._world) - state.began - state.watch.now
        return state if -BACK_S < idle < LONGEST_S else None

    def _begun(self, objectives: tuple[Objective, ...]) -> State:
        began, strays = unix_now(self._world) - LONGEST_S, list[Move]()
        moves = self._known.now(strays)
        slot = live_of(moves[-1].split) if moves else Slot.PLAIN
        release = self._release(slot)
        if not release:
            raise UsageError(*NOTHING_LIVE)
        live_at = live_since(moves)
        since, (logged, asked) = max(0.0, live_at - began) if live_at else 0.0, _sorted(objectives)
        watch = Watch.begin(logged, since)
        end = self._reader(LogView(slot, moves, began, "")).end()
        position = LogPosition(end.inode, max(0, end.offset - _BACK_BYTES))
        return State(watch, began, position, slot, release, live_at, strays, asked=Asked.begin(asked, since))

    def _follow(self) -> bool:
        """Go by the moves that were made up to now; whether there are new ones."""
        state = self.state
        moves = self._known.now(state.strays, state.runs_after)
        if not moves or moves == self._moves:
            return False
        self._moves = moves
        slot, live_at = live_of(moves[-1].split), live_since(moves)
        release = self._release(slot)
        if (slot, release) != (state.slot, state.release) or live_at > state.live_at + _SAME_S:
            state.slot, state.release, state.live_at = slot, release, live_at or unix_now(self._world)
            state.watch.goes_live(max(0.0, state.live_at - state.began))
            state.asked.goes_live(state.watch.live_since)
        self._shared_at = shared_since(moves)
        self._log: RequestLog = self._reader(LogView(slot, moves, state.began, ""))
        self._routes = self._routed()
        return True

    def _set_back(self) -> None:
        """The clock was set back: go on from where it was, by its new time. Times of moves mean nothing any more."""
        state = self.state
        if not self._moves:
            return
        state.began, state.runs_after = unix_now(self._world) - state.watch.now, self._known.newest
        state.strays = [Move(self._moves[-1].split)]
        state.live_at, self._moves = 0.0, ()
        state.asked.goes_live(state.watch.now)  # by its new time, older numbers could be taken for the release's
        self._tell("the machine's clock was set back; the watch goes on by its new time")

    def _release(self, slot: Slot) -> str:
        """The release in a slot: a run that is under way brings another one to its candidate's."""
        store = self._world.store
        run, record = store.unfinished(), store.slots().get(slot)
        if run is not None and run.plan.candidate is slot:
            return run.plan.release
        return record.release if record is not None else ""

    def _routed(self) -> dict[str, tuple[str, str]]:
        """Key of a route -> its service and its name."""
        store, known = self._world.store, list(self._world.project.routes)
        for name in {record.release for record in store.slots().values()} | {self.state.release}:
            release = store.release(name) if name else None
            known += release.routes if release is not None else ()
        return {route.key: (route.service, f"{route.service}:{route.port}") for route in known}

    def _reader(self, view: LogView) -> RequestLog:
        if self._world.request_log is None:
            raise NselfError("The router's access log can't be read here.")
        return self._world.request_log(view)

    def _tell(self, text: str) -> None:
        """Say it once."""
        if text not in self._told and len(self._told) < _PROBLEMS:
            self._told.add(text)
            self._world.note(text)

    def _tell_silence(self) -> None:
        """Say which objectives can't be judged any more, and which can be again."""
        silent = self.silent()
        for name, why in silent.items():
            if name not in self._silent:
                self._world.note(f"no data: {name} can't be judged: {why}")
        for name in self._silent:
            if name not in silent:
                self._world.note(f"data again: {name} is judged")
        self._silent = silent


def _sorted(objectives: tuple[Objective, ...]) -> tuple[tuple[Objective, ...], tuple[Objective, ...]]:
    """Those of the router's log, and those of Prometheus."""
    logged = tuple(one for one in objectives if one.queries is None)
    return logged, tuple(one for one in objectives if one.queries is not None)
