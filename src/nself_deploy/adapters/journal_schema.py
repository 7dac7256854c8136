"""The database file under the journal: made whole or not at all, checked when opened, migrated by number."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import resource
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nself_deploy.adapters.durable_files import (
    create_temp,
    os_error,
    refuse_special,
    remove_leftovers,
    sync_dir,
    temp_name,
)
from nself_deploy.errors import InfrastructureError, NselfError, StateFileError

APPLICATION_ID = 0x6E73656C
BUSY_TIMEOUT_S = 30.0

ANCHOR_FILE = "audit.head"
"""Beside the database: how far its audit trail goes."""

_ROOM = 64 * 1024

RESTORE = "Restore it from a backup; deploys stay refused until then, and traffic stays where it is."

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        started_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed', 'undone', 'parked')),
        document TEXT NOT NULL
    );
    CREATE INDEX runs_unfinished ON runs (number) WHERE state IN ('running', 'parked');
    CREATE TABLE journal_entries (
        run_id TEXT NOT NULL REFERENCES runs (run_id),
        seq INTEGER NOT NULL,
        at TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('intent', 'outcome', 'note')),
        step TEXT NOT NULL,
        effect TEXT NOT NULL,
        detail TEXT NOT NULL,
        PRIMARY KEY (run_id, seq)
    ) WITHOUT ROWID;
    CREATE TABLE releases (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        fingerprint TEXT NOT NULL,
        created_at TEXT NOT NULL,
        record TEXT NOT NULL
    );
    CREATE INDEX releases_by_fingerprint ON releases (fingerprint, number);
    CREATE TABLE slots (
        slot TEXT NOT NULL PRIMARY KEY CHECK (slot IN ('blue', 'green', 'plain')),
        release_id TEXT NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('live', 'candidate', 'standby', 'empty')),
        since TEXT NOT NULL,
        standby_until TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE addresses (
        network TEXT NOT NULL,
        service TEXT NOT NULL,
        replica INTEGER NOT NULL,
        host INTEGER NOT NULL,
        PRIMARY KEY (network, service, replica),
        UNIQUE (network, host)
    ) WITHOUT ROWID;
    CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE audit_events (
        number INTEGER NOT NULL PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        hash TEXT NOT NULL,
        document TEXT NOT NULL
    );
    CREATE TRIGGER audit_events_stay BEFORE UPDATE ON audit_events
    BEGIN SELECT RAISE(ABORT, 'audit events are never changed'); END;
    CREATE TRIGGER audit_events_last BEFORE DELETE ON audit_events
    BEGIN SELECT RAISE(ABORT, 'audit events are never removed'); END;
    """,
    """
    CREATE TABLE deploy_keys (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        record TEXT NOT NULL
    );
    CREATE TABLE key_attempts (
        source TEXT NOT NULL PRIMARY KEY,
        at TEXT NOT NULL,
        proved INTEGER NOT NULL,
        record TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE breakers (
        environment TEXT NOT NULL,
        service TEXT NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (environment, service)
    ) WITHOUT ROWID;
    """,
)
"""The statements that lead from version N to N + 1; `PRAGMA user_version` counts them. Never change one, add one."""


@contextmanager
def mapped(path: Path, doing: str) -> Iterator[None]:
    """Turn what SQLite and the system raise into our errors.

    Raises:
        NselfError: see `database_error`.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise database_error(error, path, doing) from error
    except OSError as error:
        raise os_error(error, path, doing) from error


def database_error(error: sqlite3.Error, path: Path, doing: str) -> NselfError:
    """What SQLite's error means for a person."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    where = str(path)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StateFileError(f"is damaged: {error}.", RESTORE, where=where)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        what = f"cannot {doing} it: another process kept it busy for {BUSY_TIMEOUT_S:g} s."
        return InfrastructureError(what, "Try again when that process has ended.", where=where)
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _disk_full(path)):
        return os_error(OSError(errno.ENOSPC, str(error)), path, doing)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        readable = not path.exists() or os.access(path, os.R_OK)
        return os_error(OSError(errno.EACCES, str(error)), path, doing if readable else "read")
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return InfrastructureError(f"cannot {doing} it: {error} ({name}).", "Check the disk that it is on.", where=where)


