"""Reading `x-nself-deploy` out of a resolved Compose model, and saying what is wrong with it.

Pure: the model comes in, and a function that says where in the user's files a key stands.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from nself_deploy.core.durations import Duration, format_duration, parse_duration
from nself_deploy.core.extension import (
    KEY,
    Extension,
    ProjectKeys,
    ServiceKeys,
    SplitBy,
    bounds,
    check_override,
    check_subnet_pool,
)
from nself_deploy.core.key_places import KeyPath, Locate, nowhere, where
from nself_deploy.core.metrics_check import check_metrics
from nself_deploy.core.slo_check import check_slo
from nself_deploy.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)


def read_extension(model: Mapping[str, Any], locate: Locate = nowhere) -> Extension:
    """Read all of `x-nself-deploy` out of a resolved Compose model.

    Raises:
        ConfigError: an unknown key, a wrong type or a value out of range; `where` names file, line and key.
    """
    project = _read(ProjectKeys, model.get(KEY), (KEY,), locate)
    _check_project(project, locate)
    check_slo(project, tuple(model.get("services") or {}), (KEY, "slo"), locate)
    services: dict[str, ServiceKeys] = {}
    for name, config in (model.get("services") or {}).items():
        if isinstance(config, Mapping) and KEY in config:
            path: KeyPath = ("services", name, KEY)
            keys = _read(ServiceKeys, config[KEY], path, locate)
            if keys.probe and keys.probe.statuses[0] > keys.probe.statuses[1]:
                raise ConfigError(
                    f"{list(keys.probe.statuses)} is not a range of statuses.",
                    "Write the lower one first, e.g. [200, 399].",
                    where=where(locate, (*path, "probe", "statuses")),
                )
            services[name] = keys
    return Extension(project, services)


def _check_project(keys: ProjectKeys, locate: Locate) -> None:
    if keys.router and keys.router.service and keys.router.host:
        raise ConfigError(
            "The router is either a service of the project or an nginx of the host.",
            "Keep one of `service` and `host`.",
            where=where(locate, (KEY, "router")),
        )
    if keys.analysis is not None:
        check_metrics(keys.analysis, (KEY, "analysis"), locate)
    if keys.split is SplitBy.RANDOM and keys.sticky not in (None, "random"):
        raise ConfigError(
            f"`split: random` and `sticky: {keys.sticky}` exclude each other.",
            "Keep one of them.",
            where=where(locate, (KEY, "split")),
        )
    if keys.override is not None:
        try:
            check_override(keys.override)
        except ValueError as error:
            at = where(locate, (KEY, "override"))
            remedy = "Give testers a word and a header or a cookie to say it in."
            raise ConfigError(f"{error}.", remedy, where=at) from None
    if keys.subnet_pool is not None:
        try:
            check_subnet_pool(keys.subnet_pool)
        except ValueError as error:
            at = where(locate, (KEY, "subnet_pool"))
            raise ConfigError(f"{error}.", "Write a private range, e.g. 10.213.0.0/16.", where=at) from None


def _read(kind: type[T], raw: object, path: KeyPath, locate: Locate = nowhere) -> T:
    """Read one mapping strictly; nothing at all is its defaults.

    Raises:
        ConfigError: an unknown key, a wrong type or a value out of range; `where` names file, line and key.
    """
    if raw is None:
        return kind()
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{raw!r} is not a mapping.", f"Known keys: {_known(kind)}.", where=where(locate, path))
    value = unescape(raw)
    _refuse_control_characters(value, path, locate)
    try:
        keys = msgspec.convert(value, kind, dec_hook=_duration)
    except msgspec.ValidationError as error:
        raise _config_error(str(error), kind, value, path, locate) from None
    _check_durations(keys, value, path, locate)
    return keys


def _refuse_control_characters(value: object, path: KeyPath, locate: Locate) -> None:
    """Values end up in nginx files and HTTP requests, where a line break would be the start of something else."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        _refuse_control_characters(item, (*path, key), locate)
    if isinstance(value, str) and not value.isprintable():
        shown = _masked(value, path)
        raise ConfigError(f"{shown!r} has control characters.", "Write it on one line.", where=where(locate, path))


def _masked(value: object, path: Sequence[str | int]) -> object:
    """The value as an error may repeat it: testers' word stays theirs, also where it stands in place of `override`."""
    return "***" if path and path[-1] in ("word", "override") else value


