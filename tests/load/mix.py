"""What load to offer, to what, and within which bounds: plain values, no I/O."""

from __future__ import annotations

import dataclasses
import ipaddress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlsplit


class LoadError(Exception):
    """The load cannot be offered as asked (bad mix, forbidden target, generator process lost)."""


class Kind(StrEnum):
    """How a stream talks to the server."""

    GET = "get"  # keep-alive
    POST = "post"  # keep-alive, with a body
    ONE_SHOT_GET = "one-shot-get"  # a connection of its own, `Connection: close`
    ONE_SHOT_POST = "one-shot-post"
    DOWNLOAD = "download"  # GET of a long answer on a connection of its own
    SLOW = "slow"  # GET of an answer that takes its time
    UPLOAD = "upload"  # POST whose body is trickled over `over_s` seconds
    WEBSOCKET = "websocket"

    @property
    def keeps_alive(self) -> bool:
        return self in (Kind.GET, Kind.POST)

    @property
    def has_body(self) -> bool:
        return self in (Kind.POST, Kind.ONE_SHOT_POST, Kind.UPLOAD)


@dataclass(frozen=True, slots=True)
class Stream:
    """One sort of traffic: paced (`share` of the mix's rate) or closed-loop (`clients` that think between requests).

    Exactly one of `share` and `clients` is above zero; a WebSocket is always closed-loop (one connection per client).
    `body_bytes` is the size of POST bodies; with `check_echo` the answer must be JSON with the `length` (or `bytes`)
    and `sha256` of the body that was sent. `read_bytes_per_s` above zero makes a client that reads slowly.
    """

    kind: Kind
    path: str
    share: float = 0.0
    clients: int = 0
    think_s: float = 0.0
    name: str = ""
    connections: int = 8  # keep-alive connections that a paced stream rotates over
    body_bytes: int = 2048
    check_echo: bool = True
    over_s: float = 3.0
    read_bytes_per_s: int = 0
    expect_status: int = 200
    expect_bytes: int = -1  # exact length of the answer's body; -1: any
    expect_text: str = ""  # must be somewhere in the answer's first 64 KiB
    timeout_s: float = 60.0  # whole request, connect included
    tick_timeout_s: float = 30.0  # WebSocket: longest silence
    echo_every_s: float = 0.5  # WebSocket: own messages; 0 sends none
    headers: dict[str, str] = field(default_factory=dict)
    people: int = 0  # so many clients take turns; `{person}` in a header's value says which one asks

    @property
    def label(self) -> str:
        return self.name or f"{self.kind} {self.path}"

    def check(self) -> None:
        """Raise `LoadError` for a stream that makes no sense."""
        if (self.share > 0) == (self.clients > 0):
            raise LoadError(f"stream {self.label!r}: give either share or clients, not both and not none")
        if min(self.share, self.clients, self.think_s, self.body_bytes, self.over_s, self.read_bytes_per_s) < 0:
            raise LoadError(f"stream {self.label!r}: no number may be negative")
        if self.kind is Kind.WEBSOCKET and not self.clients:
            raise LoadError(f"stream {self.label!r}: a WebSocket stream needs clients, it has no rate")
        if not self.path.startswith("/") or not self.path.isascii() or any(c <= " " for c in self.path):
            raise LoadError(f"stream {self.label!r}: path {self.path!r} must begin with / and be plain ASCII")
        if not 0 < self.timeout_s <= 300 or not 0 < self.tick_timeout_s <= 300:
            raise LoadError(f"stream {self.label!r}: time limits must be above 0 and at most 300 s")
        if not 0 <= self.people <= 60_000:
            raise LoadError(f"stream {self.label!r}: people must be 0-60000")
        if self.kind is Kind.UPLOAD and self.over_s >= self.timeout_s:
            raise LoadError(f"stream {self.label!r}: an upload over {self.over_s} s needs a longer timeout_s")
        for name, value in self.headers.items():
            if any(c in "\r\n" for c in name + value):
                raise LoadError(f"stream {self.label!r}: header {name!r} contains a line break")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one load run; it stops by itself at the first of `duration_s` and `requests`."""

    duration_s: float = 600.0
    requests: int = 1_000_000
    in_flight: int = 512  # paced requests at the same time; further ones wait and are reported as late
    waiting: int = 10_000  # paced requests that wait for a free place; further ones fail as not sent
    connect_timeout_s: float = 30.0
    failures_kept: int = 20  # with details; all are counted

    def check(self) -> None:
        if not 0 < self.duration_s <= 24 * 3600:
            raise LoadError("limits: duration_s must be above 0 and at most a day")
        if not 0 < self.requests <= 20_000_000:
            raise LoadError("limits: requests must be above 0 and at most 20 million (40 bytes of memory each)")
        if not 0 < self.in_flight <= 10_000 or not 0 <= self.waiting <= 1_000_000:
            raise LoadError("limits: in_flight must be 1-10000 and waiting 0-1000000")
        if not 0 < self.connect_timeout_s <= 60 or not 0 <= self.failures_kept <= 10_000:
            raise LoadError("limits: connect_timeout_s must be above 0 and at most 60, failures_kept 0-10000")


@dataclass(frozen=True, slots=True)
class LoadMix:
    """Streams, the total rate of the paced ones (requests per second) and the bounds."""

    streams: tuple[Stream, ...]
    rate: float = 0.0
    limits: Limits = field(default_factory=Limits)
    release_header: str = "X-Shop-Release"
    instance_header: str = "X-Shop-Instance"
    retry_idempotent_on_stale: bool = False  # as browsers do: GET only, never a POST; counted apart

    def check(self) -> None:
        """Raise `LoadError` for a mix that makes no sense."""
        if not self.streams or len(self.streams) > 200:
            raise LoadError("the mix needs between 1 and 200 streams")
        for stream in self.streams:
            stream.check()
        self.limits.check()
        labels = [stream.label for stream in self.streams]
        if len(set(labels)) != len(labels):
            raise LoadError("two streams have the same name: give them a name each")
        paced = any(stream.share for stream in self.streams)
        if paced != (self.rate > 0) or self.rate > 20_000:
            raise LoadError("rate (at most 20000/s) must be above 0 when a stream has a share, and only then")

    @classmethod
    def standard(cls, rate: float = 300.0, *, limits: Limits | None = None, paths: Paths | None = None) -> Self:
        """The mix of a small shop: paced GET and POST with and without keep-alive, and a few long-lived clients."""
        at = paths or Paths()
        return cls(
            rate=rate,
            limits=limits or Limits(),
            streams=(
                Stream(Kind.GET, at.page, share=0.45, name="get"),
                Stream(Kind.POST, at.echo, share=0.30, name="post"),
                Stream(Kind.ONE_SHOT_GET, at.page, share=0.15, name="one-shot get"),
                Stream(Kind.ONE_SHOT_POST, at.echo, share=0.10, name="one-shot post"),
                Stream(Kind.DOWNLOAD, at.download, clients=2, think_s=0.1, timeout_s=60, name="download"),
                Stream(Kind.SLOW, at.slow, clients=2, think_s=0.1, timeout_s=60, name="slow answer"),
                Stream(Kind.UPLOAD, at.echo, clients=2, over_s=2, body_bytes=65536, timeout_s=60, name="slow upload"),
                Stream(Kind.WEBSOCKET, at.websocket, clients=2, name="websocket"),
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        streams = tuple(Stream(**{**item, "kind": Kind(item["kind"])}) for item in raw["streams"])
        return cls(**{**raw, "streams": streams, "limits": Limits(**raw["limits"])})


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the site under load has its endpoints."""

    page: str = "/"
    echo: str = "/echo"
    download: str = "/download?kb=256&seconds=2"
    slow: str = "/slow?seconds=1"
    websocket: str = "/ws"


