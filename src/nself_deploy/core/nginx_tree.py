"""The generated nginx files: a pure function of the routes and addresses (`TreeSpec`).

    http.conf    included once in `http {}`: buckets, upstreams, the variables of the routes, log and counter
    server.conf  included in each `server {}` with a route: decides the slot of a request, once
    log.conf     our access-log line; included again where the user's own `access_log` would hide it
    limit.conf   the in-flight counter; included again where the user's own `limit_conn` would hide it
    cookie.conf  the cookie that the split gives, if it does; again where the user's own `add_header` would hide it
    override.conf  private, if there is one: how testers choose a slot (see nginx_split)
    probe.conf   private: what only nself-deploy may ask (see nginx_probe)
    tree.conf    the fingerprint of the others, as the running nginx answers it

They are read through `<directory>/tree`, a link to the directory of one version of them, so that a change of all files
is one rename. Every name that nginx sees begins with `nself_<project>`, so that one nginx can serve several projects.
A request belongs to one slot from its first look at the flag files to its end: internal redirects and subrequests
don't decide again. Nothing that a client sends names a slot, but for the word that testers have.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from nself_deploy.core.model import Slot, Split
from nself_deploy.core.nginx_names import LOG_FIELDS, MIN_VERSION, Names, names_of, quoted, route_key
from nself_deploy.core.nginx_probe import probe_conf
from nself_deploy.core.nginx_shield import SHIELD_DIR, SHIELDED, backups, retried_answers
from nself_deploy.core.nginx_split import (
    BUCKETS,
    CANDIDATE,
    LIVE,
    cookie_line,
    gives_cookie,
    override_lines,
    split_lines,
)
from nself_deploy.core.routing import TreeSpec, Upstream
from nself_deploy.errors import ConfigError

HTTP, SERVER, LOG, LIMIT, PROBE, TREE = (f"{name}.conf" for name in ("http", "server", "log", "limit", "probe", "tree"))
COOKIE, OVERRIDE = "cookie.conf", "override.conf"
LINK = "tree"
"""Below our directory: the link through which nginx reads the files."""
RECORDING = "recording"
"""Below our directory: the file that is there while our access log is kept."""
PRIVATE = frozenset({PROBE, OVERRIDE})
"""Files that contain a secret: mode 0600."""
_FLAG_DIRS = {Slot.GREEN: "g", Slot.PLAIN: "p"}
_IDLE_S = 2
_SECRET = re.compile(r"[0-9a-f]{32,}")

__all__ = [
    "BUCKETS",
    "COOKIE",
    "HTTP",
    "LIMIT",
    "LINK",
    "LOG",
    "LOG_FIELDS",
    "MIN_VERSION",
    "OVERRIDE",
    "PRIVATE",
    "PROBE",
    "SERVER",
    "TREE",
    "bucket_slot",
    "compile_tree",
    "fingerprint",
    "names_of",
    "route_key",
    "split_files",
]


def compile_tree(spec: TreeSpec) -> dict[str, str]:
    """All generated files: name -> text.

    Raises:
        ConfigError: something in `spec` can't be written into an nginx file.
    """
    _check(spec)
    names = names_of(spec.project)
    slots = slots_of(spec.upstreams)
    files = {
        HTTP: _http(spec, names, slots),
        SERVER: _server(spec, names, slots),
        LOG: f"{_HEAD}access_log {quoted(spec.log_directory + '/access.log')} {names.log_format} if={names.logged};\n",
        LIMIT: f"{_HEAD}limit_conn {names.zone} 65535;\n",
        COOKIE: _HEAD + cookie_line(spec, names),
        PROBE: _HEAD + probe_conf(spec, names, slots),
    }
    if spec.override:
        files[OVERRIDE] = "\n".join([_HEAD.rstrip(), *override_lines(spec, names), ""])
    return {**files, TREE: f'{_HEAD}return 200 "{fingerprint(files)}\\n";\n'}


def fingerprint(files: Mapping[str, str]) -> str:
    """sha256 (hex) over the generated files; tree.conf, which says it, does not count."""
    digest = hashlib.sha256()
    for name in sorted(set(files) - {TREE}):
        digest.update(f"{name}\0{len(files[name])}\0{files[name]}".encode())
    return digest.hexdigest()


def bucket_slot(split: Split, bucket: int) -> Slot:
    """The slot of a bucket (0 to 99); the candidate's buckets are always the first ones, so they only grow."""
    return split.candidate if split.candidate is not None and bucket < split.percent else split.base


