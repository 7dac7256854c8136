"""The JSON state files: their values, and the bytes on disk (no I/O here).

Reading is strict about what is known and lenient about what is not: a newer `schema_version`, a missing or mistyped
key is an error, never a "fresh install"; an unknown key is ignored. The files are projections for other programs and
other versions: whatever changes the meaning of a known key raises the number, so a key more is an addition, and
refusing it would stop a rollback for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from nself_deploy.core.model import Slot, Strategy
from nself_deploy.errors import StateFileError

DEPLOY_STATE_FILE = ".nself/state/deploy.json"
BLUE_GREEN_STATE_FILE = ".nself/bluegreen/state.json"
ROLLBACK_STATE_DIR = ".nself/rollback-state"
DEPLOY_STATE_SCHEMA = 1

ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
"""Written as `0001-01-01T00:00:00Z`: there is no such time (yet)."""

ERROR_LIMIT = 16_000
"""Characters of an error that are kept."""

_REMEDY = (
    "Restore it from a backup, or look at it and move it away: the journal has the truth, "
    "and the next deploy writes this file again."
)

_DEPLOY_KEYS = ("strategy", "target", "started_at", "completed_at", "success", "canary_percent", "rolled_back")

T = TypeVar("T")


def parse_time(text: str) -> datetime:
    """A moment of RFC 3339 text, in UTC; empty text is `ZERO_TIME`.

    Raises:
        ValueError: it is no RFC 3339 time with a zone.
    """
    if not text:
        return ZERO_TIME
    try:
        return _utc(msgspec.convert(text, datetime))
    except msgspec.ValidationError as error:
        raise ValueError(f"{text!r} is no RFC 3339 time") from error


def format_time(moment: datetime) -> str:
    """RFC 3339 with milliseconds, in UTC, ending in Z."""
    return _utc(moment).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{moment} is out of range") from error


class _Checked(msgspec.Struct, frozen=True):
    """However the value is made: times become UTC moments, words become enums, and a percentage is one."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value: Any = getattr(self, name)
            if name == "canary_percent":
                if not 0 <= value <= 100:
                    raise ValueError(f"canary_percent is 0 to 100, not {value}")
            elif name in _CONVERSIONS:
                msgspec.structs.force_setattr(self, name, _CONVERSIONS[name](value))


def _moment(value: datetime | str) -> datetime:
    return parse_time(value) if isinstance(value, str) else _utc(value)


_CONVERSIONS: dict[str, Callable[[Any], object]] = {
    **dict.fromkeys(("started_at", "completed_at", "last_deploy", "last_rollback", "updated_at"), _moment),
    "strategy": lambda value: Strategy(value) if value else None,
    "active": lambda value: Slot(value) if value else None,
}


class StrategyState(_Checked, frozen=True):
    """The outcome of the last deploy (`.nself/state/deploy.json`). `StrategyState()` means: there was none."""

    schema_version: int = 0
    """1 on all writes; 0 in files from before there was a number."""
    strategy: Strategy | None = None
    target: str = ""
    """local, staging, prod."""
    started_at: datetime = ZERO_TIME
    completed_at: datetime = ZERO_TIME
    success: bool = False
    canary_percent: int = 0
    """The split at completion: 0 or 100 for all strategies but canary."""
    rolled_back: bool = False
    error: str = ""
    """Why it failed."""
    blue_green_state_file: str = ""
    """Path of the blue-green state file, for blue-green and canary."""


class BlueGreenState(_Checked, frozen=True):
    """The split of this moment (`.nself/bluegreen/state.json`). `BlueGreenState()` means: nothing runs yet."""

    active: Slot | None = None
    """The slot that gets all requests, or all but `canary_percent`."""
    blue_version: str = ""
    """Release id in the slot."""
    green_version: str = ""
    canary_percent: int = 0
    last_deploy: datetime = ZERO_TIME
    last_rollback: datetime = ZERO_TIME


class RollbackState(_Checked, frozen=True):
    """What a rollback of one service goes back to. `RollbackState()` means: no prior version."""

    prior_tag: str = ""
    """Image reference."""
    prior_hash: str = ""
    """Image id (`sha256:...`)."""
    updated_at: datetime = ZERO_TIME


