"""Opening what guards rollbacks (deploy keys, circuit breakers): needs the journal only, no Compose and no engine."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

from nself_deploy import wiring
from nself_deploy.adapters.journal import Journal
from nself_deploy.adapters.journal_guards import Guards
from nself_deploy.adapters.key_file import read_key_file
from nself_deploy.adapters.system import host_name, moment, user_name
from nself_deploy.core.deploy_keys import SECRET_BYTES
from nself_deploy.core.moments import Moment


def now() -> Moment:
    """The present moment."""
    return moment()


def source() -> str:
    """Where a command's attempt with a key comes from: `user@host`."""
    return f"{user_name()}@{host_name()}"


def secret() -> bytes:
    """The random bytes of a new key."""
    return secrets.token_bytes(SECRET_BYTES)


def key_id() -> str:
    """The id of a new key."""
    return f"k{secrets.token_hex(4)}"


@contextlib.contextmanager
def open_guards(directory: str, *, write: bool) -> Iterator[Guards]:
    """The guards of a project.

    Raises:
        NselfError: there is no project, or its journal can't be opened.
    """
    root = wiring.project_root(directory)
    with wiring.open_journal(root) if write else Journal.open(root, create=False) as journal:
        yield journal.guards


__all__ = ["key_id", "now", "open_guards", "read_key_file", "secret", "source"]
