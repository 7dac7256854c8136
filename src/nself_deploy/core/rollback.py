"""A rollback of one service, as a machine asks for it at night: its states, its result, the printed document."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from nself_deploy.core.document import Document
from nself_deploy.errors import EngineError, Exit, Locked, NselfError, UsageError

_SERVICE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}")
REASON_LIMIT = 1000
"""Characters of a reason that a person or a program may give."""
RETRIES_LIMIT = 10


class RollbackUIState(StrEnum):
    """What a page about a rollback shows."""

    LOADING = "loading"
    """It runs."""
    EMPTY = "empty"
    """There is no prior version to go back to."""
    ERROR = "error"
    """It failed; traffic is where it was."""
    POPULATED = "populated"
    """Complete and verified."""
    OFFLINE = "offline"
    """The engine or host can't be reached, or there is no project."""
    PERMISSION_DENIED = "permission-denied"
    """No key, or none that may do this."""
    RATE_LIMITED = "rate-limited"
    """The circuit breaker is open, or too many keys failed."""


class Request(msgspec.Struct, frozen=True):
    """What is asked for."""

    service: str
    environment: str = "prod"
    reason: str = ""
    max_retries: int = 1
    """How often it is tried again after it failed."""
    whole: bool = False
    """The whole release goes back, not this service alone."""
    evidence: tuple[str, ...] = ()
    """What the reason rests on, for the audit trail."""


class ServiceRollback(msgspec.Struct, frozen=True):
    """How the last rollback of a service stands, as it is kept for others to read."""

    ui_state: RollbackUIState
    service: str
    environment: str
    prior_version: str = ""
    """Release that it goes, or went, back to."""
    error: str = ""
    audit_event_id: str = ""
    duration_ms: int = 0
    exit_status: int = 0
    at: str = ""
    """When it was written: UTC, RFC 3339."""
    heard: bool = True
    """Whether who asked for it was told that it is complete: until then the same request is answered with it."""


class RollbackDocument(Document, frozen=True, kw_only=True):
    """The document of a deploy, and what is said of one service."""

    service: str
    environment: str
    ui_state: RollbackUIState
    prior_version: str = ""
    audit_event_id: str = ""


def checked(service: str, environment: str, reason: str, max_retries: int) -> Request:
    """What is asked for, with defaults in place.

    Raises:
        UsageError: something in it can't be.
    """
    if not _SERVICE.fullmatch(service):
        raise UsageError(f"{service[:200]!r} is no name of a service.", "Name a service of the Compose file.")
    if not 0 <= max_retries <= RETRIES_LIMIT:
        raise UsageError(f"max_retries is {max_retries}: 0 to {RETRIES_LIMIT} are possible.", "0 means the default, 1.")
    return Request(service, environment, checked_reason(reason), max_retries or 1)


def checked_reason(reason: str, where: str = "") -> str:
    """A reason as one line.

    Raises:
        UsageError: it is too long; nothing of it is cut off in silence.
    """
    line = " ".join(reason.split())
    if len(line) > REASON_LIMIT:
        what = f"The reason has {len(line):,} characters: {REASON_LIMIT:,} are possible."
        raise UsageError(what, "Say it in fewer words, and where the rest is to be read.", where=where)
    return line


def key_of(environment: str, service: str) -> str:
    """Where its state is kept."""
    return f"rollback:{environment}:{service}"


def failed(error: NselfError) -> tuple[RollbackUIState, Exit]:
    """The state and exit status of something that failed before users were moved, or could not be moved."""
    if isinstance(error, Locked):
        return RollbackUIState.LOADING if "rollback" in error.purpose else RollbackUIState.ERROR, error.exit_status
    state = RollbackUIState.OFFLINE if isinstance(error, EngineError) else RollbackUIState.ERROR
    return state, error.exit_status


STATUS = {
    RollbackUIState.LOADING: Exit.LOCKED,
    RollbackUIState.EMPTY: Exit.USAGE,
    RollbackUIState.ERROR: Exit.FAILED,
    RollbackUIState.POPULATED: Exit.OK,
    RollbackUIState.OFFLINE: Exit.INFRASTRUCTURE,
    RollbackUIState.PERMISSION_DENIED: Exit.NOT_AUTHORISED,
    RollbackUIState.RATE_LIMITED: Exit.REFUSED,
}
"""The usual exit status of each; an error may have another one."""
