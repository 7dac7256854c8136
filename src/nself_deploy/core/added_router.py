"""The nginx for a project that has none: a configuration as a user would write it, and its Compose service. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from nself_deploy.core.extension import RouteKeys
from nself_deploy.core.model import LABEL_ROLE, Protocol, Role
from nself_deploy.errors import ConfigError

IMAGE = "nginx:1.30-alpine"
CONF_FILE = "nginx.nself.conf"
"""In the project's directory; it belongs to the user from then on."""
_PASS = {
    Protocol.HTTP: ("proxy_pass http://", "proxy"),
    Protocol.HTTPS: ("proxy_pass https://", "proxy"),
    Protocol.GRPC: ("grpc_pass grpc://", "grpc"),
    Protocol.GRPCS: ("grpc_pass grpcs://", "grpc"),
    Protocol.FASTCGI: ("fastcgi_pass ", "fastcgi"),
    Protocol.UWSGI: ("uwsgi_pass ", "uwsgi"),
}


class Published(msgspec.Struct, frozen=True):
    """A port of the host that an app service has until now."""

    service: str
    host_ip: str
    published: str
    target: int


def published_by(apps: Mapping[str, Mapping[str, Any]]) -> list[Published]:
    """The host ports of app services (TCP, one port each)."""
    return [
        Published(name, str(port.get("host_ip") or ""), str(port["published"]), int(port["target"]))
        for name, config in sorted(apps.items())
        for port in config.get("ports") or ()
        if str(port.get("published") or "").isdigit() and port.get("protocol", "tcp") == "tcp"
    ]


def choose_routes(declared: Iterable[RouteKeys], published: list[Published]) -> tuple[RouteKeys, ...]:
    """What the new router serves: the declared routes, else the one app service that has a host port.

    Raises:
        ConfigError: it can't be told.
    """
    routes = tuple(declared)
    if routes:
        return routes
    if len(published) == 1:
        return (RouteKeys(published[0].service, published[0].target),)
    found = ", ".join(f"{p.service} ({p.published})" for p in published) or "none"
    raise ConfigError(
        f"The project has no nginx, and which service users come to can't be told (host ports: {found}).",
        "Say so under x-nself-deploy, for example: routes: [{service: web, port: 8000}].",
    )


def router_service(published: list[Published]) -> dict[str, Any]:
    """The Compose service; it takes over the host ports, or gets 8080 when there are none."""
    ports = [
        {"target": 80, "published": p.published, "protocol": "tcp", **({"host_ip": p.host_ip} if p.host_ip else {})}
        for p in published
    ] or [{"target": 80, "published": "8080", "protocol": "tcp"}]
    return {
        "image": IMAGE,
        "labels": {LABEL_ROLE: Role.ROUTER.value},
        "ports": ports,
        "restart": "unless-stopped",
        "stop_signal": "SIGQUIT",
        "stop_grace_period": "20s",
        "volumes": [{"type": "bind", "source": f"./{CONF_FILE}", "target": "/etc/nginx/nginx.conf", "read_only": True}],
    }


def router_conf(routes: Iterable[RouteKeys]) -> str:
    """A plain nginx configuration for the routes, longest path first within a host."""
    hosts: dict[str, list[RouteKeys]] = {}
    for route in routes:
        hosts.setdefault(route.host, []).append(route)
    servers = "\n".join(_server(host, found) for host, found in sorted(hosts.items()))
    return _HEAD + servers + "}\n"


def _server(host: str, routes: list[RouteKeys]) -> str:
    listen = "80" if host else "80 default_server"
    grpc = any(r.protocol in (Protocol.GRPC, Protocol.GRPCS) for r in routes)
    http2 = "        http2 on;\n" if grpc else ""
    locations = "\n".join(_location(r) for r in sorted(routes, key=lambda r: (-len(r.path), r.path)))
    return f"    server {{\n        listen {listen};\n{http2}        server_name {host or '_'};\n\n{locations}    }}\n"


def _location(route: RouteKeys) -> str:
    pass_to, module = _PASS[route.protocol]
    lines = [f"{pass_to}{route.service}:{route.port};"]
    if module == "proxy":
        lines += [
            "proxy_http_version 1.1;",
            "proxy_set_header Host $http_host;",
            "proxy_set_header X-Real-IP $remote_addr;",
            "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
            "proxy_set_header X-Forwarded-Proto $scheme;",
            "proxy_set_header Upgrade $http_upgrade;",
            "proxy_set_header Connection $connection_upgrade;",
        ]
    if module in ("fastcgi", "uwsgi"):
        lines.append(f"include /etc/nginx/{module}_params;")
    body = "".join(f"            {line}\n" for line in lines)
    return f"        location {route.path} {{\n{body}        }}\n"


_HEAD = """# Made by nself deploy init; it is yours: change it as you like.
user nginx;
worker_processes auto;
error_log /dev/stderr warn;
pid /run/nginx.pid;
worker_shutdown_timeout 60s;

events {
    worker_connections 4096;
}

http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /dev/stdout combined;
    server_tokens off;
    client_max_body_size 0;
    # Idle connections survive a reload for this long, so no request on the wire is lost.
    keepalive_min_timeout 2s;

    map $http_upgrade $connection_upgrade {
        default upgrade;
        '' '';
    }

"""
