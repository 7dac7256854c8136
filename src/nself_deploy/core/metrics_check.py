"""What is wrong with `analysis.prometheus` and `analysis.metrics`, beyond what their types say."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from nself_deploy.core.extension import AnalysisKeys
from nself_deploy.core.key_places import KeyPath, Locate, nowhere, where
from nself_deploy.core.metrics import PLACEHOLDERS, Condition, MetricKeys, Prometheus, placeholders
from nself_deploy.errors import ConfigError

MOST_METRICS = 50
MOST_NAME = 80
MOST_QUERY = 4000


def check_metrics(keys: AnalysisKeys, at: KeyPath, locate: Locate = nowhere) -> None:
    """What types can't say; `at` is where `analysis` stands.

    Raises:
        ConfigError: a value out of range, or values that contradict each other; `where` names file, line and key.
    """
    if keys.prometheus is not None:
        _check_address(keys.prometheus, (*at, "prometheus"), locate)
        _check_credentials(keys.prometheus, (*at, "prometheus"), locate)
    elif keys.metrics:
        raise ConfigError(
            "Nobody answers the queries of `metrics`.",
            "Add prometheus: {url: http://ADDRESS:9090}, or remove the metrics.",
            where=where(locate, (*at, "metrics")),
        )
    if len(keys.metrics) > MOST_METRICS:
        raise ConfigError(
            f"There are {len(keys.metrics)} metrics.",
            f"At most {MOST_METRICS} are possible: keep those that decide.",
            where=where(locate, (*at, "metrics")),
        )
    names: set[str] = set()
    for index, metric in enumerate(keys.metrics):
        path: KeyPath = (*at, "metrics", index)
        _check_name(metric, names, (*path, "name"), locate)
        check_query(metric.query, PLACEHOLDERS, (*path, "query"), locate)
        _check_conditions(metric, path, locate)
        _check_counts(metric, path, locate)
        names.add(metric.name)


def _check_address(keys: Prometheus, at: KeyPath, locate: Locate) -> None:
    if "@" in keys.url:
        raise ConfigError(
            "There is a user or a password in the address.",  # not shown: it is a secret
            "Write `username` and `password_file`, or `token_file`.",
            where=where(locate, (*at, "url")),
        )
    url = _split(keys.url)
    if url is None:
        raise ConfigError(
            f"{keys.url!r} is not an address.",
            "Write it like http://127.0.0.1:9090.",
            where=where(locate, (*at, "url")),
        )
    if url.query or url.fragment or url.path.rstrip("/").endswith("/api/v1/query"):
        raise ConfigError(
            f"{keys.url!r} is not the beginning of Prometheus' addresses.",
            "Leave out /api/v1/query, and all from ? or # on.",
            where=where(locate, (*at, "url")),
        )
    if keys.ca_file and url.scheme != "https":
        raise ConfigError(
            f"{keys.url!r} has no certificate to be checked.",
            "Write https:// in `url`, or remove `ca_file`.",
            where=where(locate, (*at, "ca_file")),
        )


def _check_credentials(keys: Prometheus, at: KeyPath, locate: Locate) -> None:
    if bool(keys.username) != bool(keys.password_file):
        missing, given = ("password_file", "username") if keys.username else ("username", "password_file")
        raise ConfigError(f"The key {missing!r} is missing.", f"Add it, or remove {given}.", where=where(locate, at))
    if ":" in keys.username:
        raise ConfigError(
            f"{keys.username!r} has a colon, which ends a user's name.",
            "Write the name alone.",
            where=where(locate, (*at, "username")),
        )
    if keys.token_file and keys.username:
        raise ConfigError(
            "One request can't have a password and a token.",
            "Keep one of `password_file` and `token_file`.",
            where=where(locate, (*at, "token_file")),
        )


def _split(text: str) -> Any:
    """The parts of an HTTP address, None when it is none."""
    try:
        url = urlsplit(text)
        usable = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        return None
    return url if usable and not re.search(r"\s", text) else None


def _check_name(metric: MetricKeys, names: set[str], path: KeyPath, locate: Locate) -> None:
    name = metric.name
    if not name.strip() or len(name) > MOST_NAME:
        raise ConfigError(
            f"{name[:MOST_NAME]!r} is not a name.", f"Write 1 to {MOST_NAME} characters.", where=where(locate, path)
        )
    if name in names:
        raise ConfigError(f"Two metrics are called {name!r}.", "Give one of them another.", where=where(locate, path))


def check_query(query: str, known: Sequence[str], path: KeyPath, locate: Locate) -> None:
    """It says something, is not too long, and has no placeholder but those that are known.

    Raises:
        ConfigError: it does not; `where` names file, line and key.
    """
    if not query.strip():
        raise ConfigError(f"{query!r} asks for nothing.", "Write PromQL.", where=where(locate, path))
    if len(query) > MOST_QUERY:
        raise ConfigError(
            f"The query has {len(query)} characters.",
            f"At most {MOST_QUERY} are possible: make a recording rule of it.",
            where=where(locate, path),
        )
    for name in placeholders(query):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {{{{{near[0]}}}}}? " if near else ""
            words = ", ".join(f"{{{{{one}}}}}" for one in known)
            at = where(locate, path)
            raise ConfigError(f"There is no placeholder {{{{{name}}}}}.", f"{hint}Known ones: {words}.", where=at)


def _check_conditions(metric: MetricKeys, path: KeyPath, locate: Locate) -> None:
    for key, condition in (("success", metric.success), ("failure", metric.failure)):
        if condition is not None:
            _check_condition(condition, (*path, key), locate)
    if metric.success is None and metric.failure is None:
        raise ConfigError(
            f"{metric.name!r} says neither which values are good nor which are bad.",
            "Add success: {below: NUMBER}, or failure, or both.",
            where=where(locate, path),
        )
    if metric.success is not None and metric.failure is not None and metric.success.overlaps(metric.failure):
        raise ConfigError(
            f"One value can be good and bad: {metric.success.says}, and {metric.failure.says}.",
            "Leave a gap between them, or nothing.",
            where=where(locate, (*path, "failure")),
        )


def _check_condition(condition: Condition, path: KeyPath, locate: Locate) -> None:
    given = {key: getattr(condition, key) for key in condition.__struct_fields__}
    given = {key: value for key, value in given.items() if value is not None}
    if len(given) != 1:
        said = " and ".join(f"`{key}`" for key in given) or "nothing"
        raise ConfigError(
            f"A condition has one key, and this one has {said}.",
            "Write {below: NUMBER}, {above: NUMBER} or {within: [LOW, HIGH]}.",
            where=where(locate, path),
        )
    [(key, value)] = given.items()
    for number in value if isinstance(value, tuple) else (value,):
        if not math.isfinite(number):
            raise ConfigError(
                f"{number!r} is no number to compare with.", "Write a finite one.", where=where(locate, (*path, key))
            )
    if condition.within is not None and condition.within[0] > condition.within[1]:
        raise ConfigError(
            f"{list(condition.within)} has no value in it.",
            "Write the lower one first.",
            where=where(locate, (*path, key)),
        )


def _check_counts(metric: MetricKeys, path: KeyPath, locate: Locate) -> None:
    if not metric.failures and not metric.failures_in_a_row:
        raise ConfigError(
            f"{metric.name!r} can never fail.",
            "Give `failures_in_a_row` or `failures` a number above 0.",
            where=where(locate, (*path, "failures_in_a_row")),
        )