class _Numbered(msgspec.Struct):
    schema_version: int = 0


def encode_deploy_state(state: StrategyState) -> bytes:
    """The file's bytes, with the current schema number.

    Raises:
        ValueError: a field has no valid value.
    """
    fields: dict[str, Any] = msgspec.structs.asdict(state)
    fields["schema_version"] = DEPLOY_STATE_SCHEMA
    fields["strategy"] = state.strategy or ""
    fields["error"] = _kept(state.error)
    for name in ("error", "blue_green_state_file"):
        if not fields[name]:
            del fields[name]
    return _encode(fields, decode_deploy_state)


def decode_deploy_state(data: bytes, path: str) -> StrategyState:
    """The state in a file's bytes; `path` is for the message.

    Raises:
        StateFileError: truncated, empty, not JSON, a key missing or of the wrong type, or from a newer version.
    """
    required = _DEPLOY_KEYS if _schema(data, path) else ("strategy",)
    return _decode(data, path, StrategyState, required, ("strategy",))


def encode_blue_green_state(state: BlueGreenState) -> bytes:
    """The file's bytes.

    Raises:
        ValueError: a field has no valid value.
    """
    return _encode(msgspec.structs.asdict(state) | {"active": state.active or ""}, decode_blue_green_state)


def decode_blue_green_state(data: bytes, path: str) -> BlueGreenState:
    """The state in a file's bytes; raises like `decode_deploy_state`."""
    _schema(data, path)
    return _decode(data, path, BlueGreenState, ("active",), ("active",))


def encode_rollback_state(state: RollbackState) -> bytes:
    """The file's bytes.

    Raises:
        ValueError: a field has no valid value.
    """
    return _encode(msgspec.structs.asdict(state), decode_rollback_state)


def decode_rollback_state(data: bytes, path: str) -> RollbackState:
    """The state in a file's bytes; raises like `decode_deploy_state`."""
    _schema(data, path)
    return _decode(data, path, RollbackState, ("prior_tag", "prior_hash"), ())


def _kept(error: str) -> str:
    """An error as it can be stored: whatever a container printed, valid UTF-8 and bounded."""
    text = error.encode("utf-8", "replace").decode()
    return text if len(text) <= ERROR_LIMIT else text[:ERROR_LIMIT] + " [cut]"


def _encode(fields: dict[str, Any], decode: Callable[[bytes, str], object]) -> bytes:
    """Indented JSON that was read back: nothing is written that the next command would refuse."""
    try:
        data = msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n"
        decode(data, "new state")
    except (UnicodeEncodeError, TypeError, StateFileError) as error:
        raise ValueError(f"the state can't be written: {error}") from error
    return data


def _schema(data: bytes, path: str) -> int:
    """The file's schema number, 0 when it has none."""
    if not data.strip():
        raise StateFileError("is empty.", _REMEDY, where=path)
    try:
        number = msgspec.json.decode(data, type=_Numbered).schema_version
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _unreadable(error, path) from error
    if number > DEPLOY_STATE_SCHEMA:
        what = f"was written by a newer version (schema_version {number}; this version reads {DEPLOY_STATE_SCHEMA})."
        raise StateFileError(what, "Upgrade nself-deploy on this machine.", where=path)
    if number < 0:
        raise StateFileError(f"has schema_version {number}.", _REMEDY, where=path)
    return number


def _decode(data: bytes, path: str, kind: type[T], required: tuple[str, ...], may_be_blank: tuple[str, ...]) -> T:
    try:
        fields: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
        for name in required:
            if name not in fields:
                raise StateFileError(f"has no key {name!r}.", _REMEDY, where=path)
        for name in may_be_blank:
            if fields[name] == "":
                fields[name] = None
            elif fields[name] is None:
                raise StateFileError(f"has no value for {name!r}.", _REMEDY, where=path)
        return msgspec.convert(fields, kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _unreadable(error, path) from error


def _unreadable(error: Exception, path: str) -> StateFileError:
    return StateFileError(f"can't be read: {error}.", _REMEDY, where=path)
