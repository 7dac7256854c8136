"""Objectives as people write them: in the Compose file and on the command line, and what is wrong with them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nself_deploy.cli.main import main
from nself_deploy.core.extension import KEY
from nself_deploy.core.extension_reader import read_extension
from nself_deploy.core.model import Route
from nself_deploy.core.slo import Objective, Queries
from nself_deploy.core.slo_check import MOST, MOST_ASKED, check_routes, objectives_from, objectives_of
from nself_deploy.errors import ConfigError, UsageError

ROUTES = (Route("web_8000", "web", 8000), Route("api_9000", "api", 9000))


def read(*objectives: dict[str, Any]) -> list[str]:
    model = {KEY: {"slo": list(objectives)}, "services": {"web": {}, "api": {}, "db": {}}}
    return [one.name for one in objectives_of(read_extension(model).project.slo)]


def test_objectives_are_read_from_the_projects_file() -> None:
    assert read() == []
    assert read(
        {"availability": 99.9}, {"availability": "99.95 %", "service": "web"}, {"latency": "99 % < 300ms"},
        {"latency": "95% < 2s", "route": "api:9000"},
    ) == [
        "availability 99.9 %", "availability 99.95 % of web", "latency 99 % < 300ms", "latency 95 % < 2s of api:9000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "what", "place"),
    [
        ({}, "one of `availability`, `latency` and `prometheus`, and this one has none", "slo[0]"),
        ({"availability": 99, "latency": "99 % < 1s"}, "has `availability` and `latency`", "slo[0]"),
        ({"availability": 100}, "'100' is not an availability", "availability"),
        ({"availability": 9}, "9 % is no objective", "availability"),
        ({"latency": "fast"}, "'fast' is not a latency objective", "latency"),
        ({"latency": "99 % < 0ms"}, "0ms is no limit for an answer", "latency"),
        ({"availability": 99, "service": "wed"}, "There is no service 'wed'", "service"),
        ({"availability": 99, "service": "web", "route": "web:8000"}, "about a service or about", "route"),
        ({"availabilty": 99}, "Unknown key 'availabilty'", "availabilty"),
        ({"availability": [99]}, "is not", "availability"),
    ],
)
def test_an_objective_that_makes_no_sense_is_refused_with_its_place(
    keys: dict[str, Any], what: str, place: str
) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        read(keys)

    assert place in caught.value.where


TOTAL = "sum(increase(http_requests_total[{{window}}]))"
BAD = 'sum(increase(http_requests_total{code=~"5..",of="{{project}}"}[{{ window }}])) or vector(0)'
ASKED: dict[str, Any] = {"name": "checkouts", "target": 99.9, "total": TOTAL, "bad": BAD}


def ask(*objectives: dict[str, Any], analysis: dict[str, Any] | None = None) -> list[Objective]:
    """Objectives of a project that names a Prometheus."""
    keys = {"slo": list(objectives), "analysis": analysis or {"prometheus": {"url": "http://127.0.0.1:9090"}}}
    model = {KEY: keys, "services": {"web": {}, "api": {}, "db": {}}}
    return list(objectives_of(read_extension(model).project.slo))


def test_an_objective_may_have_its_numbers_from_prometheus() -> None:
    first, second = ask(
        {"prometheus": ASKED, "service": "db"},
        {
            "prometheus": {"name": " fast  ones ", "target": "99 %", "total": TOTAL, "good": BAD, "min_window": "20s"},
        },
    )

    assert (first.name, first.service, first.queries) == ("checkouts 99.9 %", "db", Queries(TOTAL, BAD))
    assert (second.name, second.queries) == ("fast ones 99 %", Queries(TOTAL, BAD, good=True, least_s=20))
    check_routes([first, second], ROUTES)


@pytest.mark.parametrize(
    ("more", "what", "place"),
    [
        ({"availability": 99}, "and this one has `availability` and `prometheus`", "slo[0]"),
        ({"route": "web:8000"}, "`route` is about the router's own log", "route"),
        ({"prometheus": ASKED | {"nam": "x"}}, "Unknown key 'nam'", "nam"),
        ({"prometheus": {"target": 99.9, "total": TOTAL, "bad": BAD}}, "The key 'name' is missing", "prometheus"),
        ({"prometheus": ASKED | {"name": " "}}, "' ' is not a name", "name"),
        ({"prometheus": ASKED | {"name": "x" * 81}}, "is not a name", "name"),
        ({"prometheus": ASKED | {"target": 100}}, "'100' is not a share of the requests", "target"),
        ({"prometheus": ASKED | {"target": "20 %"}}, "20 % is no objective", "target"),
        ({"prometheus": ASKED | {"good": BAD}}, "and here both of them", "prometheus"),
        ({"prometheus": ASKED | {"bad": ""}}, "and here neither of them", "prometheus"),
        ({"prometheus": ASKED | {"bad": " "}}, "asks for nothing", "bad"),
        ({"prometheus": ASKED | {"bad": "sum(increase(x[5m]))"}}, "The query has no {{window}}", "bad"),
        ({"prometheus": ASKED | {"total": "sum(rate(x[{{window}}]))"}}, "gives a rate", "total"),
        ({"prometheus": ASKED | {"total": BAD}}, "`bad` and `total` are the same query", "bad"),
        ({"prometheus": ASKED | {"bad": "x[{{windo}}]"}}, "no placeholder {{windo}}", "bad"),
        ({"prometheus": ASKED | {"bad": 'x{of="{{slot}}"}[{{window}}]'}}, "no placeholder {{slot}}", "bad"),
        ({"prometheus": ASKED | {"bad": "x" * 4001}}, "has 4001 characters", "bad"),
        ({"prometheus": ASKED | {"min_window": "6m"}}, "out of range", "min_window"),
        ({"prometheus": ASKED, "service": "wed"}, "There is no service 'wed'", "service"),
    ],
)
def test_queries_that_can_be_no_objective_are_refused_with_their_place(
    more: dict[str, Any], what: str, place: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(what)) as caught:
        ask({"prometheus": ASKED} | more)

    assert place in caught.value.where


def test_queries_need_somebody_who_answers_and_are_few() -> None:
    with pytest.raises(ConfigError, match="Nobody answers the queries of the objective checkouts"):
        ask({"prometheus": ASKED}, analysis={"alpha": 0.01})
    with pytest.raises(ConfigError, match=f"There are {MOST_ASKED + 1} objectives for Prometheus"):
        ask(*({"prometheus": ASKED | {"name": f"n{n}"}} for n in range(MOST_ASKED + 1)))
    with pytest.raises(ConfigError, match="availability 99.9 % is there twice"):
        ask({"availability": 99.9}, {"prometheus": ASKED | {"name": "availability"}})


def test_the_same_objective_twice_and_too_many_are_refused() -> None:
    with pytest.raises(ConfigError, match="is there twice"):
        read({"availability": 99.9}, {"availability": "99.9 %"})
    with pytest.raises(ConfigError, match=f"There are {MOST + 1} objectives"):
        read(*({"availability": 90 + n / 10} for n in range(MOST + 1)))


def test_objectives_of_the_command_line() -> None:
    found = objectives_from(["availability 99.9", "latency 99 % < 300ms of web", "availability 99.9 %"])

    assert [one.name for one in found] == ["availability 99.9 %", "latency 99 % < 300ms of web"]
    check_routes(found, ROUTES)
    with pytest.raises(UsageError, match="'uptime' is not an objective") as caught:
        objectives_from(["uptime"])
    assert "availability 99.9" in caught.value.remedy and caught.value.where == "--objective"
    with pytest.raises(UsageError, match="objectives"):
        objectives_from([f"availability {90 + n / 10}" for n in range(MOST + 1)])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("availability 99 of web:80", "There is no route 'web:80'"),
        ("availability 99 of db", "Nothing is routed to db"),
    ],
)
def test_an_objective_about_requests_that_can_not_come_is_refused(text: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        check_routes(objectives_from([text]), ROUTES)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--objective", "uptime"], "--objective: 'uptime' is not an objective."),
        (["--for", "0.2s"], "--for: '0.2s' is too short."),
        (["--for", "soon"], "--for: 'soon' is not a duration"),
        (["--objective", "latency 99 % < 20m"], "--objective: 20m is no limit for an answer"),
    ],
)
def test_a_watch_that_makes_no_sense_is_refused_at_once(
    words: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", "watch", "-C", str(tmp_path), *words]) == 1
    assert f"error: {what}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_watch_without_a_project_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "watch", "-C", str(tmp_path), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["success"] is False and document["error"]
