"""A rollback of one service with a deploy key: the project for it, and what must hold whenever it is killed.

The same request again is no second rollback: the one that was killed is finished or begun anew, or it was done already
and that is said now. So there is one rollback that was done, it counts once, and nobody reads for ever that it loads.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from nself_deploy import RollbackUIState, load_rollback_result
from nself_deploy.adapters.journal import Journal
from nself_deploy.core.audit import ABORT, LOCK_TAKE_OVER, AuditEvent
from nself_deploy.core.breaker import Turn, TurnOutcome
from nself_deploy.core.machine import Outcome, Run
from nself_deploy.core.plan import Kind
from tests.crash.site import Site, fresh
from tests.real.scene import edit

REQUEST = ("--rollback", "--service", "web", "--env", "local", "--reason", "slo-watcher: burns")
HEARD = "after the write of hear"
"""The last thing that is written: everything was said by then, and who asks again wants another rollback."""
SAME = "the same request"
WAYS = (SAME, "resume", "abort", "the next deploy")
_SETTINGS = """\
  min_uptime: 1s
  drain: 60s
  health_timeout: 240s
  standby: {standby}
  breaker: {{rollbacks: 100}}
"""


def warm() -> Site:
    """Live with its second release, the first one warm."""
    return _made("30m")


def cold() -> Site:
    """Live with its second release; the first one has to be started again."""
    return _made("0s")


def _made(standby: str) -> Site:
    with fresh() as site:
        edit(site.stack, "  analysis: {mode: observe}\n", _SETTINGS.format(standby=standby))
        site.stack.nself("init", "--yes")
        for _ in range(2):
            site.stack.nself(RELEASE=site.next_release())
        made = site.stack.nself("keys", "create", "night", "--service", "web", "--env", "local")
        site.stack.env["NSELF_DEPLOY_KEY"] = made.out.strip()
    return site


def deployed(site: Site) -> None:
    """Live is a release that nobody has gone back from."""
    newest = _Seen.of(site).runs[0]
    if newest.plan.kind is not Kind.DEPLOY or newest.outcome is not Outcome.DONE:
        site.stack.nself(RELEASE=site.next_release())


@dataclass(frozen=True)
class _Seen:
    """What the journal says, newest first."""

    runs: list[Run]
    events: list[AuditEvent]
    turns: tuple[Turn, ...]
    findings: tuple[object, ...]

    @classmethod
    def of(cls, site: Site) -> _Seen:
        with closing(Journal.open(site.stack.root, create=False)) as journal:
            breaker = journal.guards.breaker("local", "web")
            turns = breaker.turns if breaker else ()
            return cls(journal.history(10_000), journal.events(10_000), turns, journal.audit.verify().findings)


class OneRollback:
    """The promises, from before a kill until it was put right."""

    def __init__(self, site: Site) -> None:
        """Nothing is under way."""
        self._site, self._before = site, _Seen.of(site)
        deploy = self._before.runs[0].plan
        self._bad, self._good = deploy.release, deploy.previous_release
        self._heard = False

    def killed(self, where: str) -> list[str]:
        """What does not hold right after the kill."""
        self._heard = where == HEARD
        return self._not_loading()

    def healed(self, way: str) -> list[str]:
        """What does not hold when it was put right in this way, and asked for once more."""
        wrong = [*self._not_loading(), *self._told()]
        if way == "the next deploy":
            return [*wrong, *self._counted(once=False)]
        if way != SAME and not self._heard:
            done = self._site.stack.nself(*REQUEST, check=False)
            wrong += [f"the same request: {done.text}"] if done.status else []
        return [*wrong, *self._told(), *self._back(), *self._counted(once=way == SAME)]

    def _not_loading(self) -> list[str]:
        return ["it is loading, and nobody works"] if self._state() is RollbackUIState.LOADING else []

    def _state(self) -> RollbackUIState | None:
        found = load_rollback_result(self._site.stack.root, "web", "local")
        return found.ui_state if found else None

    def _new_runs(self) -> list[Run]:
        return [r for r in _Seen.of(self._site).runs[: -len(self._before.runs)] if r.plan.kind is Kind.ROLLBACK]

    def _told(self) -> list[str]:
        """Others read how the newest one ended."""
        runs, state = self._new_runs(), self._state()
        if not runs:
            return []
        expected = RollbackUIState.POPULATED if runs[0].outcome is Outcome.DONE else RollbackUIState.ERROR
        return [f"it ended as {runs[0].outcome}, and others read {state}"] if state is not expected else []

    def _back(self) -> list[str]:
        """There is one that was done, to the release before, and an event of each, of no more."""
        runs, seen = self._new_runs(), _Seen.of(self._site)
        done = [(r.plan.previous_release, r.plan.release) for r in runs if r.outcome is Outcome.DONE]
        wrong = [f"done were {done}"] if done != [(self._bad, self._good)] else []
        events = [e for e in seen.events[: -len(self._before.events)] if e.event_type not in (LOCK_TAKE_OVER, ABORT)]
        ids = sorted(str(e.metadata.get("run", "")) for e in events)
        wrong += [f"events: {events}"] if ids != sorted(r.id for r in runs) else []
        wrong += [f"audit verify: {seen.findings}"] if seen.findings else []
        return wrong

    def _counted(self, *, once: bool) -> list[str]:
        """It counts once; a second time only when a person undid it before it was asked for again."""
        turns = _Seen.of(self._site).turns[len(self._before.turns) :]
        runs = self._new_runs()
        tried = [t for t in turns if t.outcome is TurnOutcome.DONE]
        done = [r for r in runs if r.outcome is Outcome.DONE]
        right = len(tried) == len(done) and len(turns) == (1 if once else len(runs))
        return [] if right else [f"the breaker counts {turns} of {[(r.id, r.outcome) for r in runs]}"]
