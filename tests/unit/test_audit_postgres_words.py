"""What is said of DSNs and of PostgreSQL's errors, without what is secret in them."""

from __future__ import annotations

import psycopg
import pytest

from nself_deploy.adapters.audit_postgres_words import check_dsn, error_of, has_password
from nself_deploy.errors import ConfigError, InfrastructureError

DSN = "postgresql://ann:hunter2@db/audit"


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        (DSN, "ann@db:5432/audit"),
        ("host=db port=6000 dbname=audit user=ann password=hunter2", "ann@db:6000/audit"),
        ("postgresql:///audit?host=/run/postgresql", "/run/postgresql:5432/audit"),
        ("postgresql://ann@h1,h2/audit", "ann@h1,h2:5432/audit"),
        ("user=ann", "ann@localhost:5432/ann"),
        ("service=audit password=hunter2", "service audit"),
        ("host=db sslrootcert=system sslmode=verify-full", "db:5432/"),
        ("host=db sslrootcert=/etc/ca.pem", "db:5432/"),
    ],
)
def test_a_dsn_is_shown_without_its_password(dsn: str, said: str) -> None:
    assert check_dsn(dsn) == said


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "hunter2",
        "host=db hunter2",
        "host=db colour=hunter2",
        "http://h/hunter2",
        "host=db\nuser=hunter2",
        "password",
    ],
)
def test_what_is_no_dsn_is_not_repeated(dsn: str) -> None:
    with pytest.raises(ConfigError, match="It is no DSN of PostgreSQL") as caught:
        check_dsn(dsn)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl"])
def test_files_are_named_by_their_whole_path(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} names a file by a relative path"):
        check_dsn(f"host=db {name}=here/file")


def test_whether_a_password_is_in_it() -> None:
    assert has_password(DSN) and has_password("host=db password=x")
    assert not has_password("host=db passfile=/etc/pass")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (psycopg.errors.UndefinedTable("relation"), ConfigError, "There is no table np_auditlog_events any more."),
        (psycopg.errors.InsufficientPrivilege("no"), ConfigError, "refuses the events: no."),
        (psycopg.errors.CheckViolation("new row"), ConfigError, "refuses the events: new row."),
        (psycopg.errors.QueryCanceled("timeout"), InfrastructureError, "took too long: timeout."),
        (psycopg.errors.AdminShutdown("bye"), InfrastructureError, "can't be reached: bye."),
        (psycopg.OperationalError("no\n\tway."), InfrastructureError, "can't be reached: no way."),
        (psycopg.OperationalError("hunter2\x1b[31m?"), InfrastructureError, "can't be reached: *** [31m?."),
    ],
)
def test_errors_are_one_line_and_say_who_has_to_act(error: psycopg.Error, kind: type[Exception], said: str) -> None:
    found = error_of(error, DSN, "ann@db:5432/audit")

    assert isinstance(found, kind) and found.what == said
    assert found.where == "ann@db:5432/audit" and found.remedy
    assert found.retryable is (kind is InfrastructureError)
