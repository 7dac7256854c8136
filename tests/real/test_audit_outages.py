"""The audit trail in a table of a real PostgreSQL that dies, hangs and loses rows, by deliverers that are killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nself_deploy.adapters.audit_postgres import PostgresSink
from nself_deploy.adapters.journal import Journal
from nself_deploy.app.delivering import Route, drain
from nself_deploy.core.audit import Record
from nself_deploy.core.audit_delivery import Sink, SinkKind
from nself_deploy.core.audit_table import TABLE
from nself_deploy.errors import ConfigError, InfrastructureError
from tests.real.audit_scene import (
    LIMIT_S,
    init,
    nself,
    numbers,
    project_in,
    renewed,
    row_of,
    sink,
    started,
    status,
    until,
    write,
)
from tests.real.postgres_parts import PASSWORD, Server

pytestmark = pytest.mark.real

PROGRAM = (sys.executable, "-m", "nself_deploy.cli.main", "deploy", "audit")


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


def test_an_outage_in_the_middle_delays_events_and_nothing_else(server: Server, project: Path) -> None:
    write(project, 3)
    init(project, server.dsn())
    nself(project, "deliver")
    server.kill()
    write(project, 5)
    refused = nself(project, "deliver", check=False)
    (waiting,) = status(project)
    listed = nself(project, "list", "--limit", "1").out
    server.start()
    said = nself(project, "deliver").out

    assert refused.status == 2 and "can't be reached" in refused.err
    assert PASSWORD not in refused.out + refused.err
    assert (waiting["delivered"], waiting["waiting"], waiting["failures"]) == (4, 5, 1)
    assert "Connection refused" in str(waiting["error"]) and waiting["since"] and waiting["failed_at"]
    assert "5 events wait for postgres" in listed
    assert said.startswith("postgres (") and "has all 9 events" in said
    assert numbers(server) == list(range(1, 10))


def test_kills_in_the_middle_lose_and_double_nothing(server: Server, project: Path) -> None:
    init(project, server.dsn())
    write(project, 3000)
    chance = random.Random(7)
    words = [*PROGRAM, "deliver", "-C", str(project)]
    seen = []
    while not seen or (seen[-1] < 3001 and len(seen) < 12):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = seen[-1] if seen else 0
        wait = chance.choice((0, 1, 200, 400))
        until(lambda: len(numbers(server)) >= min(before + wait, 3001) or process.poll() is not None)  # noqa: B023
        process.send_signal(signal.SIGKILL)
        process.wait(LIMIT_S)
        found = numbers(server)
        assert found == list(range(1, len(found) + 1))
        seen.append(len(found))
    nself(project, "deliver")

    assert numbers(server) == list(range(1, 3002))
    assert server.rows(f"SELECT id FROM {TABLE} GROUP BY id HAVING count(*) > 1") == []


def test_the_server_dies_while_events_are_on_the_way(server: Server, project: Path) -> None:
    init(project, server.dsn())
    write(project, 2000)
    words = [
        sys.executable,
        "-m",
        "nself_deploy.cli.main",
        "deploy",
        "audit",
        "deliver",
        "--follow",
        "-C",
        str(project),
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as follower:
        try:
            for least in (1, 401, 801):
                until(lambda: len(numbers(server)) >= least)  # noqa: B023
                server.kill()
                server.start()
            write(project, 50)
            until(lambda: len(numbers(server)) == 2051)
        finally:
            follower.kill()

    assert numbers(server) == list(range(1, 2052))


def test_a_sink_that_is_away_delays_no_other_and_another_server_gets_all(server: Server, project: Path) -> None:
    write(project, 3)
    init(project, server.dsn())
    second = Server()
    try:
        second.start()
        second.database = "second"
        second.make_database("second")
        init(project, second.dsn(), "--name", "second")
        nself(project, "deliver")
        second.kill()
        write(project, 2)
        failed = nself(project, "deliver", check=False)
        first, waiting = status(project)
        second.start()
        nself(project, "deliver", "--sink", "second")
        found = numbers(second)
    finally:
        second.remove()

    assert failed.status == 2 and numbers(server) == [1, 2, 3, 4, 5, 6, 7]
    assert (first["waiting"], waiting["waiting"], waiting["delivered"]) == (0, 2, 5)
    assert found == [1, 2, 3, 4, 5, 6, 7]


def test_a_sink_that_moves_to_another_database_has_all_events_there(server: Server, project: Path) -> None:
    write(project, 3)
    init(project, server.dsn())
    nself(project, "deliver")
    server.database += "_new"
    server.make_database(server.database)
    init(project, server.dsn())
    nself(project, "deliver")

    assert numbers(server) == [1, 2, 3, 4, 5]
    assert row_of(server, 5)["event_type"] == "sink-changed"


def test_rows_that_were_lost_are_delivered_again(server: Server, project: Path) -> None:
    write(project, 5)
    init(project, server.dsn())
    nself(project, "deliver")
    with server.connect() as db:
        db.execute(f"DELETE FROM {TABLE} WHERE (metadata ->> 'number')::int IN (2, 6)")
    nself(project, "deliver")
    lost = numbers(server)
    nself(project, "deliver", "--again")

    assert (lost, numbers(server)) == ([1, 3, 4, 5], [1, 2, 3, 4, 5, 6])


async def test_a_server_that_hangs_is_given_up(server: Server, project: Path) -> None:
    write(project, 1)
    table = PostgresSink(server.dsn(), "the test's", "primary")
    await table.prepare()
    with Journal.open(project) as journal:
        route = Route(Sink("postgres", SinkKind.POSTGRES, server.dsn(), "the test's"), table)
        server.signal(signal.SIGSTOP)
        patience_s, table._answer_s = table._answer_s, 1.0
        try:
            with pytest.raises(InfrastructureError, match="did not answer within 1 s"):
                await drain(journal.deliveries, route, lambda: "2026-11-27T00:00:00.000Z")
        finally:
            server.signal(signal.SIGCONT)
        table._answer_s = patience_s
        await drain(journal.deliveries, route, lambda: "2026-11-27T00:00:00.000Z")
        await table.close()

    assert numbers(server) == [1]


async def test_another_event_of_the_same_id_is_no_success(server: Server, project: Path) -> None:
    write(project, 1, id="run-1-deploy", timestamp="2026-11-27T00:00:00.000Z")
    (record,) = _records(project)
    other = project / "other"
    other.mkdir()
    write(other, 1, id="run-1-deploy", timestamp="2026-11-27T00:00:00.000Z", reason="another project's")
    table, stranger = sink(server), sink(server, account="second")
    await table.prepare()
    await table.deliver([record])
    await table.deliver([record])
    for receiver in (table, stranger):
        with pytest.raises(ConfigError, match="Another event with the id run-1-deploy"):
            await receiver.deliver(_records(other))
        await receiver.close()

    assert numbers(server) == [1]


def _records(project: Path) -> list[Record]:
    with Journal.open(project, create=False) as journal:
        return journal.deliveries.after(0, 10)
