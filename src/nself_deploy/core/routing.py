"""What the router has to know: routes and addresses per slot, as data."""

from __future__ import annotations

import msgspec

from nself_deploy.core.model import Route, Slot


class Upstream(msgspec.Struct, frozen=True):
    """One route with the addresses that serve it."""

    route: Route
    servers: dict[Slot, tuple[str, ...]]
    """Slot -> `address:port` of each replica, in replica order. `plain` only while a plain stack is adopted."""


class Override(msgspec.Struct, frozen=True):
    """How a tester chooses the slot of a request: a header or cookie that says `candidate:WORD` or `live:WORD`."""

    word: str
    """What only testers know: 16 to 36 characters."""
    header: str = ""
    cookie: str = ""


class TreeSpec(msgspec.Struct, frozen=True):
    """All that goes into the generated nginx files; equal specs give equal files."""

    project: str
    upstreams: tuple[Upstream, ...]
    directory: str
    """Our directory as nginx sees it."""
    log_directory: str
    """Where nginx writes our access log, as nginx sees it."""
    probe_listen: str
    """`address:port` of the probe server, e.g. `127.0.0.1:8472`."""
    secret: str
    """Path token of the probe server: at least 32 hexadecimal digits."""
    sticky: str = "client"
    """What a client is: `client` (address + user agent), `random` (each request), or `cookie:<name>`: one that the
    split itself gives."""
    override: Override | None = None
    default_access_log: str = ""
    """nginx's own `access_log` arguments to repeat at http level, when the user's files name none there."""
    shield_answers: bool = False
    """Whether a shield also catches answers with 500, 502, 503 and 504, not only connections that fail. Only where
    nothing but routes is concerned, and the user's files don't say themselves when nginx tries again."""
