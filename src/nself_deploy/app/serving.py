"""What `nself deploy serve` answers: rollbacks by HTTP, their states, whether it is there. Alerts: see `alerting`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from nself_deploy.app.keys import Denied, Grant
from nself_deploy.core import web
from nself_deploy.core.alerts import Alert, Live, Rules, Taken
from nself_deploy.core.deploy_keys import Reason
from nself_deploy.core.rollback import Request, RollbackDocument, RollbackUIState, ServiceRollback, checked
from nself_deploy.core.settings import KNOWN_TARGETS, TARGETS
from nself_deploy.core.web import About, Answer, Asked, Health, RollbackAnswer
from nself_deploy.errors import InfrastructureError, NselfError, UsageError


class Ended(msgspec.Struct, frozen=True):
    """How a rollback ended."""

    state: ServiceRollback
    document: RollbackDocument
    remedy: str = ""
    denied: Denied | None = None
    unwanted: bool = False
    """It was found to be unwanted under the lock, and nothing was done."""
    left: bool = False
    """Users are back, and something is left to do."""
    notes: tuple[str, ...] = ()
    """What was said meanwhile: that the key expires soon, why it was tried again."""


class Desk(Protocol):
    """The project behind the answers. Nothing of it waits in the event loop."""

    async def authorize(self, key: str, environment: str, service: str, source: str) -> Grant | Denied:
        """Whether the key may roll this service back."""

    async def roll_back(self, request: Request, key: str, source: str, alerts: tuple[Alert, ...] = ()) -> Ended:
        """Roll back; for alerts only if one of them still asks for it when nobody else can change anything."""

    async def state(self, request: Request) -> ServiceRollback | None:
        """How the last rollback of a service stands; None when there was none."""

    async def rules(self) -> Rules:
        """How alerts are understood."""

    async def live(self, service: str) -> Live | None:
        """What users are served, and since when as far as a service is concerned."""

    async def unwanted(self, alerts: list[Alert], service: str) -> dict[str, tuple[Taken, str]]:
        """Which of these alerts about a service, that all fire, must not roll it back now, and why; by their ids."""

    async def settle(self, alerts: list[Alert], ui_state: str) -> None:
        """The rollback that these alerts asked for is over."""


class Serving:
    """Answers requests, one by one or many at a time."""

    def __init__(self, desk: Desk, version: str, alerts: Callable[[Asked, str], Awaitable[Answer]]) -> None:
        self._desk, self._version, self._alerts = desk, version, alerts
        self.stopping = False
        """Whether it takes nothing new."""

    async def answer(self, asked: Asked) -> Answer:
        """The answer to a request; never raises for what is wrong with it, or with the project."""
        found = web.refused(asked)
        if found is not None:
            return found
        if asked.path == web.HEALTH:
            status = 503 if self.stopping else 200
            return Answer(status, Health("stopping" if self.stopping else "ok", self._version))
        if self.stopping:
            return web.problem(503, "This server is stopping.", "Ask again.", web.headers_of(503))
        try:
            return await self._known(asked)
        except NselfError as error:
            return failed(error)

    async def _known(self, asked: Asked) -> Answer:
        key = web.bearer(asked.authorization)
        if asked.path == web.ALERTS:
            return await self._alerts(asked, key)
        if asked.method == "POST":
            return await self._roll_back(asked, key)
        return await self._show(asked, key)

    async def _roll_back(self, asked: Asked, key: str) -> Answer:
        body = web.read_rollback(asked.body)
        request = checked(body.service, environment_of(body.environment), body.reason, body.max_retries)
        ended = await self._desk.roll_back(request, key, asked.source)
        state, denied = ended.state, ended.denied
        status = web.status_of(state.ui_state, state.exit_status, denied.reason if denied else None)
        known = ended.document
        if state.ui_state is RollbackUIState.PERMISSION_DENIED:  # the same, whatever is wrong with the key
            known = msgspec.structs.replace(known, duration_ms=0)
        remedy = remedy_of(denied) if denied else ended.remedy
        document = RollbackAnswer(**{name: getattr(known, name) for name in known.__struct_fields__}, remedy=remedy)
        about = About(request.service, request.environment, state.ui_state.value, " ".join((*ended.notes, state.error)))
        return Answer(status, document, web.headers_of(status, denied.wait_s if denied else 0.0), about)

    async def _show(self, asked: Asked, key: str) -> Answer:
        environment = environment_of(asked.query.get("environment", ""))
        request = checked(asked.query.get("service", ""), environment, "", 0)
        answer = await self._desk.authorize(key, environment, request.service, asked.source)
        if isinstance(answer, Denied):
            return denial(answer)
        state = await self._desk.state(request)
        if state is None:
            return web.problem(404, f"No rollback of {request.service} in {environment} is on record.")
        return Answer(200, state, about=About(request.service, environment, state.ui_state.value))


def environment_of(name: str) -> str:
    """An environment by one of its names.

    Raises:
        UsageError: there is none of that name.
    """
    known = TARGETS.get(name, name) or "prod"
    if known not in KNOWN_TARGETS:
        raise UsageError(f"There is no environment {name[:100]!r}.", f"Environments: {', '.join(KNOWN_TARGETS)}.")
    return known


def denial(denied: Denied) -> Answer:
    """The answer to a key that does not open this."""
    status = web.status_of(RollbackUIState(denied.ui_state), 0, denied.reason)
    return web.problem(status, denied.what, remedy_of(denied), web.headers_of(status, denied.wait_s))


def remedy_of(denied: Denied) -> str:
    """What to do about a denial, for who asks by HTTP."""
    return "Send it in the header Authorization: Bearer KEY." if denied.reason is Reason.MISSING else denied.remedy


def failed(error: NselfError) -> Answer:
    """The answer when the request is wrong (400), or the project can't be asked."""
    theirs = type(error) is UsageError  # its kinds are about files, which are not the client's
    status = 400 if theirs else 503 if isinstance(error, InfrastructureError) else 500
    what = f"{error.where}: {error.what}" if error.where else error.what
    return web.problem(status, what, error.remedy, web.headers_of(status))
