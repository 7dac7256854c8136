"""From the words of `slo` and of `--objective` to objectives, and what is wrong with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from nself_deploy.core.extension import KEY, ProjectKeys, SloKeys
from nself_deploy.core.key_places import KeyPath, Locate, nowhere, where
from nself_deploy.core.metrics import placeholders
from nself_deploy.core.metrics_check import check_query
from nself_deploy.core.model import Route
from nself_deploy.core.slo import HOW, Objective, availability, latency, objective
from nself_deploy.core.slo_queries import MOST_NAME, PLACEHOLDERS, SloQueryKeys, counts_per_second
from nself_deploy.errors import ConfigError, UsageError

MOST = 20
"""So many objectives are possible: each is looked at every second."""
MOST_ASKED = 10
"""So many of them may be Prometheus': each asks it for up to eight numbers every few seconds."""
_KINDS = ("availability", "latency", "prometheus")


def check_slo(project: ProjectKeys, services: Sequence[str], at: KeyPath, locate: Locate = nowhere) -> None:
    """What types can't say; `at` is where `slo` stands.

    Raises:
        ConfigError: an objective that makes no sense; `where` names file, line and key.
    """
    keys = project.slo
    _check_number(keys, at, locate)
    known = set[str]()
    for index, one in enumerate(keys):
        found = _objective(one, (*at, index), locate)
        if one.service and one.service not in services:
            _unknown("service", one.service, services, where(locate, (*at, index, "service")))
        if one.prometheus is not None and (project.analysis is None or project.analysis.prometheus is None):
            what = f"Nobody answers the queries of the objective {found.name}."
            remedy = "Add analysis: {prometheus: {url: http://ADDRESS:9090}}."
            raise ConfigError(what, remedy, where=where(locate, (*at, index, "prometheus")))
        if found.name in known:
            what = f"The objective {found.name} is there twice."
            raise ConfigError(what, "Remove one of the two.", where=where(locate, (*at, index)))
        known.add(found.name)


def objectives_of(keys: Iterable[SloKeys]) -> tuple[Objective, ...]:
    """The objectives of a project's file, which was checked."""
    return tuple(_objective(one, (KEY, "slo", index), nowhere) for index, one in enumerate(keys))


def objectives_from(texts: Sequence[str]) -> tuple[Objective, ...]:
    """Those of `--objective`.

    Raises:
        UsageError: one that makes no sense.
    """
    found: list[Objective] = []
    for text in texts:
        try:
            one = objective(text)
        except ValueError as error:
            raise UsageError(f"{error}.", HOW, where="--objective") from None
        if one not in found:
            found.append(one)
    if len(found) > MOST:
        raise UsageError(f"There are {len(found)} objectives.", f"At most {MOST} are possible.", where="--objective")
    return tuple(found)


def check_routes(objectives: Iterable[Objective], routes: Sequence[Route]) -> None:
    """Each that the router's log is asked about is about requests that can come.

    Raises:
        UsageError: one names a route that there isn't, or a service to which nothing is routed.
    """
    services = sorted({route.service for route in routes})
    names = sorted(f"{route.service}:{route.port}" for route in routes)
    for one in objectives:
        if one.route and one.route not in names:
            _unknown("route", one.route, names, one.name)
        if one.service and one.service not in services and one.queries is None:
            what = f"Nothing is routed to {one.service}: the router's log says nothing about it."
            raise UsageError(what, f"Services with a route: {', '.join(services)}.", where=one.name)


def _check_number(keys: Sequence[SloKeys], at: KeyPath, locate: Locate) -> None:
    asked = sum(one.prometheus is not None for one in keys)
    for number, most, of in ((len(keys), MOST, ""), (asked, MOST_ASKED, " for Prometheus")):
        if number > most:
            what = f"There are {number} objectives{of}."
            raise ConfigError(what, f"At most {most} are possible: keep those that decide.", where=where(locate, at))


def _objective(keys: SloKeys, at: KeyPath, locate: Locate) -> Objective:
    given = [kind for kind in _KINDS if getattr(keys, kind) is not None]
    if len(given) != 1:
        said = " and ".join(f"`{kind}`" for kind in given) or "none"
        remedy = "Write one of them: availability: 99.9, latency: 99 % < 300ms, or prometheus: {…}."
        what = f"An objective has one of `availability`, `latency` and `prometheus`, and this one has {said}."
        raise ConfigError(what, remedy, where=where(locate, at))
    if keys.service and keys.route:
        what = "An objective is about a service or about one of its routes."
        raise ConfigError(what, "Keep one of `service` and `route`.", where=where(locate, (*at, "route")))
    [key] = given
    try:
        if keys.prometheus is not None:
            _check_queries(keys, keys.prometheus, at, locate)
            return keys.prometheus.objective(keys.service)
        if keys.availability is not None:
            return availability(keys.availability, keys.service, keys.route)
        return latency(keys.latency or "", keys.service, keys.route)
    except ValueError as error:
        place = (*at, key, "target") if keys.prometheus is not None else (*at, key)
        raise ConfigError(f"{error}.", "", where=where(locate, place)) from None


def _check_queries(keys: SloKeys, asked: SloQueryKeys, at: KeyPath, locate: Locate) -> None:
    """What is asked of Prometheus can be a number of requests."""
    inside = (*at, "prometheus")
    if keys.route:
        what = "`route` is about the router's own log, which says nothing about this objective."
        raise ConfigError(what, "Remove it, and write it into the queries.", where=where(locate, (*at, "route")))
    if not asked.name.strip() or len(asked.name) > MOST_NAME:
        what = f"{asked.name[:MOST_NAME]!r} is not a name."
        raise ConfigError(what, f"Write 1 to {MOST_NAME} characters.", where=where(locate, (*inside, "name")))
    if bool(asked.bad) == bool(asked.good):
        said = "both" if asked.bad else "neither"
        what = f"Beside `total` there is one of `bad` and `good`, and here {said} of them."
        raise ConfigError(what, "Keep the one that can be counted.", where=where(locate, inside))
    part = asked.queries.key
    for key in ("total", part):
        _check_count(getattr(asked, key), (*inside, key), locate)
    if asked.queries.part.strip() == asked.total.strip():
        what = f"`{part}` and `total` are the same query."
        raise ConfigError(what, f"Write one of the {part} requests only.", where=where(locate, (*inside, part)))


def _check_count(query: str, place: KeyPath, locate: Locate) -> None:
    check_query(query, PLACEHOLDERS, place, locate)
    if "window" not in placeholders(query):
        what = "The query has no {{window}}: it would say the same of each window."
        raise ConfigError(what, "Write it like sum(increase(NAME[{{window}}])).", where=where(locate, place))
    if counts_per_second(query):
        what = "The query gives a rate, and how many requests there were is wanted."
        raise ConfigError(what, "Write increase(…) in place of rate(…).", where=where(locate, place))


def _unknown(kind: str, name: str, known: Sequence[str], place: str) -> None:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise ConfigError(f"There is no {kind} {name!r}.", f"{hint}Known ones: {', '.join(sorted(known))}.", where=place)
