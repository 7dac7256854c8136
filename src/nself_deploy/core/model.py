"""The words of the project as plain data (no I/O): project, service, route, slot, split, release.

Every value here is immutable and can be written as JSON by msgspec.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from nself_deploy.core.migration import Migrations


class Strategy(StrEnum):
    """How a new version takes over."""

    ROLLING = "rolling"
    BLUE_GREEN = "blue-green"
    CANARY = "canary"
    PREVIEW = "preview"


class Slot(StrEnum):
    """A place where one release runs. `plain` is a stack that `docker compose up` started, before it is adopted."""

    BLUE = "blue"
    GREEN = "green"
    PLAIN = "plain"

    @property
    def other(self) -> Slot:
        """The slot that a candidate goes to while this one is live (blue for a plain stack)."""
        return Slot.GREEN if self is Slot.BLUE else Slot.BLUE


class Role(StrEnum):
    """What a service is for a deploy."""

    ROUTER = "router"
    SHARED = "shared"
    JOB = "job"
    APP = "app"


class Protocol(StrEnum):
    """How the router speaks to the service: the nginx module and its scheme."""

    HTTP = "http"
    HTTPS = "https"
    GRPC = "grpc"
    GRPCS = "grpcs"
    FASTCGI = "fastcgi"
    UWSGI = "uwsgi"


class Activate(StrEnum):
    """When a service without a route starts: with its slot, or only when its slot is live (singletons)."""

    WITH_SLOT = "with-slot"
    ON_LIVE = "on-live"


class Split(msgspec.Struct, frozen=True):
    """Where requests go: `percent` of the clients to `candidate`, the rest to `base`.

    `percent` is 0 and `candidate` None when all requests go to `base`.
    """

    base: Slot
    candidate: Slot | None = None
    percent: int = 0
    shielded: bool = False
    """Whether the base answers what fails on the candidate, where it is safe to ask again."""

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise ValueError(f"a split is 0 to 100 percent, not {self.percent}")
        if (self.candidate is None) != (self.percent == 0):
            raise ValueError("a split without a candidate has 0 percent, and one with a candidate has more")
        if self.candidate is self.base:
            raise ValueError("base and candidate of a split are two slots")
        if self.shielded and not 0 < self.percent < 100:
            raise ValueError("only a candidate with a part of the requests can be shielded")

    @property
    def name(self) -> str:
        """The name of its directory, e.g. `blue`, `blue-green-10` or `blue-green-10-shielded`."""
        if self.candidate is None:
            return self.base.value
        return f"{self.base}-{self.candidate}-{self.percent}" + ("-shielded" if self.shielded else "")

    @classmethod
    def all_to(cls, slot: Slot) -> Split:
        """All requests to one slot."""
        return cls(base=slot)

    @classmethod
    def parse(cls, name: str) -> Split:
        """The split of a directory name.

        Raises:
            ValueError: it is not the name of a split.
        """
        parts = name.split("-")
        if len(parts) == 1:
            return cls(Slot(parts[0]))
        if 3 <= len(parts) <= 4 and parts[2].isdigit() and parts[3:] in ([], ["shielded"]):
            return cls(Slot(parts[0]), Slot(parts[1]), int(parts[2]), len(parts) == 4)
        raise ValueError(f"{name!r} is not a split")

    def percent_of(self, slot: Slot) -> int:
        """The share of the clients (percent) that `slot` serves."""
        if slot is self.candidate:
            return self.percent
        return 100 - self.percent if slot is self.base else 0


class Route(msgspec.Struct, frozen=True, order=True):
    """What the router sends to one port of one app service.

    `key` names it in nginx variables, file names and access-log lines: `[a-z0-9_]+`, unique in the project.
    """

    key: str
    service: str
    port: int
    protocol: Protocol = Protocol.HTTP
    keepalive: int = 0
    """Idle connections that each nginx worker keeps to the slot; 0 leaves nginx's default."""
    source: str = ""
    """Where it was found: `nginx/conf.d/shop.conf:12`, or `x-nself-deploy`."""


