"""The types of the extension key `x-nself-deploy` of a Compose file. The JSON Schema is made from them."""

from __future__ import annotations

import ipaddress
import re
import typing
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from nself_deploy.core.analysis import Mode, OnInconclusive, Unit
from nself_deploy.core.durations import Duration
from nself_deploy.core.limits import LIMITS
from nself_deploy.core.metrics import MetricKeys, Prometheus
from nself_deploy.core.model import Activate, Protocol, Role, Strategy
from nself_deploy.core.pauses import Then
from nself_deploy.core.slo_queries import SloQueryKeys

KEY = "x-nself-deploy"


class SplitBy(StrEnum):
    """By what requests are split."""

    STICKY = "sticky"
    RANDOM = "random"


class Environment(StrEnum):
    """Where something was deployed to."""

    LOCAL = "local"
    STAGING = "staging"
    PROD = "prod"


def _lasting(low: str, high: str, text: str) -> msgspec.Meta:
    """A description and the bounds of a duration."""
    return msgspec.Meta(description=text, extra={"low": low, "high": high})


def _text(description: str, *, pattern: str | None = None, examples: list[Any] | None = None) -> msgspec.Meta:
    return msgspec.Meta(description=description, pattern=pattern, examples=examples)


_ABSOLUTE = r"^/[^\s]*$"
_NAME = r"^[a-zA-Z0-9._-]+$"
_HOST = r"^([A-Za-z0-9*._-]{1,253})?$"
_STEPS = r"^ *([0-9]+|auto)(:[0-9a-z.]+){0,2} *(, *[0-9]+(:[0-9a-z.]+){0,2} *)*$"
_QUANTILE = r"^p[0-9]{1,2}(\.[0-9]{1,2})?$"
_LABEL = r"^[a-zA-Z_][a-zA-Z0-9_]*$"
_WORD = r"^[A-Za-z0-9._~-]{16,36}$"
_HEADER = r"^([A-Za-z][A-Za-z0-9-]{0,63})?$"
_COOKIE = r"^[A-Za-z0-9_]{0,64}$"
_IN_PROJECT = r"^(?!/)(?!(.*/)?\.\.(/|$)).+$"
_STICKY = r"^(client|random|cookie:[A-Za-z0-9_]{1,64})$"

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Status = Annotated[int, msgspec.Meta(ge=100, le=599)]


class HostKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An nginx that runs on the machine itself, not in a container."""

    config: Annotated[str, _text("Its main configuration file.", pattern=_ABSOLUTE)] = "/etc/nginx/nginx.conf"
    bin: Annotated[str, _text("Its program: a name on the PATH or an absolute path.")] = "nginx"
    prefix: Annotated[str, _text("nginx's `-p`; empty for its compiled default.")] = ""
    pid_file: Annotated[str, _text("Its pid file; empty: from the configuration, or nginx's default.")] = ""


class RouterKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The nginx that users' requests come through."""

    service: Annotated[str, _text("The nginx service of this project.")] = ""
    host: Annotated[HostKeys | None, _text("An nginx of the machine itself, in place of a service.")] = None
    probe_port: Annotated[
        int, msgspec.Meta(ge=0, le=65535, description="Where it answers our probes; 0 lets us choose.")
    ] = 0
    networks: Annotated[
        tuple[str, ...], _text("Networks on which it reaches routed services; default: all that they share with it.")
    ] = ()


class RouteKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A route that isn't in the nginx files: what the router sends to one port of one service."""

    service: Annotated[str, _text("The service that answers.", pattern=_NAME)]
    port: Annotated[Port, _text("Its port, inside the container.")]
    path: Annotated[str, _text("Requests below this path.", pattern=_ABSOLUTE)] = "/"
    host: Annotated[str, _text("Requests for this host name; empty: any.", pattern=_HOST)] = ""
    protocol: Annotated[Protocol, _text("How the router speaks to it.")] = Protocol.HTTP


class ProbeKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP request that proves a routed service, beside its own healthcheck."""

    path: Annotated[str, _text("What is asked for.", pattern=_ABSOLUTE)] = "/"
    host: Annotated[str, _text("The Host header; empty: the address.", pattern=_HOST)] = ""
    statuses: Annotated[
        tuple[Status, Status], _text("First and last status that count as healthy.", examples=[[200, 399]])
    ] = (200, 499)
    timeout: Annotated[Duration | None, _lasting("100ms", "1m", "Limit of one request; default: 5s.")] = None


class GraceKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a hold waits for a comparison that says more."""

    errors: Annotated[int, msgspec.Meta(ge=0, le=1000, description="So many more errors of the candidate.")] = 3
    min: Annotated[Duration | None, _lasting("0s", "100s", "At least this long; default: 5s.")] = None
    max: Annotated[Duration | None, _lasting("0s", "100s", "At most this long; default: 30s.")] = None


class HoldKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a candidate is parked that misses the objective, though it may be no worse than the live slot."""

    alpha: Annotated[float, _text("The probability that one is parked that keeps to the objective.")] = 0.001
    grace: Annotated[GraceKeys | None, _text("How long it waits for a comparison that says more.")] = None


class LatencyKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the times of answers are compared."""

    cuts: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=_QUANTILE)], ...],
        _text("Quantiles of the live slot's times at which they are compared; none: they are not.", examples=[["p50"]]),
    ] = ("p50", "p90", "p99")
    tolerance: Annotated[float, _text("So many times slower is still as fast.")] = 1.15
    warmup: Annotated[Duration | None, _lasting("0s", "1h", "Not compared in the beginning; default: 30s.")] = None


class OverrideKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How testers say which version they want, while two share the traffic: `candidate:WORD` or `live:WORD`."""

    word: Annotated[
        str,
        msgspec.Meta(
            description="What only testers know: 16 to 36 letters, digits and `.`, `_`, `~`, `-`, in any case.",
            extra_json_schema={"pattern": _WORD},
            examples=["${SHOP_TESTERS:?}"],
        ),
    ]
    header: Annotated[str, _text("The header in which they say it.", pattern=_HEADER, examples=["X-Shop-Slot"])] = ""
    cookie: Annotated[str, _text("The cookie in which they say it.", pattern=_COOKIE, examples=["shop_slot"])] = ""


class AnalysisKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a canary is judged: by the requests of its users, and by metrics of your own."""

    alpha: Annotated[float, _text("The probability that a healthy candidate is rolled back, at most.")] = 0.001
    beta: Annotated[float, _text("The probability that an unacceptable one is promoted, at most.")] = 0.05
    slo_error_rate: (
        Annotated[float, _text("The error rate that is not acceptable in itself, 0 to 1; default: 0.01.")] | None
    ) = None
    hold: Annotated[HoldKeys | None, _text("When it is parked for missing the objective.")] = None
    max_ratio: Annotated[float, _text("Not acceptable: so many times the errors of the live slot.")] = 3.0
    min_effect: Annotated[float, _text("A difference in error rate that matters.")] = 0.003
    min_ratio: Annotated[float, _text("A ratio of error rates that matters.")] = 1.5
    min_errors: Annotated[int, msgspec.Meta(ge=1, le=1000, description="Errors that a verdict needs.")] = 3
    unit: Annotated[Unit, _text("What an error is counted by.")] = Unit.CLIENT
    latency: Annotated[LatencyKeys | None, _text("How times are compared.")] = None
    soak: Annotated[Duration | None, _lasting("3s", "1d", "How long the first share is watched; default: 5m.")] = None
    max_soak: Annotated[
        Duration | None, _lasting("3s", "7d", "When it gives up waiting for a verdict; default: three times the soak.")
    ] = None
    on_inconclusive: Annotated[
        OnInconclusive, _text("What happens then: a person decides, or the candidate is removed.")
    ] = OnInconclusive.HOLD
    mode: Annotated[Mode, _text("`observe`: everything is recorded, nothing acts.")] = Mode.ENFORCE
    prometheus: Annotated[Prometheus | None, _text("Who answers the queries of `metrics`.")] = None
    metrics: Annotated[tuple[MetricKeys, ...], _text("What is asked for beside the requests themselves.")] = ()
    shield: Annotated[
        bool, _text("The live version answers what fails on the candidate, where it is safe to ask again.")
    ] = True


class BreakerKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When rollbacks of one service that go in circles are stopped. In force from the next deploy on."""

    rollbacks: Annotated[int, msgspec.Meta(ge=1, le=100, description="So many within the window go through.")] = 3
    window: Annotated[Duration | None, _lasting("1m", "1d", "The window; default: 1h.")] = None
    cooldown: Annotated[
        Duration | None, _lasting("1m", "1d", "How long all are refused before one is let through; default: 1h.")
    ] = None


class AlertKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `nself deploy serve` takes from Alertmanager's labels. In force from the next deploy on."""

    service_label: Annotated[str, _text("The label that names the service.", pattern=_LABEL)] = "service"
    environment_label: Annotated[str, _text("The label that names the environment.", pattern=_LABEL)] = "environment"
    environment: Annotated[Environment, _text("The environment of alerts without that label.")] = Environment.PROD
    services: Annotated[
        dict[str, str], _text("Service by the label's value, where they differ.", examples=[{"ping-api": "ping_api"}])
    ] = {}
    environments: Annotated[
        dict[str, str], _text("Environment by the label's value, likewise.", examples=[{"live": "prod"}])
    ] = {}
    match: Annotated[
        dict[str, str], _text("Labels that an alert must have to be heard.", examples=[{"severity": "page"}])
    ] = {}
    echo: Annotated[
        Duration | None,
        _lasting(
            "0s",
            "1d",
            "Alerts that begin within so long after a rollback roll nothing back, 0: no such time; default: 15m.",
        ),
    ] = None


class SloKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service level objective, which `watch` and a bake go by: `availability`, `latency` or `prometheus`."""

    availability: Annotated[
        float | str | None, _text("The percentage of requests that must not fail.", examples=[99.9])
    ] = None
    latency: Annotated[
        str | None, _text("The percentage of answers that must take no longer.", examples=["99 % < 300ms"])
    ] = None
    prometheus: Annotated[SloQueryKeys | None, _text("Numbers of Prometheus in place of the router's own log.")] = None
    service: Annotated[
        str, _text("Of requests to this service only, default: of all; with `prometheus`: whose fault they show.")
    ] = ""
    route: Annotated[str, _text("Of this route only, as `plan` shows it.", examples=["web:8000"])] = ""


class ProjectKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`x-nself-deploy` at the top level: settings of the whole project. Everything may be left out."""

    strategy: Annotated[Strategy | None, _text("How a new version takes over.")] = None
    router: Annotated[RouterKeys | None, _text("The router; default: the project's nginx service.")] = None
    routes: Annotated[tuple[RouteKeys, ...], _text("Routes beside those in the nginx files.")] = ()
    health_timeout: Annotated[
        Duration | None, _lasting(*LIMITS["health_timeout"], "How long a new version may take to become healthy.")
    ] = None
    min_uptime: Annotated[
        Duration | None,
        _lasting(
            *LIMITS["min_uptime"],
            "How long its containers must have been healthy at a stretch before they get traffic.",
        ),
    ] = None
    drain: Annotated[
        Duration | None,
        _lasting(*LIMITS["drain"], "How long requests in flight may take before the old version stops."),
    ] = None
    standby: Annotated[
        Duration | None,
        _lasting(*LIMITS["standby"], "How long the old version stays warm for an instant rollback; 0: not."),
    ] = None
    bake: Annotated[
        Duration | None,
        _lasting(
            *LIMITS["bake"],
            "How long it is watched with all the traffic (a canary: 10m) before the old one retires; 0: not.",
        ),
    ] = None
    steps: (
        Annotated[
            str,
            _text(
                "Shares of a canary (percent), each with how long it is kept at least, and whether it pauses then.",
                pattern=_STEPS,
                examples=["10:1m,25:2m,50:2m,100", "10:5m,50:1m:pause,100", "auto:5m,50:1m,100"],
            ),
        ]
        | None
    ) = None
    pause_expiry: Annotated[
        Duration | None,
        _lasting(*LIMITS["pause_expiry"], "How long a pause of a canary lasts; 0: until somebody decides."),
    ] = None
    pause_then: Annotated[
        Then | None,
        _text("What is done when it is over; `promote` and `resume` give nothing to a candidate without proof."),
    ] = None
    analysis: Annotated[AnalysisKeys | None, _text("How a canary is judged.")] = None
    breaker: Annotated[BreakerKeys | None, _text("When rollbacks that go in circles are stopped.")] = None
    alerts: Annotated[AlertKeys | None, _text("What alerts say which service is to be rolled back.")] = None
    slo: Annotated[
        tuple[SloKeys, ...], _text("Service level objectives: a release that burns their error budget is rolled back.")
    ] = ()
    migrations: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=_IN_PROJECT)], ...],
        _text(
            "Files with the SQL of migrations, in the order in which they are applied: what would break the live "
            "version is refused.",
            examples=[["api/migrations/*.sql"]],
        ),
    ] = ()
    sticky: (
        Annotated[
            str,
            _text(
                "What one client is while two versions share the traffic: `client` (address and user agent), "
                "`random` (each request is one), or `cookie:NAME` (the split gives each a cookie of that name, which "
                "your application must not use).",
                pattern=_STICKY,
                examples=["cookie:shop_split"],
            ),
        ]
        | None
    ) = None
    keep_releases: (
        Annotated[
            int, msgspec.Meta(ge=2, le=1000, description="How many releases are kept, with their images; default: 10.")
        ]
        | None
    ) = None
    split: Annotated[SplitBy | None, _text("`random` is another way to write `sticky: random`.")] = None
    override: Annotated[OverrideKeys | None, _text("How testers reach the version that they want.")] = None
    subnet_pool: Annotated[
        str | None,
        _text("Private IPv4 range from which the slots' networks get their /24 each.", examples=["10.213.0.0/16"]),
    ] = None


class ServiceKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`x-nself-deploy` of one service. Everything may be left out."""

    role: Annotated[Role | None, _text("What it is for a deploy; default: inferred, `plan` says why.")] = None
    activate: Annotated[
        Activate | None,
        _text("A service without a route: start with its slot, or only when the slot goes live (never two at once)."),
    ] = None
    probe: Annotated[ProbeKeys | None, _text("The HTTP request that proves it.")] = None
    health_timeout: Annotated[Duration | None, _lasting("1s", "1h", "How long it may take to become healthy.")] = None


class Extension(msgspec.Struct, frozen=True):
    """All of `x-nself-deploy` in a project."""

    project: ProjectKeys = ProjectKeys()
    services: dict[str, ServiceKeys] = {}

    def of(self, service: str) -> ServiceKeys:
        """The keys of a service, defaults when it has none."""
        return self.services.get(service) or ServiceKeys()


def bounds(kind: type[msgspec.Struct]) -> dict[str, tuple[str, str]]:
    """The lowest and the highest value of each duration of a struct, as written."""
    found = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        for meta in getattr(hint, "__metadata__", ()):
            if isinstance(meta, msgspec.Meta) and meta.extra and "low" in meta.extra:
                found[name] = (meta.extra["low"], meta.extra["high"])
    return found


def check_subnet_pool(text: str) -> str:
    """The pool as it is, if slots' networks can be cut from it.

    Raises:
        ValueError: it is no private IPv4 range of /22 or larger; says so in words.
    """
    try:
        pool = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an IPv4 range: {error}") from None
    if not pool.is_private or pool.is_loopback or pool.is_link_local:
        raise ValueError(f"{text} is not a private range")
    if not 8 <= pool.prefixlen <= 22:
        raise ValueError(f"{text} is too {'large' if pool.prefixlen < 8 else 'small'}: /8 to /22 is possible")
    return text


def check_override(keys: OverrideKeys) -> None:
    """Refuse one that nobody could use, or that somebody could guess. The word is not repeated.

    Raises:
        ValueError: says so in words.
    """
    if not re.fullmatch(_WORD, keys.word):
        raise ValueError("the word of `override` is not 16 to 36 letters, digits and `.`, `_`, `~`, `-`")
    if not keys.header and not keys.cookie:
        raise ValueError("`override` names neither a header nor a cookie")


def check_sticky(text: str) -> str:
    """A value of `sticky` as it is.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(_STICKY, text):
        raise ValueError(f"{text!r} is not one of client, random, cookie:NAME (letters, digits, _)")
    return text
