"""Where the `*_pass` lines of the user's files lead: to an app service, to something else, or nobody can tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nself_deploy.core.model import Protocol, Route
from nself_deploy.core.nginx_config import Block, Config
from nself_deploy.core.nginx_names import Names, route_key
from nself_deploy.errors import ConfigError

PASSES = {
    "proxy_pass": "proxy",
    "grpc_pass": "grpc",
    "fastcgi_pass": "fastcgi",
    "uwsgi_pass": "uwsgi",
    "scgi_pass": "scgi",
    "memcached_pass": "memcached",
}
_URL = re.compile(
    r"(?:(?P<scheme>[A-Za-z]+)://)?(?P<host>\[[^\]]*\]|[^/:?#$\s]+)(?::(?P<port>\d+))?(?P<uri>[/?].*)?", re.DOTALL
)
_OURS = re.compile(r"(?:(?P<scheme>[a-z]+)://)?\$\{?(?P<variable>nself_[a-z0-9_]+)\}?(?P<uri>.*)", re.DOTALL)
_KEEPALIVE = re.compile(r"nself: keepalive (\d+)")
_LOOPBACK = {"127.0.0.1", "localhost", "[::1]", "0.0.0.0"}  # noqa: S104 - names in the user's file
_DEFAULT_PORTS = {"http": 80, "https": 443, "grpc": 80, "grpcs": 443}
_PROTOCOLS = {
    "http": Protocol.HTTP,
    "https": Protocol.HTTPS,
    "grpc": Protocol.GRPC,
    "grpcs": Protocol.GRPCS,
    "fastcgi": Protocol.FASTCGI,
    "uwsgi": Protocol.UWSGI,
}
_KEPT = {"server", "keepalive", "keepalive_timeout", "keepalive_requests", "keepalive_time"}


@dataclass(frozen=True)
class Services:
    """The services of the project, by the names that nginx may use for them.

    Args:
        apps: host name (service name, alias, container name) -> app service.
        others: the same for all other services.
        published: for an nginx of the host: published port on this machine -> (app service, its own port).
    """

    apps: Mapping[str, str]
    others: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[int, tuple[str, int]] = field(default_factory=dict)

    def at(self, host: str, port: int) -> tuple[str, int] | None:
        """The app service and port behind an address."""
        if host in self.apps:
            return self.apps[host], port
        return self.published.get(port) if host in _LOOPBACK else None


@dataclass(frozen=True)
class Group:
    """An `upstream {}` of the user whose servers are all one port of one app service."""

    block: Block
    service: str
    port: int
    keepalive: int
    lost: tuple[str, ...]
    """Directives and parameters that a slot's upstream does not have."""


@dataclass(frozen=True)
class Target:
    """A `*_pass` line that leads, or will lead, to a route."""

    line: Block
    route: Route
    done: bool
    """It uses our variable already."""
    scheme: str = ""
    host: str = ""
    """What nginx called the other side: its Host header, and the name in a certificate."""
    base: str = ""
    """Scheme, host and port as written, for redirects."""
    uri: str = ""
    group: Group | None = None


