"""What tests of the audit trail in PostgreSQL share: commands in this process, events, and looks at the table."""

from __future__ import annotations

import io
import json
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from nself_deploy import wiring
from nself_deploy.adapters.audit_postgres import PostgresSink
from nself_deploy.adapters.journal import Journal
from nself_deploy.cli import main as program
from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.audit_table import TABLE
from tests.real.postgres_parts import OWNER, Server

ORDER = f"SELECT (metadata ->> 'number')::int FROM {TABLE} ORDER BY 1"
LIMIT_S = 120.0


@contextmanager
def started() -> Iterator[Server]:
    """A server that runs."""
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def renewed(server: Server) -> Server:
    """With a new database: a process in the background may still know the one of another test."""
    server.database = f"audit_{secrets.token_hex(4)}"
    server.make_database(server.database)
    return server


@contextmanager
def project_in(directory: Path, *, background: bool = False) -> Iterator[Path]:
    """A project. Only what a test starts delivers its events, unless it wants the background."""
    (directory / "compose.yaml").write_text("services: {web: {image: web}}\n")
    with pytest.MonkeyPatch.context() as patch:
        if not background:
            patch.setattr(wiring, "spawn_detached", lambda words: None)
        yield directory
    (directory / ".nself/audit-sinks.json").unlink(missing_ok=True)  # nobody tries in the background any more


def write(project: Path, count: int, **fields: object) -> None:
    """Events, as a command in another process writes them."""
    with Journal.open(project, actor="ada@one") as journal, journal.transaction():
        for _ in range(count):
            journal.add_event(AuditEvent("deploy", "prod", "done", service="web", **fields))


@dataclass
class Said:
    """What a command said."""

    status: int
    out: str
    err: str


def nself(project: Path, *words: str, given: str = "", check: bool = True) -> Said:
    """`nself deploy audit WORDS`, in this process: it costs a tenth of one of its own."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO(given))
        status = program.main(["deploy", "audit", *words, "-C", str(project)])
    assert not check or status == 0, err.getvalue()
    return Said(status, out.getvalue(), err.getvalue())


def init(project: Path, dsn: str, *words: str, check: bool = True) -> Said:
    return nself(project, "init", "--postgres", "-", *words, given=f"{dsn}\n", check=check)


def until(what: Callable[[], bool]) -> None:
    end, pause = time.monotonic() + LIMIT_S, threading.Event()
    while not what():
        assert time.monotonic() < end, "it did not happen"
        pause.wait(0.02)


def sink(server: Server, role: str = OWNER, account: str = "primary") -> PostgresSink:
    return PostgresSink(server.dsn(role), f"{role}@test", account)


def numbers(server: Server) -> list[int]:
    return [number for (number,) in server.rows(ORDER)]


def row_of(server: Server, number: int) -> dict[str, object]:
    """A row of the table."""
    ((found,),) = server.rows(f"SELECT to_jsonb(e) FROM {TABLE} e WHERE (metadata ->> 'number')::int = %s", number)
    assert isinstance(found, dict)
    return found


def status(project: Path) -> list[dict[str, object]]:
    found = json.loads(nself(project, "status", "--json").out)
    assert isinstance(found, list)
    return found
