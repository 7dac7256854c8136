"""What `nself deploy serve` does about alerts: each one that fires is one rollback, however often it is told."""

from __future__ import annotations

import asyncio

import msgspec

from nself_deploy.app.keys import Denied
from nself_deploy.app.serving import Desk, Ended, denial, environment_of
from nself_deploy.core import web
from nself_deploy.core.alerts import Alert, Taken, Target, by_target, read_notification, reason_of
from nself_deploy.core.deploy_keys import Reason
from nself_deploy.core.rollback import RollbackUIState, checked
from nself_deploy.core.web import About, AlertAnswer, AlertLine, Answer, Asked
from nself_deploy.errors import Exit, UsageError

_OVER = (RollbackUIState.POPULATED, RollbackUIState.EMPTY, RollbackUIState.RATE_LIMITED)
"""States after which the alert is not tried again."""
_PASSES = (int(Exit.INFRASTRUCTURE), int(Exit.LOCKED), int(Exit.PARKED), int(Exit.INTERRUPTED))
"""Exit statuses of what may be over when the alert is told the next time."""

_TO = "Give the receiver `http_config.authorization` with a deploy key for the services that it tells of."


class Alerting:
    """Takes notifications; those that come at the same time are taken one after the other."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._turn = asyncio.Lock()

    async def answer(self, asked: Asked, key: str) -> Answer:
        """The answer to a notification: 200 when it need not be told again, 503 when it is worth another try.

        Raises:
            UsageError: it is no notification.
            NselfError: the journal can't be read or written.
        """
        alerts = read_notification(asked.body)
        groups = by_target(alerts, await self._desk.rules())
        if not key and not groups:  # there is nothing that a key is needed for, and nothing is said
            return web.problem(401, "No deploy key was given.", _TO, web.headers_of(401))
        found = _Found()
        for target, group in groups.items():
            environment = _known(target)
            if environment is None:
                continue
            answer = await self._desk.authorize(key, environment, target.service, asked.source)
            if isinstance(answer, Denied):
                if answer.reason is not Reason.SCOPE:
                    return _refused(answer)
                found.denied(group, target, answer)
                continue
            await self._take(msgspec.structs.replace(target, environment=environment), group, key, asked.source, found)
        lines = tuple(found.lines.get(alert.id) or _line(alert, Taken.NOT_OURS) for alert in alerts)
        return Answer(found.status, AlertAnswer(lines), web.headers_of(found.status), found.about(len(alerts)))

    async def _take(self, target: Target, group: list[Alert], key: str, source: str, found: _Found) -> None:
        """Alerts about one service, for which the key is good."""
        firing = [alert for alert in group if alert.firing]
        found.add([alert for alert in group if not alert.firing], target, Taken.RESOLVED)
        live = await self._desk.live(target.service)
        if firing and live is not None and target.service not in live.services:
            found.add(firing, target, Taken.NOT_OURS, f"{live.release} has no service of that name")
            return
        async with self._turn:
            wanted = await self._wanted(firing, target, found)
            if not wanted:
                return
            request = checked(target.service, target.environment, reason_of(wanted), 0)
            ended = await self._desk.roll_back(request, key, source, tuple(wanted))
            if ended.unwanted:  # somebody was quicker
                wanted = await self._wanted(wanted, target, found)
                found.retry(wanted, target, ended)
                return
            if _over(ended):
                await self._desk.settle(wanted, ended.state.ui_state.value)
                found.ended(wanted, target, ended)
            else:
                found.retry(wanted, target, ended)

    async def _wanted(self, firing: list[Alert], target: Target, found: _Found) -> list[Alert]:
        """Those that ask for a rollback of what is live."""
        if not firing:
            return []
        why = await self._desk.unwanted(firing, target.service)
        for alert in firing:
            if alert.id in why:
                found.add([alert], target, *why[alert.id])
        return [alert for alert in firing if alert.id not in why]


class _Found:
    """What becomes of the alerts of one notification."""

    def __init__(self) -> None:
        self.lines: dict[str, AlertLine] = {}
        self.notes: list[str] = []
        self.status = 200

    def add(self, alerts: list[Alert], target: Target, taken: Taken, detail: str = "") -> None:
        """These need nothing."""
        self.lines |= {alert.id: _line(alert, taken, target, detail=detail) for alert in alerts}

    def denied(self, alerts: list[Alert], target: Target, denied: Denied) -> None:
        """The key is not for their service."""
        self.add(alerts, target, Taken.DENIED, denied.what)
        self.status = max(self.status, 403)

    def ended(self, alerts: list[Alert], target: Target, ended: Ended) -> None:
        """Their rollback is over."""
        state = ended.state
        self.notes += ended.notes
        self.lines |= {a.id: _line(a, Taken.ROLLBACK, target, state.ui_state.value, state.error) for a in alerts}

    def retry(self, alerts: list[Alert], target: Target, ended: Ended) -> None:
        """Their rollback could not be made now."""
        self.ended(alerts, target, ended)
        if alerts:
            self.status = 503

    def about(self, count: int) -> About:
        """For the log: of the first one that led to a rollback, else of the first one."""
        lines = sorted(self.lines.values(), key=lambda line: not line.ui_state)
        first = lines[0] if lines else AlertLine("", "", Taken.NOT_OURS.value)
        words = f"{count} alert{'' if count == 1 else 's'}: {first.outcome}"
        words = " ".join([f"{words}, {first.detail}".removesuffix(", "), *self.notes])
        return About(first.service, first.environment, first.ui_state, words)


def _line(alert: Alert, taken: Taken, target: Target | None = None, ui_state: str = "", detail: str = "") -> AlertLine:
    service, environment = (target.service, target.environment) if target is not None else ("", "")
    return AlertLine(alert.fingerprint, alert.starts_at, taken.value, service, environment, ui_state, detail)


def _known(target: Target) -> str | None:
    """The environment of a target; None when there can be no such service or environment."""
    try:
        environment = environment_of(target.environment)
        checked(target.service, environment, "", 0)
    except UsageError:
        return None
    return environment


def _refused(denied: Denied) -> Answer:
    """The answer to a key that is not good; one that may be good in a moment is worth another try."""
    if denied.reason is Reason.LIMITED:
        return web.problem(503, denied.what, denied.remedy, web.headers_of(503, denied.wait_s))
    return denial(denied)


def _over(ended: Ended) -> bool:
    """Whether the alert is done with, for better or worse."""
    state = ended.state
    if ended.denied is not None:
        return False
    return ended.left or state.ui_state in _OVER or (
        state.ui_state is RollbackUIState.ERROR and state.exit_status not in _PASSES
    )  # fmt: skip
