"""The table `np_auditlog_events` of a PostgreSQL server: made or checked, and filled in order.

A batch is one statement and one transaction; a row that is there already is left alone, so it may be sent twice. Each
transaction names the account for row level security by itself: a pooler may give every one another session.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from nself_deploy.adapters.audit_postgres_words import error_of, missing_library
from nself_deploy.core.audit import Record
from nself_deploy.core.audit_delivery import BATCH
from nself_deploy.core.audit_rows import Row, row
from nself_deploy.core.audit_table import SETTING, STATEMENTS, TABLE, Column, Found, Policy, differences
from nself_deploy.errors import ConfigError, InfrastructureError, NselfError

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.AsyncConnection[tuple[Any, ...]]

CONNECT_S = 10
ANSWER_S = 30.0
"""How long a server may take for one statement."""

_FIELDS = Row.__struct_fields__
_INSERT = (
    f"INSERT INTO {TABLE} ({', '.join(_FIELDS)}) "  # noqa: S608 - our own words
    "SELECT id, account, actor, actor_type, event_type, resource_type, resource_id, metadata::jsonb, severity, "
    "created_at::timestamptz, source_plugin "
    f"FROM unnest({', '.join(['%s::text[]'] * len(_FIELDS))}) WITH ORDINALITY "
    "AS event (id, account, actor, actor_type, event_type, resource_type, resource_id, metadata, severity, "
    "created_at, source_plugin, number) ORDER BY number ON CONFLICT (id, created_at) DO NOTHING RETURNING id"
)
_KNOWN = f"SELECT id, metadata ->> 'hash' FROM {TABLE} WHERE id = ANY(%s)"  # noqa: S608 - our own words
_SETTINGS = f"SELECT set_config('{SETTING}', %s, true), set_config('statement_timeout', %s, true)"
_LOOK = f"""
    SELECT c.oid, c.relkind::text, coalesce(pg_get_partkeydef(c.oid), ''),
        EXISTS (SELECT FROM pg_partitioned_table p WHERE p.partrelid = c.oid AND p.partdefid <> 0),
        c.relrowsecurity, row_security_active(c.oid),
        has_table_privilege(c.oid, 'INSERT'), has_table_privilege(c.oid, 'SELECT'),
        ARRAY (SELECT a.attname::text FROM pg_index i
            CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
            WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY k.place)
    FROM pg_class c WHERE c.oid = to_regclass('{TABLE}')"""  # noqa: S608 - our own words
_COLUMNS = """
    SELECT attname::text, format_type(atttypid, atttypmod), attnotnull AND NOT atthasdef AND attidentity = ''
    FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
_POLICIES = """
    SELECT polname::text, polcmd::text,
        concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
    FROM pg_policy WHERE polrelid = %s ORDER BY polname"""
_MAKING = "SELECT pg_advisory_xact_lock(hashtext(%s))"


class Prepared(msgspec.Struct, frozen=True):
    """A table that events can be delivered to."""

    server: str
    """Its version."""
    made: bool
    """It was not there."""
    secured: bool
    """Row level security holds for the role."""


