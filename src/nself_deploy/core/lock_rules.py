"""Who holds the lock on the engine, and whether that owner still lives (no I/O, no clock).

A live owner is never taken for a dead one, so each doubt counts as life: of a process that we can look for, only its
absence is a proof; of any other, only the silence of its heartbeat, and never the age of its lock alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum

import msgspec

from nself_deploy.errors import Locked

LABEL_LOCK = "nself.deploy.lock"
"""On everything that belongs to a lock on the engine; its value is the target."""
LABEL_LOCK_TOKEN = "nself.deploy.lock.token"  # noqa: S105 - the name of a label
LABEL_LOCK_NUMBER = "nself.deploy.lock.number"
LABEL_LOCK_OWNER = "nself.deploy.lock.owner"
"""Who holds it, as JSON; only on the lock itself."""
LABEL_LOCK_BEAT = "nself.deploy.lock.beat"
"""A count; only on its heartbeats."""


class LockOwner(msgspec.Struct, frozen=True):
    """Who holds a lock."""

    user: str
    host: str
    pid: int
    boot_id: str
    purpose: str
    since: str
    machine: str = ""
    """Says which machine it is, whatever it is called; empty where nothing says so."""
    pid_space: str = ""
    """The processes that `pid` is counted among: a container has its own."""
    started: str = ""
    """When the process started, in the kernel's own count: a process id is used again."""


UNKNOWN = LockOwner("unknown", "", 0, "", "", "")


class Patience(msgspec.Struct, frozen=True):
    """How long an owner may be silent, in seconds."""

    beat_s: float = 10.0
    """From one heartbeat to the next."""
    quiet_s: float = 30.0
    """Silence that proves, together with another boot of its machine, that it is gone."""
    silent_s: float = 90.0
    """Silence that proves it of an owner on another machine."""
    watch_s: float = 15.0
    """How long we must have watched the silence ourselves: the engine's clock may have jumped."""


class Sign(msgspec.Struct, frozen=True):
    """The newest sign of life of an owner."""

    age_s: float
    """How old it is by the engine's clock."""
    watched_s: float
    """For how long we have seen no newer one, by our own."""


class Life(StrEnum):
    """Whether an owner lives."""

    ALIVE = "alive"
    DEAD = "dead"
    SUSPECT = "suspect"
    """Silent for so long that it is worth watching; until then it counts as alive."""


class Judgement(msgspec.Struct, frozen=True):
    """Whether an owner lives, and why we think so."""

    life: Life
    reason: str = ""


class Generation(msgspec.Struct, frozen=True):
    """One lock object on the engine."""

    number: int
    token: str
    """Of the owner: made anew by each who wants it."""
    owner: LockOwner
    created: str
    """RFC 3339, by the engine's clock."""
    beats: tuple[tuple[int, str], ...] = ()
    """Its heartbeats that are there: count and time of each, the newest last."""

    @property
    def newest(self) -> tuple[int, str]:
        """Its newest sign of life; taking the lock is one."""
        return self.beats[-1] if self.beats else (0, self.created)


class Found(msgspec.Struct, frozen=True):
    """What is on the engine of one project's lock."""

    generations: tuple[Generation, ...] = ()
    """Oldest first."""
    strays: tuple[tuple[int, int], ...] = ()
    """Heartbeats (number and count) of generations that are gone."""

    def of(self, token: str) -> Generation | None:
        """The generation of an owner."""
        return next((g for g in self.generations if g.token == token), None)


def in_sight(owner: LockOwner, here: LockOwner) -> bool:
    """Whether its process, if there is one, is among those that we can see."""
    return bool(
        owner.boot_id
        and owner.boot_id == here.boot_id
        and owner.machine == here.machine
        and owner.pid_space == here.pid_space
        and owner.started
    )


def judge(owner: LockOwner, here: LockOwner, *, process: bool, sign: Sign, patience: Patience) -> Judgement:
    """Whether `owner` lives.

    Args:
        owner: of the lock.
        here: ourselves.
        process: whether a process with its id and its start is there; only asked about one that is in sight.
        sign: its heartbeat; only asked about one that is not.
        patience: the limits.
    """
    if in_sight(owner, here):
        return Judgement(Life.ALIVE) if process else Judgement(Life.DEAD, "its process is gone")
    same_machine = bool(owner.machine) and owner.machine == here.machine
    if same_machine and owner.boot_id and here.boot_id and owner.boot_id != here.boot_id:
        # Machines made from one image may share their id, so a heartbeat that goes on speaks against a restart.
        return _silence(sign, patience.quiet_s, patience, "its machine was started anew")
    return _silence(sign, patience.silent_s, patience, f"no heartbeat for {patience.silent_s:g} s")


def _silence(sign: Sign, limit_s: float, patience: Patience, reason: str) -> Judgement:
    if max(sign.age_s, sign.watched_s) < limit_s:
        return Judgement(Life.ALIVE)
    watched = sign.watched_s >= min(patience.watch_s, limit_s)
    return Judgement(Life.DEAD, reason) if watched else Judgement(Life.SUSPECT)


def next_number(found: Iterable[Generation], taken: Collection[int] = ()) -> int:
    """The number of a new generation, above all that are there; `taken` are names that something else has."""
    number = max((g.number for g in found), default=0) + 1
    while number in taken:
        number += 1
    return number


def who(owner: LockOwner) -> str:
    """An owner in words."""
    return f"{owner.user} on {owner.host} (process {owner.pid})" if owner.pid else "another process"


def refusal(owner: LockOwner, target: str, where: str) -> Locked:
    """What to tell somebody who can't have the lock, and what to do about it."""
    doing = f" is busy with {owner.purpose!r}" if owner.purpose else " works on this project"
    aim = f" for {target}" if target else ""
    since = f" since {owner.since}" if owner.since else ""
    remedy = "Wait until it has ended, then run the same command again (--wait 5m does both)."
    if owner.pid:
        remedy += f" If it hangs, end process {owner.pid} on {owner.host}: the lock goes with it."
    refused = Locked(f"{who(owner)}{doing}{aim}{since}.", remedy, where=where)
    refused.purpose = owner.purpose
    return refused


def take_over(owner: LockOwner, reason: str) -> str:
    """One line that says that the lock of a dead owner was taken."""
    doing = f", busy with {owner.purpose!r} since {owner.since}" if owner.purpose else ""
    return f"the lock was taken over from {who(owner)}{doing}: {reason}"
