"""The table `np_auditlog_events`: how it is made, and what one that is there lacks (no I/O)."""

from __future__ import annotations

import msgspec

TABLE = "np_auditlog_events"
SETTING = "app.source_account_id"

COLUMNS = {
    "id": "text",
    "source_account_id": "text",
    "actor_user_id": "text",
    "actor_type": "text",
    "event_type": "text",
    "resource_type": "text",
    "resource_id": "text",
    "ip_address": "text",
    "user_agent": "text",
    "metadata": "jsonb",
    "severity": "text",
    "created_at": "timestamp with time zone",
    "source_plugin": "text",
    "target_plugin": "text",
    "tenant_id": "uuid",
}
"""Name and type, as PostgreSQL calls it."""
KEY = ("id", "created_at")
LEFT_NULL = ("ip_address", "user_agent", "target_plugin", "tenant_id")
"""Columns that a deploy says nothing about."""

_OWN_ACCOUNT = f"source_account_id = current_setting('{SETTING}', true)"
STATEMENTS = (
    f"""CREATE TABLE {TABLE} (
    id text NOT NULL,
    source_account_id text NOT NULL DEFAULT 'primary',
    actor_user_id text,
    actor_type text NOT NULL CHECK (actor_type IN ('user', 'system', 'plugin')),
    event_type text NOT NULL,
    resource_type text,
    resource_id text,
    ip_address text,
    user_agent text,
    metadata jsonb NOT NULL DEFAULT '{{}}',
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    created_at timestamptz NOT NULL DEFAULT now(),
    source_plugin text,
    target_plugin text,
    tenant_id uuid,
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at)""",
    f"CREATE TABLE {TABLE}_default PARTITION OF {TABLE} DEFAULT",
    f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY",
    f"ALTER TABLE {TABLE} FORCE ROW LEVEL SECURITY",
    f"CREATE POLICY {TABLE}_insert ON {TABLE} FOR INSERT WITH CHECK ({_OWN_ACCOUNT})",
    f"CREATE POLICY {TABLE}_select ON {TABLE} FOR SELECT USING ({_OWN_ACCOUNT})",
    # Asked for by its own name, the partition would not have the table's policies: nobody gets by them.
    f"ALTER TABLE {TABLE}_default ENABLE ROW LEVEL SECURITY",
    f"ALTER TABLE {TABLE}_default FORCE ROW LEVEL SECURITY",
    f"REVOKE UPDATE, DELETE, TRUNCATE ON {TABLE}, {TABLE}_default FROM PUBLIC, CURRENT_USER",
)
"""What makes it; to be run in one transaction."""


class Column(msgspec.Struct, frozen=True):
    """A column that is there."""

    name: str
    type: str
    required: bool
    """Not null, and without a default."""


class Policy(msgspec.Struct, frozen=True):
    """A policy of row level security that is there."""

    name: str
    command: str
    """`r` select, `a` insert, `w` update, `d` delete, `*` all."""
    words: str
    """Its conditions."""


class Found(msgspec.Struct, frozen=True):
    """A table of that name, as the database's catalogue has it."""

    kind: str
    """`p` partitioned table, `r` plain table, `v` view …"""
    partitioned_by: str
    """E.g. `RANGE (created_at)`."""
    has_default_partition: bool
    key: tuple[str, ...]
    """Columns of the primary key."""
    secured: bool
    """Row level security is switched on."""
    active: bool
    """It holds for the role that asked: not for a superuser, for one with BYPASSRLS, nor for an owner unless forced."""
    columns: tuple[Column, ...]
    policies: tuple[Policy, ...]
    may_insert: bool
    may_select: bool


def differences(found: Found) -> list[str]:
    """All that is not as it must be, column by column; empty when events can be delivered to it."""
    return [*_columns(found), *_shape(found), *_security(found), *_rights(found)]


def script() -> str:
    """The statements that make the table, for a person to run."""
    return "".join(f"{text};\n" for text in ("BEGIN", *STATEMENTS, "COMMIT"))


def _columns(found: Found) -> list[str]:
    there = {column.name: column for column in found.columns}
    wrong = []
    for name, kind in COLUMNS.items():
        column = there.pop(name, None)
        if column is None:
            wrong.append(f"column {name} is missing: {kind}")
        elif column.type != kind:
            wrong.append(f"column {name} is {column.type}: {kind} is needed")
        elif column.required and name in LEFT_NULL:
            wrong.append(f"column {name} is not null: a deploy has no value for it")
    extra = [f"column {c.name} is not known here, and must have a value" for c in there.values() if c.required]
    return wrong + extra


def _shape(found: Found) -> list[str]:
    wrong = []
    if found.kind != "p" or found.partitioned_by.lower() != "range (created_at)":
        how = found.partitioned_by or "not at all"
        wrong.append(f"it is partitioned {how}: RANGE (created_at) is needed")
    elif not found.has_default_partition:
        wrong.append("it has no default partition: events of a time without one would be refused")
    if found.key != KEY:
        wrong.append(f"its primary key is ({', '.join(found.key)}): ({', '.join(KEY)}) is needed")
    return wrong


def _security(found: Found) -> list[str]:
    if not found.secured:
        return ["row level security is off: ALTER TABLE … ENABLE ROW LEVEL SECURITY"]
    wrong = []
    for command, word in (("a", "insert"), ("r", "select")):
        policies = [p for p in found.policies if p.command in (command, "*")]
        if not any(SETTING in p.words and "source_account_id" in p.words for p in policies):
            wrong.append(f"no policy allows {word} by source_account_id and the setting {SETTING}")
    open_ = [p.name for p in found.policies if p.command in ("w", "d", "*")]
    return wrong + [f"policy {name} allows rows to be changed or removed" for name in open_]


def _rights(found: Found) -> list[str]:
    rights = (("INSERT", found.may_insert), ("SELECT", found.may_select))
    return [f"the role may not {word} here: GRANT {word} ON {TABLE} TO it" for word, may in rights if not may]
