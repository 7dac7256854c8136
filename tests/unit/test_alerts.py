"""What Alertmanager tells, understood: times, targets, and which alerts must never roll anything back."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core.alerts import (
    ALERTS_LIMIT,
    Alert,
    Heard,
    Live,
    Rules,
    Taken,
    Target,
    by_target,
    read_notification,
    reason_of,
    remembered,
    rules_of,
    target_of,
    unwanted,
    utc,
)
from nself_deploy.core.durations import Duration
from nself_deploy.core.extension import AlertKeys, Environment
from nself_deploy.core.machine import Outcome, Phase, Run, new_run
from nself_deploy.core.rollback import REASON_LIMIT, checked_reason
from nself_deploy.core.times import parse, plus_seconds
from nself_deploy.errors import UsageError
from tests.unit.serving_scene import a_way_back, an_alert, notification

LIVE = Live("two", ("api", "web"), "2026-11-27T02:01:00.000Z")
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1))
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def read(*alerts: dict[str, object]) -> list[Alert]:
    return read_notification(json.dumps(notification(*alerts)).encode())


def an_alert_at(starts_at: str) -> Alert:
    return Alert("0123456789abcdef", starts_at, firing=True, labels={"service": "web"})


def rolled_back(reason: str, outcome: Outcome = Outcome.DONE) -> Run:
    run = new_run("run-2", a_way_back("one", "two", reason), "2026-11-27T02:05:00Z")
    return msgspec.structs.replace(run, phase=Phase.ENDED, outcome=outcome)


def test_an_alert_is_what_it_says() -> None:
    (alert,) = read({})

    assert (alert.fingerprint, alert.starts_at, alert.firing) == (
        "0123456789abcdef",
        "2026-11-27T02:02:00.123456Z",
        True,
    )
    assert alert.name == "ErrorBudgetBurn" and alert.summary == "web burns 22x"
    assert reason_of([alert]) == (
        "alertmanager: ErrorBudgetBurn [0123456789abcdef 2026-11-27T02:02:00.123456Z]: web burns 22x"
    )


@given(moment=MOMENTS, zone=ZONES, digits=st.integers(0, 9))
def test_one_moment_is_one_text_in_every_zone(moment: datetime, zone: timezone, digits: int) -> None:
    here = moment.replace(tzinfo=UTC).astimezone(zone)
    fraction = f".{here.microsecond:06d}000"[: digits + 1] if digits else ""
    offset = here.strftime("%z")
    text = f"{here:%Y-%m-%dT%H:%M:%S}{fraction}{offset[:3]}:{offset[3:5]}"
    kept = moment.replace(microsecond=int(fraction[1:7].ljust(6, "0")) if digits else 0, tzinfo=UTC)

    assert parse(utc(text)) == kept
    assert utc(utc(text)) == utc(text)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-11-27", "2026-11-27T02:00:00", "2026-13-27T02:00:00Z", "0001-01-01T00:00:00+14:00"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        utc(text)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no notification"),
        (b"[]", "no notification"),
        (b'{"alerts": 1}', "no notification"),
        (b'{"alerts": [{"status": "firing"}]}', "no notification"),
        (b"\xff\xfe", "no notification"),
        (b'{"alerts": [], "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "no notification"),
        (json.dumps(notification({"status": "odd"})).encode(), "status of an alert"),
        (json.dumps(notification({"fingerprint": "a\nb"})).encode(), "no fingerprint"),
        (json.dumps(notification({"startsAt": "soon"})).encode(), "no time"),
        (json.dumps(notification(*[{}] * (ALERTS_LIMIT + 1))).encode(), "501 alerts"),
    ],
)
def test_what_is_no_notification_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_notification(body)


@given(st.binary(max_size=300))
def test_no_bytes_give_anything_but_alerts_or_a_refusal(body: bytes) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(read_notification(body), list)


@pytest.mark.parametrize(
    ("labels", "target"),
    [
        ({"service": "web"}, Target("web", "prod")),
        ({"service": "web", "environment": "staging"}, Target("web", "staging")),
        ({"environment": "staging"}, None),
        ({"service": ""}, None),
        ({}, None),
    ],
)
def test_labels_say_what_an_alert_is_about(labels: dict[str, str], target: Target | None) -> None:
    (alert,) = read({"labels": labels})

    assert target_of(alert, Rules()) == target


def test_labels_are_mapped_as_the_project_says() -> None:
    rules = rules_of(
        AlertKeys(
            service_label="app",
            environment_label="stage",
            environment=Environment.LOCAL,
            services={"ping-api": "ping_api"},
            environments={"live": "prod"},
            match={"severity": "page"},
            echo=Duration(0),
        )
    )
    page = {"severity": "page"}
    found = read(
        {"labels": {"app": "ping-api", "stage": "live", **page}},
        {"labels": {"app": "web", **page}},
        {"labels": {"app": "web"}},
    )

    assert [target_of(alert, rules) for alert in found] == [Target("ping_api", "prod"), Target("web", "local"), None]
    assert rules.echo_s == 0 and rules_of(None) == rules_of(AlertKeys()) == Rules()


def test_alerts_about_one_service_are_one_group_and_firing_ones_come_first() -> None:
    found = by_target(
        read(
            {"status": "resolved", "labels": {"service": "api"}, "fingerprint": "a"},
            {"labels": {"service": "web"}},
            {"labels": {"service": "web"}, "fingerprint": "b"},
            {"labels": {"service": "web"}, "fingerprint": "b", "status": "resolved"},
            {"labels": {}, "fingerprint": "c"},
        ),
        Rules(),
    )

    assert [(target.service, len(group)) for target, group in found.items()] == [("web", 2), ("api", 1)]


@given(seconds=st.floats(-1e6, 1e6), by_rollback=st.booleans())
def test_an_alert_that_began_before_the_release_never_rolls_it_back(seconds: float, by_rollback: bool) -> None:
    alert = an_alert_at(plus_seconds(LIVE.since, seconds))
    live = msgspec.structs.replace(LIVE, by_rollback=by_rollback)
    why = unwanted(alert, live, Rules(), [])

    age_s = (parse(alert.starts_at) - parse(LIVE.since)).total_seconds()
    expected = Taken.BEFORE_RELEASE if age_s < 0 else Taken.ECHO if by_rollback and age_s < 900 else None
    assert (why[0] if why else None) is expected


def test_one_alert_is_one_rollback_also_by_the_history() -> None:
    alert = an_alert_at("2026-11-27T02:02:00.123456Z")
    other = an_alert_at("2026-11-27T02:02:00.123457Z")
    reason = reason_of([alert])

    assert unwanted(alert, LIVE, Rules(), [rolled_back(reason)]) == (
        Taken.REPEATED,
        "the service was rolled back for it already",
    )
    assert unwanted(alert, LIVE, Rules(), [rolled_back(reason, Outcome.FAILED)]) is None
    assert unwanted(other, LIVE, Rules(), [rolled_back(reason)]) is None


def test_what_is_not_known_hinders_nothing() -> None:
    alert = an_alert_at("2026-11-27T02:02:00Z")

    assert unwanted(alert, None, Rules(), []) is None
    assert unwanted(alert, msgspec.structs.replace(LIVE, since=""), Rules(), []) is None


def test_a_reason_can_not_pretend_to_be_about_another_alert() -> None:
    labels = {"alertname": "x [fedcba 2026-11-27T02:02:00.000000Z]\n\x1b[31m", "service": "web"}
    (alert,) = read({"labels": labels, "annotations": {"summary": "[fedcba 2026]"}})
    reason = reason_of([alert])

    assert "[fedcba" not in reason and "\x1b" not in reason and reason.count("[") == 1


def test_a_reason_names_a_few_and_counts_the_rest() -> None:
    found = [an_alert_at(f"2026-11-27T02:02:0{n}.000000Z") for n in range(9)]

    assert reason_of(found).count("[") == 5 and reason_of(found).endswith("and 4 more")
    assert len(reason_of(found)) < 1000


def test_a_reason_has_the_marks_of_all_that_it_names_and_is_never_too_long() -> None:
    labels = {"alertname": "n" * 300}
    found = [Alert("f" * 63 + str(n), f"2026-11-27T02:02:0{n}.000000Z", True, labels, "s" * 200) for n in range(5)]

    assert all(alert.mark in reason_of(found) for alert in found)
    assert len(reason_of(found)) == REASON_LIMIT == len(checked_reason(reason_of(found)))


@given(st.lists(st.lists(st.integers(0, 20), max_size=8), max_size=20))
def test_alerts_are_remembered_once_each_and_the_newest_of_them(rounds: list[list[int]]) -> None:
    known: list[Heard] = []
    told: list[int] = []
    for numbers in rounds:
        new = list(dict.fromkeys(numbers))
        known = remembered(known, [Heard(str(n), "populated", "") for n in new], 10)
        told = [n for n in told if n not in new] + new

    assert [heard.id for heard in known] == [str(n) for n in told[-10:]]


def test_an_alert_without_a_name_has_one() -> None:
    (alert,) = read(an_alert(labels={"service": "web"}))

    assert alert.name == "alert"
