"""From the words of `slo` and of `--objective` to objectives, and what is wrong with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from nself_deploy.core.extension import KEY, SloKeys
from nself_deploy.core.key_places import KeyPath, Locate, nowhere, where
from nself_deploy.core.model import Route
from nself_deploy.core.slo import HOW, Objective, availability, latency, objective
from nself_deploy.errors import ConfigError, UsageError

MOST = 20
"""So many objectives are possible: each is looked at every second."""


def check_slo(keys: Sequence[SloKeys], services: Sequence[str], at: KeyPath, locate: Locate = nowhere) -> None:
    """What types can't say; `at` is where `slo` stands.

    Raises:
        ConfigError: an objective that makes no sense; `where` names file, line and key.
    """
    if len(keys) > MOST:
        what = f"There are {len(keys)} objectives."
        raise ConfigError(what, f"At most {MOST} are possible: keep those that decide.", where=where(locate, at))
    known = set[Objective]()
    for index, one in enumerate(keys):
        found = _objective(one, (*at, index), locate)
        if one.service and one.service not in services:
            _unknown("service", one.service, services, where(locate, (*at, index, "service")))
        if found in known:
            what = f"The objective {found.name} is there twice."
            raise ConfigError(what, "Remove one of the two.", where=where(locate, (*at, index)))
        known.add(found)


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
    """Each is about requests that can come.

    Raises:
        UsageError: one names a route that there isn't, or a service to which nothing is routed.
    """
    services = sorted({route.service for route in routes})
    names = sorted(f"{route.service}:{route.port}" for route in routes)
    for one in objectives:
        if one.route and one.route not in names:
            _unknown("route", one.route, names, one.name)
        if one.service and one.service not in services:
            what = f"Nothing is routed to {one.service}: the router's log says nothing about it."
            raise UsageError(what, f"Services with a route: {', '.join(services)}.", where=one.name)


def _objective(keys: SloKeys, at: KeyPath, locate: Locate) -> Objective:
    if (keys.availability is None) == (keys.latency is None):
        said = "neither `availability` nor `latency`" if keys.latency is None else "`availability` and `latency`"
        remedy = "Write one of them: availability: 99.9, or latency: 99 % < 300ms."
        raise ConfigError(
            f"An objective has one of two keys, and this one has {said}.", remedy, where=where(locate, at)
        )
    if keys.service and keys.route:
        what = "An objective is about a service or about one of its routes."
        raise ConfigError(what, "Keep one of `service` and `route`.", where=where(locate, (*at, "route")))
    try:
        if keys.availability is not None:
            return availability(keys.availability, keys.service, keys.route)
        return latency(keys.latency or "", keys.service, keys.route)
    except ValueError as error:
        key = "latency" if keys.availability is None else "availability"
        raise ConfigError(f"{error}.", "", where=where(locate, (*at, key))) from None


def _unknown(kind: str, name: str, known: Sequence[str], place: str) -> None:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise ConfigError(f"There is no {kind} {name!r}.", f"{hint}Known ones: {', '.join(sorted(known))}.", where=place)