ALLOWED_NETWORKS = tuple(
    ipaddress.ip_network(net) for net in ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)


@dataclass(frozen=True, slots=True)
class Target:
    """One address and port on this machine (loopback or a private container network), and the Host header to send."""

    address: str
    port: int
    host: str = ""

    @classmethod
    def parse(cls, url: str, host: str = "") -> Self:
        """From `http://ADDRESS:PORT`; names other than localhost are not resolved, so nothing else can be reached."""
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.path not in ("", "/") or parts.query or not parts.hostname:
            raise LoadError(f"target {url!r}: expected http://ADDRESS[:PORT]")
        try:
            target = cls(parts.hostname, 80 if parts.port is None else parts.port, host)
        except ValueError as error:
            raise LoadError(f"target {url!r}: {error}") from error
        target.check()
        return target

    @property
    def ip(self) -> str:
        return "127.0.0.1" if self.address == "localhost" else self.address

    @property
    def host_header(self) -> str:
        if self.host:
            return self.host
        name = f"[{self.address}]" if ":" in self.address else self.address
        return name if self.port == 80 else f"{name}:{self.port}"

    def check(self) -> None:
        """Raise `LoadError` unless the address is loopback or RFC 1918: load must never leave this machine."""
        try:
            ip = ipaddress.ip_address(self.ip)
        except ValueError:
            raise LoadError(
                f"target {self.address!r} is no IP address: only addresses of this machine are loaded"
            ) from None
        if not any(ip in net for net in ALLOWED_NETWORKS):
            raise LoadError(f"target {self.address} is neither loopback nor private: load goes to this machine only")
        if not 0 < self.port < 65536:
            raise LoadError(f"target port {self.port} is out of range")
        if not self.host.isascii() or any(c <= " " for c in self.host):
            raise LoadError(f"Host header {self.host!r} is not a host name")
