"""A real PostgreSQL server: a process on loopback, in a directory of its own, as a user without rights."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from tests.real.prometheus_parts import LIMIT_S, free_port, program
from tests.real.stack import stands_still, wait_for

NOBODY = 65534
OWNER = "audit_owner"
WRITER = "audit_writer"
PASSWORD = "s3cret-of-a-test"
_SETTINGS = ("fsync=off", "jit=off", "shared_buffers=8MB", "max_connections=20", "listen_addresses=127.0.0.1")


class Server:
    """A PostgreSQL server with a database, its owner, and a role that owns nothing."""

    def __init__(self) -> None:
        # It does not run as root, and may not enter a directory of root's: what it needs is copied to where it may.
        self._base = Path(tempfile.mkdtemp(prefix="nself-postgres-"))
        self.port = free_port()
        self.database = "postgres"
        """The one that is meant when none is named."""
        self.log = self._base / "log"
        self._running: subprocess.Popen[bytes] | None = None
        given = Path(program("postgresql"))
        root = given.parents[4]
        shutil.copytree(root / "usr", self._base / "usr", symlinks=True)
        self._programs = self._base / given.relative_to(root)
        libraries = [str(path) for path in (self._base / "usr/lib").glob("*-linux-gnu")]
        libraries += [str(path) for path in root.glob("lib/*-linux-gnu")]
        self._as: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "cwd": self._base,
            "env": {"LD_LIBRARY_PATH": ":".join(libraries), "LC_ALL": "C", "PATH": os.defpath},
            **({"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}),
        }
        self._base.chmod(0o777)
        words = [
            self._programs / "initdb",
            "-D",
            "data",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-N",
            "--no-locale",
            "-E",
            "UTF8",
        ]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False, **self._as)
        assert done.returncode == 0, done.stderr
        (self._base / "data/pg_hba.conf").write_text(
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )

    def start(self) -> None:
        options = [
            word for setting in (*_SETTINGS, f"unix_socket_directories={self._base}") for word in ("-c", setting)
        ]
        words = [self._programs / "postgres", "-D", "data", "-p", str(self.port), *options]
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(words, stdout=log, stderr=log, **self._as)
        end, pause = time.monotonic() + LIMIT_S, threading.Event()
        while not self._answers():
            assert self._running.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"does not answer: {self.log.read_text()}"
            pause.wait(0.02)

    def make_database(self, name: str) -> None:
        """A database that belongs to `OWNER`, and may be entered by `WRITER`."""
        with self.connect(database="postgres") as admin:
            admin.autocommit = True
            for role in (OWNER, WRITER):
                if not admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchall():
                    admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
            admin.execute(f"CREATE DATABASE {name} OWNER {OWNER}")

    def drop_database(self, name: str) -> None:
        with self.connect(database="postgres") as admin:
            admin.autocommit = True
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def kill(self) -> None:
        """End it at once, as a crash would, with all that it started."""
        if self._running is not None:
            self._running.send_signal(signal.SIGQUIT)
            self._running.wait(LIMIT_S)
            self._running = None

    def signal(self, number: int) -> None:
        """To the server and its sessions, of which it can begin none meanwhile when it is to stand still."""
        assert self._running is not None
        pid = self._running.pid
        os.kill(pid, number)
        if number == signal.SIGSTOP:
            wait_for(partial(stands_still, pid), "it stands still")
        for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):  # its helpers come and go
                os.kill(int(one), number)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._base, ignore_errors=True)

    def dsn(self, role: str = OWNER, database: str = "") -> str:
        return f"postgresql://{role}:{PASSWORD}@127.0.0.1:{self.port}/{database or self.database}"

    def connect(self, role: str = "postgres", database: str = "") -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.dsn(role, database), connect_timeout=60)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query gives to a superuser, whom row level security hides nothing from."""
        with self.connect() as connection:
            return connection.execute(query, values).fetchall()  # type: ignore[arg-type]

    def _answers(self) -> bool:
        try:
            self.connect(database="postgres").close()
        except psycopg.OperationalError:
            return False
        return True