class PostgresSink:
    """One table."""

    at_once = BATCH

    def __init__(self, dsn: str, to: str, account: str, answer_s: float = ANSWER_S) -> None:
        """The table at a DSN that `audit_postgres_words.check_dsn` has seen, called `to` in messages."""
        self._dsn = dsn
        self._to = to
        self._account = account
        self._answer_s = answer_s
        self._connection: Connection | None = None
        self._is_late = False

    async def deliver(self, records: Sequence[Record]) -> None:
        """Have the events in the table, all or none of them, when it returns.

        Raises:
            NselfError: they are not, as far as is known.
            ValueError: a record can't be read.
        """
        rows = [row(record, self._account) for record in records]
        with self._mapped():
            connection = await self._opened()
            with self._bounded(connection):
                await self._begin(connection)
                columns = [[getattr(one, name) for one in rows] for name in _FIELDS]
                written = {name for (name,) in await _all(connection, _INSERT, columns)}
                missing = [one for one in rows if one.id not in written]
                if missing:
                    known = dict(await _all(connection, _KNOWN, [[one.id for one in missing]]))
                    self._refuse_strangers(missing, known)
                await connection.commit()

    async def prepare(self) -> Prepared:
        """Make the table if there is none; check it, and that a row can be written.

        Raises:
            ConfigError: the table differs from what is needed, or the role may not do it; nothing was changed.
            NselfError: the server can't be reached.
        """
        with self._mapped():
            connection = await self._opened()
            with self._bounded(connection):
                found = await _look(connection)
                made = found is None
                if made:
                    await self._make(connection)
                    found = await _look(connection)
                assert found is not None
                self._refuse_differences(found)
                await self._try_row(connection)
            number = connection.info.server_version
            return Prepared(f"PostgreSQL {number // 10000}.{number % 10000}", made, found.active)

    async def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _opened(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        import psycopg

        self._is_late = False
        try:
            async with asyncio.timeout(2 * CONNECT_S):
                self._connection = await psycopg.AsyncConnection.connect(
                    self._dsn,
                    connect_timeout=CONNECT_S,
                    application_name="nself-deploy",
                    prepare_threshold=None,  # a pooler may give each transaction another session
                )
        except TimeoutError:
            what = f"did not let us in within {2 * CONNECT_S} s."
            raise InfrastructureError(what, "Events wait until it does.", where=self._to) from None
        return self._connection

    async def _begin(self, connection: Connection) -> None:
        milliseconds = str(round(self._answer_s * 1000))
        await connection.execute(_SETTINGS, [self._account, milliseconds])

    async def _make(self, connection: Connection) -> None:
        import psycopg

        try:
            await connection.execute(_MAKING, [TABLE])
            if await _look(connection) is None:  # two may have begun
                for statement in STATEMENTS:
                    await connection.execute(statement)
            await connection.commit()
        except psycopg.errors.InsufficientPrivilege as error:
            what = f"There is no table {TABLE}, and the role may not make it: {error.diag.message_primary}."
            remedy = (
                f"Run what nself deploy audit init --sql prints as its owner, then GRANT INSERT, SELECT ON {TABLE}."
            )
            raise ConfigError(what, remedy, where=self._to) from None

    def _refuse_differences(self, found: Found) -> None:
        wrong = differences(found)
        if wrong:
            what = f"The table {TABLE} is there, and differs from what is needed."
            remedy = "Nothing was changed: mend it, or name another database or schema."
            raise ConfigError(what, remedy, where=self._to, evidence=tuple(wrong))

    async def _try_row(self, connection: Connection) -> None:
        """Write a row, see it, and take it back: triggers and checks have their say now, not in the night."""
        await self._begin(connection)
        words = ["nself-deploy-probe", self._account, "", "system", "probe", "service", "", "{}", "info"]
        columns = [[word] for word in (*words, "2000-01-01T00:00:00Z", "deploy")]
        await connection.execute(_INSERT, columns)
        seen = await _all(connection, _KNOWN, [[words[0]]])
        await connection.rollback()
        if not seen:
            what = f"A row that was written to {TABLE} can't be seen again."
            raise ConfigError(what, "Look at its policies, rules and triggers.", where=self._to)

    def _refuse_strangers(self, missing: list[Row], known: dict[str, str | None]) -> None:
        """What was not written must be there already: the same event, or somebody else took its id."""
        for one in missing:
            if known.get(one.id) != msgspec.json.decode(one.metadata)["hash"]:
                what = f"Another event with the id {one.id} is in {TABLE}."
                remedy = "Give each project an account of its own: nself deploy audit init --account NAME."
                raise ConfigError(what, remedy, where=self._to)

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        """No error of the library leaves this room; after one the connection is not used any more."""
        try:
            import psycopg
        except ImportError as error:
            raise missing_library() from error
        try:
            yield
        except psycopg.Error as error:
            raise self._ended(error_of(error, self._dsn, self._to)) from None
        except OSError as error:
            what = f"can't be reached: {error.strerror or error}."
            raise self._ended(InfrastructureError(what, "Events wait until it can.", where=self._to)) from None

    def _ended(self, error: NselfError) -> NselfError:
        if not self._is_late:
            return error
        what = f"did not answer within {self._answer_s:g} s."
        return InfrastructureError(what, "Events wait until it does.", where=self._to)

    @contextlib.contextmanager
    def _bounded(self, connection: Connection) -> Iterator[None]:
        """Hang up when the server is silent for too long: one that was stopped answers no request to cancel."""

        def hang_up() -> None:
            self._is_late = True
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)

        late = asyncio.get_running_loop().call_later(self._answer_s, hang_up)
        try:
            yield
        finally:
            late.cancel()


async def _all(connection: Connection, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(statement, values)
    return await cursor.fetchall()


async def _look(connection: Connection) -> Found | None:
    """The table as the catalogue has it."""
    rows = await _all(connection, _LOOK)
    if not rows:
        return None
    number, kind, parts, has_default, secured, active, may_insert, may_select, key = rows[0]
    columns = tuple(Column(*one) for one in await _all(connection, _COLUMNS, [number]))
    policies = tuple(Policy(*one) for one in await _all(connection, _POLICIES, [number]))
    return Found(kind, parts, has_default, tuple(key), secured, active, columns, policies, may_insert, may_select)
