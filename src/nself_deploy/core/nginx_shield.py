"""The shield: a request that fails on the candidate is served by the live slot, and still counts as failed.

The live slot's servers are the backup of the candidate's upstream, so nginx asks them when all of the candidate's have
failed. When that is, `proxy_next_upstream` says: by default a connection that breaks or times out. nginx repeats only
what is safe to repeat (not POST, once it was sent). The first address and status in our log stay the candidate's.

No server of a shielded upstream is left alone after failures: each request is asked of the candidate first, or the
evidence would end with the first error. Which time-outs apply can't depend on the slot: nginx takes them from the
user's location, where no variable is allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nself_deploy.core.model import Protocol, Slot
from nself_deploy.core.routing import TreeSpec, Upstream

if TYPE_CHECKING:
    from nself_deploy.core.nginx_config import Config  # not needed to write files, and its parser is slow to import

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


def backups(spec: TreeSpec, upstream: Upstream, slot: Slot) -> tuple[str, ...]:
    """The servers that help out in this slot's upstream."""
    return upstream.servers.get(slot.other, ()) if slot is spec.shield else ()


def unforgotten(spec: TreeSpec, slot: Slot) -> bool:
    """Whether failures of this slot's servers must not keep nginx from asking them."""
    return slot is spec.shield or (spec.shield is not None and spec.shield_answers)


def retried_answers(spec: TreeSpec) -> list[str]:
    """Lines for server.conf: which answers are failures that another server may make good."""
    if spec.shield is None or not spec.shield_answers:
        return []
    modules = sorted({_MODULES[upstream.route.protocol] for upstream in spec.upstreams})
    return [f"{module}_next_upstream error timeout {_CODES[module]};" for module in modules]


def own_retries(config: Config) -> bool:
    """Whether the user's files say when nginx tries again, for a whole server or for all of them."""
    names = tuple(f"{module}_next_upstream" for module in _CODES)
    return any(level.find(*names) for http in config.https for level in (http, *http.find("server")))
