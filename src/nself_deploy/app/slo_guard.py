"""What follows from objectives that are watched: alerts are told, and a fast one takes the release back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from nself_deploy.app.slo_watch import SloWatch
from nself_deploy.app.world import World
from nself_deploy.core.machine import Run
from nself_deploy.core.model import StepStatus
from nself_deploy.core.rollback import Request, RollbackUIState, ServiceRollback
from nself_deploy.core.slo import Pace
from nself_deploy.core.slo_alerts import Alert
from nself_deploy.core.slo_asked import Standing
from nself_deploy.core.step_lines import StepLine
from nself_deploy.errors import Exit

LOOK_S = 1.0
"""How often the log is read."""
KEEP_S = 5.0
"""How often it is made sure that it is kept."""
AGAIN = (Exit.LOCKED, Exit.INFRASTRUCTURE)
"""Exit statuses of rollbacks that are tried again."""
AGAIN_S, LONGEST_AGAIN_S = 15.0, 600.0
"""After how long; each time it is twice as long."""
ORIGIN = "slo-watcher"
STEP = "Watch"
RollBack = Callable[[Request], Awaitable[ServiceRollback]]


class Told(msgspec.Struct):
    """An alert, from when it began to fire."""

    alert: Alert
    """As it was when it was told, or when the release was taken back."""
    at: str
    """UTC, RFC 3339."""
    firing: bool = True


class End(msgspec.Struct):
    """How a watch ended."""

    release: str = ""
    """The one that was watched last."""
    alerts: list[Told] = []
    state: ServiceRollback | None = None
    """The last rollback, if there was one."""
    stopped: bool = False
    """A person ended it."""
    helpless: str = ""
    """Why a fast alert that fires now did not take the release back."""
    standings: tuple[Standing, ...] = ()
    """How the objectives stand at the end."""

    @property
    def unmeasured(self) -> str:
        """Which objectives can't be judged at the end, and why; empty when all can be."""
        return "; ".join(f"{one.objective.name}: {one.silence}" for one in self.standings if one.silence)


class Guard:
    """Watches until its time is over, it is stopped, or its release was taken back."""

    def __init__(self, world: World, watch: SloWatch, roll_back: RollBack) -> None:
        """Roll back with this function, which never raises for a rollback that fails."""
        self._world, self._watch, self._roll_back = world, watch, roll_back
        self._end = End()
        self._firing: dict[str, Told] = {}
        self._next_try, self._wait_s = float("-inf"), AGAIN_S
        self._tried = ""
        self._kept = float("-inf")

    async def run(self, seconds: float | None, stop: asyncio.Event) -> End:
        """Watch for so many seconds; for good without a number.

        Raises:
            NselfError: the journal can't be read or written.
        """
        clock = self._world.clock
        start, end = clock.monotonic(), self._end
        self._watch.save()
        watched = ", ".join(objective.name for objective in self._watch.objectives)
        self._world.note(f"watching {watched}; {self._watch.state.release} is live")
        while True:
            if clock.monotonic() - self._kept >= KEEP_S:
                await self._watch.keep_log()
                self._kept = clock.monotonic()
            alerts = self._watch.look()
            end.release = self._watch.state.release
            self._tell(alerts)
            ends = await self._act(alerts) and seconds is not None
            left = None if seconds is None else seconds - (clock.monotonic() - start)
            self._world.watcher(StepLine(STEP, StepStatus.RUNNING))
            end.standings = self._watch.standings()
            self._world.progress(progress(end.standings, left))
            end.stopped = stop.is_set()
            if ends or end.stopped or (left is not None and left <= 0):
                self._watch.save()
                return end
            await clock.sleep(LOOK_S)

    async def _act(self, alerts: tuple[Alert, ...]) -> bool:
        """Take the release back if a fast alert says so; whether nothing more is to be done."""
        end, now = self._end, self._world.clock.monotonic()
        fast = next((alert for alert in alerts if alert.windows.pace is Pace.FAST), None)
        if fast is None:
            if any(told.alert.windows.pace is Pace.FAST for told in self._firing.values()):
                return False  # nobody can say whether it still fires: what was tried for it is not forgotten
            end.helpless, self._tried, self._wait_s = "", "", AGAIN_S
            return False
        episode = f"{self._watch.state.release} {fast.since}"
        if now < self._next_try or self._tried == episode:
            return False
        run = self._watch.brought_by()
        if self._world.store.unfinished() is not None and self._world.lock.owner() is not None:
            self._helpless("a deploy is under way, which decides by itself")
            return False
        if run is None:
            self._helpless("the live release came back after another one: nothing is left that was changed last")
            return False
        state = end.state = await self._roll_back(order(self._watch, fast, run))
        await self._watch.keep_log()  # it may have taken minutes, after which a watch counts as gone
        self._note(state, fast)
        if state.exit_status in AGAIN:
            self._next_try, self._wait_s = now + self._wait_s, min(2 * self._wait_s, LONGEST_AGAIN_S)
            return False
        self._tried = episode
        return True

    def _note(self, state: ServiceRollback, alert: Alert) -> None:
        end = self._end
        for told in end.alerts:
            if told.firing and told.alert.objective == alert.objective:
                told.alert = alert
        done = state.ui_state is RollbackUIState.POPULATED
        end.helpless = "" if done else state.error
        self._world.note(
            f"rolled back to {state.prior_version}: {alert.words}" if done else f"not rolled back: {state.error}"
        )

    def _helpless(self, why: str) -> None:
        """A fast alert is only told; why."""
        if why != self._end.helpless:
            self._end.helpless = why
            self._world.note(f"not rolled back: {why}")

    def _tell(self, alerts: tuple[Alert, ...]) -> None:
        """Say which alerts began to fire, and which stopped."""
        now, silent = {f"{alert.objective.name} {alert.windows.pace}": alert for alert in alerts}, self._watch.silent()
        over = [key for key, told in self._firing.items() if told.alert.objective.name not in silent]
        for name in [key for key in over if key not in now]:
            told = self._firing.pop(name)
            told.firing = False
            self._world.note(f"stopped: {told.alert.objective.name} ({told.alert.windows.pace})")
        for name, alert in now.items():
            if name not in self._firing:
                told = self._firing[name] = Told(alert, self._world.clock.now())
                self._end.alerts.append(told)
                del self._end.alerts[:-100]
                self._world.note(f"firing ({alert.windows.pace}): {alert.words}: {alert.evidence}")


def order(watch: SloWatch, alert: Alert, run: Run) -> Request:
    """The rollback that an alert asks for: of the whole release that a deploy brought."""
    known = watch.state.watch
    ages = (
        f"firing for {max(0.0, known.now - alert.since):.0f} s, live for {max(0.0, known.now - known.live_since):.0f} s"
    )
    reason, evidence = f"{ORIGIN}: {alert.words}", (alert.words, alert.evidence, ages)
    return Request(watch.culprit(alert, run), run.plan.target, reason, whole=True, evidence=evidence)


def progress(standings: Sequence[Standing], left_s: float | None) -> str:
    """One short line: what is left, the objective that is worst off, and those that can't be judged."""
    known = [one for one in standings if one.requests and not one.silence]
    worst = max(known, key=lambda one: one.burn, default=None)
    words = "no request yet"
    if worst is not None:
        words = f"{worst.objective.name}: {worst.bad} of {worst.requests} were bad, burn {worst.burn:.1f}x"
    if silent := [one.objective.name for one in standings if one.silence]:
        words += f"; no data of {', '.join(silent)}"
    return words if left_s is None else f"{max(left_s, 0.0):.0f} s left, {words}"
