"""What statements of a migration do to a release that doesn't know it: a table of squawk's rules and of our own."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Harm(StrEnum):
    """What kind of thing a statement does."""

    DROP = "drop"
    RENAME = "rename"
    TYPE = "type"
    REQUIRED = "required"
    """A value that the live release does not write."""
    LOCK = "lock"
    """Reads or writes wait."""
    UNREADABLE = "unreadable"
    """It can't be shown to be harmless."""


class Rule(msgspec.Struct, frozen=True):
    """One row."""

    harm: Harm
    breaks: str
    """What happens to users of the live release."""
    remedy: str


_LATER = "drop it with a later release, once nothing uses it"
_COPY = "add the new name beside the old one, copy, and drop the old one with a later release"
_VALID = "add it NOT VALID, and VALIDATE CONSTRAINT in a migration of its own"
_QUIET = "do it when nobody writes"


def _gone(what: str, remedy: str = _LATER) -> Rule:
    return Rule(Harm.DROP, f"what reads or writes {what} fails", remedy)


def _waits(what: str, remedy: str) -> Rule:
    return Rule(Harm.LOCK, f"{what} of the table wait until it is done", remedy)


RENAMED = "renaming-object"
SYNTAX = "syntax-error"
DYNAMIC = "dynamic-sql"
CLIENT = "client-command"
LOCKED = "lock-table"
REWRITTEN = "table-rewrite"
NUMBERED = "adding-numbered-column"
EMPTIED = "truncate"
REFRESHED = "refresh-view"

RULES: Mapping[str, Rule] = {
    # squawk's
    "ban-drop-table": _gone("the table"),
    "ban-drop-column": _gone("the column"),
    "ban-drop-view": _gone("the view"),
    "ban-drop-schema": _gone("what is in the schema"),
    "ban-drop-database": _gone("the database"),
    "ban-drop-type": _gone("columns of the type"),
    "ban-drop-domain": _gone("columns of the domain"),
    "ban-drop-function": _gone("or calls what needs the function"),
    "ban-drop-sequence": _gone("what is numbered by the sequence"),
    "ban-drop-extension": _gone("what the extension gave"),
    "ban-drop-default": Rule(Harm.REQUIRED, "rows that are written without the column get no value", _LATER),
    "ban-truncate-cascade": _gone("the rows, and those that refer to them,"),
    "renaming-column": Rule(Harm.RENAME, "what reads or writes the column by its old name fails", _COPY),
    "renaming-table": Rule(Harm.RENAME, "what reads or writes the table by its old name fails", _COPY),
    "ban-set-schema": Rule(Harm.RENAME, "what uses it by its old name fails", _COPY),
    "changing-column-type": Rule(
        Harm.TYPE,
        "reads and writes of the table wait while it is written anew, and values may not be what is expected",
        "add a column of the new type beside it, copy, and drop the old one with a later release",
    ),
    "adding-required-field": Rule(
        Harm.REQUIRED, "rows that are written without the column are refused", "give it a DEFAULT"
    ),
    "adding-not-nullable-field": Rule(
        Harm.REQUIRED,
        "rows that are written without a value are refused, and reads and writes of the table wait while it is checked",
        "let the new release write it first, and require it with the next one",
    ),
    "adding-field-with-default": _waits(
        "reads and writes", "add the column without a default, then set the default, and fill old rows in parts"
    ),
    "adding-foreign-key-constraint": _waits("writes", _VALID),
    "constraint-missing-not-valid": _waits("reads and writes", _VALID),
    "disallowed-unique-constraint": _waits(
        "reads and writes", "CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT ... UNIQUE USING INDEX"
    ),
    "adding-serial-primary-key-field": _waits(
        "reads and writes", "CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT ... PRIMARY KEY USING INDEX"
    ),
    "ban-alter-domain-with-add-constraint": _waits("reads and writes", "add it NOT VALID, and validate it later"),
    "require-concurrent-index-creation": _waits("writes", "CREATE INDEX CONCURRENTLY"),
    "require-concurrent-index-deletion": _waits("reads and writes", "DROP INDEX CONCURRENTLY"),
    "require-concurrent-reindex": _waits("writes", "REINDEX ... CONCURRENTLY"),
    "require-concurrent-partition-detach": _waits("reads and writes", "DETACH PARTITION ... CONCURRENTLY"),
    RENAMED: Rule(Harm.RENAME, "what uses it by its old name fails", _COPY),
    SYNTAX: Rule(
        Harm.UNREADABLE, "it is not understood as PostgreSQL, so it can't be shown to be harmless", "correct it"
    ),
    # What squawk has no rule for.
    LOCKED: _waits("reads or writes", _QUIET),
    REWRITTEN: _waits("reads and writes", _QUIET),
    NUMBERED: _waits("reads and writes", "add the column without numbers, and fill old rows in parts"),
    REFRESHED: _waits("reads", "REFRESH MATERIALIZED VIEW CONCURRENTLY"),
    EMPTIED: _gone("the rows"),
    DYNAMIC: Rule(Harm.UNREADABLE, "what it executes is not known before", "write the statements themselves"),
    CLIENT: Rule(Harm.UNREADABLE, "a command of psql may do anything", "write the statements themselves"),
}
"""Rules of squawk that are not here (style, time-outs, what only the new release notices) are no hazards."""

UNKNOWN = Rule(Harm.UNREADABLE, "another version of nself-deploy took it for unsafe", "look at it")


def rule_of(name: str) -> Rule:
    """The row of a rule; also of one that only another version knows."""
    return RULES.get(name, UNKNOWN)
