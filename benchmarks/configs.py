"""The nginx files that are compared: pure text. They differ in nothing but the way to decide."""

from __future__ import annotations

from nself_deploy.core.model import ROUTER_DIR_IN_CONTAINER, ROUTER_LOG_IN_CONTAINER, Route, Slot
from nself_deploy.core.nginx_names import names_of
from nself_deploy.core.nginx_tree import compile_tree
from nself_deploy.core.routing import TreeSpec, Upstream

RELEASE_HEADER = "X-Shop-Release"
SHARES = "/etc/nginx/shares/shares.conf"
"""Where a reloaded router reads the shares from."""
KEEPALIVE = 32
_PROJECT = "bench"
_ROUTE = Route("web_80", "web", 80, keepalive=KEEPALIVE)

_FRAME = """\
user nginx;
worker_processes {workers};
pid /run/nginx.pid;
error_log /dev/stderr warn;
worker_shutdown_timeout 10s;
events {{ worker_connections 4096; }}
http {{
    {log}
    keepalive_requests 1000000;
{body}
}}
"""

NO_LOG = "access_log off;"
USUAL_LOG = (
    "log_format main '$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent'\n"
    '                    \' "$http_referer" "$http_user_agent"\';\n'
    "    access_log /var/log/nginx/requests.log main buffer=32k flush=1s;"
)
"""What most routers write for each request, buffered: the user's own log."""

_PROXY = """\
            proxy_pass http://{target};
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Connection "";"""


def backend(release: str, answer: str = 'return 200 "ok\\n"') -> str:
    """A backend that costs next to nothing and says which release it is."""
    header = f"add_header {RELEASE_HEADER} {release};" if release else ""
    body = f"    server {{ listen 80 reuseport; {header} location / {{ {answer}; }} }}"
    return _FRAME.format(workers=1, log=NO_LOG, body=body)


def _server(target: str, first: str = "") -> str:
    proxy = _PROXY.format(target=target)
    return f"    server {{\n        listen 80;\n        {first}\n        location / {{\n{proxy}\n        }}\n    }}"


def _upstream(name: str, server: str) -> str:
    return f"    upstream {name} {{ {_kept(server)} }}"


def _kept(server: str) -> str:
    return f"server {server}; keepalive {KEEPALIVE}; keepalive_timeout 2s;"


def plain(server: str, log: str = NO_LOG, workers: int = 2) -> str:
    """A router with one plain `proxy_pass` over kept connections."""
    return _FRAME.format(workers=workers, log=log, body=f"{_upstream('web', server)}\n{_server('web')}")


def named(service: str) -> str:
    """A router that asks Docker for the service's address, at most a second late."""
    upstream = (
        "    resolver 127.0.0.11 valid=1s ipv6=off;\n    proxy_connect_timeout 2s;\n"
        f"    upstream web {{ zone web 64k; {_kept(f'{service}:80 resolve')} }}\n"
    )
    return _FRAME.format(workers=2, log=NO_LOG, body=upstream + _server("web"))


def reloaded(servers: dict[Slot, str], min_timeout: str = "") -> str:
    """A router that reads the shares of the slots at a reload."""
    extra = f"    keepalive_min_timeout {min_timeout};\n" if min_timeout else ""
    upstreams = "\n".join(_upstream(slot.value, server) for slot, server in servers.items())
    return _FRAME.format(workers=2, log=NO_LOG, body=f"{extra}    include {SHARES};\n{upstreams}\n{_server('$share')}")


def shares(slot: Slot) -> str:
    """The file with the shares: everything to one slot."""
    return f'split_clients "$remote_addr$http_user_agent" $share {{ * {slot}; }}\n'


def ours(log: str = NO_LOG, workers: int = 2) -> str:
    """A router with our two includes."""
    tree = f"{ROUTER_DIR_IN_CONTAINER}/tree"
    target = names_of(_PROJECT).variable(_ROUTE.key)
    server = _server(target, first=f"include {tree}/server.conf;")
    return _FRAME.format(workers=workers, log=log, body=f"    include {tree}/http.conf;\n{server}")


def our_files(servers: dict[Slot, str], secret: str, sticky: str = "client") -> dict[str, str]:
    """The generated files, as a deploy writes them."""
    return compile_tree(
        TreeSpec(
            project=_PROJECT,
            upstreams=(Upstream(_ROUTE, {slot: (server,) for slot, server in servers.items()}),),
            directory=ROUTER_DIR_IN_CONTAINER,
            log_directory=ROUTER_LOG_IN_CONTAINER,
            probe_listen="127.0.0.1:8472",
            secret=secret,
            sticky=sticky,
        )
    )