class Probe(msgspec.Struct, frozen=True):
    """The HTTP request that proves a routed service beside its own healthcheck."""

    path: str = "/"
    host: str = ""
    statuses: tuple[int, int] = (200, 499)
    """The answers that count as healthy: first and last status, both included."""
    timeout_s: float = 5.0


class Service(msgspec.Struct, frozen=True):
    """One Compose service as the project asks for it."""

    name: str
    role: Role
    reason: str
    """Why it has this role, in words for the plan."""
    config: dict[str, Any]
    """Its mapping in the resolved Compose model (strings still with Compose's `$$` escapes)."""
    image: str = ""
    builds: bool = False
    replicas: int = 1
    networks: tuple[str, ...] = ("default",)
    depends_on: tuple[str, ...] = ()
    has_healthcheck: bool = False
    stop_grace_s: float = 10.0
    activate: Activate = Activate.WITH_SLOT
    probe: Probe | None = None
    health_timeout_s: float | None = None
    """Its own limit, from `HEALTHCHECK_TIMEOUT_<SERVICE>` or `x-nself-deploy`; None means the deploy's."""
    pull_policy: str = ""


class RouterKind(StrEnum):
    """Which nginx users' requests come through."""

    SERVICE = "service"
    """An nginx service of the project."""
    ADDED = "added"
    """The nginx service that `init` added."""
    HOST = "host"
    """An nginx that runs on the machine itself."""


class HostRouter(msgspec.Struct, frozen=True):
    """How to reach an nginx of the host."""

    config: str = "/etc/nginx/nginx.conf"
    bin: str = "nginx"
    prefix: str = ""
    """nginx's `-p`, or empty for its compiled default."""
    pid_file: str = ""
    """Empty: from the configuration (or nginx's default)."""


class RouterRef(msgspec.Struct, frozen=True):
    """The project's router."""

    kind: RouterKind
    service: str = ""
    """The Compose service, empty for a host's nginx."""
    host: HostRouter | None = None
    probe_port: int = 0
    """Where the router answers our probes; 0 lets us choose (in a container: 8472)."""
    networks: tuple[str, ...] = ()
    """Compose networks that it shares with routed services."""


class Project(msgspec.Struct, frozen=True):
    """A Compose project as nself-deploy sees it: the result of reading and inference."""

    name: str
    root: str
    files: tuple[str, ...]
    """The user's Compose files that were read, absolute, without our generated override."""
    services: dict[str, Service]
    networks: dict[str, dict[str, Any]]
    """Compose's `networks:` of the resolved model; each has `name` (the engine's name)."""
    volumes: dict[str, dict[str, Any]]
    secrets: dict[str, dict[str, Any]]
    configs: dict[str, dict[str, Any]]
    router: RouterRef | None
    routes: tuple[Route, ...]
    warnings: tuple[str, ...] = ()

    def with_role(self, role: Role) -> tuple[Service, ...]:
        """Its services of one role, by name."""
        return tuple(s for _, s in sorted(self.services.items()) if s.role is role)

    @property
    def routed(self) -> frozenset[str]:
        """Names of the services that have a route."""
        return frozenset(r.service for r in self.routes)


class PinnedImage(msgspec.Struct, frozen=True):
    """An image as it was checked: its id runs, its reference and digest are for people and for pulling it again."""

    id: str
    ref: str
    digest: str = ""
    built: bool = False


class Setting(msgspec.Struct, frozen=True):
    """One effective value, for people: `health_timeout 30s (default)`."""

    name: str
    value: str
    origin: str


