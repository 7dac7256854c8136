"""The probe server: what only nself-deploy may ask the router, below one secret path.

    tree                        the fingerprint of the loaded files
    reads                       `yes` when nginx's workers can read our directory
    split/<NN>                  the slot that the decision gives for bucket NN
    inflight/<slot>/<N>         header X-Nself-Inflight: PASSED when fewer than N requests are in flight to the slot
    route/<key>/<slot>/<path>   the service of that slot, asked by nginx over the route's own upstream

Nothing of it is logged or counted, and the user's own http-level limits and passwords don't apply to it.
"""

from __future__ import annotations

from nself_deploy.core.model import Protocol, Slot
from nself_deploy.core.nginx_flags import HOST_HEADER, INFLIGHT_HEADER, LADDER, READABLE
from nself_deploy.core.nginx_names import Names, quoted
from nself_deploy.core.routing import TreeSpec, Upstream

_CONNECT_S = 2
_READ_S = 60

_SERVER = """\
map $request_uri {probe_uri} {{ default "/"; "~^/{secret}/route/[a-z0-9_]+/[a-z]+(/.*)$" $1; }}

server {{
    listen {listen};
    access_log off;
    log_not_found off;
    default_type text/plain;
    auth_basic off;
    allow all;
    limit_conn {zone} 65535;
    limit_req zone={free_zone};
    limit_conn_log_level info;
    open_file_cache off;
    disable_symlinks off;
    keepalive_timeout 10s;

    location / {{ return 444; }}
    location = /{secret}/tree {{ include {tree}; }}
    location = /{secret}/reads {{ if (-f {readable}) {{ return 200 "yes\\n"; }} return 200 "no\\n"; }}
    location ~ "^/{secret}/split/([0-9][0-9])$" {{
        set {bucket} $1;
        include {server};
        return 200 "{slot}\\n";
    }}
"""

_RUNG = """\
    location = /{secret}/inflight/{name}/{rung} {{
        set {slot} {name}; limit_conn {zone} {rung}; limit_conn_dry_run on;
        add_header {header} $limit_conn_status always; empty_gif;
    }}
"""

_PROXY = """\
        proxy_pass {protocol}://{upstream}{probe_uri};
        proxy_http_version 1.1;
        proxy_set_header Host $http_x_nself_host;
        proxy_set_header {header} "";
        proxy_set_header Connection close;
        proxy_connect_timeout {connect}s;
        proxy_read_timeout {read}s;
        proxy_next_upstream off;
        proxy_intercept_errors off;
        proxy_redirect off;
        proxy_cache off;
"""

_GRPC = """\
        rewrite "(?s)^/{secret}/route/[a-z0-9_]+/[a-z]+(/.*)$" "$1" break;
        grpc_pass {protocol}://{upstream};
        grpc_set_header Host $http_x_nself_host;
        grpc_set_header {header} "";
        grpc_connect_timeout {connect}s;
        grpc_read_timeout {read}s;
        grpc_next_upstream off;
"""

_PARAMS = {
    "REQUEST_METHOD": "GET",
    "REQUEST_URI": "{probe_uri}",
    "SCRIPT_NAME": "{probe_uri}",
    "SCRIPT_FILENAME": "{probe_uri}",
    "PATH_INFO": "{probe_uri}",
    "QUERY_STRING": "$args",
    "SERVER_PROTOCOL": "$server_protocol",
    "SERVER_NAME": "$host",
    "SERVER_PORT": "$server_port",
    "REMOTE_ADDR": "$remote_addr",
    "HTTP_HOST": "$http_x_nself_host",
    "GATEWAY_INTERFACE": "CGI/1.1",
    "CONTENT_LENGTH": '""',
    "CONTENT_TYPE": '""',
}

_CGI = """\
        {module}_pass {upstream};
        {module}_pass_request_headers off;
        {module}_connect_timeout {connect}s;
        {module}_read_timeout {read}s;
        {module}_next_upstream off;
"""


def probe_conf(spec: TreeSpec, names: Names, slots: tuple[Slot, ...]) -> str:
    """The text of probe.conf (without its head line); it contains the secret."""
    directory = spec.directory
    text = _SERVER.format(
        probe_uri=names.probe_uri,
        secret=spec.secret,
        listen=spec.probe_listen,
        zone=names.zone,
        free_zone=names.free_zone,
        tree=quoted(f"{directory}/tree/tree.conf"),
        readable=quoted(f"{directory}/{READABLE}"),
        server=quoted(f"{directory}/tree/server.conf"),
        bucket=names.bucket,
        slot=names.slot,
    )
    for slot in Slot:
        for rung in LADDER:
            text += _RUNG.format(
                secret=spec.secret, name=slot.value, rung=rung, slot=names.slot, zone=names.zone, header=INFLIGHT_HEADER
            )
    for upstream in spec.upstreams:
        for slot in slots:
            text += f"    location /{spec.secret}/route/{upstream.route.key}/{slot}/ {{\n"
            text += _probe_location(upstream, slot, spec, names) + "    }\n"
    return text + "}\n"


def _probe_location(upstream: Upstream, slot: Slot, spec: TreeSpec, names: Names) -> str:
    route = upstream.route
    name = names.upstream(route.key, slot) if upstream.servers.get(slot) else names.nowhere
    protocol = route.protocol
    values = {
        "protocol": protocol.value,
        "upstream": name,
        "probe_uri": names.probe_uri,
        "header": HOST_HEADER,
        "secret": spec.secret,
        "module": protocol.value,
        "connect": _CONNECT_S,
        "read": _READ_S,
    }
    if protocol in (Protocol.FASTCGI, Protocol.UWSGI):
        params = "".join(
            f"        {protocol.value}_param {key} {value.format(**values)};\n" for key, value in _PARAMS.items()
        )
        return _CGI.format(**values) + params
    if protocol in (Protocol.GRPC, Protocol.GRPCS):
        tls = "        grpc_ssl_verify off;\n" if protocol is Protocol.GRPCS else ""
        return _GRPC.format(**values) + tls
    tls = f"        proxy_ssl_name {route.service};\n        proxy_ssl_server_name on;\n        proxy_ssl_verify off;\n"
    return _PROXY.format(**values) + (tls if protocol is Protocol.HTTPS else "")
