"""What is found in the SQL of migrations, by the real linter: each case of the contract, and what must not be one."""

from __future__ import annotations

import asyncio

import pytest

from nself_deploy.adapters.squawk import Squawk
from nself_deploy.core import migration_rules as rules
from nself_deploy.core.migration import Hazard, Migration
from nself_deploy.core.migration_reading import HAZARDS, File, examined, plain
from nself_deploy.core.migration_rules import Harm

FOUND = {
    "ALTER TABLE a DROP COLUMN b;": Harm.DROP,
    "ALTER TABLE a DROP b, ADD c int;": Harm.DROP,
    "DROP TABLE a;": Harm.DROP,
    "drop table if exists a cascade": Harm.DROP,
    "DROP VIEW v;": Harm.DROP,
    "DROP MATERIALIZED VIEW v;": Harm.DROP,
    "DROP SCHEMA s CASCADE;": Harm.DROP,
    "DROP TYPE t;": Harm.DROP,
    "DROP FUNCTION f();": Harm.DROP,
    "DROP SEQUENCE s;": Harm.DROP,
    "TRUNCATE a;": Harm.DROP,
    "TRUNCATE a CASCADE;": Harm.DROP,
    "ALTER TABLE a ALTER b DROP DEFAULT;": Harm.REQUIRED,
    "ALTER TABLE a RENAME COLUMN b TO c;": Harm.RENAME,
    "ALTER TABLE a RENAME b TO c;": Harm.RENAME,
    "ALTER TABLE a RENAME TO b;": Harm.RENAME,
    "ALTER VIEW v RENAME TO w;": Harm.RENAME,
    "ALTER TABLE a SET SCHEMA s;": Harm.RENAME,
    "ALTER TABLE a ALTER COLUMN b TYPE bigint;": Harm.TYPE,
    "ALTER TABLE a ALTER b SET DATA TYPE text USING b::text;": Harm.TYPE,
    "ALTER TABLE a ADD COLUMN b int NOT NULL;": Harm.REQUIRED,
    "ALTER TABLE a ALTER COLUMN b SET NOT NULL;": Harm.REQUIRED,
    "ALTER TABLE a ADD COLUMN b uuid DEFAULT gen_random_uuid();": Harm.LOCK,
    "ALTER TABLE a ADD COLUMN b bigserial;": Harm.LOCK,
    "ALTER TABLE a ADD b bigint GENERATED ALWAYS AS IDENTITY;": Harm.LOCK,
    "ALTER TABLE a ADD b int GENERATED ALWAYS AS (c * 2) STORED;": Harm.LOCK,
    "CREATE INDEX i ON a (b);": Harm.LOCK,
    "CREATE UNIQUE INDEX i ON a (b);": Harm.LOCK,
    "DROP INDEX i;": Harm.LOCK,
    "REINDEX TABLE a;": Harm.LOCK,
    "REINDEX (VERBOSE) DATABASE d;": Harm.LOCK,
    "ALTER TABLE a ADD CONSTRAINT k FOREIGN KEY (b) REFERENCES c (id);": Harm.LOCK,
    "ALTER TABLE a ADD COLUMN b int REFERENCES c (id);": Harm.LOCK,
    "ALTER TABLE a ADD CHECK (b > 0);": Harm.LOCK,
    "ALTER TABLE a ADD CONSTRAINT u UNIQUE (b);": Harm.LOCK,
    "ALTER TABLE a ADD PRIMARY KEY (id);": Harm.LOCK,
    "ALTER TABLE a DETACH PARTITION p;": Harm.LOCK,
    "ALTER TABLE a SET LOGGED;": Harm.LOCK,
    "ALTER TABLE a SET TABLESPACE t;": Harm.LOCK,
    "LOCK TABLE a;": Harm.LOCK,
    "LOCK TABLE a IN SHARE ROW EXCLUSIVE MODE;": Harm.LOCK,
    "VACUUM FULL a;": Harm.LOCK,
    "VACUUM (VERBOSE, FULL) a;": Harm.LOCK,
    "CLUSTER a USING i;": Harm.LOCK,
    "REFRESH MATERIALIZED VIEW v;": Harm.LOCK,
    "DO $$ BEGIN DROP TABLE a; END $$;": Harm.DROP,
    "DO $$ BEGIN IF true THEN ALTER TABLE a RENAME b TO c; END IF; END $$;": Harm.RENAME,
    "DO $$ BEGIN EXECUTE 'DROP TABLE a'; END $$;": Harm.UNREADABLE,
    "DO LANGUAGE plpython3u $$ import os $$;": Harm.UNREADABLE,
    "SELEC 1;": Harm.UNREADABLE,
    "ALTER TABLE a DORP COLUMN b;": Harm.UNREADABLE,
    "\\i other.sql\n": Harm.UNREADABLE,
    "ALTER TABLE a DROP COLUMN b; -- squawk-ignore ban-drop-column": Harm.DROP,
    "-- squawk-ignore-file\nALTER TABLE a DROP COLUMN b;": Harm.DROP,
    "/* squawk-ignore ban-drop-table */ DROP TABLE a;": Harm.DROP,
}

