"""The JSON document of a watch of service level objectives."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nself_deploy.core.document import Document
from nself_deploy.core.rollback import RollbackUIState
from nself_deploy.core.slo_alerts import Alert
from nself_deploy.core.slo_asked import Standing


class ObjectiveLine(msgspec.Struct, frozen=True):
    """An objective, and what the live release made of it."""

    objective: str
    requests: int
    """Of the last six hours at most, as far as they were seen."""
    bad: int
    burn: float
    """How many times faster than allowed its error budget burnt over them."""
    source: str = "log"
    """`log` (the router's own) or `prometheus`."""
    no_data: str = ""
    """Why it can't be judged; empty: it can."""


class AlertLine(msgspec.Struct, frozen=True):
    """An alert that fired while it was watched."""

    objective: str
    pace: str
    """`fast` or `slow`."""
    windows: str
    burn: float
    requests: int
    bad: int
    at: str
    """When it was told."""
    firing: bool
    """Whether it did at the end."""


class WatchDocument(Document, frozen=True, kw_only=True):
    """The document of a deploy, and what is said of objectives; its steps are those of the last rollback."""

    objectives: tuple[ObjectiveLine, ...] = ()
    alerts: tuple[AlertLine, ...] = ()
    ui_state: RollbackUIState | None = None
    """How the last rollback stands; null when there was none."""
    service: str = ""
    prior_version: str = ""
    audit_event_id: str = ""


def objective_lines(standings: Iterable[Standing]) -> tuple[ObjectiveLine, ...]:
    """One for each objective."""
    return tuple(
        ObjectiveLine(
            one.objective.name,
            one.requests,
            one.bad,
            round(one.burn, 2),
            "log" if one.objective.queries is None else "prometheus",
            one.silence,
        )
        for one in standings
    )


def alert_line(alert: Alert, at: str, *, firing: bool) -> AlertLine:
    """One of them."""
    windows = alert.windows
    return AlertLine(
        alert.objective.name, windows.pace, windows.words, round(alert.burn, 1), alert.requests, alert.bad, at, firing
    )