def unescape(value: Any) -> Any:
    """A part of the resolved model with Compose's `$$` turned back into `$`."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, Mapping):
        return {key: unescape(item) for key, item in value.items()}
    return [unescape(item) for item in value] if isinstance(value, list) else value


def _duration(kind: type, value: object) -> object:
    if kind is Duration:
        return Duration(parse_duration(value))
    raise NotImplementedError(kind)  # pragma: no cover - msgspec asks for no other type


def _check_durations(keys: msgspec.Struct, raw: Any, path: KeyPath, locate: Locate) -> None:
    limits = bounds(type(keys))
    for name in keys.__struct_fields__:
        value = getattr(keys, name)
        if isinstance(value, msgspec.Struct):
            _check_durations(value, raw[name], (*path, name), locate)
        if isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, msgspec.Struct):
                    _check_durations(item, raw[name][index], (*path, name, index), locate)
        if name in limits and value is not None and name in raw:
            low, high = limits[name]
            if value and not parse_duration(low) <= value <= parse_duration(high):
                raise ConfigError(
                    f"{format_duration(value)} is out of range.",
                    f"From {low} to {high} is possible; 0 is the default." if low != "0s" else f"At most {high}.",
                    where=where(locate, (*path, name)),
                )


# What msgspec says -> what a person can use.
_AT = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<at>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_TYPES = {
    "int": "a whole number",
    "str": "text",
    "array": "a list",
    "object": "a mapping",
    "bool": "true or false",
    "float": "a number",
    "null": "empty",
}


def _config_error(message: str, kind: type[msgspec.Struct], raw: Any, path: KeyPath, locate: Locate) -> ConfigError:
    match = _AT.match(message)
    what, at = (match["what"], match["at"] or "") if match else (message, "")
    at = at.partition("[...]")[0]  # one of a mapping's values: it is not said which
    steps: list[str | int] = [int(index) if index else name for name, index in _STEP.findall(at)]
    unknown = re.search(r"unknown field `(.*)`", what)
    if unknown:
        inner = _struct_at(kind, steps)
        near = difflib.get_close_matches(unknown[1], inner.__struct_fields__, n=1, cutoff=0.6)
        hint = f"Did you mean {near[0]}? " if near else ""
        at_key = where(locate, (*path, *steps, unknown[1]))
        return ConfigError(f"Unknown key {unknown[1]!r}.", f"{hint}Known keys: {_known(inner)}.", where=at_key)
    missing = re.search(r"missing required field `(.*)`", what)
    if missing:
        at_key = where(locate, (*path, *steps))
        return ConfigError(f"The key {missing[1]!r} is missing.", "Add it.", where=at_key)
    value = raw
    for step in steps:
        value = value[step]
    return ConfigError(*_explain(what, _masked(value, steps), kind, steps), where=where(locate, (*path, *steps)))


def _explain(what: str, value: object, kind: type[msgspec.Struct], steps: list[str | int]) -> tuple[str, str]:
    if "is not a duration" in what:
        return f"{what}.", ""
    if what.startswith("Invalid enum value"):
        allowed = [member.value for member in _enum_at(kind, steps)]
        near = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        return f"{value!r} is not possible.", f"{hint}Choose one of {', '.join(allowed)}."
    wrong = re.match(r"Expected `([^`]*)`(?:, got `(.*)`| (>=|<=) (\d+))?", what)
    if wrong and wrong[3]:
        return f"{value!r} is out of range.", f"It must be {'at least' if wrong[3] == '>=' else 'at most'} {wrong[4]}."
    if wrong and wrong[2]:
        wanted = [_TYPES.get(name.strip(), name.strip()) for name in wrong[1].split("|") if name.strip() != "null"]
        return f"{value!r} is not {' or '.join(wanted)}.", "Quote text, and don't quote numbers."
    return f"{value!r} is not possible: {what[:1].lower()}{what[1:]}.", ""


def _known(kind: type[msgspec.Struct]) -> str:
    return ", ".join(kind.__struct_fields__)


def _type_at(kind: type[msgspec.Struct], steps: list[str | int]) -> Any:
    """The type behind a key path, without None and Annotated."""
    current: Any = kind
    for step in steps:
        if isinstance(step, int):
            current = typing.get_args(current)[0]
        else:
            current = typing.get_type_hints(current, include_extras=False)[step]
        if typing.get_origin(current) in (typing.Union, types.UnionType):
            current = next(arg for arg in typing.get_args(current) if arg is not type(None))
    return current


def _struct_at(kind: type[msgspec.Struct], steps: list[str | int]) -> type[msgspec.Struct]:
    found: type[msgspec.Struct] = _type_at(kind, steps)
    return found


def _enum_at(kind: type[msgspec.Struct], steps: list[str | int]) -> Any:
    return _type_at(kind, steps)
