"""The names that nginx sees: one readable scheme, unique per project, short enough for nginx's hash tables."""

from __future__ import annotations

import hashlib
import re

import msgspec

from nself_deploy.core.model import Slot
from nself_deploy.errors import ConfigError

MIN_VERSION = (1, 17, 8)
"""Older nginx has no dry-run counter or no variables in `grpc_pass`."""

LOG_FIELDS = {
    "time": "$msec",
    "slot": "",
    "route": "",
    "bucket": "",
    "client": "",
    "method": "$request_method",
    "status": "$status",
    "request_time": "$request_time",
    "upstream_addr": "$upstream_addr",
    "upstream_status": "$upstream_status",
    "upstream_connect_time": "$upstream_connect_time",
    "upstream_header_time": "$upstream_header_time",
    "upstream_response_time": "$upstream_response_time",
    "bytes_sent": "$bytes_sent",
    "request_id": "$request_id",
}
"""Fields of our access log, one JSON object per request that was sent to a slot. `time` (seconds since the epoch),
`request_time` (seconds) and `bytes_sent` are numbers, the rest strings; upstream fields may hold several values,
separated by `, ` (a retry) or ` : ` (an internal redirect): the first is the slot's own answer."""

# nginx refuses a variable name that doesn't fit a 64-byte hash bucket: 46 characters.
_PROJECT_MAX = 20
_STEM_MAX = 40
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\"'\\$*?\[\]{};#]")


def route_key(service: str, port: int) -> str:
    """The key of the route to one port of a service, e.g. `web_8000`."""
    return f"{_plain(service)}_{port}"


def quoted(path: str, variables: str = "") -> str:
    """A path as one quoted word of an nginx file, with variables behind it.

    Raises:
        ConfigError: nginx would read the path as something else.
    """
    if _UNSAFE.search(path):
        raise ConfigError(
            f"nginx can't use the path {path!r}: it contains characters that mean something to nginx.",
            "Move the project to a directory with a plain name.",
            where=path,
        )
    return f'"{path}{variables}"'


class Names(msgspec.Struct, frozen=True):
    """All names of one project; `prefix` is `nself_<project>`."""

    prefix: str

    @property
    def slot(self) -> str:
        """The slot of this request; empty where server.conf isn't included."""
        return f"${self.prefix}_slot"

    @property
    def bucket(self) -> str:
        """Two digits: the hundredth of the clients; a word when a tester chose the slot."""
        return f"${self.prefix}_bucket"

    @property
    def hundredth(self) -> str:
        """The same, where testers may choose the slot: the bucket that a request has otherwise."""
        return f"${self.prefix}_hundredth"

    @property
    def asked(self) -> str:
        """The bucket by the testers' cookie."""
        return f"${self.prefix}_asked"

    @property
    def client(self) -> str:
        """What a client is, when it is a cookie."""
        return f"${self.prefix}_client"

    @property
    def offered(self) -> str:
        """The value that this request would get in a cookie; empty when it can't keep one."""
        return f"${self.prefix}_offered"

    @property
    def given(self) -> str:
        """The value that this request gets in a cookie; empty when it has one."""
        return f"${self.prefix}_given"

    @property
    def newcomer(self) -> str:
        """What a client without a cookie is."""
        return f"${self.prefix}_newcomer"

    @property
    def forwarded(self) -> str:
        """The flag Secure, when the proxy before us says that it was asked over TLS."""
        return f"${self.prefix}_forwarded"

    @property
    def secure(self) -> str:
        """The flag Secure, when the request came over TLS."""
        return f"${self.prefix}_secure"

    @property
    def new_cookie(self) -> str:
        """The cookie with its flags."""
        return f"${self.prefix}_new_cookie"

    @property
    def set_cookie(self) -> str:
        """The same for a request that has a slot, else empty."""
        return f"${self.prefix}_set_cookie"

    @property
    def client_parts(self) -> tuple[str, str, str]:
        """Two digits each of the client's pseudonym."""
        return f"${self.prefix}_client1", f"${self.prefix}_client2", f"${self.prefix}_client3"

    @property
    def route(self) -> str:
        """The route that served the request, known once it was sent to a slot."""
        return f"${self.prefix}_route"

    @property
    def recorded(self) -> str:
        """Set while our access log is kept; empty otherwise."""
        return f"${self.prefix}_recorded"

    @property
    def logged(self) -> str:
        """Whether this request goes into our access log."""
        return f"${self.prefix}_logged"

    @property
    def shield_flag(self) -> str:
        """The file that is there while the request's slot is shielded; empty while our access log isn't kept."""
        return f"${self.prefix}_shield_flag"

    @property
    def shielded(self) -> str:
        """`-shielded` while the request's slot is helped by the other one; empty otherwise."""
        return f"${self.prefix}_shielded"

    @property
    def nothing(self) -> str:
        """Always empty."""
        return f"${self.prefix}_nothing"

    @property
    def probe_uri(self) -> str:
        """What a probe asks the slot's service for."""
        return f"${self.prefix}_probe_uri"

    @property
    def zone(self) -> str:
        """The counter of requests in flight."""
        return self.prefix

    @property
    def free_zone(self) -> str:
        """A request limit that never limits: it hides the user's from the probe server."""
        return f"{self.prefix}_free"

    @property
    def log_format(self) -> str:
        """Our log format."""
        return f"{self.prefix}_v1"

    @property
    def nowhere(self) -> str:
        """The upstream that answers 502."""
        return f"{self.prefix}_nowhere"

    def variable(self, key: str) -> str:
        """The variable in the user's `proxy_pass`, e.g. `$nself_shop_web_8000`."""
        return f"${self.stem(key)}"

    def upstream(self, key: str, slot: Slot) -> str:
        """The upstream of a route in a slot."""
        return f"{self.stem(key)}_{slot.value}"

    def shielded_upstream(self, key: str, slot: Slot) -> str:
        """The same with the other slot's servers as its backup."""
        return f"{self.upstream(key, slot)}_shielded"

    def stem(self, key: str) -> str:
        """Name of a route: readable, shortened with a hash where it would be too long for nginx."""
        service, _, port = key.rpartition("_")
        name = f"{self.prefix}_{service}" if service else self.prefix
        return f"{_shortened(name, _STEM_MAX)}_{port}"


def names_of(project: str) -> Names:
    """The names of a project."""
    return Names("nself_" + _shortened(_plain(project), _PROJECT_MAX))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", name.lower())


def _shortened(name: str, limit: int) -> str:
    if len(name) <= limit:
        return name
    return f"{name[: limit - 7]}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"
