"""Building `nself deploy serve`: the project behind its answers, in threads of its own, and the server in front."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nself_deploy import wiring
from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.system import moment
from nself_deploy.adapters.web_server import WebServer, address_of, tls_context
from nself_deploy.app import alerts as known_alerts
from nself_deploy.app.alerting import Alerting
from nself_deploy.app.keys import Denied, Grant, authorize
from nself_deploy.app.service_rollback import document_of
from nself_deploy.app.serving import Ended, Serving
from nself_deploy.core.alerts import Alert, Live, Rules, Taken
from nself_deploy.core.rollback import Request, RollbackUIState, ServiceRollback
from nself_deploy.core.web import BODY_LIMITS, Answer, Asked, Problem
from nself_deploy.wiring import service_rollback

THREADS = 8
"""Rollbacks that are looked at at a time, each with its own event loop; only one of them holds the project's lock."""
LOOKS = 4
"""Threads for what takes milliseconds."""

T = TypeVar("T")


class ProjectDesk:
    """A project, asked from the event loop without waiting in it."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._work = ThreadPoolExecutor(THREADS, "nself-rollback")
        self._looks = ThreadPoolExecutor(LOOKS, "nself-look")
        self._under_way: set[asyncio.Future[Ended]] = set()

    async def authorize(self, key: str, environment: str, service: str, source: str) -> Grant | Denied:
        """Whether the key may roll this service back."""

        def look(store: Journal) -> Grant | Denied:
            return authorize(store.guards, key, service_rollback.ACTION, environment, service, source, moment())

        return await self._look(look, write=True)

    async def roll_back(self, request: Request, key: str, source: str, alerts: tuple[Alert, ...] = ()) -> Ended:
        """Roll back; for alerts only if one of them still asks for it under the lock. It goes on without its asker."""

        def unwanted(store: Journal) -> str:
            found = known_alerts.unwanted(store, alerts, request.service) if alerts else {}
            return "; ".join(words for _, words in found.values()) if len(found) == len({a.id for a in alerts}) else ""

        def run() -> Ended:
            by = service_rollback.By(source, unwanted=unwanted)
            return asyncio.run(self._roll_back(request, key, by))

        task = asyncio.get_running_loop().run_in_executor(self._work, run)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _roll_back(self, request: Request, key: str, by: service_rollback.By) -> Ended:
        notes: list[str] = []
        told = service_rollback.Told(note=notes.append)
        outcome = await service_rollback.execute(self._root, request, key, told, by)
        state, result = outcome.state, outcome.result
        run = result.run if result is not None else None
        left = run is not None and run.left
        if result is not None and state.ui_state is RollbackUIState.POPULATED:
            wiring.schedule_expiry(result.plan, outcome.root)
        service_rollback.hear(outcome)
        return Ended(
            state,
            document_of(state, result),
            outcome.remedy,
            outcome.denied,
            unwanted=outcome.unwanted,
            left=left,
            notes=tuple(notes),
        )

    async def state(self, request: Request) -> ServiceRollback | None:
        """How the last rollback of a service stands."""
        return await self._in_thread(lambda: service_rollback.read_state(self._root, request))

    async def rules(self) -> Rules:
        """How alerts are understood."""
        return await self._look(known_alerts.rules)

    async def live(self, service: str) -> Live | None:
        """What users are served, and since when as far as a service is concerned."""
        return await self._look(lambda store: known_alerts.live(store, service))

    async def unwanted(self, alerts: list[Alert], service: str) -> dict[str, tuple[Taken, str]]:
        """Which of these alerts about a service, that all fire, must not roll it back now, and why."""
        return await self._look(lambda store: known_alerts.unwanted(store, alerts, service))

    async def settle(self, alerts: list[Alert], ui_state: str) -> None:
        """The rollback that these alerts asked for is over."""
        now = wiring.clock().now()
        await self._look(lambda store: known_alerts.settle(store, alerts, ui_state, now), write=True)

    async def finish(self) -> None:
        """Wait for the rollbacks that are under way."""
        while self._under_way:
            await asyncio.wait(set(self._under_way))
        self._work.shutdown(wait=True)
        self._looks.shutdown(wait=True)

    async def _look(self, look: Callable[[Journal], T], *, write: bool = False) -> T:
        def run() -> T:
            with wiring.open_journal(self._root) if write else Journal.open(self._root, create=False) as store:
                return look(store)

        return await self._in_thread(run)

    async def _in_thread(self, run: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._looks, run)


class Service:
    """The server and the project behind it."""

    def __init__(self, root: str, version: str, heard: Callable[[Asked, Answer, float], None]) -> None:
        """A server for a project.

        Args:
            root: the project's directory.
            version: our own, for who asks.
            heard: is told of each request that was answered, and how many seconds that took.
        """
        self._desk = ProjectDesk(root)
        self._root, self._heard = root, heard
        self._serving = Serving(self._desk, version, Alerting(self._desk).answer)
        self._clock = wiring.clock()
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.server = WebServer(self._answer, BODY_LIMITS, self._bug)

    async def _answer(self, asked: Asked) -> Answer:
        start = self._clock.monotonic()
        self._busy += 1
        self._idle.clear()
        try:
            answer = await self._serving.answer(asked)
            self._heard(asked, answer, self._clock.monotonic() - start)
            return answer
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    async def stop(self) -> None:
        """Take nothing new, finish what is under way, close."""
        self._serving.stopping = True
        self.server.stop_listening()
        await self._idle.wait()
        await self._desk.finish()
        await self.server.stop()

    def _bug(self, error: Exception) -> Problem:
        """Nothing of the exception's words leaves the machine."""
        wiring.keep_traceback(self._root, "".join(traceback.format_exception(error)))
        remedy = "Please report it with .nself/traceback.txt of the project."
        return Problem(f"This is a bug in nself-deploy: {type(error).__name__}.", remedy)


__all__ = ["Service", "address_of", "tls_context"]
