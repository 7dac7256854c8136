"""Requests by HTTP and the answers to them, as plain values (no I/O)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nself_deploy.core.deploy_keys import Reason
from nself_deploy.core.rollback import RollbackDocument, RollbackUIState
from nself_deploy.errors import Exit, UsageError

HEALTH, ROLLBACK, ALERTS = "/healthz", "/v1/rollback", "/v1/alertmanager"
BODY_LIMITS = {ROLLBACK: 16 * 1024, ALERTS: 1024 * 1024}
"""Bytes of a body that may be sent there; nowhere else one is read."""
METHODS = {HEALTH: ("GET",), ROLLBACK: ("GET", "POST"), ALERTS: ("POST",)}
JSON = "application/json"
RETRY_S = 15
"""When it is worth asking again what can't be done now."""


class Asked(msgspec.Struct, frozen=True):
    """A request, as far as we look at it."""

    method: str
    path: str
    source: str
    """The address that it came from."""
    query: Mapping[str, str] = {}
    authorization: tuple[str, ...] = ()
    """The values of the headers of this name."""
    content_type: str = ""
    content_encoding: str = ""
    body: bytes = b""


class About(msgspec.Struct, frozen=True):
    """What a request was about, for the log. Nothing of its key."""

    service: str = ""
    environment: str = ""
    ui_state: str = ""
    detail: str = ""


class Answer(msgspec.Struct, frozen=True):
    """The answer: a status, headers beside those that all have, a document."""

    status: int
    document: msgspec.Struct
    headers: Mapping[str, str] = {}
    about: About = About()


class Problem(msgspec.Struct, frozen=True):
    """Why a request was not taken."""

    what: str
    """What is wrong."""
    remedy: str = ""
    """What to do about it."""


class Health(msgspec.Struct, frozen=True):
    """That it is there."""

    status: str
    """`ok`, or `stopping`."""
    version: str


class RollbackAnswer(RollbackDocument, frozen=True, kw_only=True):
    """The document of a rollback, with what to do when it failed."""

    remedy: str = ""


class AlertLine(msgspec.Struct, frozen=True):
    """What became of one alert."""

    fingerprint: str
    starts_at: str
    """When it began, in UTC."""
    outcome: str
    """`rollback`, or why there was none."""
    service: str = ""
    environment: str = ""
    ui_state: str = ""
    """How its rollback ended, empty when there was none."""
    detail: str = ""
    """In words."""


class AlertAnswer(msgspec.Struct, frozen=True):
    """What became of the alerts of a notification."""

    alerts: tuple[AlertLine, ...]


class RollbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is sent to ask for a rollback."""

    service: str
    environment: str = "prod"
    reason: str = ""
    max_retries: int = 0


def read_rollback(body: bytes) -> RollbackBody:
    """What is asked for.

    Raises:
        UsageError: it is not JSON, or has other keys or types.
    """
    try:
        return msgspec.json.decode(body, type=RollbackBody)
    except (ValueError, RecursionError) as error:
        remedy = 'Send JSON with service, environment, reason, max_retries: {"service": "web"} will do.'
        raise UsageError(f"The body can't be read: {error}.", remedy) from None


def problem(status: int, what: str, remedy: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    """An answer that says why a request was not taken."""
    return Answer(status, Problem(what, remedy), headers or {}, About(detail=what))


def refused(asked: Asked) -> Answer | None:
    """Why a request is not looked at, whoever sends it; None when it is."""
    methods = METHODS.get(asked.path)
    if methods is None:
        return problem(404, "There is nothing at this path.", f"Paths: {', '.join(METHODS)}.")
    if asked.method not in methods:
        allowed = ", ".join(methods)
        return problem(405, f"{asked.path} is not for this method.", f"Use {allowed}.", {"Allow": allowed})
    if asked.method == "POST" and asked.content_type.partition(";")[0].strip().lower() != JSON:
        return problem(415, "The body is not said to be JSON.", f"Send it with the header Content-Type: {JSON}.")
    if asked.content_encoding.strip().lower() not in ("", "identity"):
        return problem(415, "The body is compressed.", "Send it as it is.")
    return None


def too_large(limit: int) -> Answer:
    """The answer to a body that is not read to its end, for having more bytes than the limit."""
    return problem(413, f"The body is larger than {limit} bytes.", "Send less.")


def bearer(authorization: tuple[str, ...]) -> str:
    """The token of a header `Authorization: Bearer TOKEN`; empty when there is not exactly one."""
    if len(authorization) != 1:
        return ""
    scheme, _, token = authorization[0].strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


_OF_EXIT = {
    int(Exit.USAGE): 422,
    int(Exit.INFRASTRUCTURE): 503,
    int(Exit.NOT_AUTHORISED): 403,
    int(Exit.REFUSED): 409,
    int(Exit.FAILED): 500,
    int(Exit.LOCKED): 409,
    int(Exit.PARKED): 409,
    int(Exit.INTERRUPTED): 503,
}
_OF_STATE = {
    RollbackUIState.POPULATED: 200,
    RollbackUIState.LOADING: 409,
    RollbackUIState.EMPTY: 404,
    RollbackUIState.OFFLINE: 503,
    RollbackUIState.RATE_LIMITED: 429,
}


def status_of(ui_state: RollbackUIState, exit_status: int, denied: Reason | None = None) -> int:
    """The HTTP status of a rollback that ended so."""
    if ui_state is RollbackUIState.PERMISSION_DENIED:
        return 403 if denied is Reason.SCOPE else 401
    return _OF_STATE.get(ui_state) or _OF_EXIT.get(exit_status, 500)


def headers_of(status: int, wait_s: float = 0.0) -> dict[str, str]:
    """What a client is told beside the document: how to show a key, when to ask again."""
    if status == 401:
        return {"WWW-Authenticate": 'Bearer realm="nself deploy"'}
    if status == 503 or wait_s:
        return {"Retry-After": str(max(1, round(wait_s + 0.5)) if wait_s else RETRY_S)}
    return {}


class ServedLine(msgspec.Struct, frozen=True):
    """What the server says about itself or a request, for programs."""

    at: str
    event: str
    """`listening`, `answered`, `stopping`, `stopped`."""
    method: str = ""
    path: str = ""
    """`-` for one that is none of ours."""
    source: str = ""
    status: int = 0
    service: str = ""
    environment: str = ""
    ui_state: str = ""
    duration_ms: int = 0
    detail: str = ""
