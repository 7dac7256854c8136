"""What to do with a run whose process died: go on and finish it, or turn back. Pure; from the journal and a fresh look.

    what was under way                        resume     abort      the next deploy or rollback
    ----------------------------------------  ---------  ---------  ---------------------------
    it was being undone                       undo on    undo on    undo on
    it had proved itself under traffic        finish     finish     finish
    … and is not healthy now                  prove      prove      finish (a new version replaces it)
    … and requests go elsewhere now           prove      prove      prove
    users were on it, and it is healthy       finish     undo       finish
    users were on it, and it is not healthy   undo       undo       undo
    some users were on a canary               finish     undo       undo
    users had not reached it                  finish     undo       undo
    it was parked, for a person to decide     finish     undo       is refused (undo if users are on it and it is ill)
    it was parked, and its pause is over      finish     undo       what was to be done then (undo if it is ill)

Finishing an uncommitted run proves the candidate's health anew: what was proved before the pause may not hold any more.
Prove: it is started, proved and given all requests once more before the old slot is touched, and never undone.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from nself_deploy.core.machine import Phase, Run
from nself_deploy.core.model import Split
from nself_deploy.core.pauses import Expiry, Then, ended_words


class Wish(StrEnum):
    """Who meets the interrupted run, and what they want."""

    ONWARD = "onward"
    """A new deploy or rollback wants to begin."""
    RESUME = "resume"
    """A person wants it to be finished if that is possible."""
    ABORT = "abort"
    """A person wants it undone if that is possible."""


class Standing(msgspec.Struct, frozen=True):
    """What a fresh look says about the run's candidate."""

    split: Split | None
    """Where the link sends requests now."""
    candidate_healthy: bool
    """All containers of the candidate's release run and are healthy."""
    due: Expiry | None = None
    """The run's pause, if it is over."""


class Decision(msgspec.Struct, frozen=True):
    """Which way the run goes on, and why."""

    finish: bool
    why: str
    waits: bool = False
    """Only a person may decide: nothing is done."""
    again: bool = False
    """What had proved itself proves itself once more before the rest is done."""

    @property
    def words(self) -> str:
        """For people: `finish it: users are on …`."""
        if self.waits:
            return f"leave it: {self.why}"
        return f"{'finish' if self.finish else 'undo'} it: {self.why}"


def decide(run: Run, standing: Standing, wish: Wish) -> Decision:
    """Finish or turn back; see the table at the top.

    Raises:
        ValueError: the run has ended.
    """
    if run.ended:
        raise ValueError(f"run {run.id} has ended")
    name = run.plan.candidate or "the new release"
    if run.phase is Phase.UNDO:
        return Decision(False, "it was being undone already")
    if run.committed:
        return _committed(run, standing, wish, name)
    if run.waits and wish is not Wish.RESUME:
        return _parked(run, standing, wish)
    if has_traffic(run, standing.split):
        return _with_users(run, standing, wish)
    if wish is Wish.RESUME:
        return Decision(True, f"users have not reached {name} yet; its health is proved anew first")
    return Decision(False, f"users have not reached {name}, so nobody misses it")


def _committed(run: Run, standing: Standing, wish: Wish, name: str) -> Decision:
    if not _has_all(run, standing.split):
        why = f"{name} had proved itself under traffic, and requests do not go to it now: it is proved anew first"
        return Decision(True, why, again=True)
    if not standing.candidate_healthy and wish is not Wish.ONWARD:
        why = f"{name} had proved itself under traffic, and is not healthy now: it is started and proved anew first"
        return Decision(True, why, again=True)
    return Decision(True, f"{name} had proved itself under traffic; only the end is missing")


def _parked(run: Run, standing: Standing, wish: Wish) -> Decision:
    if wish is Wish.ABORT:
        return Decision(False, "it was parked, and you asked to abort")
    if has_traffic(run, standing.split) and not standing.candidate_healthy:
        return Decision(False, f"users are on {run.plan.candidate}, and it is not healthy")
    if standing.due is not None:
        return Decision(standing.due.then is not Then.ABORT, ended_words(standing.due))
    return Decision(False, "it is parked, and a person has to decide", waits=True)


def _with_users(run: Run, standing: Standing, wish: Wish) -> Decision:
    name = run.plan.candidate
    if not standing.candidate_healthy:
        return Decision(False, f"users are on {name}, and it is not healthy")
    if wish is Wish.ABORT:
        return Decision(False, f"users are on {name}, and you asked to abort")
    if wish is Wish.ONWARD and not _has_all(run, standing.split):
        return Decision(False, f"only some users are on {name}, and nobody watched it")
    return Decision(True, f"users are on {name} already, and it is healthy")


def _has_all(run: Run, split: Split | None) -> bool:
    return split is not None and run.plan.candidate is not None and split.percent_of(run.plan.candidate) == 100


def has_traffic(run: Run, split: Split | None) -> bool:
    """Whether the link sends any requests to the run's candidate."""
    return split is not None and run.plan.candidate is not None and split.percent_of(run.plan.candidate) > 0
