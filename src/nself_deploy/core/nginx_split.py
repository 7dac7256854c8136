"""Which of a hundred buckets a request belongs to: by its client, at random, or as a tester asks. Lines of nginx files.

A client is its address and browser, or a cookie that the split gives it. The value that it gets is the one by which its
very first request is decided, so nobody meets one slot first and another one with the cookie. It is given where it can
be kept: to a GET that is no part of a page, and never in place of another value. nginx keeps nothing about clients, and
only hashes of what they send are used, so a long or strange value is one client like any other.

No map here uses regular expressions: one that matches would empty $1, $2 ... of the user's own files. So the testers'
word is compared as a map compares all words: upper and lower case are alike.
"""

from __future__ import annotations

import hashlib
import re

from nself_deploy.core.nginx_flags import BUCKETS, CANDIDATE, LIVE
from nself_deploy.core.nginx_names import Names
from nself_deploy.core.routing import TreeSpec
from nself_deploy.errors import ConfigError

COOKIE_DAYS = 30
"""How long a client keeps the cookie."""
_COOKIE = re.compile(r"[A-Za-z0-9_]+")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_WORD = re.compile(r"[A-Za-z0-9._~-]{16,36}")
_ADDRESS = '"$remote_addr$http_user_agent"'


def gives_cookie(sticky: str) -> bool:
    """Whether the split gives clients a cookie."""
    return sticky.startswith("cookie:")


def split_lines(spec: TreeSpec, names: Names, override: str) -> list[str]:
    """Lines for http.conf: the bucket of a request, and the pseudonym of its client.

    Args:
        override: the include of override.conf, for a split that testers can override.

    Raises:
        ConfigError: `sticky` is none of the possible words.
    """
    cookie = _cookie(spec.sticky)
    who = names.client if cookie else _ADDRESS.strip('"')
    lines = _cookie_lines(cookie, names) if cookie else []
    lines += [
        "# Which hundredth of the clients a request belongs to.",
        *_buckets(
            f"{_salt(spec, 'bucket')}{'$request_id' if spec.sticky == 'random' else who}",
            names.hundredth if spec.override else names.bucket,
        ),
    ]
    if spec.override:
        lines += ["# Testers choose the slot themselves.", f"include {override};", ""]
    lines.append("# A pseudonym of the client for our log: six digits that can't be turned back into an address.")
    for number, variable in enumerate(names.client_parts):
        lines += _buckets(f"{_salt(spec, 'client')}{number}{who}", variable)
    return lines


def cookie_line(spec: TreeSpec, names: Names) -> str:
    """The line of cookie.conf, which gives the cookie; only a remark where none is given."""
    if not gives_cookie(spec.sticky):
        return "# The split gives no cookie.\n"
    return f"add_header Set-Cookie {names.set_cookie} always;\n"


def override_lines(spec: TreeSpec, names: Names) -> list[str]:
    """Lines of override.conf, which is private: how testers choose the slot of a request.

    Raises:
        ConfigError: a name or the word is not possible.
    """
    wish = spec.override
    if wish is None:
        return []
    if not _WORD.fullmatch(wish.word):
        raise ConfigError(
            "the word of `override` is not possible.", "Use 16 to 36 letters, digits and `.`, `_`, `~`, `-`."
        )
    rows = [f'    "{side}:{wish.word}" {side};' for side in (CANDIDATE, LIVE)]
    lines: list[str] = []
    otherwise = names.hundredth
    given = [(f"$cookie_{_named(wish.cookie, _COOKIE)}", names.asked)] if wish.cookie else []
    if wish.header:
        given.append((f"$http_{_named(wish.header, _HEADER).lower().replace('-', '_')}", names.bucket))
    if not given:
        raise ConfigError("`override` names no header and no cookie.", "Name at least one of them.")
    given[-1] = (given[-1][0], names.bucket)
    for source, variable in given:
        lines += [f"map {source} {variable} {{", f"    default {otherwise};", *rows, "}"]
        otherwise = variable
    return lines


def _named(name: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(name):
        raise ConfigError(f"nginx can't read {name!r} from a request.", "Use letters and digits.")
    return name


def _cookie(sticky: str) -> str:
    """The name of the cookie; empty when clients are known otherwise."""
    if not gives_cookie(sticky):
        if sticky not in ("client", "random"):
            raise ConfigError(f"sticky is {sticky!r}.", "Use client, random, or cookie:<name>.")
        return ""
    cookie = sticky.removeprefix("cookie:")
    if not _COOKIE.fullmatch(cookie):
        raise ConfigError(f"nginx can't read a cookie named {cookie!r}.", "Use one of letters, digits and underscores.")
    return cookie


def _cookie_lines(cookie: str, names: Names) -> list[str]:
    attributes = f"Path=/; Max-Age={COOKIE_DAYS * 86400}; HttpOnly; SameSite=Lax{names.secure}"
    return [
        f"# A client is its cookie {cookie}. A page is answered with one if there is none, and decided by it at once;",
        "# what can't keep a cookie is its address and browser.",
        f'map "$request_method:$http_sec_fetch_dest" {names.offered} {{',
        '    default "";',
        '    "GET:" $request_id;',
        '    "GET:document" $request_id;',
        "}",
        f'map $cookie_{cookie} {names.given} {{ default ""; "" {names.offered}; }}',
        f'map {names.given} {names.newcomer} {{ default {names.given}; "" {_ADDRESS}; }}',
        f'map $cookie_{cookie} {names.client} {{ default $cookie_{cookie}; "" {names.newcomer}; }}',
        f'map $http_x_forwarded_proto {names.forwarded} {{ default ""; https "; Secure"; }}',
        f'map $scheme {names.secure} {{ default {names.forwarded}; https "; Secure"; }}',
        f'map {names.given} {names.new_cookie} {{ default "{cookie}={names.given}; {attributes}"; "" ""; }}',
        f'map {names.slot} {names.set_cookie} {{ default {names.new_cookie}; "" ""; }}',
        "",
    ]


def _salt(spec: TreeSpec, purpose: str) -> str:
    """Nobody else can tell which clients come first, or turn a pseudonym back."""
    return hashlib.sha256(f"{purpose} {spec.secret}".encode()).hexdigest()[:16]


def _buckets(key: str, variable: str) -> list[str]:
    rows = [
        " ".join(f"1% {bucket:02d};" for bucket in range(start, min(start + 10, BUCKETS - 1)))
        for start in range(0, BUCKETS, 10)
    ]
    return [f'split_clients "{key}" {variable} {{', *(f"    {row}" for row in rows), f"    * {BUCKETS - 1};", "}", ""]
