"""Deploy keys: what they open, what is kept of them, and whether one that is shown opens anything (no I/O).

A key is a prefix and 256 random bits. Only its sha256 is kept. Slow hashes (scrypt, argon2) are for passwords, which
people choose from few; nobody can try 2**256 keys at any speed, and a fast hash leaves a flood of wrong keys nothing to
burn.

A key that is shown is hashed and compared with every key that is kept, to the end, each time in constant time: there is
no look-up by a part of it. So a wrong key and no such key are one and the same case, and take the same steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from hmac import compare_digest

import msgspec

from nself_deploy.core.audit import AuditEvent

PREFIX = "nself_deploy_"
SECRET_BYTES = 32
KEY_LIMIT = 256
"""Characters of a key that is shown; a longer one is wrong, and is not hashed whole."""
KEYS_LIMIT = 100
"""Keys of a project that work at a time, and revoked ones that are kept."""
ANY = "*"
"""In a scope: every one."""

_LABEL = b"nself-deploy key 1\0"
_NOBODY = "0" * 64
"""The hash of no key: what is compared when there is no key at all."""


class Action(StrEnum):
    """What a key may be for."""

    ROLLBACK = "rollback"
    DEPLOY = "deploy"
    PROMOTE = "promote"
    ABORT = "abort"


class Reason(StrEnum):
    """Why an attempt is denied."""

    MISSING = "missing"
    """No key was given."""
    WRONG = "wrong"
    """It is none of ours: wrong, mistyped, of another project."""
    REVOKED = "revoked"
    EXPIRED = "expired"
    SCOPE = "scope"
    """It is for something else."""
    LIMITED = "limited"
    """Too many failed before; nobody looked at this one."""


class Scope(msgspec.Struct, frozen=True):
    """What a key opens: each list names some, or `*` for all."""

    environments: tuple[str, ...]
    services: tuple[str, ...]
    actions: tuple[str, ...]

    def covers(self, action: str, environment: str, service: str) -> bool:
        """Whether it opens this."""
        asked = ((action, self.actions), (environment, self.environments), (service, self.services))
        return all(word in named or ANY in named for word, named in asked)

    @property
    def words(self) -> str:
        """For people."""
        actions, services, environments = (
            "anything" if ANY in named else ", ".join(named)
            for named in (self.actions, self.services, self.environments)
        )
        return f"{actions} of {services} in {environments}"


class DeployKey(msgspec.Struct, frozen=True):
    """A key as it is kept. Times are UTC, RFC 3339; empty ones have not come."""

    id: str
    """Names it in commands and in the audit trail; no part of the secret."""
    name: str
    digest: str
    """sha256 of the key, never shown."""
    scope: Scope
    created_at: str
    created_by: str = ""
    expires_at: str = ""
    """Empty: never."""
    revoked_at: str = ""
    revoked_by: str = ""
    replaced_by: str = ""
    """Id of the key that took its place."""
    seen_at: str = ""
    """When it was shown last, also in vain; it never goes back."""
    used_at: str = ""
    """When it last opened something."""
    used_from: str = ""
    used_for: str = ""
    """Action, service and environment of that time."""

    def state(self, now: str) -> str:
        """`revoked`, `expired` or `valid`."""
        if self.revoked_at:
            return Reason.REVOKED.value
        return Reason.EXPIRED.value if self.expired(now) else "valid"

    def expired(self, now: str) -> bool:
        """Whether its time is over. A clock that was set back does not bring it back to life, once it was seen."""
        return bool(self.expires_at) and max(now, self.created_at, self.seen_at) >= self.expires_at


class KeyLine(msgspec.Struct, frozen=True):
    """A key as people and programs may see it."""

    id: str
    name: str
    state: str
    environments: tuple[str, ...]
    services: tuple[str, ...]
    actions: tuple[str, ...]
    created_at: str
    created_by: str
    expires_at: str
    revoked_at: str
    replaced_by: str
    used_at: str
    used_from: str
    used_for: str


def line_of(key: DeployKey, now: str) -> KeyLine:
    """What may be shown of a key."""
    return KeyLine(
        id=key.id,
        name=key.name,
        state=key.state(now),
        environments=key.scope.environments,
        services=key.scope.services,
        actions=key.scope.actions,
        created_at=key.created_at,
        created_by=key.created_by,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        replaced_by=key.replaced_by,
        used_at=key.used_at,
        used_from=key.used_from,
        used_for=key.used_for,
    )


def spelled(secret: bytes) -> str:
    """The key of 32 random bytes, as it is shown once.

    Raises:
        ValueError: these are not 32.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a key has {SECRET_BYTES} random bytes, not {len(secret)}")
    return PREFIX + secret.hex()


def digest_of(key: str) -> str:
    """What is kept of a key."""
    known = key[:KEY_LIMIT] if len(key) <= KEY_LIMIT else ""
    return hashlib.sha256(_LABEL + known.encode("utf-8", "surrogatepass")).hexdigest()


def find(shown: str, keys: Iterable[DeployKey]) -> DeployKey | None:
    """The key that was shown, if it is one of these. Each is compared, whatever the others gave."""
    digest = digest_of(shown)
    found: DeployKey | None = None
    compare_digest(digest, _NOBODY)
    for key in keys:
        if compare_digest(digest, key.digest):
            found = key
    return found


def judge(shown: str, key: DeployKey | None, action: str, environment: str, service: str, now: str) -> Reason | None:
    """Why the key that `find` gave doesn't open this; None when it does."""
    if not shown:
        return Reason.MISSING
    if key is None:
        return Reason.WRONG
    if key.revoked_at:
        return Reason.REVOKED
    if key.expired(now):
        return Reason.EXPIRED
    return None if key.scope.covers(action, environment, service) else Reason.SCOPE


def used(key: DeployKey, reason: Reason | None, now: str, source: str, purpose: str) -> DeployKey:
    """The key after it was shown."""
    seen = max(now, key.seen_at)
    if reason is not None:
        return msgspec.structs.replace(key, seen_at=seen)
    return msgspec.structs.replace(key, seen_at=seen, used_at=now, used_from=source, used_for=purpose)


def named(word: str, keys: Sequence[DeployKey]) -> list[DeployKey]:
    """The keys that a word means: the one with this id, else all of this name that are not revoked."""
    by_id = [key for key in keys if key.id == word]
    return by_id or [key for key in keys if key.name == word and not key.revoked_at]


def key_event(kind: str, key: DeployKey) -> AuditEvent:
    """A note that a key was made, revoked or replaced (`key-created`, `key-revoked`, `key-rotated`)."""
    return AuditEvent(
        event_type=kind,
        environment=",".join(key.scope.environments),
        outcome="done",
        service=",".join(key.scope.services),
        reason=f"{key.name} ({key.id}): {key.scope.words}",
        metadata={
            "key": key.id,
            "name": key.name,
            "actions": list(key.scope.actions),
            "expires_at": key.expires_at,
            "replaced_by": key.replaced_by,
        },
    )
