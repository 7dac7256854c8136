"""One location with a route: its pass line gets our variable, and what nginx did unasked stays as it was.

With a variable in `proxy_pass` nginx (1) replaces the whole path by a path in the line, (2) sends the upstream's name
as Host, (3) no longer rewrites Location headers by itself, (4) checks certificates against the upstream's name. So each
of these is written out, where the user's own lines don't say it already.
"""

from __future__ import annotations

import re

from nself_deploy.core.model import Protocol
from nself_deploy.core.nginx_config import Block, Config
from nself_deploy.core.nginx_names import Names
from nself_deploy.core.nginx_targets import PASSES, Target
from nself_deploy.core.nginx_text import Change, Writer
from nself_deploy.errors import ConfigError

_REWRITES = {"rewrite", "set", "if", "return", "break"}
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/._~!&'()*+,;=:@-]*")
_NOT_IN_WORD = re.compile(r"[\x00-\x1f\x7f\"\\]")
_SPECIAL = re.compile(r"[.^$*+?()\[\]{}|]")
_PROXY_HOST = re.compile(r"\$\{?proxy_host\}?(?![A-Za-z0-9_])")
_PROXY_PORT = re.compile(r"\$\{?proxy_port\}?(?![A-Za-z0-9_])")


class LocationEditor:
    """Makes the changes for one target."""

    def __init__(self, config: Config, names: Names, writer: Writer) -> None:
        self._config = config
        self._names = names
        self._writer = writer

    def edit(self, target: Target) -> list[Change]:
        """All changes in the location of a target that still has a fixed name.

        Raises:
            ConfigError: it can't be done by us; the message says how to do it by hand.
        """
        line = target.line
        parent = line.parent
        if parent is None or parent.name != "location":
            around = parent.name if parent else "the file"
            raise self._error(
                line,
                f"{line.name} inside {around} can't be switched safely.",
                "Move it into a location of its own (named, if need be).",
            )
        variable = self._names.variable(target.route.key)
        prefix = "" if line.name in ("fastcgi_pass", "uwsgi_pass") else f"{target.scheme}://"
        changes = [
            self._writer.word(
                line.node,
                1,
                prefix + variable,
                f"{target.route.service}:{target.route.port} of the slot that the request belongs to",
            )
        ]
        if target.route.keepalive:
            changes.append(
                self._writer.comment(
                    line.node,
                    f"nself: keepalive {target.route.keepalive}",
                    "the idle connections of the upstream it used, for the slots' upstreams",
                )
            )
        if line.name == "proxy_pass":
            changes += self._path(target, parent)
            changes += self._headers(target, parent, "proxy_set_header")
            changes += self._redirects(target, parent)
        if line.name == "grpc_pass":
            changes += self._headers(target, parent, "grpc_set_header")
        if target.route.protocol in (Protocol.HTTPS, Protocol.GRPCS):
            changes += self._certificate_name(target, f"{PASSES[line.name]}_ssl_name")
        return changes + self._other_lines(target, parent)

    def _path(self, target: Target, location: Block) -> list[Change]:
        """The path in the line, as a rewrite."""
        if not target.uri:
            return []
        line = target.line
        if not _PLAIN_PATH.fullmatch(target.uri):
            raise self._error(
                line,
                f"nself deploy init can't rewrite the path {target.uri!r} of this line.",
                "Use a path of letters, digits and slashes, or a rewrite … break above a line without a path.",
            )
        self._refuse_other_rewrites(target, location)
        kind, prefix = _matched(location)
        if kind == "=":
            statement = f'rewrite ^ "{target.uri}" break;'
        elif kind not in ("", "^~"):
            raise self._error(line, "nginx itself refuses a path here.", "Remove the path from the line.")
        elif _NOT_IN_WORD.search(prefix):
            raise self._error(
                location,
                "nself deploy init can't rewrite the paths of a location with quotes or backslashes.",
                f"Write a rewrite … break into it yourself, and remove the path {target.uri} from the pass line.",
            )
        else:
            quoted = _SPECIAL.sub(r"\\\g<0>", prefix)
            statement = f'rewrite "(?s)^{quoted}(.*)$" "{target.uri}$1" break;'
        later = [
            b
            for b in location.children
            if b.name in _REWRITES and b.node.file == line.node.file and b.node.start > line.node.start
        ]
        reason = f"the path {target.uri} of the line: with a variable nginx would drop the rest of the request's path"
        if later:
            return [self._writer.after(later[-1].node, statement, reason)]
        return [self._writer.before(line.node, statement, reason)]

    def _refuse_other_rewrites(self, target: Target, location: Block) -> None:
        """The user's own rewrites must end the rewriting, or ours would come on top of them."""
        for block in location.walk():
            inside = next(level for level in block.levels() if level.name in ("location", "server"))
            if inside is not location:
                continue
            if block.name == "break" or (block.name == "rewrite" and len(block.args) == 2):
                raise self._error(
                    block,
                    f"{block.name} here and a path in {target.line.name} together can't be carried over.",
                    f"End each rewrite of this location with break or last, or remove the path {target.uri} "
                    f"from {self._config.place(target.line.node)}.",
                )
        server = location.around("server")
        for block in server.find("rewrite") if server else []:
            if block.args[2:3] == ["break"]:
                raise self._error(
                    block,
                    f"this rewrite makes nginx ignore the path of {self._config.place(target.line.node)}.",
                    f"Use last in place of break, or remove the path {target.uri} there.",
                )

    def _headers(self, target: Target, location: Block, directive: str) -> list[Change]:
        """Host as nginx made it from the name in the line."""
        line = target.line
        lines = location.effective(directive)
        own = bool(lines) and lines[0].parent is location
        values = [(block, block.args) for block in lines if len(block.args) == 2]
        has_host = any(args[0].lower() == "host" for _, args in values)
        reason = f"the Host header {target.host} that nginx sent unasked"
        if own or not lines:
            return [] if has_host else [self._writer.after(line.node, f"{directive} Host {target.host};", reason)]
        if has_host and not any(_uses_proxy_name(args[1]) for _, args in values):
            return []
        repeated = [f"{directive} {_word(args[0])} {_word(_named(args[1], target))};" for _, args in values]
        if not has_host:
            repeated.append(f"{directive} Host {target.host};")
        why = f"{reason}; a header line here hides those around it, so they are repeated"
        return [self._writer.after(line.node, statement, why) for statement in repeated]

    def _redirects(self, target: Target, location: Block) -> list[Change]:
        """Location headers as nginx rewrote them by default."""
        prefix = _word(_matched(location)[1])
        values = f"{_word(target.base + target.uri)} {prefix}" if target.uri else f"{target.base}/ /"
        lines = location.effective("proxy_redirect")
        defaults = [block for block in lines if block.args == ["default"] and block.parent is location]
        reason = "what `proxy_redirect default` did for the name in the line"
        if defaults:
            return [self._writer.whole(block.node, f"proxy_redirect {values};", reason) for block in defaults]
        return [] if lines else [self._writer.after(target.line.node, f"proxy_redirect {values};", reason)]

    def _certificate_name(self, target: Target, directive: str) -> list[Change]:
        if target.line.effective(directive):
            return []
        name = target.host.rsplit(":", 1)[0] if not target.host.endswith("]") else target.host
        return [
            self._writer.after(
                target.line.node, f"{directive} {name};", "the name that nginx looked for in the certificate"
            )
        ]

    def _other_lines(self, target: Target, location: Block) -> list[Change]:
        """`$proxy_host` in the location's other lines: it would be the name of our upstream from now on."""
        changes = []
        for block in location.walk():
            if block.name == "location" or block is target.line or block.around("location") is not location:
                continue
            for index, value in enumerate(block.args, start=1):
                if _uses_proxy_name(value):
                    changes.append(
                        self._writer.word(
                            block.node,
                            index,
                            _word(_named(value, target)),
                            "what $proxy_host was; it would be the slot's upstream from now on",
                        )
                    )
        return changes

    def _error(self, block: Block, what: str, remedy: str) -> ConfigError:
        return ConfigError(what, remedy, where=self._config.place(block.node))


def _matched(location: Block) -> tuple[str, str]:
    """How a location matches (`""`, `=`, `^~`, `~`, `~*`, `@`) and what."""
    args = location.args
    if len(args) >= 2:
        return args[0], args[1]
    value = args[0] if args else ""
    for mark in ("=", "^~", "~*", "~", "@"):
        if value.startswith(mark):
            return mark, value.removeprefix(mark)
    return "", value


def _uses_proxy_name(value: str) -> bool:
    return bool(_PROXY_HOST.search(value) or _PROXY_PORT.search(value))


def _named(value: str, target: Target) -> str:
    """A value with `$proxy_host` and `$proxy_port` as they were."""
    port = target.host.rpartition(":")[2]
    default = "443" if target.scheme in ("https", "grpcs") else "80"
    value = _PROXY_HOST.sub(lambda _: target.host, value)
    return _PROXY_PORT.sub(lambda _: port if port.isdigit() and ":" in target.host else default, value)


def _word(value: str) -> str:
    """A value as one word of an nginx file, quoted only where it must be."""
    if value and not re.search(r"[\s;{}\"'\\#]", value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