def split_files(split: Split) -> list[str]:
    """The flag files of a split, below `splits/<Split.name>/`: `g/NN` for green, `p/NN` for plain, none for blue.

    Two more are for testers: the slot that they mean by candidate and by live, which is the only one where one is.
    `s/<slot>` is there when what fails on that slot is answered by the other one.
    """
    found = {f"{bucket:02d}": bucket_slot(split, bucket) for bucket in range(BUCKETS)}
    found |= {CANDIDATE: bucket_slot(split, 0), LIVE: bucket_slot(split, BUCKETS - 1)}
    shield = [f"{SHIELD_DIR}/{split.candidate}"] if split.shielded else []
    return [f"{_FLAG_DIRS[slot]}/{bucket}" for bucket, slot in found.items() if slot in _FLAG_DIRS] + shield


def slots_of(upstreams: Iterable[Upstream]) -> tuple[Slot, ...]:
    """The slots that the files know: `plain` only while a plain stack is adopted."""
    plain = any(Slot.PLAIN in upstream.servers for upstream in upstreams)
    return (Slot.BLUE, Slot.GREEN, Slot.PLAIN) if plain else (Slot.BLUE, Slot.GREEN)


def included(directory: str, name: str) -> str:
    """The path of a generated file as it is written into nginx files, quoted."""
    return quoted(f"{directory}/{LINK}/{name}")


_HEAD = "# Generated by nself-deploy and replaced at every change: do not edit.\n"


def _check(spec: TreeSpec) -> None:
    if not _SECRET.fullmatch(spec.secret):
        raise ConfigError(
            "the router's secret is not what nself-deploy writes.", "Remove .nself/router/secret and deploy again."
        )
    keys = [upstream.route.key for upstream in spec.upstreams]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(
                f"two routes have the key {key!r}.",
                "Rename one of the services: they differ in case or punctuation only.",
            )
    variables = [names_of(spec.project).variable(key) for key in keys]
    if len(set(variables)) < len(variables):
        raise ConfigError("two routes would share one nginx variable.", "Rename one of the services.")


def _http(spec: TreeSpec, names: Names, slots: tuple[Slot, ...]) -> str:
    shield = quoted(f"{spec.directory}/current/{SHIELD_DIR}/", names.slot)
    lines = [
        f"{_HEAD}# Included once in http {{}}. The files below {spec.directory}/current decide where requests go.",
        "",
        f'map "" {names.slot} {{ default ""; }}',
        f'map "" {names.recorded} {{ default ""; }}',
        f'map "" {names.shielded} {{ default ""; }}',
        f'map "" {names.nothing} {{ default ""; }}',
        "# Looked for only while our log is kept, as it is for each canary: that saves a look at the disk otherwise.",
        f'map {names.recorded} {names.shield_flag} {{ default ""; 1 {shield}; }}',
        "",
        *split_lines(spec, names, included(spec.directory, OVERRIDE)),
    ]
    lines += _upstreams(spec, names, slots)
    lines += [
        "# Requests in flight per slot, in shared memory: name and size never change.",
        f"limit_conn_zone {names.slot} zone={names.zone}:1m;",
        f"limit_req_zone {names.nothing} zone={names.free_zone}:64k rate=1000r/s;",
        f"include {included(spec.directory, LIMIT)};",
        *([f"include {included(spec.directory, COOKIE)};"] if gives_cookie(spec.sticky) else []),
        "",
        *_log(spec, names),
        "",
        f"include {included(spec.directory, PROBE)};",
    ]
    return "\n".join(lines) + "\n"


def _upstreams(spec: TreeSpec, names: Names, slots: tuple[Slot, ...]) -> list[str]:
    lines = [
        "# Answers 502: for requests that belong to no slot, and for a slot that a route has no server in.",
        f"upstream {names.nowhere} {{ server 127.0.0.1:9 down; }}",
        "",
    ]
    for upstream in spec.upstreams:
        key = upstream.route.key
        used = {slot: names.upstream(key, slot) if upstream.servers.get(slot) else names.nowhere for slot in slots}
        for slot in slots:
            if upstream.servers.get(slot):
                lines += [f"upstream {used[slot]} {{", *_servers(upstream, slot), "}"]
        choices = [f"    {slot} {name};" for slot, name in used.items()]
        for slot, name in used.items():
            helping = backups(upstream, slot)
            helped = names.shielded_upstream(key, slot) if helping else name
            if helping:
                lines += [f"upstream {helped} {{", *_servers(upstream, slot, helping), "}"]
            choices.append(f"    {slot}{SHIELDED} {helped};")
        asked = f'"{names.slot}{names.shielded}"'
        lines += [f"map {asked} {names.variable(key)} {{", *choices, f"    default {names.nowhere};", "}", ""]
    return lines


