"""What PostgreSQL's DSNs and errors say, without what is secret in them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from nself_deploy.core.audit_table import TABLE
from nself_deploy.errors import ConfigError, InfrastructureError, NselfError

if TYPE_CHECKING:
    import psycopg

_SECRETS = ("password", "sslpassword", "oauth_client_secret")
_FILES = ("passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir", "servicefile")
_NO_FILES = ("", "system")
_MESSAGE_CHARS = 300
_OURS = ("22", "23", "42")
"""Classes of errors that a person has to mend: data, constraints, rights and names."""


def check_dsn(dsn: str) -> str:
    """What a DSN leads to, for people: `role@host:port/database`.

    Raises:
        ConfigError: it is no DSN, or names a file by a relative path.
        NselfError: the library for PostgreSQL is missing.
    """
    words = _parsed(dsn)
    where = "--postgres"
    if not words or not dsn.isprintable():
        raise ConfigError("It is no DSN of PostgreSQL.", "Write postgresql://role@host/database.", where=where)
    for name in _FILES:
        path = words.get(name, "")
        if path not in _NO_FILES and not os.path.isabs(path):
            what = f"{name} names a file by a relative path: the delivery works from another directory."
            raise ConfigError(what, "Write the whole path.", where=where)
    return _shown(words)


def has_password(dsn: str) -> bool:
    """Whether there is a password in it."""
    return bool(_parsed(dsn).get("password"))


def error_of(error: psycopg.Error, dsn: str, to: str) -> NselfError:
    """What an error of the server, or of the way to it, means for a person."""
    state = error.sqlstate or ""
    reason = _scrubbed(error.diag.message_primary or str(error), dsn)
    if state == "42P01":
        return ConfigError(f"There is no table {TABLE} any more.", "nself deploy audit init makes it.", where=to)
    if state.startswith(_OURS):
        what = f"refuses the events: {reason}."
        return ConfigError(what, "nself deploy audit init checks the table, and says what differs.", where=to)
    if state == "57014":
        return InfrastructureError(f"took too long: {reason}.", "Events wait until it does not.", where=to)
    return InfrastructureError(f"can't be reached: {reason}.", "Events wait until it can.", where=to)


def missing_library() -> NselfError:
    """The library is an extra, and not installed."""
    what = "PostgreSQL is spoken to through psycopg 3, which is not installed here."
    return InfrastructureError(what, "Install nself-deploy with its extra: pip install 'nself-deploy[postgres]'.")


def _parsed(dsn: str) -> dict[str, Any]:
    """Its parts; empty when it is none. The library's own message may quote a password: it is not used."""
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:
        raise missing_library() from error
    try:
        return {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    except ProgrammingError:
        return {}


def _shown(words: dict[str, Any]) -> str:
    if words.get("service") and not words.get("host"):
        return f"service {words['service']}"
    role = f"{words['user']}@" if words.get("user") else ""
    host = words.get("host") or words.get("hostaddr") or "localhost"
    port = str(words.get("port", "")).strip(",") or "5432"  # of several hosts there are several, often empty
    return f"{role}{host}:{port}/{words.get('dbname') or words.get('user') or ''}"


def _scrubbed(text: str, dsn: str) -> str:
    """One short line without a secret, should the other side have repeated it."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    words = _parsed(dsn)
    for name in _SECRETS:
        if words.get(name):
            line = line.replace(words[name], "***")
    return line[:_MESSAGE_CHARS].rstrip(".")
