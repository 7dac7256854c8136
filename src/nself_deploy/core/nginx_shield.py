"""The shield: a request that fails on the candidate is answered by the live slot, and still counts as failed.

Each slot has a second upstream, in which the other slot's servers are the backup: nginx asks them when all of the
slot's own have failed. It is used while the split says so by a flag file, so no reload begins or ends it; and only
while our access log is kept, so that nginx need not look for the flag at other times. When a server
has failed, `proxy_next_upstream` says: by default when a connection breaks or times out. nginx repeats only what is
safe to repeat (not POST, once it was sent). The first address and status in our log stay the candidate's.

Which time-outs apply can't depend on the slot: nginx takes them from the user's location, where no variable is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nself_deploy.core.model import Protocol, Slot
from nself_deploy.core.routing import TreeSpec, Upstream

if TYPE_CHECKING:
    from nself_deploy.core.nginx_config import Block, Config  # not needed to write files, and slow to import

SHIELDED = "-shielded"
"""Behind the name of a slot, where nginx chooses an upstream."""

_MODULES = {
    Protocol.HTTP: "proxy",
    Protocol.HTTPS: "proxy",
    Protocol.GRPC: "grpc",
    Protocol.GRPCS: "grpc",
    Protocol.FASTCGI: "fastcgi",
    Protocol.UWSGI: "uwsgi",
}
_CODES = {
    "proxy": "http_500 http_502 http_503 http_504",
    "grpc": "http_500 http_502 http_503 http_504",
    "fastcgi": "http_500 http_503",
    "uwsgi": "http_500 http_503",
}
_ONE_ADDRESS = re.compile(r"([a-z]+://)?(unix:.*|[0-9.]+(:[0-9]+)?(/.*)?|\[[0-9a-fA-F:.]+\](:[0-9]+)?(/.*)?)")


def backups(upstream: Upstream, slot: Slot) -> tuple[str, ...]:
    """The servers that help out when this slot is shielded; none for a slot that nobody helps."""
    helps = slot is not Slot.PLAIN and upstream.servers.get(slot)
    return upstream.servers.get(slot.other, ()) if helps else ()


def retried_answers(spec: TreeSpec) -> list[str]:
    """Lines for server.conf: which answers are failures that another server may make good.

    They count for whatever has more than one server, so there are none when a slot has several: what one of its
    replicas answers has to reach the client.
    """
    several = any(len(servers) > 1 for upstream in spec.upstreams for servers in upstream.servers.values())
    if several or not spec.shield_answers:
        return []
    modules = sorted({_MODULES[upstream.route.protocol] for upstream in spec.upstreams})
    return [f"{module}_next_upstream error timeout {_CODES[module]};" for module in modules]


def answers_are_ours(config: Config, ours: Iterable[Block], directory: str) -> bool:
    """Whether it can be said for a server with routes which answers are failures, and concerns nothing but routes.

    Not when the user's files say when nginx tries again, for a whole server or for all of them; nor when such a server
    passes something on to a name, which may have several addresses. What stands in our own files, below `directory`,
    is where an nginx of the host has them among the user's, and says nothing.
    """
    names = tuple(f"{module}_next_upstream" for module in _CODES)
    said = (line for http in config.https for level in (http, *http.find("server")) for line in level.find(*names))
    if any(not line.node.file.startswith(f"{directory}/") for line in said):
        return False
    lines = list(ours)
    servers = [server for http in config.https for server in http.find("server")]
    routed = [server for server in servers if any(line.around("server") is server for line in lines)]
    passes = {f"{module}_pass" for module in _CODES}
    others = [b for s in routed for b in s.walk() if b.name in passes and not any(b is line for line in lines)]
    return all(bool(other.args) and _ONE_ADDRESS.fullmatch(other.args[0]) is not None for other in others)