def _disk_full(path: Path) -> bool:
    """Whether there is no room for a few more pages; SQLite reports some of these as I/O errors."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    files = [p for p in (path, path.with_name(path.name + "-wal")) if p.exists()]
    try:
        if limit != resource.RLIM_INFINITY and max((p.stat().st_size for p in files), default=0) + _ROOM > limit:
            return True
        free = os.statvfs(path.parent)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize < _ROOM


def open_database(path: Path, create: bool, migrations: Sequence[str] = MIGRATIONS) -> sqlite3.Connection | None:
    """A checked connection: to write with `create`, else to read only and None when there is no database.

    Raises:
        StateFileError: damaged, another program's, from a newer version, or gone while its other files are there.
        NselfError: it can't be opened (disk full, not writable, busy).
    """
    there = refuse_special(path)
    if not there:
        _refuse_orphans(path)
        if not create:
            return None
        with mapped(path, "create"):
            _create(path, migrations)
    elif os.lstat(path).st_size == 0:
        # SQLite would take an empty file for a new database.
        raise StateFileError("is empty.", RESTORE, where=str(path))
    with mapped(path, "open"):
        if create and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if create and os.lstat(path).st_nlink > 1:
            _drop_second_name(path)
        size, wal = os.lstat(path).st_size, path.with_name(path.name + "-wal")
        whole = wal.exists() and wal.stat().st_size > 0  # then the last page may be half copied from there
        db = _connect(path, write=create)
        try:
            if not whole and size % db.execute("PRAGMA page_size").fetchone()[0]:
                # SQLite would fill up the last page with zeros.
                raise StateFileError("is damaged: its end is missing.", RESTORE, where=str(path))
            return _checked(db, path, create, migrations)
        except BaseException:
            db.close()
            raise


def _refuse_orphans(path: Path) -> None:
    """A missing database is only a beginning when nothing speaks of an earlier one."""
    releases = path.parent / "releases"
    traces = [
        p for p in (path.with_name(path.name + "-wal"), path.with_name(ANCHOR_FILE), releases) if os.path.lexists(p)
    ]
    with mapped(releases, "read"):
        if traces == [releases] and releases.is_dir() and not any(releases.iterdir()):
            traces = []
    if traces:
        what = f"is gone, but {traces[0].name} beside it shows that this project was deployed."
        remedy = f"{RESTORE} To begin anew, move {path.parent} away as well."
        raise StateFileError(what, remedy, where=str(path))


def _create(path: Path, migrations: Sequence[str]) -> None:
    """Make the database under another name and give it its own at once, so that a crash leaves none or a whole one."""
    remove_leftovers(path)
    temp = temp_name(path)
    mark = create_temp(temp)
    try:
        db = sqlite3.connect(temp, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = OFF")  # one file, no companions; a failure throws it away
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            _migrate(db, 0, migrations)
        finally:
            db.close()
        os.fsync(mark)
        os.link(temp, path)
    except FileExistsError:
        pass  # another process was quicker; its database is as whole as ours
    finally:
        temp.unlink(missing_ok=True)
        os.close(mark)
    sync_dir(path.parent)


def _drop_second_name(path: Path) -> None:
    """Take away the temporary name of a database whose maker died between giving it its own name and this."""
    own = identity(path)
    for other in path.parent.iterdir():
        if other != path and identity(other) == own:
            other.unlink(missing_ok=True)


def _connect(path: Path, write: bool) -> sqlite3.Connection:
    # A reader opens it for writing too where it may: it never writes a row, but SQLite then takes away the -wal and
    # -shm files when the last one leaves.
    mode = "rw"
    if not write and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        wal = path.with_name(path.name + "-wal")
        mode = "ro" if wal.exists() and wal.stat().st_size else "ro&immutable=1"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA trusted_schema = OFF")
    return db


def _checked(db: sqlite3.Connection, path: Path, write: bool, migrations: Sequence[str]) -> sqlite3.Connection:
    """The connection at the current version."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise StateFileError("is a database of another program.", "Move it away.", where=str(path))
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        what = f"was written by a newer version (journal {version}; this version reads {len(migrations)})."
        raise StateFileError(what, "Upgrade nself-deploy on this machine.", where=str(path))
    if write:
        db.execute("PRAGMA journal_mode = WAL")
        _migrate(db, version, migrations)
        return db
    if version < len(migrations):
        # A reader changes nothing on disk: it looks at a migrated copy.
        copy = sqlite3.connect(":memory:", isolation_level=None)
        db.backup(copy)
        db.close()
        _migrate(copy, version, migrations)
        db = copy
    db.execute("PRAGMA query_only = ON")
    return db


def _migrate(db: sqlite3.Connection, version: int, migrations: Sequence[str]) -> None:
    if version >= len(migrations):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have done it while we waited.
        (version,) = db.execute("PRAGMA user_version").fetchone()
        for script in migrations[version:]:
            for statement in _statements(script):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(migrations)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; those of a trigger's body belong to the trigger."""
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if not part.strip() and statement.strip() == ";":
            statement = ""
        elif sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@functools.cache
def as_migrated(sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query in a database that was just made."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        _migrate(db, 0, MIGRATIONS)
        return db.execute(sql).fetchall()


def identity(path: Path) -> tuple[int, int]:
    """Device and inode of the file at `path`; zeros when it is gone."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return (0, 0)
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else (0, 0)
