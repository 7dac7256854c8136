"""The seams: what the use cases need from the world. Adapters implement these; nothing here does I/O.

All calls are safe to repeat: doing a thing that is done already changes nothing and is no error.
Adapters raise only errors of `nself_deploy.errors`; no library's exception leaves them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from nself_deploy.app.answers import ProbeAnswer, RouterState
from nself_deploy.core.lock_rules import LockOwner, Patience
from nself_deploy.core.log_moves import Move
from nself_deploy.core.log_position import LogPosition, LogRead
from nself_deploy.core.metrics import Reading
from nself_deploy.core.model import Container, PinnedImage, Probe, Release, Route, Slot, SlotNetwork, Split
from nself_deploy.core.routing import TreeSpec
from nself_deploy.errors import RouterError

Progress = Callable[[str], None]
"""Called with one line of text, for a person who waits."""


class EngineInfo(msgspec.Struct, frozen=True):
    """The container engine."""

    version: str
    api_version: str
    name: str
    compose_version: str = ""


class ImageInfo(msgspec.Struct, frozen=True):
    """An image on the engine."""

    id: str
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()


class Engine(Protocol):
    """The container engine (Docker's API)."""

    async def info(self) -> EngineInfo:
        """Version and name; EngineError when it can't be reached within 10 s."""

    async def containers(self, *, compose_project: str = "", nself_project: str = "") -> list[Container]:
        """All containers (running or not) of a Compose project, or with our project label, inspected."""

    async def container(self, container_id: str) -> Container | None:
        """One container by id or name; None when it is gone."""

    async def networks(self, nself_project: str) -> list[SlotNetwork]:
        """The slot networks of a project, from their labels."""

    async def ensure_network(self, project: str, slot: Slot, network: str, *, name: str, internal: bool) -> SlotNetwork:
        """The slot network `name`; created with a free subnet of the pool and our labels when it isn't there."""

    async def remove_network(self, name: str) -> None:
        """Remove it; EngineError when containers are still attached."""

    async def network_exists(self, name: str) -> bool:
        """Whether a network of this name exists, whoever made it."""

    async def attached(self, network: str) -> dict[str, str]:
        """Names of the running containers on a network, with their IPv4 addresses; none when it is gone."""

    async def connect(self, network: str, container_id: str, aliases: Sequence[str] = ()) -> None:
        """Attach a running container to a network."""

    async def ensure_volume(self, project: str, volume: str, config: dict[str, Any]) -> None:
        """The engine's volume of a Compose volume (`config` from the resolved model), made as Compose would make it."""

    async def start(self, container_id: str) -> None:
        """Start a stopped container."""

    async def stop(self, container_id: str, grace_s: float) -> None:
        """SIGTERM, wait `grace_s`, SIGKILL. A container that is gone or stopped is fine."""

    async def remove(self, container_id: str) -> None:
        """Remove with its anonymous volumes, never a named one."""

    async def logs(self, container_id: str, lines: int = 20) -> list[str]:
        """Last lines of both streams, at most 500 characters each."""

    async def image(self, ref: str) -> ImageInfo | None:
        """An image by reference or id."""

    async def tag(self, image_id: str, ref: str) -> None:
        """Give an image one more name."""

    async def untag(self, ref: str) -> bool:
        """Take a name from an image, which goes with its last one; False, and nothing done, while it is in use."""

    async def pull(self, ref: str, progress: Progress | None = None, timeout_s: float = 600.0) -> ImageInfo:
        """Pull; ImageError when no registry answers or it doesn't have it."""

    async def exec(self, container_id: str, argv: Sequence[str], timeout_s: float = 30.0) -> tuple[int, str]:
        """Run a command in a container: exit status and both streams together (bounded)."""

    async def put_files(self, container_id: str, files: dict[str, bytes], links: dict[str, str] | None = None) -> None:
        """Write files (absolute path -> content) and symbolic links into a container; directories are made."""

    async def close(self) -> None:
        """Let go of connections."""


class Compose(Protocol):
    """The `docker compose` command."""

    async def resolve(self, root: str, files: Sequence[str]) -> dict[str, Any]:
        """The resolved model of exactly these files; ConfigError with Compose's own words otherwise."""

    async def build(
        self, root: str, files: Sequence[str], services: Sequence[str], progress: Progress | None = None
    ) -> None:
        """Build services; ImageError with the end of the build's output otherwise."""

    async def up(
        self,
        project: str,
        files: Sequence[str],
        services: Sequence[str],
        *,
        root: str = "",
        deps: bool = False,
        recreate: bool = True,
        timeout_s: float = 120.0,
        progress: Progress | None = None,
    ) -> None:
        """`up -d` without building or pulling; EngineError with Compose's own words otherwise."""

    async def down(self, project: str, timeout_s: float = 120.0) -> None:
        """Remove the containers of a slot's project (never volumes, never external networks)."""


class Router(Protocol):
    """The nginx that users' requests come through."""

    def split(self) -> Split | None:
        """What the link says now; reads one link, nothing else."""

    async def observe(self) -> RouterState:
        """Its state; no error when it is down."""

    async def refused(self) -> RouterError | None:
        """Nginx's words against its files as they are on the disk now (`nginx -t`); None when it would load them."""

    async def install(self, spec: TreeSpec) -> str:
        """Write the generated files and let nginx read them if it runs: `nginx -t`, a reload if they differ, an answer.

        Returns the fingerprint. On a refusal the old files are back and RouterError carries nginx's words. Creates the
        split directories; never changes an existing link.
        """

    async def move(self, split: Split) -> None:
        """One rename: from now on requests are split like this. Durable when it returns."""

    async def record(self, *, on: bool) -> None:
        """Keep the access log from now on, or no longer (it would grow for ever). A large one is put aside."""

    async def confirm(self, split: Split, timeout_s: float = 5.0) -> None:
        """Ask through nginx which slots answer until it is as `split` says, RouterError otherwise."""

    async def in_flight(self, slot: Slot) -> int:
        """Requests (upgraded connections included) in flight to a slot, a lower bound in powers of two; 0 is exact."""

    async def old_workers(self) -> int:
        """Worker processes of an earlier configuration that still finish requests."""

    async def probe(self, route: Route, slot: Slot, probe: Probe) -> ProbeAnswer:
        """One GET to a slot's service, sent by nginx itself over the route's upstream."""


class RequestLog(Protocol):
    """The router's access log, as requests that a judge takes."""

    def end(self) -> LogPosition:
        """Where the log ends now; ConfigError or InfrastructureError when it can't be read."""

    def read(self, position: LogPosition) -> LogRead:
        """What was added since, at most a few MB at a time; never raises for what is wrong with the log."""


class LogView(msgspec.Struct, frozen=True):
    """How the access log is looked at: for one canary."""

    candidate: Slot
    moves: tuple[Move, ...]
    """The split that was in force before, and all that followed."""
    began: float
    """When the candidate got its first share, in seconds since 1970."""
    salt: str
    """What clients are hashed with."""
    patience_s: float | None = None
    """After how long a client that went away says that it waited too long; None: the usual."""


RequestLogs = Callable[[LogView], RequestLog]


class JudgeRecords(Protocol):
    """What judges were told and what they said, one record for each run that was judged."""

    def write(self, run_id: str, at: int, data: bytes) -> int:
        """Put this at the place `at` of a record, instead of what is there and behind it; durable when it returns.

        Its new length. StateFileError when the record is shorter than that, NselfError when it can't be written.
        """

    def read(self, run_id: str) -> bytes | None:
        """A record; None when there is none."""

    def runs(self) -> tuple[str, ...]:
        """The runs that have one, oldest first."""

    def keep(self, newest: int) -> None:
        """Remove all but the newest ones."""


class Prober(Protocol):
    """HTTP probes straight at a container."""

    async def get(self, address: str, port: int, probe: Probe) -> ProbeAnswer:
        """GET http://address:port/path; never raises for what the network does."""


class Metrics(Protocol):
    """Who answers queries for metrics (Prometheus)."""

    def check(self) -> None:
        """Whether it can be asked at all: ConfigError when its certificates, password or token can't be read."""

    async def ask(self, query: str, at: float | None = None) -> Reading:
        """The number that a query gives now, or gave at that time (unix time).

        It never raises for what the network or the other side does.
        """


class Lock(Protocol):
    """One deploy at a time per project and target."""

    previous: LockOwner | None
    """After `acquire`: who held it last and died without giving it back."""
    noted: LockOwner | None
    """After `acquire`: who was noted as its owner, on another machine, where they may live: nobody locks for both."""

    def acquire(self, purpose: str) -> None:
        """Take it or raise Locked, naming the owner."""

    def release(self) -> None:
        """Give it back."""

    def owner(self) -> LockOwner | None:
        """Who holds it now, None when nobody does."""


class EngineLock(Protocol):
    """The same, for all machines and directories that use one engine. A live owner never loses it."""

    patience: Patience
    """How often it has to be shown that we live."""
    taken_over: tuple[tuple[LockOwner, str], ...]
    """After `acquire`: dead owners whose lock was taken, and how we know that they are dead."""

    async def acquire(self, purpose: str) -> None:
        """Take it or raise Locked, naming the owner; EngineError when the engine can't be asked."""

    async def beat(self) -> None:
        """Show that we live. Locked when somebody else has it now; nothing while we don't hold it."""

    async def confirm(self) -> None:
        """`beat`, but only when it has not been for so long that the lock may be another's."""

    async def release(self) -> None:
        """Give it back."""

    async def owner(self) -> LockOwner | None:
        """Who holds it now, None when nobody alive does; EngineError when the engine can't be asked."""

    async def dead(self) -> tuple[tuple[LockOwner, str], ...]:
        """Owners who died and left it, and how we know that they are dead; EngineError as above."""


class Clock(Protocol):
    """Time."""

    def now(self) -> str:
        """UTC, RFC 3339 with milliseconds, ending in Z."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


__all__ = [
    "Clock",
    "Compose",
    "Engine",
    "EngineInfo",
    "EngineLock",
    "ImageInfo",
    "JudgeRecords",
    "Lock",
    "LockOwner",
    "LogPosition",
    "LogRead",
    "LogView",
    "Metrics",
    "PinnedImage",
    "Probe",
    "ProbeAnswer",
    "Prober",
    "Progress",
    "Reading",
    "Release",
    "RequestLog",
    "RequestLogs",
    "Router",
    "RouterState",
]
