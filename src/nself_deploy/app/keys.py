"""Whether a deploy key may do something."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from nself_deploy.core import attempts
from nself_deploy.core import deploy_keys as keys
from nself_deploy.core.attempts import Attempt, Overall, Source, Weighed
from nself_deploy.core.audit import AuditEvent
from nself_deploy.core.deploy_keys import DeployKey, Reason
from nself_deploy.core.moments import Moment
from nself_deploy.core.times import seconds_between
from nself_deploy.errors import GateRefused, NotAuthorised, NselfError

WARN_S = 14 * 86400.0
"""A key that works is reported when it expires within this time."""

_NO_KEY = "No deploy key was given."
_WORDS = {
    Reason.WRONG: ("The deploy key is not valid.", "nself deploy keys create makes one; it is shown only once."),
    Reason.REVOKED: (
        "The deploy key was revoked.",
        "Use the one that replaced it, or make one: nself deploy keys create.",
    ),
    Reason.EXPIRED: ("The deploy key has expired.", "nself deploy keys rotate makes another one of the same scope."),
}


class KeyStore(Protocol):
    """What the journal keeps of keys and attempts."""

    def transaction(self, *, durable: bool = True) -> AbstractContextManager[None]:
        """All writes inside are one. Without `durable` a power cut may take the newest ones back, nothing else."""

    def deploy_keys(self) -> list[DeployKey]:
        """All keys, oldest first."""

    def save_key(self, key: DeployKey) -> None:
        """Keep a key, in the place of the one with its id."""

    def forget_key(self, key_id: str) -> None:
        """Remove a key."""

    def attempts_from(self, source: str) -> Source | None:
        """What is remembered of a source."""

    def attempts_overall(self) -> Overall | None:
        """What is remembered of all sources together."""

    def save_attempts(self, source: Source, overall: Overall) -> None:
        """Remember both; the sources that were heard of longest ago are forgotten beyond a limit."""

    def save_overall(self, overall: Overall) -> None:
        """Remember what is about all sources."""

    def add_event(self, event: AuditEvent) -> AuditEvent:
        """Add to the audit trail."""


class Grant(msgspec.Struct, frozen=True):
    """The key may do that."""

    key_id: str
    name: str
    warning: str = ""
    """For a person, when it expires soon."""


class Denied(msgspec.Struct, frozen=True):
    """The key may not do that; it is in the audit trail already."""

    reason: Reason
    what: str
    remedy: str
    wait_s: float = 0.0
    """Seconds after which it may be tried again, when too many attempts failed."""

    @property
    def ui_state(self) -> str:
        """`rate-limited` or `permission-denied`."""
        return "rate-limited" if self.reason is Reason.LIMITED else "permission-denied"

    def error(self) -> NselfError:
        """The error to show: exit status 4 for `rate-limited`, else 3."""
        kind = GateRefused if self.reason is Reason.LIMITED else NotAuthorised
        return kind(self.what, self.remedy)


def authorize(
    store: KeyStore, key: str, action: str, environment: str, service: str, source: str, now: Moment
) -> Grant | Denied:
    """Whether this key may do that. The denial is on record when it returns. Call it outside of any transaction.

    Whatever is wrong, it takes the same steps: read all keys, hash and compare with each, weigh, write.

    Args:
        store: `Journal.guards` of a journal that is open for writing.
        key: as it was given; empty when none was.
        action: one of `Action`.
        environment: such as prod.
        service: the Compose service.
        source: where the attempt comes from: `user@host` for a command, an address for a request.
        now: `wiring.guards.now()`.

    Raises:
        NselfError: the journal can't be read or written.
    """
    shown, name = key.strip(), source[: attempts.SOURCE_CHARS]
    asked = Attempt(name, action, environment, service, now)
    # Events must stand, a use of the key may be lost in a power cut: only what has events waits for the disk.
    done = _attempt(store, shown, asked, durable=False) or _attempt(store, shown, asked, durable=True)
    assert done is not None
    weighed, found = done
    if weighed.reason is not None:
        return _denied(weighed.reason, weighed.wait_s, found, asked)
    assert found is not None
    return Grant(found.id, found.name, _warning(found, now.at))


def _attempt(store: KeyStore, shown: str, asked: Attempt, *, durable: bool) -> tuple[Weighed, DeployKey | None] | None:
    """One attempt, in one transaction; None when it has events and these would not be durable: nothing was done."""
    with store.transaction(durable=durable):
        found, now = keys.find(shown, store.deploy_keys()), asked.now
        verdict = keys.judge(shown, found, asked.action, asked.environment, asked.service, now.at)
        attempt = msgspec.structs.replace(asked, key=found.id if found else "")
        weighed = attempts.weigh(attempt, verdict, store.attempts_from(asked.source), store.attempts_overall())
        if weighed.events and not durable:
            return None
        for event in weighed.events:
            store.add_event(event)
        store.save_attempts(weighed.source, weighed.overall)
        if found is not None:
            purpose = f"{asked.action} {asked.service} {asked.environment}"
            store.save_key(keys.used(found, weighed.reason, now.at, asked.source, purpose))
    return weighed, found


def _denied(reason: Reason, wait_s: float, key: DeployKey | None, asked: Attempt) -> Denied:
    if reason is Reason.LIMITED:
        what = "Too many attempts with deploy keys failed; this one was not looked at."
        return Denied(reason, what, f"Try again in {max(wait_s, 0.1):.1f} s.", wait_s)
    if reason is Reason.MISSING:
        return Denied(reason, _NO_KEY, "Set NSELF_DEPLOY_KEY, or give it on stdin with --key -.")
    if reason is Reason.SCOPE and key is not None:
        wanted = f"{asked.action} of {asked.service} in {asked.environment}"
        what = f"The deploy key is not for {wanted}: it is for {key.scope.words}."
        return Denied(reason, what, "nself deploy keys create makes one for it.")
    return Denied(reason, *_WORDS[reason])


def _warning(key: DeployKey, now: str) -> str:
    if key.expires_at and seconds_between(now, key.expires_at) < WARN_S:
        return (
            f"The deploy key {key.name} expires at {key.expires_at}; nself deploy keys rotate {key.name} replaces it."
        )
    return ""
