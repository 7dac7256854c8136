"""The kinds of runs that are killed, and how a project gets ready for the next kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from nself_deploy.core.machine import Outcome
from nself_deploy.core.slot_records import SlotRole
from tests.crash import parked, service_back
from tests.crash.checks import Records
from tests.crash.service_back import REQUEST, OneRollback
from tests.crash.site import Site, fresh

FAST = ("--min-uptime", "1s", "--drain", "60s")
PATIENT = ("--health-timeout", "240s")
COLD = (*FAST, *PATIENT, "--standby", "0")
HASTY = (*FAST, "--health-timeout", "2s", "--standby", "0")
WARM = (*FAST, *PATIENT, "--standby", "30m")
CANARY = (*COLD, "--strategy", "canary", "--steps", "20:3s,60:3s,100", "--soak", "3s", "--bake", "1s")
"""It is only observed (see the project): with few users a verdict would take minutes."""


def _initialised() -> Site:
    """Live with its first release, by nself deploy."""
    with fresh() as site:
        site.stack.nself("init", "--yes")
        site.stack.nself(*COLD, RELEASE=site.next_release())
    return site


class Promise(Protocol):
    """What must hold beside all that is looked at from outside."""

    def killed(self, where: str) -> list[str]:
        """What does not hold right after the kill; `where` is the last thing that was done."""

    def healed(self, way: str) -> list[str]:
        """What does not hold when it was put right in this way."""


@dataclass(frozen=True)
class Scenario:
    """One kind of run."""

    name: str
    words: tuple[str, ...]
    """Of the command that is killed."""
    outcome: Outcome
    """How the run ends when nobody kills it."""
    mend: tuple[str, ...] = COLD
    """Words of the deploy that comes next, when that is what puts it right."""
    env: dict[str, str] = field(default_factory=dict)
    make: Callable[[], Site] = _initialised
    """A project, with users on it in a moment."""
    ready: Callable[[Site], None] = lambda site: None
    """Make the project such that every one of these runs has the same steps."""
    first_killed: str = ""
    """Of a recovery: the boundary at which a deploy (COLD) is killed first, so that there is something to put right."""
    anew: bool = False
    """Whether each kill needs a project of its own."""
    same_version: bool = False
    """Whether the next deploy is of the version whose deploy was killed, as when a person just types it again."""
    writes: bool = False
    """Whether each durable write beside the effects is a boundary too."""
    ways: tuple[str, ...] = ("resume", "abort", "the next deploy")
    """In which it is put right, by turns."""
    repeated: frozenset[int] = frozenset({0})
    """Exit statuses of the same command when it is what puts it right."""
    said: str = ""
    """Boundary at which it was said how it ended: the same request again would be another one."""
    promise: Callable[[Site], Promise] | None = None
    """Begins to watch a project in which nothing is under way."""


def _plain() -> Site:
    """Started by plain Compose, and ready to be adopted."""
    with fresh() as site:
        site.stack.compose("up", "-d", "--wait", "--quiet-pull", RELEASE=site.next_release())
        site.stack.nself("init", "--yes")
    return site


def _has_standby(site: Site) -> None:
    records = Records.of(site.stack)
    if not records.in_role(SlotRole.STANDBY):
        site.stack.nself(*WARM, RELEASE=site.next_release())


def _has_history(site: Site) -> None:
    if len(Records.of(site.stack).runs) < 2:
        site.stack.nself(*COLD, RELEASE=site.next_release())


def _service_rollback(name: str, make: Callable[[], Site]) -> Scenario:
    return Scenario(
        f"service-rollback-{name}",
        REQUEST,
        Outcome.DONE,
        mend=(),
        make=make,
        ready=service_back.deployed,
        writes=True,
        ways=service_back.WAYS,
        said=service_back.HEARD,
        promise=OneRollback,
    )


def _decision(word: str, outcome: Outcome, promise: Callable[[Site], Promise], *more: str) -> Scenario:
    return Scenario(
        f"{word}-parked",
        (word, *more),
        outcome,
        ready=lambda site: parked.parked(site, *COLD),
        writes=True,
        ways=parked.WAYS,
        repeated=frozenset({0, 1} if word == "promote" else {0, 4}),
        promise=promise,
    )


SCENARIOS = (
    Scenario("deploy", WARM, Outcome.DONE, mend=WARM, ready=_has_standby, same_version=True),
    Scenario("deploy-never-healthy", HASTY, Outcome.FAILED, env={"FAIL": "never"}),
    Scenario("deploy-fails-under-traffic", COLD, Outcome.FAILED, env={"FAIL": "traffic"}),
    Scenario("canary", CANARY, Outcome.DONE),
    Scenario("rollback-warm", ("rollback", *WARM), Outcome.DONE, mend=WARM, ready=_has_standby),
    Scenario("rollback-cold", ("rollback", *COLD), Outcome.DONE, ready=_has_history),
    Scenario("adoption", COLD, Outcome.DONE, make=_plain, anew=True, same_version=True),
    Scenario("resume", ("resume",), Outcome.DONE, first_killed="after the effect of move"),
    Scenario("abort", ("abort",), Outcome.INTERRUPTED, first_killed="after the effect of move"),
    _service_rollback("warm", service_back.warm),
    _service_rollback("cold", service_back.cold),
    _decision("promote", Outcome.DONE, parked.OnePromotion, "--accept-inconclusive", "--reason", "seen to be good"),
    _decision("abort", Outcome.INTERRUPTED, parked.OneDecision),
)
"""Every effect that a deploy, its undoing and a rollback have is in one of them, and so is dying again."""
