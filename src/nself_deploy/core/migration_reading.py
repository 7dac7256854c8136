"""From the text of a migration to what is dangerous in it. Pure: who parses it is asked in between."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence

import msgspec

from nself_deploy.core import migration_rules as rules
from nself_deploy.core import sql
from nself_deploy.core.migration import Hazard, Migration
from nself_deploy.core.sql import Statement
from nself_deploy.core.sql_blocks import opened

HAZARDS = 100
"""So many of one file are kept."""


class Remark(msgspec.Struct, frozen=True):
    """What the linter said of a text."""

    rule: str
    line: int
    """Counted from 0."""
    column: int
    """In bytes of UTF-8, counted from 0."""


class File(msgspec.Struct, frozen=True):
    """A migration as it was read."""

    path: str
    sha256: str
    text: str


def plain(text: str) -> str:
    """What is given to the linter: the same statements at the same places.

    Without comments, in which a rule could be switched off, and with what DO blocks hold in place of the blocks.
    """
    bare = sql.without_comments(text)
    for statement in _blocks(bare):
        inner, _ = opened(bare, statement)
        at = statement[0].at
        bare = bare[:at] + inner + bare[at + len(inner) :]
    return bare


def examined(file: File, remarks: Sequence[Remark]) -> Migration:
    """A migration with what was found in it; `remarks` are about its `plain` text."""
    text = plain(file.text)
    lines = _Lines(text)
    said = sorted((lines.place(remark), remark.rule) for remark in remarks if remark.rule in rules.RULES)
    made: dict[str, None] = {}
    found: list[Hazard] = []
    for statement in sql.statements(text):
        about = sql.about(statement)
        if not about or not set(about) <= made.keys():  # else nobody uses it yet
            here = _within(said, statement)
            found += (
                Hazard(rule, lines.number(at), sql.shortened(text, statement), about)
                for at, rule in _one_of_each_harm([*_own(statement), *here])
            )
        if new := sql.made(statement):
            made[new] = None
    found += _unread(file.text, text, remarks)
    found.sort(key=lambda hazard: hazard.line)
    if len(found) > HAZARDS:  # the last one stands for those that follow, whatever they are about
        found = [*found[: HAZARDS - 1], msgspec.structs.replace(found[HAZARDS - 1], about=())]
    return Migration(file.path, file.sha256, tuple(found), tuple(made))


class _Lines:
    """Where the lines of a text begin."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def number(self, at: int) -> int:
        """The line of a place, counted from 1."""
        return bisect.bisect(self._starts, at)

    def place(self, remark: Remark) -> int:
        """Where a remark stands, in characters."""
        start = self._starts[min(remark.line, len(self._starts) - 1)]
        before = self._text[start : start + remark.column].encode()[: remark.column]
        return start + len(before.decode(errors="ignore"))


def _within(said: Sequence[tuple[int, str]], statement: Statement) -> Iterator[tuple[int, str]]:
    """The linter's remarks about one statement that are hazards."""
    for at, rule in said[bisect.bisect(said, (statement[0].at, "")) :]:
        if at >= statement[-1].end:
            break
        if rule != rules.SYNTAX and not (rule == rules.RENAMED and _no_ones_name(statement)):
            yield at, rule


def _one_of_each_harm(said: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    harms: dict[rules.Harm, tuple[int, str]] = {}
    for at, rule in said:
        harms.setdefault(rules.rule_of(rule).harm, (at, rule))
    yield from harms.values()


def _blocks(text: str) -> Iterator[Statement]:
    return (statement for statement in sql.statements(text) if statement[0].word == "DO")


def _unread(original: str, text: str, remarks: Sequence[Remark]) -> Iterator[Hazard]:
    """What could not be understood: blocks, and the first place where it is no SQL."""
    bare = sql.without_comments(original)
    for block in _blocks(bare):
        if opened(bare, block)[1]:
            yield Hazard(rules.DYNAMIC, bare.count("\n", 0, block[0].at) + 1, sql.shortened(bare, block))
    wrong = min((remark.line for remark in remarks if remark.rule == rules.SYNTAX), default=None)
    if wrong is not None:
        lines = text.split("\n")
        yield Hazard(rules.SYNTAX, wrong + 1, " ".join("".join(lines[wrong : wrong + 1]).split())[:100])


def _no_ones_name(statement: Statement) -> bool:
    """Whether it renames what only the schema itself refers to by name."""
    words = [token.word for token in statement]
    return "INDEX" in words[:2] or "CONSTRAINT" in words


_HARMLESS_MODES = (["ACCESS", "SHARE"], ["ROW", "SHARE"], ["ROW", "EXCLUSIVE"])
_WRITTEN_ANEW = (["SET", "LOGGED"], ["SET", "UNLOGGED"], ["SET", "TABLESPACE"], ["SET", "ACCESS"])
_NUMBERED = frozenset({"SERIAL", "BIGSERIAL", "SMALLSERIAL", "SERIAL2", "SERIAL4", "SERIAL8"})


def _own(statement: Statement) -> Iterator[tuple[int, str]]:
    """What the linter has no rule for."""
    words, at = [token.word for token in statement], statement[0].at
    if statement[0].text == "\\":
        yield at, rules.CLIENT
    elif words[0] == "LOCK" and not _mild(words):
        yield at, rules.LOCKED
    elif words[0] == "CLUSTER" or (words[0] == "VACUUM" and "FULL" in words):
        yield at, rules.REWRITTEN
    elif words[0] == "TRUNCATE":
        yield at, rules.EMPTIED
    elif words[:3] == ["REFRESH", "MATERIALIZED", "VIEW"] and words[3:4] != ["CONCURRENTLY"]:
        yield at, rules.REFRESHED
    elif words[:2] == ["ALTER", "TABLE"]:
        if any(words[n : n + 2] in _WRITTEN_ANEW for n in range(len(words))):
            yield at, rules.REWRITTEN
        if _NUMBERED & set(words) or ("IDENTITY" in words and words.count("ALTER") == 1 and "ADD" in words):
            yield at, rules.NUMBERED


def _mild(words: list[str]) -> bool:
    """Whether a LOCK keeps nobody waiting who reads or writes."""
    if "IN" not in words or "MODE" not in words:
        return False
    return words[words.index("IN") + 1 : words.index("MODE")] in _HARMLESS_MODES
