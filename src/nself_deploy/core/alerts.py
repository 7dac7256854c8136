"""Alerts that Alertmanager tells of, and which of them ask for a rollback (no I/O).

An alert is one occurrence of a condition: its fingerprint and the time at which it began. However often it is told, it
is one and the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from nself_deploy.core.extension import AlertKeys
from nself_deploy.core.machine import Outcome, Run
from nself_deploy.core.rollback import REASON_LIMIT
from nself_deploy.core.times import seconds_between
from nself_deploy.errors import UsageError

ALERTS_LIMIT = 500
"""Alerts of one notification."""
NAMED = 5
"""Alerts that the reason of one rollback names."""
ECHO_S = 900.0
"""After a rollback, alerts that begin within so long are taken for an echo of what was left."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?([Zz]|[+-]\d\d:\d\d)")
_FINGERPRINT = re.compile(r"[0-9a-zA-Z]{1,64}")
_NAME_CHARS, _SUMMARY_CHARS = 80, 200  # so that the marks of all that are named are in a reason


class Rules(msgspec.Struct, frozen=True):
    """How alerts are understood: which labels say what they are about, and which of them ask for a rollback."""

    service_label: str = "service"
    environment_label: str = "environment"
    environment: str = "prod"
    """Where it is about, when it has no such label."""
    services: dict[str, str] = {}
    """Value of the label -> service; what is not in it is the service's own name."""
    environments: dict[str, str] = {}
    match: dict[str, str] = {}
    """Labels that it must have, with these values."""
    echo_s: float = ECHO_S


class Alert(msgspec.Struct, frozen=True):
    """One alert of a notification, with its time in UTC."""

    fingerprint: str
    starts_at: str
    firing: bool
    labels: dict[str, str] = {}
    summary: str = ""

    @property
    def id(self) -> str:
        """What makes it this one and no other."""
        return f"{self.fingerprint} {self.starts_at}"

    @property
    def mark(self) -> str:
        """How a rollback's reason names it, so that the rollback is found again."""
        return f"[{self.id}]"

    @property
    def name(self) -> str:
        """Its name, for people."""
        return _plain(self.labels.get("alertname", "alert"), _NAME_CHARS)


class Target(msgspec.Struct, frozen=True, order=True):
    """What an alert is about."""

    service: str
    environment: str


class Live(msgspec.Struct, frozen=True):
    """What users are served."""

    release: str
    services: tuple[str, ...]
    since: str
    """When all traffic was moved to it; empty when that is not known."""
    by_rollback: bool = False


class Taken(StrEnum):
    """What becomes of an alert."""

    ROLLBACK = "rollback"
    """A rollback was asked for; its state says how that went."""
    REPEATED = "repeated"
    """It was told before, and its rollback is over."""
    RESOLVED = "resolved"
    NOT_OURS = "not-ours"
    """It names no service that could be rolled back."""
    BEFORE_RELEASE = "before-release"
    """It began before the live release had the traffic."""
    ECHO = "echo"
    """It began so soon after a rollback that the version which was left is to blame."""
    DENIED = "denied"
    """The key is not for that."""


class Heard(msgspec.Struct, frozen=True):
    """An alert whose rollback is over."""

    id: str
    ui_state: str
    at: str


class _Raw(msgspec.Struct, frozen=True):
    status: str
    labels: dict[str, str]
    startsAt: str  # noqa: N815 - Alertmanager's spelling
    fingerprint: str
    annotations: dict[str, str] = {}


class _Notification(msgspec.Struct, frozen=True):
    alerts: list[_Raw]
    version: str = "4"


def read_notification(body: bytes) -> list[Alert]:
    """The alerts of a notification; fields that we don't use may be anything.

    Raises:
        UsageError: it is not one.
    """
    try:
        found = msgspec.json.decode(body, type=_Notification)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"This is no notification of Alertmanager: {error}.", _SEND) from None
    if len(found.alerts) > ALERTS_LIMIT:
        what = f"There are {len(found.alerts)} alerts in one notification; {ALERTS_LIMIT} are possible."
        raise UsageError(what, "Give the receiver's webhook `max_alerts`, or group by service.")
    return [_alert(raw) for raw in found.alerts]


_SEND = "Send what a webhook receiver of Alertmanager 0.20 or newer sends (version 4)."