HARMLESS = (
    "",
    "-- DROP TABLE a;",
    "CREATE TABLE a (id bigint PRIMARY KEY, b int NOT NULL);",
    "ALTER TABLE a ADD COLUMN b int;",
    "ALTER TABLE a ADD COLUMN b int NOT NULL DEFAULT 3;",
    "ALTER TABLE a ADD COLUMN b timestamptz NOT NULL DEFAULT now();",
    "ALTER TABLE a ALTER b DROP NOT NULL;",
    "ALTER TABLE a ALTER b SET DEFAULT 3;",
    "ALTER TABLE a ADD CONSTRAINT c CHECK (b > 0) NOT VALID;",
    "ALTER TABLE a VALIDATE CONSTRAINT c;",
    "ALTER TABLE a DROP CONSTRAINT c;",
    "ALTER TABLE a RENAME CONSTRAINT c TO d;",
    "ALTER TABLE a ADD CONSTRAINT u UNIQUE USING INDEX i;",
    "ALTER TABLE a ALTER id ADD GENERATED ALWAYS AS IDENTITY;",
    "ALTER INDEX i RENAME TO j;",
    "CREATE INDEX CONCURRENTLY i ON a (b);",
    "DROP INDEX CONCURRENTLY i;",
    "REINDEX TABLE CONCURRENTLY a;",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY v;",
    "LOCK TABLE a IN ROW EXCLUSIVE MODE;",
    "VACUUM a;",
    "SELECT 'DROP TABLE a;', \"DROP\" FROM a;",
    "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ DROP TABLE a $$;",
    "DO $$ BEGIN CREATE TYPE m AS ENUM ('ok'); EXCEPTION WHEN duplicate_object THEN NULL; END $$;",
    "INSERT INTO a VALUES ('x;y');",
    "BEGIN; ALTER TABLE a ADD COLUMN b int; COMMIT;",
    "CREATE TABLE n (b int); CREATE INDEX i ON n (b); ALTER TABLE n ALTER b SET NOT NULL; DROP TABLE n;",
    'CREATE TABLE "N" (b int); ALTER TABLE "N" RENAME b TO c;',
    "CREATE VIEW v AS SELECT 1; DROP VIEW v;",
)


def read(*texts: str) -> list[Migration]:
    said = asyncio.run(Squawk().check([plain(text) for text in texts]))
    return [examined(File(f"{n}.sql", "", text), said[n]) for n, text in enumerate(texts)]


@pytest.fixture(scope="module")
def known() -> dict[str, Migration]:
    texts = (*FOUND, *HARMLESS)
    return dict(zip(texts, read(*texts), strict=True))


@pytest.mark.parametrize(("text", "harm"), FOUND.items())
def test_what_the_live_release_cant_live_with_is_found(text: str, harm: Harm, known: dict[str, Migration]) -> None:
    assert [rules.rule_of(hazard.rule).harm for hazard in known[text].hazards] == [harm]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_harmless_is_let_through(text: str, known: dict[str, Migration]) -> None:
    assert known[text].hazards == ()


def test_each_of_several_statements_is_found_at_its_line() -> None:
    text = """\ufeff-- ähm
ALTER TABLE "ö" ADD COLUMN ü int; ALTER TABLE a
  DROP COLUMN b;
DO
$$
BEGIN
  DROP TABLE c;
  EXECUTE 'x';
END
$$;
LOCK TABLE d;
"""
    (found,) = read(text)

    assert found.hazards == (
        Hazard("ban-drop-column", 3, "ALTER TABLE a DROP COLUMN b", ("table:a",)),
        Hazard(rules.DYNAMIC, 4, "DO $$ BEGIN DROP TABLE c; EXECUTE 'x'; END $$"),
        Hazard("ban-drop-table", 7, "DROP TABLE c", ("table:c",)),
        Hazard(rules.LOCKED, 11, "LOCK TABLE d", ("table:d",)),
    )


def test_one_statement_may_do_several_kinds_of_harm() -> None:
    (found,) = read("ALTER TABLE a DROP b, ALTER c TYPE text, ADD CHECK (d > 0), ADD UNIQUE (e);")

    harms = [rules.rule_of(hazard.rule).harm for hazard in found.hazards]
    assert sorted(harms) == sorted([Harm.DROP, Harm.TYPE, Harm.LOCK])


def test_a_table_that_may_have_been_there_is_no_new_one() -> None:
    (found,) = read("CREATE TABLE IF NOT EXISTS a (b int); ALTER TABLE a DROP COLUMN b;")

    assert [hazard.rule for hazard in found.hazards] == ["ban-drop-column"]


def test_what_was_dropped_before_it_was_made_anew_is_found() -> None:
    (found,) = read("DROP TABLE a; CREATE TABLE a (b int); CREATE INDEX i ON a (b);")

    assert [hazard.statement for hazard in found.hazards] == ["DROP TABLE a"]


def test_of_very_many_the_last_one_that_is_kept_stands_for_the_rest() -> None:
    (found,) = read("".join(f"DROP TABLE a{n};\n" for n in range(HAZARDS + 50)))

    assert len(found.hazards) == HAZARDS
    assert [hazard.about for hazard in found.hazards[-2:]] == [("table:a98",), ()]


def test_every_rule_says_what_breaks_and_what_to_do() -> None:
    assert all(rule.breaks and rule.remedy for rule in rules.RULES.values())
    assert {rule.harm for rule in rules.RULES.values()} == set(Harm)
    assert rules.rule_of("a rule of tomorrow").harm is Harm.UNREADABLE
