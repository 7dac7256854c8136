"""SQL as words: where statements begin and end, and what they are about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core import sql
from nself_deploy.core.sql_blocks import opened

PIECES = st.sampled_from(
    [
        "DROP TABLE a",
        ";",
        "\n",
        " ",
        "--",
        "/*",
        "*/",
        "'",
        "''",
        "\\",
        "E'",
        '"',
        "$$",
        "$x$",
        "$1",
        "é",
        "DO",
        "a.b",
        ",",
    ]
)
TEXTS = st.lists(PIECES, max_size=30).map("".join)


def one(text: str) -> sql.Statement:
    (statement,) = sql.statements(text)
    return statement


@given(TEXTS)
def test_any_text_is_cut_into_tokens_that_stand_where_they_say(text: str) -> None:
    end = 0
    for token in sql.tokens(text):
        assert text[token.at : token.end] == token.text
        assert token.at >= end
        end = token.end


@given(TEXTS)
def test_without_comments_everything_else_stays_where_it_is(text: str) -> None:
    bare = sql.without_comments(text)

    assert len(bare) == len(text)
    assert all((a == "\n") == (b == "\n") for a, b in zip(bare, text, strict=True))
    assert list(sql.tokens(bare)) == list(sql.tokens(text))


@given(TEXTS)
def test_what_is_in_a_block_stands_where_it_stood(text: str) -> None:
    whole = f"DO\n$q$ BEGIN {text.replace('$q$', '')} END $q$"
    (block,) = sql.statements(whole)
    inner, _ = opened(whole, block)

    assert len(inner) == len(whole)
    assert all(a == b or (a == " " and b != "\n") for a, b in zip(inner, whole, strict=True))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        (";;\n-- nothing\n;", 0),
        ("SELECT 1; SELECT 2", 2),
        ("SELECT ';', \"a;b\", $$ ; $$, $x$ ; $$ ; $x$; SELECT 2", 2),
        ("/* ; /* ; */ ; */ SELECT 1; -- ; \nSELECT 2", 2),
        (r"SELECT E'it\'s; ', 'back\'; SELECT 2", 2),
        ("SELECT 'open ; DROP TABLE a", 1),
        ("SELECT $1; SELECT $2", 2),
        ("\ufeffSELECT 1;", 1),
    ],
)
def test_statements_end_at_semicolons_that_are_no_part_of_something(text: str, count: int) -> None:
    assert len(list(sql.statements(text))) == count


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("ALTER TABLE IF EXISTS ONLY shop.orders * DROP COLUMN a", ("table:shop.orders",)),
        ('ALTER TABLE "Big ""One""" DROP COLUMN a', ('table:Big "One"',)),
        ("alter table Orders drop a", ("table:orders",)),
        ("DROP TABLE IF EXISTS a, b . c , d CASCADE", ("table:a", "table:b.c", "table:d")),
        ("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON ONLY shop.a USING btree (b)", ("table:shop.a",)),
        ("CREATE INDEX ON a (b)", ("table:a",)),
        ("DROP INDEX CONCURRENTLY i", ("index:i",)),
        ("TRUNCATE TABLE a, b", ("table:a", "table:b")),
        ("TRUNCATE a", ("table:a",)),
        ("LOCK a IN SHARE MODE", ("table:a",)),
        ("DROP MATERIALIZED VIEW v", ("view:v",)),
        ("CREATE TEMP TABLE t (a int)", ("table:t",)),
        ("DROP FUNCTION f(int)", ("function:f",)),
        ("ALTER TABLE", ()),
        ("ALTER", ()),
        ("SELECT 1", ()),
        ("VACUUM FULL a", ()),
    ],
)
def test_what_a_statement_is_about(text: str, about: tuple[str, ...]) -> None:
    assert sql.about(one(text)) == about


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("CREATE TABLE a (b int)", "table:a"),
        ("CREATE UNLOGGED TABLE s.a AS SELECT 1", "table:s.a"),
        ("CREATE TABLE IF NOT EXISTS a (b int)", ""),
        ("CREATE OR REPLACE VIEW v AS SELECT 1", ""),
        ("CREATE VIEW v AS SELECT 1", "view:v"),
        ("CREATE INDEX i ON a (b)", "index:i"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON a (b)", "index:i"),
        ("CREATE INDEX ON a (b)", ""),
        ("CREATE INDEX IF NOT EXISTS i ON a (b)", ""),
        ("CREATE TYPE mood AS ENUM ('ok')", "type:mood"),
        ("CREATE ROLE x", ""),
        ("DROP TABLE a", ""),
    ],
)
def test_what_a_statement_certainly_makes(text: str, made: str) -> None:
    assert sql.made(one(text)) == made


@pytest.mark.parametrize(
    ("block", "inner", "more"),
    [
        ("DO $$ BEGIN DROP TABLE a; END $$", "DROP TABLE a;", False),
        ("DO LANGUAGE plpgsql $x$ BEGIN IF n > 0 THEN ALTER TABLE a DROP b; ELSE DROP TABLE c; END IF; END $x$",
         "ALTER TABLE a DROP b; DROP TABLE c;", False),
        ("DO $$ BEGIN CREATE TYPE t AS ENUM ('a'); EXCEPTION WHEN duplicate_object THEN NULL; END $$",
         "CREATE TYPE t AS ENUM ('a');", False),
        ("DO $$ BEGIN EXECUTE 'DROP TABLE a'; DROP TABLE b; END $$", "DROP TABLE b;", True),
        ("DO $$ BEGIN FOR r IN SELECT 1 LOOP EXECUTE format('DROP TABLE %I', r); END LOOP; END $$", "", True),
        ("DO $$ BEGIN CREATE TRIGGER t BEFORE INSERT ON a EXECUTE FUNCTION f(); END $$",
         "CREATE TRIGGER t BEFORE INSERT ON a EXECUTE FUNCTION f();", False),
        ("DO $$ BEGIN PERFORM drop_it(); INSERT INTO log VALUES ('DROP TABLE a;'); END $$", "", False),
        ("DO 'BEGIN DROP TABLE a; END'", "", True),
        ("DO LANGUAGE plpython3u $$ import os $$", "", True),
        ("DO $$ BEGIN DROP TABLE a", "", True),
    ],
)  # fmt: skip
def test_what_a_block_does_to_the_schema(block: str, inner: str, *, more: bool) -> None:
    text, dynamic = opened(block, one(block))

    assert (" ".join(text.split()), dynamic, len(text)) == (inner, more, len(block))


def test_a_statement_is_shown_on_one_line_and_cut() -> None:
    text = "ALTER TABLE a\n  DROP COLUMN b"

    assert sql.shortened(text, one(text)) == "ALTER TABLE a DROP COLUMN b"
    assert sql.shortened(text, one(text), 20) == "ALTER TABLE a DRO..."
