"""Effective settings, each with its origin: flag, environment, project configuration, default - in this order.

Zero or missing means the default (but `standby` and `bake`, where 0 means "not at all", and `pause_expiry`, where it
means "never"); out of range is an error, never clamped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from nself_deploy.core.durations import Duration, format_duration, parse_duration
from nself_deploy.core.limits import LIMITS
from nself_deploy.core.model import Setting, Strategy
from nself_deploy.core.pauses import Then
from nself_deploy.errors import UsageError

if TYPE_CHECKING:
    from nself_deploy.core.extension import ProjectKeys

DEFAULT = "default"
PROJECT_SOURCE = "docker-compose.yml"

# All defaults in one place (contract: the specification's, and design for the rest).
DEFAULTS: dict[str, Any] = {
    "target": "local",
    "strategy": Strategy.BLUE_GREEN,
    "health_timeout_s": 30.0,
    "min_uptime_s": 7.0,
    "drain_s": 60.0,
    "standby_s": 600.0,
    "initial_percent": 10,
    "soak_minutes": 5.0,
    "error_threshold_pct": 1.0,
    "steps": "",
    "bake_s": 0.0,
    "pause_expiry_s": 0.0,
    "pause_then": Then.ABORT,
    "sticky": "client",
    "subnet_pool": "10.213.0.0/16",
}

AUTO = "auto"
"""A share that is chosen from the traffic."""
CANARY_BAKE_S = 600.0
"""The default of `bake_s` for a canary."""

TARGETS = {"production": "prod"}
"""Other names of targets."""

KNOWN_TARGETS = ("local", "staging", "prod")
"""What can be deployed to."""


class Settings(msgspec.Struct, frozen=True):
    """What a deploy works with. Units are in the names; `origins` has one entry per field, with the same name."""

    target: str
    strategy: Strategy
    health_timeout_s: float
    min_uptime_s: float
    drain_s: float
    standby_s: float
    initial_percent: int | str
    """The first share of a canary, or `auto`: from the traffic."""
    soak_minutes: float
    error_threshold_pct: float
    steps: str
    """Shares of a canary, such as `10:1m,50:1m,100`; empty: from `initial_percent` and `soak_minutes`."""
    bake_s: float
    pause_expiry_s: float
    """How long a pause of a canary lasts; 0: until somebody decides."""
    pause_then: Then
    """What is done when it is over."""
    sticky: str
    subnet_pool: str
    origins: dict[str, str] = {}

    def listing(self) -> tuple[Setting, ...]:
        """All of it with origins, for `plan`."""
        return tuple(
            Setting(field.removesuffix("_s"), _shown(field, getattr(self, field)), self.origins.get(field, DEFAULT))
            for field in DEFAULTS
        )

    def place(self, field: str) -> str:
        """Where a value stands, for an error about it: flag, variable, or file and key; empty for a default."""
        origin, kind = self.origins.get(field, DEFAULT), _KINDS[field]
        if origin == DEFAULT:
            return ""
        if origin == "flag":
            return kind.flag
        variable = origin.removeprefix("environment ")
        return variable if variable != origin else f"{origin}: x-nself-deploy.{kind.project}"


def _shown(field: str, value: Any) -> str:
    return format_duration(value) if field.endswith("_s") else f"{value:g}" if isinstance(value, float) else str(value)


class _Kind(msgspec.Struct, frozen=True):
    """How one setting is read: its parser, and its names in the three places."""

    parse: Callable[[object], Any]
    flag: str = ""
    environment: str = ""
    project: str = ""


def _seconds(key: str) -> Callable[[object], float]:
    low, high = LIMITS[key]

    def parse(value: object) -> float:
        seconds = parse_duration(value)
        if seconds and not parse_duration(low) <= seconds <= parse_duration(high):
            raise ValueError(f"{value!r} is out of range: {low} to {high} is possible")
        return seconds

    return parse


def _number(low: float, high: float, *, whole: bool = False) -> Callable[[object], float]:
    def parse(value: object) -> float:
        wanted = "a whole number" if whole else "a number"
        try:
            number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or (whole and number != int(number)):
            raise ValueError(f"{value!r} is not {wanted}: {low:g} to {high:g} is possible")
        if number and not low <= number <= high:
            raise ValueError(f"{value!r} is out of range: {low:g} to {high:g} is possible")
        return int(number) if whole else number

    return parse


def _share(value: object) -> float | str:
    """A share in percent, or `auto`."""
    return AUTO if isinstance(value, str) and value.strip() == AUTO else _number(1, 99, whole=True)(value)


def _minutes(value: object) -> float:
    """Minutes as a number, or a duration with its unit."""
    low, high = 0.05, 1440.0
    if isinstance(value, Duration):
        return _number(low, high)(float(value) / 60)
    if isinstance(value, str) and re.search(r"[a-zµ]", value):
        minutes = parse_duration(value) / 60
        if minutes and not low <= minutes <= high:
            shortest, longest = format_duration(low * 60), format_duration(high * 60)
            raise ValueError(f"{value!r} is out of range: {shortest} to {longest} is possible")
        return minutes
    return _number(low, high)(value)


def _strategy(value: object) -> Strategy:
    try:
        return Strategy(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is not a strategy: choose one of {', '.join(Strategy)}") from None


def _then(value: object) -> Then:
    try:
        return Then(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is not what can be done after a pause: choose one of {', '.join(Then)}") from None


def _target(value: object) -> str:
    name = TARGETS.get(str(value), str(value))
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name):
        raise ValueError(f"{value!r} is not a target: local, staging, prod, or a name of lowercase letters and digits")
    return name


def _sticky(value: object) -> str:
    from nself_deploy.core.extension import check_sticky

    return check_sticky(str(value))


def _subnet_pool(value: object) -> str:
    from nself_deploy.core.extension import check_subnet_pool

    return check_subnet_pool(str(value))


_KINDS = {
    "target": _Kind(_target, "TARGET"),
    "strategy": _Kind(_strategy, "--strategy", "NSELF_DEPLOY_STRATEGY", "strategy"),
    "health_timeout_s": _Kind(
        _seconds("health_timeout"), "--health-timeout", "NSELF_DEPLOY_HEALTH_TIMEOUT", "health_timeout"
    ),
    "min_uptime_s": _Kind(_seconds("min_uptime"), "--min-uptime", "", "min_uptime"),
    "drain_s": _Kind(_seconds("drain"), "--drain", "", "drain"),
    "standby_s": _Kind(_seconds("standby"), "--standby", "", "standby"),
    "initial_percent": _Kind(_share, "--canary", "NSELF_CANARY_PERCENT"),
    "soak_minutes": _Kind(_minutes, "--soak", "NSELF_CANARY_SOAK_MINUTES", "analysis.soak"),
    "error_threshold_pct": _Kind(_number(0.001, 100), "--error-threshold", "NSELF_CANARY_ERROR_THRESHOLD"),
    "steps": _Kind(str, "--steps", "", "steps"),
    "bake_s": _Kind(_seconds("bake"), "--bake", "", "bake"),
    "pause_expiry_s": _Kind(_seconds("pause_expiry"), "--for", "", "pause_expiry"),
    "pause_then": _Kind(_then, "--then", "", "pause_then"),
    "sticky": _Kind(_sticky, "--sticky", "", "sticky"),
    "subnet_pool": _Kind(_subnet_pool, "--subnet-pool", "", "subnet_pool"),
}
_ZERO_IS_A_VALUE = frozenset({"standby_s", "bake_s", "pause_expiry_s"})


def resolve_settings(
    flags: Mapping[str, object],
    env: Mapping[str, str],
    project: ProjectKeys | None = None,
    *,
    source: str = PROJECT_SOURCE,
) -> Settings:
    """The effective settings.

    Args:
        flags: by field name of `Settings` (`health_timeout_s`, `strategy`, ...), as typed; None or absent: not given.
        env: the environment.
        project: `x-nself-deploy` of the project.
        source: how the project's file is called in origins.

    Raises:
        UsageError: a value that doesn't parse or is out of range; names the flag or the variable.
    """
    unknown = set(flags) - set(_KINDS)
    if unknown:
        raise UsageError(f"There is no setting {', '.join(sorted(unknown))}.", f"Settings: {', '.join(_KINDS)}.")
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for field, kind in _KINDS.items():
        values[field], origins[field] = DEFAULTS[field], DEFAULT
        for raw, origin, place in _candidates(field, kind, flags, env, project, source):
            try:
                value = kind.parse(raw)
            except ValueError as error:
                raise UsageError(f"{error}.", where=place) from None
            if value or field in _ZERO_IS_A_VALUE:
                values[field], origins[field] = value, origin
                break
    if values["strategy"] is Strategy.CANARY and origins["bake_s"] == DEFAULT:
        values["bake_s"] = CANARY_BAKE_S
    return Settings(**values, origins=origins)


def _candidates(
    field: str,
    kind: _Kind,
    flags: Mapping[str, object],
    env: Mapping[str, str],
    project: ProjectKeys | None,
    source: str,
) -> Iterable[tuple[object, str, str]]:
    """The given values, strongest first: raw value, origin, and the place for an error."""
    if flags.get(field) is not None and flags[field] != "":
        yield flags[field], "flag", kind.flag
    if kind.environment and env.get(kind.environment, "").strip():
        yield env[kind.environment].strip(), f"environment {kind.environment}", kind.environment
    if field == "sticky" and project is not None and project.split == "random":
        yield "random", source, f"{source}: x-nself-deploy.split"
    if kind.project and (value := _key(project, kind.project)) is not None:
        yield value, source, f"{source}: x-nself-deploy.{kind.project}"


def _key(keys: msgspec.Struct | None, path: str) -> object:
    """The value of a key such as `analysis.soak`; None when it is not there."""
    value: object = keys
    for name in path.split("."):
        value = None if value is None else getattr(value, name)
    return value


def service_variable(service: str) -> str:
    """`HEALTHCHECK_TIMEOUT_<SERVICE>` of a service: capital letters, anything but letters and digits as `_`."""
    return "HEALTHCHECK_TIMEOUT_" + re.sub(r"[^A-Z0-9]", "_", service.upper())


def service_timeouts(env: Mapping[str, str], services: Iterable[str]) -> dict[str, float]:
    """Health time-outs of services from `HEALTHCHECK_TIMEOUT_<SERVICE>`, in seconds; only those that are set.

    Raises:
        UsageError: a value that doesn't parse or is out of range; names the variable.
    """
    parse = _seconds("health_timeout")
    found: dict[str, float] = {}
    for service in services:
        variable = service_variable(service)
        try:
            seconds = parse(env[variable].strip()) if env.get(variable, "").strip() else 0.0
        except ValueError as error:
            raise UsageError(f"{error}.", where=variable) from None
        if seconds:
            found[service] = seconds
    return found
