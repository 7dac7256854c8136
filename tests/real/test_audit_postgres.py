"""The audit trail in a table of a real PostgreSQL: made, checked, secured, and refused where it can't be used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from nself_deploy.core import audit_table
from nself_deploy.core.audit_table import TABLE
from tests.real.audit_scene import init, nself, numbers, project_in, renewed, row_of, started, until, write
from tests.real.postgres_parts import OWNER, PASSWORD, WRITER, Server

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with started() as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    return renewed(running)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    with project_in(tmp_path) as made:
        yield made


def test_the_table_is_made_as_promised_and_all_events_arrive_in_the_background(server: Server, tmp_path: Path) -> None:
    with project_in(tmp_path, background=True) as project:
        write(project, 450)
        said = init(project, server.dsn())
        until(lambda: len(numbers(server)) == 451)
        shown = nself(project, "export").out + nself(project, "status", "--json").out
        file = project / ".nself/audit-sinks.json"
        mode, kept = file.stat().st_mode & 0o777, file.read_text()
    columns = server.rows(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
        TABLE,
    )
    to = f"{OWNER}@127.0.0.1:{server.port}/{server.database}"

    assert said.out.startswith(f"[done] Connect  {to}, PostgreSQL 15.")
    assert said.out.splitlines()[1:] == [
        "[done] Make np_auditlog_events",
        f"[done] Keep sink postgres  {to}; 451 events wait, and are delivered now",
    ]
    assert said.err == "" and PASSWORD not in said.out
    assert dict(columns) == audit_table.COLUMNS
    assert numbers(server) == list(range(1, 452))
    assert mode == 0o600 and PASSWORD in kept and PASSWORD not in shown


def test_what_a_row_says_and_that_its_chain_can_be_checked_there(server: Server, project: Path) -> None:
    write(project, 2, error="\0 and \x1b[31m \u00e9\U0001f600 ' \\ \"", metadata={"steps": ["a\0", "b"], "run": "r"})
    init(project, server.dsn(), "--account", "shop")
    nself(project, "deliver")
    row = row_of(server, 2)
    details = row["metadata"]
    wrong = server.rows(
        f"SELECT id FROM {TABLE} WHERE encode(sha256(convert_to(metadata ->> 'document', 'UTF8')), 'hex') "
        "<> metadata ->> 'hash'"
    )
    broken = server.rows(
        f"SELECT id FROM (SELECT id, metadata ->> 'previous_hash' AS said, lag(metadata ->> 'hash') "
        f"OVER (ORDER BY (metadata ->> 'number')::int) AS before FROM {TABLE}) e WHERE said <> before"
    )

    assert (row["source_account_id"], row["actor_user_id"], row["resource_type"]) == ("shop", "ada@one", "service")
    assert (row["resource_id"], row["source_plugin"], row["target_plugin"]) == ("web", "deploy", None)
    assert isinstance(details, dict)
    assert details["error"].startswith("\ufffd and \x1b[31m \u00e9\U0001f600")
    assert details["details"] == {"steps": ["a\ufffd", "b"], "run": "r"}
    assert (wrong, broken) == ([], [])


def test_row_level_security_holds_for_the_role_that_delivers(server: Server, project: Path) -> None:
    write(project, 3)
    init(project, server.dsn(), "--account", "one")
    nself(project, "deliver")
    count = f"SELECT count(*)::int FROM {TABLE}"
    with server.connect(OWNER) as db:
        db.autocommit = True
        unset = db.execute(count).fetchall()
        db.execute(f"SET {audit_table.SETTING} = 'two'")
        other = db.execute(count).fetchall()
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            db.execute(
                f"INSERT INTO {TABLE} (id, source_account_id, actor_type, event_type, severity) "
                "VALUES ('x', 'one', 'user', 'x', 'info')"
            )
        db.execute(f"SET {audit_table.SETTING} = 'one'")
        own = db.execute(count).fetchall()
        for statement in (
            f"UPDATE {TABLE} SET severity = 'info'",
            f"DELETE FROM {TABLE}",
            f"TRUNCATE {TABLE}",
            f"DELETE FROM {TABLE}_default",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(statement)
        behind = db.execute(f"SELECT count(*)::int FROM {TABLE}_default").fetchall()

    assert (unset, other, own, behind) == ([(0,)], [(0,)], [(4,)], [(0,)])


def test_a_role_that_may_only_add_and_read_is_enough(server: Server, project: Path) -> None:
    refused = init(project, server.dsn(WRITER), check=False)
    with server.connect(OWNER) as db:
        db.execute(nself(project, "init", "--sql").out)  # type: ignore[arg-type]
    forbidden = init(project, server.dsn(WRITER), check=False)
    with server.connect(OWNER) as db:
        db.execute(f"GRANT INSERT, SELECT ON {TABLE} TO {WRITER}")
    said = init(project, server.dsn(WRITER))
    nself(project, "deliver")

    assert refused.status == 1 and "There is no table np_auditlog_events, and the role may not make it" in refused.err
    assert "nself deploy audit init --sql" in refused.err
    assert forbidden.status == 1 and "  the role may not INSERT here: GRANT INSERT" in forbidden.err
    assert "[done] Check np_auditlog_events\n" in said.out
    assert numbers(server) == [1]


def test_a_superuser_is_warned(server: Server, project: Path) -> None:
    said = init(project, server.dsn("postgres"))

    assert "warning: row level security does not hold for this role" in said.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE {t} DROP COLUMN user_agent", "column user_agent is missing: text"),
        ("ALTER TABLE {t} ALTER severity TYPE varchar(8)", "column severity is character varying(8): text is needed"),
        ("ALTER TABLE {t} ALTER tenant_id SET NOT NULL", "column tenant_id is not null: a deploy has no value for it"),
        ("ALTER TABLE {t} ADD region text NOT NULL", "column region is not known here, and must have a value"),
        ("DROP TABLE {t}_default", "it has no default partition: events of a time without one would be refused"),
        ("ALTER TABLE {t} DISABLE ROW LEVEL SECURITY", "row level security is off: ALTER TABLE"),
        ("DROP POLICY {t}_insert ON {t}", "no policy allows insert by source_account_id"),
        ("CREATE POLICY open ON {t} FOR DELETE USING (true)", "policy open allows rows to be changed or removed"),
        ("ALTER TABLE {t} DROP CONSTRAINT {t}_pkey", "its primary key is (): (id, created_at) is needed"),
        ("DROP TABLE {t}; CREATE TABLE {t} (id text)", "it is partitioned not at all: RANGE (created_at) is needed"),
        ("DROP TABLE {t}; CREATE VIEW {t} AS SELECT 1 AS id", "column id is integer: text is needed"),
    ],
)
def test_a_table_that_differs_is_refused_and_left_alone(server: Server, project: Path, change: str, said: str) -> None:
    with server.connect(OWNER) as db:
        db.execute(audit_table.script())  # type: ignore[arg-type]
        db.execute(change.format(t=TABLE))  # type: ignore[arg-type]
    done = init(project, server.dsn(), check=False)

    assert done.status == 1, done.out
    assert f"  {said}" in done.err and "Nothing was changed" in done.err
    assert not (project / ".nself/audit-sinks.json").exists()


def test_an_extra_column_that_may_be_empty_is_fine(server: Server, project: Path) -> None:
    with server.connect(OWNER) as db:
        db.execute(audit_table.script())  # type: ignore[arg-type]
        db.execute(f"ALTER TABLE {TABLE} ADD region text")
    init(project, server.dsn())
    nself(project, "deliver")

    assert numbers(server) == [1]


@pytest.mark.parametrize(
    ("dsn", "status", "said"),
    [
        ("postgresql://ann:topsecret@127.0.0.1:1/x", 2, "can't be reached"),
        ("postgresql://audit_owner:topsecret@127.0.0.1:{port}/postgres", 2, "password authentication failed"),
        ("postgresql://audit_owner:s3cret-of-a-test@127.0.0.1:{port}/nope", 2, 'database "nope" does not exist'),
        ("host=127.0.0.1 topsecret", 1, "--postgres: It is no DSN of PostgreSQL."),
        ("host=127.0.0.1 password=topsecret passfile=.pgpass", 1, "passfile names a file by a relative path"),
    ],
)
def test_a_dsn_that_can_not_be_used(server: Server, project: Path, dsn: str, status: int, said: str) -> None:
    done = init(project, dsn.format(port=server.port), check=False)

    assert done.status == status and said in done.err
    assert "topsecret" not in done.err + done.out and "Traceback" not in done.err
    assert not (project / ".nself/audit-sinks.json").exists()


def test_a_password_in_the_command_is_warned_about(server: Server, project: Path) -> None:
    said = nself(project, "init", "--postgres", server.dsn())

    assert "warning: everybody on this machine can see the password" in said.err


def test_the_environment_is_a_place_for_the_dsn(server: Server, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSELF_AUDIT_POSTGRES", server.dsn())
    said = nself(project, "init")

    assert said.err == "" and "[done] Make np_auditlog_events" in said.out