class Finder:
    """Finds the targets in a configuration; what it can't tell is a problem with a place and a remedy."""

    def __init__(
        self, config: Config, services: Services, names: Names, directory: str, *, keeps_idle: bool = False
    ) -> None:
        """Look through the configuration.

        Args:
        directory: ours, as nginx sees it.
        keeps_idle: this nginx (1.29.7 or newer) keeps connections to an `upstream {}` without being told.
        """
        self._config = config
        self._services = services
        self._names = names
        self._directory = directory
        self._keeps_idle = keeps_idle
        self.problems: list[ConfigError] = []
        self.warnings: list[str] = []
        self.groups: dict[str, Group] = {}
        self.targets: list[Target] = []
        for http in config.https:
            for block in http.find("upstream"):
                self._group(block)
            for block in http.walk():
                if block.name in PASSES and block.args:
                    self._look(block)
        for stream in config.root.find("stream"):
            self._refuse_stream(stream)

    def _problem(self, block: Block, what: str, remedy: str) -> None:
        self.problems.append(ConfigError(what, remedy, where=self._config.place(block.node)))

    def _group(self, block: Block) -> None:
        name = block.args[0] if block.args else ""
        found: list[tuple[str, int] | None] = []
        lost = [child.name for child in block.children if child.name not in _KEPT]
        for server in block.find("server"):
            parts = _URL.fullmatch(server.args[0]) if server.args else None
            host, port = (parts["host"], int(parts["port"] or 80)) if parts else ("", 0)
            found.append(self._services.at(host, port))
            if found[-1]:
                lost += server.args[1:]
        known = {one for one in found if one}
        if not known:
            return
        if len(known) > 1 or None in found:
            self._problem(
                block,
                f"upstream {name} has servers of more than one service or port.",
                "Make one upstream per app service and port, and no other server in it.",
            )
            return
        service, port = next(iter(known))
        given = [int(line.args[0]) for line in block.find("keepalive") if line.args and line.args[0].isdigit()]
        keepalive = given[0] if given else (32 if self._keeps_idle else 0)
        self.groups[name] = Group(block, service, port, keepalive, tuple(dict.fromkeys(lost)))

    def _look(self, line: Block) -> None:
        value = line.args[0]
        ours = _OURS.fullmatch(value)
        if ours:
            self._done(line, ours)
            return
        if "$" in value:
            self._variable(line, value)
            return
        parts = _URL.fullmatch(value)
        if parts is None or value.startswith("unix:") or "://unix:" in value:
            return
        module = PASSES[line.name]
        scheme = (parts["scheme"] or {"proxy": "http"}.get(module, module)).lower()
        group = self.groups.get(parts["host"]) if not parts["port"] else None
        port = int(parts["port"] or _DEFAULT_PORTS.get(scheme, 0))
        found = (group.service, group.port) if group else self._services.at(parts["host"], port)
        if found is None:
            return
        if scheme not in _PROTOCOLS:
            self._problem(
                line,
                f"{line.name} ({scheme}) to the app service {found[0]} can't be switched between versions.",
                "Use proxy_pass, grpc_pass, fastcgi_pass or uwsgi_pass.",
            )
            return
        shown = (
            parts["host"]
            if not parts["port"] or port == _DEFAULT_PORTS.get(scheme)
            else f"{parts['host']}:{parts['port']}"
        )
        base = f"{scheme}://{parts['host']}" + (f":{parts['port']}" if parts["port"] else "")
        route = self._route(line, found, _PROTOCOLS[scheme], group.keepalive if group else 0)
        self.targets.append(Target(line, route, False, scheme, shown, base, parts["uri"] or "", group))

    def _route(self, line: Block, found: tuple[str, int], protocol: Protocol, keepalive: int) -> Route:
        return Route(
            key=route_key(*found),
            service=found[0],
            port=found[1],
            protocol=protocol,
            keepalive=keepalive,
            source=self._config.place(line.node),
        )

    def _done(self, line: Block, ours: re.Match[str]) -> None:
        variable, port_text = ours["variable"], ours["variable"].rpartition("_")[2]
        if not port_text.isdigit() or not variable.startswith(self._names.prefix + "_") or self._elsewhere(line):
            return
        port = int(port_text)
        known = {*self._services.apps.values(), *(name for name, _ in self._services.published.values())}
        apps = sorted(name for name in known if self._names.stem(route_key(name, port)) == variable)
        others = [
            name for name in self._services.others.values() if self._names.stem(route_key(name, port)) == variable
        ]
        if not apps:
            what = f"{others[0]} is not an app service" if others else "there is no such service in the Compose project"
            remedy = (
                f"Give {others[0]} the role app (x-nself-deploy), or write {others[0]}:{port} here."
                if others
                else "Remove this location, or name a service that exists."
            )
            self._problem(line, f"${variable} leads nowhere: {what}.", remedy)
            return
        if len(apps) > 1:
            self._problem(line, f"${variable} could be {' or '.join(apps)}.", "Rename one of these services.")
            return
        if ours["uri"]:
            self._problem(
                line,
                f"with ${variable} nginx would send {ours['uri']} in place of the request's own path.",
                "Change the path with a rewrite … break above it.",
            )
            return
        module = PASSES[line.name]
        scheme = (ours["scheme"] or {"proxy": "http"}.get(module, module)).lower()
        kept = _KEEPALIVE.search(line.node.comment)
        route = self._route(line, (apps[0], port), _PROTOCOLS[scheme], int(kept[1]) if kept else 0)
        self.targets.append(Target(line, route, True, scheme))

    def _elsewhere(self, line: Block) -> bool:
        """Whether the line belongs to another project on this nginx, whose name begins like ours."""
        server = line.around("server")
        includes = [child.args[0] for child in (server.find("include") if server else []) if child.args]
        return not any(path.startswith(f"{self._directory}/") for path in includes) and any(
            path.endswith("/tree/server.conf") for path in includes
        )

    def _variable(self, line: Block, value: str) -> None:
        names = set(re.findall(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)", value))
        said = [value]
        for block in self._config.root.walk():
            if block.name == "set" and len(block.args) > 1 and block.args[0].lstrip("$") in names:
                said.append(block.args[1])
            if block.name in ("map", "split_clients", "geo") and block.args and block.args[-1].lstrip("$") in names:
                said += [word for child in block.children for word in child.args]
        for text in said:
            parts = _URL.match(text.replace("$", " "))
            group = self.groups.get(parts["host"]) if parts and not parts["port"] else None
            found = (
                (group.service, group.port)
                if group
                else self._services.at(parts["host"], int(parts["port"] or 80))
                if parts
                else None
            )
            if found:
                self._problem(
                    line,
                    f"{line.name} {value} leads to the app service {found[0]} through a variable.",
                    f"Write {line.name} http://{found[0]}:{found[1]}; in its place, then run nself deploy init.",
                )
                return
        if len(said) == 1:
            self.warnings.append(
                f"{self._config.place(line.node)}: nobody can tell where {line.name} {value} leads; "
                "if it leads to an app service, name the service in the line itself."
            )

    def _refuse_stream(self, stream: Block) -> None:
        for block in stream.walk():
            if block.name in ("proxy_pass", "server") and block.args and not block.children:
                parts = _URL.fullmatch(block.args[0])
                found = self._services.at(parts["host"], int(parts["port"] or 0)) if parts else None
                if found:
                    self._problem(
                        block,
                        f"a stream goes to the app service {found[0]}; only HTTP can be switched per request.",
                        f"Give {found[0]} the role shared (x-nself-deploy), or route it through http {{}}.",
                    )
