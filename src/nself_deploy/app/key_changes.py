"""Making, revoking and replacing deploy keys."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from nself_deploy.app.keys import KeyStore
from nself_deploy.core import attempts
from nself_deploy.core import deploy_keys as keys
from nself_deploy.core.attempts import Episode
from nself_deploy.core.deploy_keys import Action, DeployKey, KeyLine, Scope
from nself_deploy.core.moments import Moment
from nself_deploy.core.times import plus_seconds
from nself_deploy.errors import GateRefused, UsageError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class Wanted(msgspec.Struct, frozen=True):
    """A new key as it is asked for."""

    name: str
    environments: tuple[str, ...]
    services: tuple[str, ...]
    actions: tuple[str, ...]
    lasts_s: float | None
    """None: for ever."""


class Author(msgspec.Struct, frozen=True):
    """Who changes keys, and what chance gave for a new one."""

    who: str
    now: Moment
    secret: bytes
    key_id: str


class Made(msgspec.Struct, frozen=True):
    """A new key, and the only place where it can be read."""

    text: str
    key: DeployKey


def create(store: KeyStore, wanted: Wanted, author: Author) -> Made:
    """Make a key.

    Raises:
        UsageError: its name is taken or no name, or its scope names what there can't be.
        GateRefused: there are too many.
    """
    check(wanted)
    with store.transaction():
        known = store.deploy_keys()
        if any(key.name == wanted.name and not key.revoked_at for key in known):
            what = f"There is a deploy key {wanted.name!r} already."
            raise UsageError(what, f"nself deploy keys rotate {wanted.name} replaces it; or choose another name.")
        made = _made(store, known, wanted, author)
        store.add_event(keys.key_event("key-created", made.key))
    return made


def revoke(store: KeyStore, word: str, author: Author) -> tuple[DeployKey, bool]:
    """Revoke a key at once, by id or name; False when it was revoked before.

    Raises:
        UsageError: there is none, or there are several.
    """
    with store.transaction():
        known = store.deploy_keys()
        before = [key for key in known if key.name == word and key.revoked_at]
        if before and not keys.named(word, known):
            return before[-1], False
        key = _one(word, known)
        if key.revoked_at:
            return key, False
        gone = msgspec.structs.replace(key, revoked_at=author.now.at, revoked_by=author.who)
        store.save_key(gone)
        store.add_event(keys.key_event("key-revoked", gone))
        _flush(store, author.now)
    return gone, True


def rotate(
    store: KeyStore, word: str, lasts_s: float | None, overlap_s: float, author: Author
) -> tuple[Made, DeployKey]:
    """Make a key of the same name and scope in the place of one, which goes on to work for a while.

    Args:
        store: where keys are kept.
        word: id or name of the old key.
        lasts_s: how long the new key works; None: for ever.
        overlap_s: how long the old one still works; 0: it is revoked now.
        author: who does it.

    Raises:
        UsageError: there is no such key, there are several, or it was revoked.
        GateRefused: there are too many.
    """
    with store.transaction():
        known = store.deploy_keys()
        old = _one(word, known)
        if old.revoked_at:
            raise UsageError(f"The deploy key {word!r} was revoked.", "nself deploy keys create makes a new one.")
        wanted = Wanted(old.name, old.scope.environments, old.scope.services, old.scope.actions, lasts_s)
        made = _made(store, known, wanted, author)
        changed = msgspec.structs.replace(old, replaced_by=made.key.id)
        if overlap_s > 0:
            ends = _after(author.now, overlap_s)
            changed = msgspec.structs.replace(changed, expires_at=min(ends, old.expires_at or ends))
        else:
            changed = msgspec.structs.replace(changed, revoked_at=author.now.at, revoked_by=author.who)
        store.save_key(changed)
        store.add_event(keys.key_event("key-rotated", changed))
        store.add_event(keys.key_event("key-created", made.key))
    return made, changed


def lines(store: KeyStore, now: Moment) -> list[KeyLine]:
    """All keys, oldest first, as they may be shown."""
    return [keys.line_of(key, now.at) for key in store.deploy_keys()]


def failures(store: KeyStore) -> Episode | None:
    """The attempts that failed lately, if any did."""
    overall = store.attempts_overall()
    return overall.episode if overall is not None else None


def _made(store: KeyStore, known: list[DeployKey], wanted: Wanted, author: Author) -> Made:
    if sum(not key.revoked_at for key in known) >= keys.KEYS_LIMIT:
        raise GateRefused(f"There are {keys.KEYS_LIMIT} deploy keys already.", "Revoke what nobody uses.")
    revoked = [key for key in known if key.revoked_at]
    for key in revoked[: max(len(revoked) - keys.KEYS_LIMIT, 0)]:
        store.forget_key(key.id)
    text = keys.spelled(author.secret)
    key = DeployKey(
        id=author.key_id,
        name=wanted.name,
        digest=keys.digest_of(text),
        scope=Scope(wanted.environments, wanted.services, wanted.actions),
        created_at=author.now.at,
        created_by=author.who,
        expires_at="" if wanted.lasts_s is None else _after(author.now, wanted.lasts_s),
    )
    store.save_key(key)
    _flush(store, author.now)
    return Made(text, key)


def _after(now: Moment, seconds: float) -> str:
    """A time as precise as those of the clock, so that both can be compared as text."""
    return plus_seconds(now.at, seconds).replace("Z", ".000Z")


def _flush(store: KeyStore, now: Moment) -> None:
    """Let the trail hear of an episode of failures that is over."""
    before = store.attempts_overall()
    events, after = attempts.closing(before, now)
    for event in events:
        store.add_event(event)
    if after is not None and after != before:
        store.save_overall(after)


def _one(word: str, known: list[DeployKey]) -> DeployKey:
    found = keys.named(word, known)
    if not found:
        raise UsageError(f"There is no deploy key {word!r}.", "nself deploy keys list shows them.")
    if len(found) > 1:
        what = f"There are {len(found)} deploy keys {word!r}: {', '.join(key.id for key in found)}."
        raise UsageError(what, "Name one of these ids.")
    return found[0]


def check(wanted: Wanted) -> None:
    """Refuse what can't be meant.

    Raises:
        UsageError: its name is none, or its scope names what there can't be.
    """
    if not _NAME.fullmatch(wanted.name):
        what = f"{wanted.name!r} is no name for a deploy key."
        raise UsageError(what, "Use letters, digits, _, - and . (at most 64).")
    _check_scope(wanted.actions, wanted.environments, wanted.services)


def check_asked(action: str, environment: str, service: str) -> None:
    """What a key is to be tried for.

    Raises:
        UsageError: there can't be such an action, environment or service.
    """
    _check_scope((action,), (environment,), (service,))


def _check_scope(actions: Iterable[str], environments: Iterable[str], services: Iterable[str]) -> None:
    known = (*(action.value for action in Action), keys.ANY)
    unknown = [action for action in actions if action not in known]
    if unknown:
        raise UsageError(f"There is no action {unknown[0][:200]!r}.", f"Actions: {', '.join(known)}.", where="--action")
    _check_words(environments, "an environment", "--env")
    _check_words(services, "a service", "--service")


def _check_words(words: Iterable[str], what: str, where: str) -> None:
    for word in words:
        if word != keys.ANY and not _WORD.fullmatch(word):
            raise UsageError(f"{word[:200]!r} is not {what}.", "Give its name, or '*' for all of them.", where=where)
