"""What a table that is there lacks."""

from __future__ import annotations

import msgspec
import pytest

from nself_deploy.core.audit_table import COLUMNS, KEY, SETTING, STATEMENTS, Column, Found, Policy, differences, script

WORDS = f"(source_account_id = current_setting('{SETTING}'::text, true))"
GOOD = Found(
    kind="p",
    partitioned_by="RANGE (created_at)",
    has_default_partition=True,
    key=KEY,
    secured=True,
    active=True,
    columns=tuple(Column(name, kind, False) for name, kind in COLUMNS.items()),
    policies=(Policy("i", "a", WORDS), Policy("s", "r", WORDS)),
    may_insert=True,
    may_select=True,
)


def without(name: str, *others: Column) -> tuple[Column, ...]:
    return (*(column for column in GOOD.columns if column.name != name), *others)


def test_a_good_table_has_no_differences() -> None:
    assert differences(GOOD) == []
    assert differences(msgspec.structs.replace(GOOD, columns=without("", Column("region", "text", False)))) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"columns": without("id")}, ["column id is missing: text"]),
        (
            {"columns": without("metadata", Column("metadata", "json", False))},
            ["column metadata is json: jsonb is needed"],
        ),
        (
            {"columns": without("ip_address", Column("ip_address", "text", True))},
            ["column ip_address is not null: a deploy has no value for it"],
        ),
        (
            {"columns": without("", Column("region", "text", True))},
            ["column region is not known here, and must have a value"],
        ),
        ({"kind": "r", "partitioned_by": ""}, ["it is partitioned not at all: RANGE (created_at) is needed"]),
        ({"partitioned_by": "LIST (id)"}, ["it is partitioned LIST (id): RANGE (created_at) is needed"]),
        ({"has_default_partition": False}, ["it has no default partition: events of a time without one would be ref"]),
        ({"key": ("id",)}, ["its primary key is (id): (id, created_at) is needed"]),
        ({"secured": False, "policies": ()}, ["row level security is off: ALTER TABLE … ENABLE ROW LEVEL SECURITY"]),
        ({"policies": GOOD.policies[:1]}, ["no policy allows select by source_account_id and the setting"]),
        ({"policies": (GOOD.policies[0], Policy("s", "r", "true"))}, ["no policy allows select by source_account_id"]),
        ({"policies": (*GOOD.policies, Policy("u", "w", WORDS))}, ["policy u allows rows to be changed or removed"]),
        ({"policies": (Policy("all", "*", WORDS),)}, ["policy all allows rows to be changed or removed"]),
        ({"may_insert": False}, ["the role may not INSERT here: GRANT INSERT ON np_auditlog_events TO it"]),
    ],
)
def test_each_difference_is_said(change: dict[str, object], said: list[str]) -> None:
    found = differences(msgspec.structs.replace(GOOD, **change))

    assert len(found) == len(said)
    assert all(one.startswith(start) for one, start in zip(found, said, strict=True)), found


def test_all_differences_are_said_at_once() -> None:
    nothing = Found("v", "", False, (), False, True, (), (), False, False)

    assert len(differences(nothing)) == len(COLUMNS) + 5


def test_the_script_is_one_transaction_with_all_columns() -> None:
    text = script()

    assert text.startswith("BEGIN;\n") and text.endswith("COMMIT;\n")
    assert all(f"\n    {name} " in STATEMENTS[0] for name in COLUMNS)
