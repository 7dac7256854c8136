"""What a server with routes needs around them: our includes, and nothing that hides them or stales the flag files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from nself_deploy.core.nginx_config import Block, Config
from nself_deploy.core.nginx_flags import LINK
from nself_deploy.core.nginx_names import Names, quoted
from nself_deploy.core.nginx_targets import PASSES, Target
from nself_deploy.core.nginx_text import Change, Writer
from nself_deploy.core.nginx_tree import COOKIE, HTTP, LIMIT, LOG, SERVER
from nself_deploy.errors import ConfigError

_SAFE_RELOAD = (1, 27, 4)
_LEVELS = ("server", "location", "if", "limit_except")


class Surroundings:
    """The http and server levels around routes."""

    def __init__(self, config: Config, names: Names, directory: str, writer: Writer, *, cookie: bool = False) -> None:
        self._config = config
        self._names = names
        self._directory = directory
        self._writer = writer
        self._cookie = cookie

    def changes(self, lines: Iterable[Block]) -> list[Change]:
        """What is missing around the pass lines with routes.

        Raises:
            ConfigError: it would have to go into a file that isn't the user's.
        """
        servers = servers_around(lines)
        if not servers:
            return []
        changes = self._http()
        for server in servers:
            if not self._included(server, SERVER):
                changes.append(
                    self._writer.inside(server.node, self._include(SERVER), "decides the slot of each request")
                )
            changes += self._uncached(
                server, "open_file_cache", "a cached answer would keep requests on the old slot for a minute"
            )
            changes += self._uncached(server, "disable_symlinks", "the split is behind a symbolic link")
            changes += self._unhidden(
                server, "access_log", LOG, "the access_log line here hides the log that verdicts need"
            )
            changes += self._unhidden(
                server, "limit_conn", LIMIT, "the limit_conn line here hides the counter of requests in flight"
            )
            if self._cookie:
                changes += self._unhidden(
                    server, "add_header", COOKIE, "the add_header line here hides the cookie that the split gives"
                )
        return changes

    def missing(self, lines: Iterable[Block]) -> list[ConfigError]:
        """The same as problems, for files that should have been changed already."""
        remedy = "Run nself deploy init, which shows and makes the change."
        try:
            changes = self.changes(lines)
        except ConfigError as error:
            return [error]
        return [
            ConfigError(f"something is missing here: {change.reason}.", remedy, where=change.place)
            for change in changes
        ]

    def needs_default_access_log(self) -> bool:
        """Whether the files name no access log at http level; a main file that we can't see (an image's) names one."""
        return self._config.knows_main and not any(http.find("access_log") for http in self._config.https)

    def warnings(self, targets: Iterable[Target], version: tuple[int, ...]) -> list[str]:
        """What works, but not as well as it could."""
        found: list[str] = []
        lines = [target.line for target in targets]
        for http in self._config.https if lines else []:
            safe = [
                *http.find("keepalive_min_timeout"),
                *(b for s in servers_around(lines) for b in s.find("keepalive_min_timeout")),
            ]
            if version and version < _SAFE_RELOAD:
                numbers = ".".join(map(str, version))
                found.append(
                    f"nginx {numbers}: a reload can cut idle keep-alive connections under a request (1.27.4 and newer "
                    "can avoid it). Deploys don't reload; changes of routes or replicas do."
                )
            elif not safe:
                found.append(
                    "a reload can cut idle keep-alive connections under a request: add `keepalive_min_timeout 2s;` to "
                    "http {}. Deploys don't reload; changes of routes or replicas do."
                )
        for line in lines:
            place = self._config.place(line.node)
            if any(
                "nodelay" not in b.args and any(a.startswith("burst=") for a in b.args)
                for b in line.effective("limit_req")
            ):
                found.append(
                    f"{place}: limit_req delays requests before they are counted as in flight; "
                    "keep a standby, or use nodelay."
                )
            if any(b.args != ["off"] for b in line.effective("proxy_cache")) and not line.effective("proxy_cache_key"):
                found.append(
                    f"{place}: the cache key of proxy_cache contains the upstream's name, so each slot gets entries of "
                    "its own from now on."
                )
            found += [
                f"{self._config.place(b.node)}: $proxy_host in add_header would show the slot to the public: remove it."
                for b in line.effective("add_header")
                if any("$proxy_host" in a for a in b.args) and b.parent is not line.parent
            ]
        return found

    def _include(self, name: str) -> str:
        path = f"{self._directory}/{LINK}/{name}"
        return f"include {quoted(path) if ' ' in path else path};"

    def _included(self, level: Block, name: str) -> bool:
        wanted = f"{self._directory}/{LINK}/{name}"
        return any(b.args and posixpath.normpath(b.args[0]) == wanted for b in level.find("include"))

    def _http(self) -> list[Change]:
        """http.conf at the first place in http {} that is the user's, and no `access_log off` beside it."""
        changes = []
        for http in self._config.https:
            if not self._included(http, HTTP):
                reason = "buckets, upstreams, counter and log of the slots"
                changes.append(self._first_place(http, self._include(HTTP), reason))
            silent = f"access_log /dev/null combined if={self._names.nothing};"
            reason = "`off` would turn the log that verdicts need off as well; this line still logs nothing"
            changes += [
                self._writer.whole(block.node, silent, reason)
                for block in http.find("access_log")
                if block.args[:1] == ["off"]
            ]
        return changes

    def _first_place(self, http: Block, line: str, reason: str) -> Change:
        if http.node.file and self._config.editable(http.node.file):
            return self._writer.inside(http.node, line, reason)
        for block in http.children:
            if self._config.editable(block.node.file):
                return self._writer.before(block.node, line, reason)
        raise ConfigError(
            "no file of the project is read inside http {}.",
            f"Add `{line}` to http {{}} yourself, in a file that you mount into the router.",
            where=self._config.place(http.node) if http.node.file else self._config.sources.main,
        )

    def _uncached(self, server: Block, directive: str, reason: str) -> list[Change]:
        """`off` at server level, and the user's value where files are served."""
        lines = server.effective(directive)
        if (
            not lines
            or lines[0].args == ["off"]
            or (directive == "disable_symlinks" and lines[0].args[0] == "if_not_owner")
        ):
            return []
        value = " ".join([directive, *lines[0].args])
        changes = []
        if lines[0].parent is server:
            changes.append(self._writer.whole(lines[0].node, f"{directive} off;", reason))
        else:
            changes.append(self._writer.inside(server.node, f"{directive} off;", reason))
        changes += [
            self._writer.inside(location.node, f"{value};", f"{directive} as it was here")
            for location in server.find("location")
            if not location.find(directive) and not location.find(*PASSES)
        ]
        return changes

    def _unhidden(self, server: Block, directive: str, name: str, reason: str) -> list[Change]:
        changes = []
        for level in [server, *(b for b in server.walk() if b.name in _LEVELS)]:
            lines = level.find(directive)
            if self._included(level, name) or _merged(level, directive):
                continue
            if not lines:
                if _cut_off(level, directive):
                    why = reason.replace(f"the {directive} line here", f"{directive}_inherit off")
                    changes.append(self._writer.inside(level.node, self._include(name), why))
                continue
            if any(block.args[:1] == ["off"] for block in lines):
                changes.append(
                    self._writer.whole(
                        lines[0].node,
                        self._include(name),
                        "`off` would turn the log that verdicts need off as well; nothing else is logged",
                    )
                )
            else:
                changes.append(self._writer.after(lines[-1].node, self._include(name), reason))
        return changes


def _merged(level: Block, directive: str) -> bool:
    """Whether lines of this level hide none of those around them (nginx 1.29.3 can be told so, of headers)."""
    return any(b.args == ["merge"] for b in level.effective(f"{directive}_inherit"))


def _cut_off(level: Block, directive: str) -> bool:
    """Whether this level has nothing of those around it, also without lines of its own (as above)."""
    takes = level.name in ("server", "location")
    if level.name == "if":
        takes = level.parent is not None and level.parent.name == "location"
    return takes and any(b.args == ["off"] for b in level.effective(f"{directive}_inherit"))


def servers_around(lines: Iterable[Block]) -> list[Block]:
    """The `server {}` blocks around some lines, each once."""
    found: dict[int, Block] = {}
    for line in lines:
        server = line.around("server")
        if server is not None:
            found.setdefault(id(server), server)
    return list(found.values())