class Release(msgspec.Struct, frozen=True):
    """One immutable version of the project's app and job services; from this record alone it can be started again."""

    id: str
    """`<UTC time>-<first 8 of fingerprint>`, e.g. `20261122T213000-3fa9c2d1`."""
    fingerprint: str
    """sha256 over services, images, networks and routes: equal means nothing changed."""
    created_at: str
    services: dict[str, Service]
    """App and job services only."""
    images: dict[str, PinnedImage]
    networks: dict[str, dict[str, Any]]
    volumes: dict[str, dict[str, Any]]
    secrets: dict[str, dict[str, Any]]
    configs: dict[str, dict[str, Any]]
    routes: tuple[Route, ...]
    git_commit: str = ""
    git_dirty: bool = False
    created_by: str = ""
    created_on: str = ""
    """Name of the machine that it was made on."""
    settings: tuple[Setting, ...] = ()
    """What the deploy that made it worked with."""
    migrations: Migrations | None = None
    """The files of `migrations`, when it was made; None: it is not on record which ones it contains."""

    def apps(self) -> tuple[Service, ...]:
        """App services by name."""
        return tuple(s for _, s in sorted(self.services.items()) if s.role is Role.APP)

    def jobs(self) -> tuple[Service, ...]:
        """Job services by name."""
        return tuple(s for _, s in sorted(self.services.items()) if s.role is Role.JOB)


class SlotNetwork(msgspec.Struct, frozen=True):
    """A slot's own twin of one of the project's networks.

    Fixed addresses come from the lower half of `subnet`, the engine hands out the upper half (`ip_range`).
    """

    name: str
    """The engine's name, as `twin_name` gives it, e.g. `shop-nself-green-default`."""
    slot: Slot
    network: str
    """The Compose network it is the twin of, or `router_side` of it."""
    subnet: str
    """CIDR, e.g. `10.213.4.0/24`."""
    ip_range: str
    internal: bool = False


class Container(msgspec.Struct, frozen=True):
    """A container as the engine reports it."""

    id: str
    name: str
    project: str
    """Compose project (label)."""
    service: str
    """The project's own service name: from our label for slot containers, else Compose's."""
    replica: int = 1
    slot: Slot = Slot.PLAIN
    release: str = ""
    state: str = "running"
    """created, running, restarting, paused, exited, dead."""
    health: str = ""
    """Docker's health: starting, healthy, unhealthy, or empty without a healthcheck."""
    started_at: str = ""
    exit_code: int = 0
    oom_killed: bool = False
    restart_count: int = 0
    image_id: str = ""
    addresses: dict[str, str] = {}
    """Engine network name -> IPv4 address."""
    labels: dict[str, str] = {}
    health_log: tuple[str, ...] = ()
    """Outputs of the last healthchecks, oldest first."""
    mounts: dict[str, str] = {}
    """Destination -> source."""


class StepStatus(StrEnum):
    """Status of a step."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNHEALTHY = "unhealthy"


# Labels on everything that is ours; nothing without LABEL_PROJECT is ever stopped or removed by us
# (but for app containers of an adopted plain stack).
LABEL_PROJECT = "nself.deploy.project"
LABEL_SLOT = "nself.deploy.slot"
LABEL_SERVICE = "nself.deploy.service"
LABEL_REPLICA = "nself.deploy.replica"
LABEL_RELEASE = "nself.deploy.release"
LABEL_ROLE = "nself.deploy.role"
LABEL_NETWORK = "nself.deploy.network"

# Where the router sees our files, in a container.
ROUTER_DIR_IN_CONTAINER = "/var/lib/nself/router"
ROUTER_LOG_IN_CONTAINER = "/var/log/nself"
ROUTER_PROBE_PORT = 8472


def slot_project(project: str, slot: Slot) -> str:
    """The Compose project name of a slot."""
    return f"{project}-{slot.value}"


_ROUTER_SIDE = "@router"


def twin_name(project: str, slot: Slot, network: str) -> str:
    """The engine's name of a slot's twin of the Compose network `network`.

    Docker asks a container's networks for a name in alphabetical order (seen with 26.1): `shop-nself-…` comes before
    `shop_default`, so a name that both know means the slot's own container.
    """
    base = network.removesuffix(_ROUTER_SIDE)
    return f"{project}-nself-{'' if base == network else 'router-'}{slot.value}-{base}"


def router_side(network: str) -> str:
    """The slot network on which the router meets a slot's containers that are on the Compose network `network`.

    The router can't be on the twin itself: of a container's networks Docker makes the first one (in alphabetical order)
    its way out, and a running router that gets another way out loses its published ports for a moment, and all
    connections. These networks are `internal`, so they never are the way out (seen with 26.1).
    """
    return f"{network}{_ROUTER_SIDE}"
