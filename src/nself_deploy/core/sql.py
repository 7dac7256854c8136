"""SQL as words: where statements begin and end, and what they are about. What they mean is judged elsewhere.

PostgreSQL's rules for comments, strings, quoted names and dollar quotes; nothing is executed, nothing is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum

import msgspec


class Sort(StrEnum):
    """What a token is."""

    WORD = "word"
    NAME = "name"
    """In double quotes."""
    STRING = "string"
    DOLLAR = "dollar"
    """A string in dollar quotes: the body of a function or of a block."""
    END = "end"
    OTHER = "other"


class Token(msgspec.Struct, frozen=True):
    """One token; comments and spaces are none."""

    sort: Sort
    text: str
    at: int
    """Its place in the text, in characters."""

    @property
    def word(self) -> str:
        """In capitals; empty for what is no plain word."""
        return self.text.upper() if self.sort is Sort.WORD else ""

    @property
    def name(self) -> str:
        """The name that it gives; empty when it is none."""
        if self.sort is Sort.NAME:
            return self.text[1:-1].replace('""', '"')
        return self.text.lower() if self.sort is Sort.WORD else ""

    @property
    def end(self) -> int:
        """Where the next one may begin."""
        return self.at + len(self.text)


Statement = tuple[Token, ...]
"""Its tokens, without the semicolon; never empty."""

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|\ufeff)
  | (?P<comment>/\*)
  | (?P<string>[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z) | (?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|\Z))
  | (?P<name>(?:[uU]&)?"(?:[^"]|"")*(?:"|\Z))
  | (?P<dollar>\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z))
  | (?P<word>[^\W\d][\w$]*)
  | (?P<end>;)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_PART = re.compile(r"/\*|\*/")


def tokens(text: str) -> Iterator[Token]:
    """All tokens; what is left open goes on to the end of the text."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        assert found is not None  # `other` is any character
        kind = found.lastgroup or ""
        if found["comment"]:
            at = _past_comment(text, at)
            continue
        if found["dollar"]:
            kind = "dollar"
        if kind != "space":
            yield Token(Sort(kind), found[0], at)
        at = found.end()


def _past_comment(text: str, at: int) -> int:
    """Where a block comment ends; they nest."""
    depth = 0
    for part in _COMMENT_PART.finditer(text, at):
        depth += 1 if part[0] == "/*" else -1
        if depth == 0:
            return part.end()
    return len(text)


def statements(text: str) -> Iterator[Statement]:
    """The statements, in order."""
    found: list[Token] = []
    for token in tokens(text):
        if token.sort is not Sort.END:
            found.append(token)
        elif found:
            yield tuple(found)
            found = []
    if found:
        yield tuple(found)


def blank(text: str) -> str:
    """So many spaces, with the line breaks where they were."""
    return "".join("\n" if letter == "\n" else " " for letter in text)


def without_comments(text: str) -> str:
    """The same text at the same places, but for comments: in them nothing can be said to whoever checks it."""
    parts, at = list[str](), 0
    for token in tokens(text):
        parts += (blank(text[at : token.at]), token.text)
        at = token.end
    return "".join((*parts, blank(text[at:])))


def shortened(text: str, statement: Statement, limit: int = 100) -> str:
    """A statement on one line, for people."""
    line = " ".join(text[statement[0].at : statement[-1].end].split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


_SKIPPED = frozenset({"IF", "NOT", "EXISTS", "ONLY", "CONCURRENTLY"})
_BEFORE_KIND = frozenset({"GLOBAL", "LOCAL", "TEMP", "TEMPORARY", "UNLOGGED", "UNIQUE", "RECURSIVE", "FOREIGN"})
_KINDS = frozenset({"TABLE", "INDEX", "VIEW", "SEQUENCE", "TYPE", "DOMAIN", "FUNCTION", "SCHEMA", "EXTENSION"})


def about(statement: Statement) -> tuple[str, ...]:
    """What a statement changes, such as `table:orders`; nothing when that can't be told."""
    words = [token.word for token in statement]
    verb, at = words[0], 1
    if verb in ("TRUNCATE", "LOCK"):
        return _named("table", statement, at + (words[at : at + 1] == ["TABLE"]))
    if verb not in ("CREATE", "ALTER", "DROP"):
        return ()
    if words[at : at + 2] == ["MATERIALIZED", "VIEW"]:
        at += 1
    while verb == "CREATE" and at < len(words) and words[at] in _BEFORE_KIND:
        at += 1
    if at >= len(words) or words[at] not in _KINDS:
        return ()
    kind = words[at].lower()
    if verb == "CREATE" and kind == "index" and "ON" in words:
        return _named("table", statement, words.index("ON") + 1)[:1]
    return _named(kind, statement, at + 1)


def made(statement: Statement) -> str:
    """What a statement creates that was certainly not there before; empty when that can't be told."""
    words = [token.word for token in statement]
    if words[0] != "CREATE" or "EXISTS" in words[:8] or words[1:2] == ["OR"]:
        return ""
    if "INDEX" in words[:3]:
        first = words.index("INDEX") + 1
        names = _named("index", statement, first)
        return "" if words[first : first + 1] == ["ON"] or not names else names[0]
    return next(iter(about(statement)), "")


def _named(kind: str, statement: Statement, at: int) -> tuple[str, ...]:
    """The names in a list that begins at this token."""
    found: list[str] = []
    while at < len(statement):
        while at < len(statement) and statement[at].word in _SKIPPED:
            at += 1
        name, at = _qualified(statement, at)
        if not name:
            break
        found.append(f"{kind}:{name}")
        while at < len(statement) and statement[at].text == "*":
            at += 1
        if at >= len(statement) or statement[at].text != ",":
            break
        at += 1
    return tuple(found)


def _qualified(statement: Statement, at: int) -> tuple[str, int]:
    """A name that may have a schema, and where it ends."""
    parts: list[str] = []
    while at < len(statement) and statement[at].name:
        parts.append(statement[at].name)
        at += 1
        if at >= len(statement) or statement[at].text != ".":
            break
        at += 1
    return ".".join(parts), at