def _servers(upstream: Upstream, slot: Slot, helping: tuple[str, ...] = ()) -> list[str]:
    # A replica that refuses is left alone for one second only: it may be back at once. One that is helped never is: the
    # candidate has to be asked each time, or the evidence would end with its first error.
    marks = " max_fails=1 fail_timeout=1s" if len(upstream.servers[slot]) > 1 else ""
    if helping:
        marks = " max_fails=0"
    for server in (*upstream.servers[slot], *helping):
        if not re.fullmatch(r"[0-9a-fA-F.:\[\]]+:\d{1,5}", server):
            raise ConfigError(f"{server!r} is not address:port.", "This is a fault of nself-deploy: please report it.")
    lines = [f"    server {server}{marks};" for server in upstream.servers[slot]]
    lines += [f"    server {server}{marks} backup;" for server in helping]
    if upstream.route.keepalive > 0:
        lines.append(f"    keepalive {upstream.route.keepalive};")
    else:
        lines.append("    keepalive_requests 1;  # no idle connections, also where nginx (1.29.7) would keep some")
    # An idle connection must not outlive its slot.
    return [*lines, f"    keepalive_timeout {_IDLE_S}s;"]


def _log(spec: TreeSpec, names: Names) -> list[str]:
    lines = [
        "# The route that served a request of ours, by the first address that was asked.",
        f'map "{names.slot} $upstream_addr" {names.route} {{',
        '    default "";',
    ]
    owners: dict[str, str] = {}
    for upstream in spec.upstreams:
        for slot in Slot:
            for server in upstream.servers.get(slot, ()):
                owners.setdefault(f"{slot} {server}", upstream.route.key)
    for asked, key in owners.items():
        lines += [f'    "{asked}" {key};', f'    "~^{_regex(asked)}[, ]" {key};']
    lines += [f'    "~^[a-z]+ {names.stem(u.route.key)}_" {u.route.key};' for u in spec.upstreams]
    lines += [
        "}",
        "# It is kept only while somebody needs it: it would grow for ever.",
        f'map {names.recorded} {names.logged} {{ default ""; 1 {names.route}; }}',
    ]
    lines += [f"log_format {names.log_format} escape=json"]
    values = {
        **LOG_FIELDS,
        "slot": names.slot,
        "bucket": names.bucket,
        "client": "".join(names.client_parts),
        "route": names.route,
    }
    bare = {"time", "request_time", "bytes_sent"}
    fields = [f'"{field}":{value}' if field in bare else f'"{field}":"{value}"' for field, value in values.items()]
    lines += [
        f"    '{'{' if i == 0 else ''}{field}{'}' if i == len(fields) - 1 else ','}'" for i, field in enumerate(fields)
    ]
    lines[-1] += ";"
    if spec.default_access_log:
        lines.append(f"access_log {spec.default_access_log};  # nginx's own default, which ours would replace")
    return [*lines, f"include {included(spec.directory, LOG)};"]


def _regex(text: str) -> str:
    return re.sub(r"[.\[\]]", r"\\\g<0>", text)


def _server(spec: TreeSpec, names: Names, slots: tuple[Slot, ...]) -> str:
    lines = [f"{_HEAD}# Included in each server {{}} with a route: the slot of this request, decided once."]
    lines += retried_answers(spec)
    for slot in slots:
        if slot in _FLAG_DIRS:
            flag = quoted(f"{spec.directory}/current/{_FLAG_DIRS[slot]}/", f"{names.bucket}{names.slot}")
            lines.append(f"if (-f {flag}) {{ set {names.slot} {slot}; }}")
    flag = quoted(f"{spec.directory}/{RECORDING}")
    lines.append(f"if (-f {flag}) {{ set {names.recorded} 1; }}")
    lines.append(f'if ({names.slot} = "") {{ set {names.slot} {Slot.BLUE}; }}')
    lines.append(f"if (-f {names.shield_flag}) {{ set {names.shielded} {SHIELDED}; }}")
    return "\n".join(lines) + "\n"