def _alert(raw: _Raw) -> Alert:
    if raw.status not in ("firing", "resolved"):
        raise UsageError(f"The status of an alert is {raw.status[:50]!r}: firing or resolved.", _SEND)
    if not _FINGERPRINT.fullmatch(raw.fingerprint):
        raise UsageError(f"{raw.fingerprint[:80]!r} is no fingerprint of an alert.", _SEND)
    summary = _plain(raw.annotations.get("summary", ""), _SUMMARY_CHARS)
    return Alert(raw.fingerprint, utc(raw.startsAt), raw.status == "firing", raw.labels, summary)


def utc(text: str) -> str:
    """A time as RFC 3339 in UTC, to the microsecond: one moment is one text.

    Raises:
        UsageError: it is no time.
    """
    found = _TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        fraction = (found[2] or "")[:6].ljust(6, "0")
        moment = datetime.fromisoformat(f"{found[1].upper()}.{fraction}{found[3].upper().replace('Z', '+00:00')}")
        return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        raise UsageError(f"{text[:80]!r} is no time in RFC 3339.", _SEND) from None


def rules_of(keys: AlertKeys | None) -> Rules:
    """The rules as the project's file has them."""
    if keys is None:
        return Rules()
    return Rules(
        service_label=keys.service_label,
        environment_label=keys.environment_label,
        environment=keys.environment.value,
        services=keys.services,
        environments=keys.environments,
        match=keys.match,
        echo_s=ECHO_S if keys.echo is None else float(keys.echo),
    )


def target_of(alert: Alert, rules: Rules) -> Target | None:
    """The service that an alert is about, and where; None when it asks for nothing."""
    labels = alert.labels
    word = labels.get(rules.service_label, "")
    if not word or any(labels.get(label) != value for label, value in rules.match.items()):
        return None
    place = labels.get(rules.environment_label, "") or rules.environment
    return Target(rules.services.get(word, word), rules.environments.get(place, place))


def unwanted(alert: Alert, live: Live | None, rules: Rules, runs: list[Run]) -> tuple[Taken, str] | None:
    """Why an alert that fires must not roll back what is live now, with words for people; None when it may.

    Args:
        alert: fires, and is about a service of the project.
        live: what users are served; None when nothing is live.
        rules: how alerts are understood.
        runs: the latest ones.
    """
    if any(run.outcome is Outcome.DONE and alert.mark in run.plan.cause.reason for run in runs):
        return Taken.REPEATED, "the service was rolled back for it already"
    if live is None or not live.since:
        return None
    age_s = seconds_between(live.since, alert.starts_at)
    if age_s < 0:
        return Taken.BEFORE_RELEASE, f"it began before {live.release} had the traffic ({live.since})"
    if live.by_rollback and age_s < rules.echo_s:
        return Taken.ECHO, f"it began {age_s:.0f} s after the rollback to {live.release}"
    return None


def reason_of(alerts: list[Alert]) -> str:
    """Why a service is rolled back, for the audit trail."""
    named = "; ".join(f"{alert.name} {alert.mark}" for alert in alerts[:NAMED])
    more = f" and {len(alerts) - NAMED} more" if len(alerts) > NAMED else ""
    summary = f": {alerts[0].summary}" if alerts[0].summary else ""
    return f"alertmanager: {named}{more}{summary}"[:REASON_LIMIT].rstrip()


def remembered(known: list[Heard], new: list[Heard], limit: int) -> list[Heard]:
    """What is known after some more: each alert once, the newest ones of them."""
    ids = {heard.id for heard in new}
    return [*(heard for heard in known if heard.id not in ids), *new][-limit:]


def _plain(text: str, limit: int) -> str:
    """One line without control characters; brackets are kept for marks."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return words.replace("[", "(").replace("]", ")")[:limit]


def by_target(alerts: list[Alert], rules: Rules) -> Mapping[Target, list[Alert]]:
    """Alerts by what they are about, each once, those that fire first; without those that ask for nothing."""
    found: dict[Target, list[Alert]] = {}
    each = {alert.id: alert for alert in sorted(alerts, key=lambda alert: alert.firing)}
    for alert in sorted(each.values(), key=lambda alert: not alert.firing):
        target = target_of(alert, rules)
        if target is not None:
            found.setdefault(target, []).append(alert)
    return found
