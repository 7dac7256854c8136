"""Metrics of the user's own: asked for while a canary is watched, beside its log and never in the way of it.

Whether they can be asked for at all is found out before any user is moved. Later on, what can't be measured is a gap in
what is known: it never counts as good, and nobody is taken back for good because of it.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from nself_deploy.app.ports import Metrics
from nself_deploy.app.world import World
from nself_deploy.core.analysis import Mode
from nself_deploy.core.extension import KEY
from nself_deploy.core.metrics import Metric, Outcome, Reading, fill
from nself_deploy.core.plan import Plan
from nself_deploy.core.record_lines import Measured
from nself_deploy.core.recorder import Recorder
from nself_deploy.errors import ConfigError, InfrastructureError, NselfError

AT_ONCE = 4
"""So many queries are asked at a time."""
_ANY = "vector(1)"
_NOBODY = "nobody is named any more who answers: analysis.prometheus is gone"
_REMEDY = f"Make it answer, or deploy without {KEY}.analysis.metrics."


async def ready(world: World, plan: Plan) -> None:
    """Make sure that the metrics of a canary can be measured. When it is only observed, say so instead of refusing.

    Raises:
        ConfigError: a certificate, password or token can't be read, or a query can never give a number.
        InfrastructureError: nobody answers, or not as Prometheus does.
    """
    if not (plan.judged and plan.metrics):
        return
    try:
        await _ready(world, plan)
    except NselfError as error:
        if plan.analysis is None or plan.analysis.mode is Mode.ENFORCE:
            raise
        world.note(f"metrics can't be observed: {error.what}")


async def _ready(world: World, plan: Plan) -> None:
    if world.metrics is None:
        raise InfrastructureError(f"Metrics can't be measured: {_NOBODY}.", _REMEDY)
    world.metrics.check()
    found = await world.metrics.ask(_ANY)
    if found.value != 1:
        raise InfrastructureError(f"Metrics can't be measured: {found.detail or found.value}.", _REMEDY)
    for start in range(0, len(plan.metrics), AT_ONCE):
        some = plan.metrics[start : start + AT_ONCE]
        answers = await asyncio.gather(*(_ask(world.metrics, plan, metric) for metric in some))
        for index, answer in enumerate(answers, start):
            if answer.outcome is Outcome.WRONG:
                where = f"{KEY}.analysis.metrics[{index}].query"
                what = f"The metric {plan.metrics[index].name} can't be measured: {answer.detail}."
                raise ConfigError(what, "Write a query that gives one number.", where=where)


async def _ask(metrics: Metrics, plan: Plan, metric: Metric) -> Reading:
    slot = plan.candidate
    values = {
        "slot": slot.value if slot else "",
        "live_slot": slot.other.value if slot else "",
        "release": plan.release,
        "live_release": plan.previous_release,
        "project": plan.project,
    }
    try:
        query = fill(metric.query, values, metric.window_s)
    except ValueError as error:
        return Reading.wrong(str(error))
    return await metrics.ask(query)


class Measuring:
    """Asks for what a judge wants to know. Nothing that it does waits for an answer."""

    def __init__(self, world: World, plan: Plan, recorder: Recorder) -> None:
        self._metrics, self._plan, self._recorder = world.metrics, plan, recorder
        self._asked: dict[str, asyncio.Task[Reading]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    def look(self, at: float) -> None:
        """Tell the judge the answers that have come, and ask for what is due, at this time since the first share."""
        judge = self._recorder.session.metrics
        if judge is None:
            return
        for name in [name for name, task in self._asked.items() if task.done()]:
            self._recorder.tell(Measured(at, name, self._asked.pop(name).result()))
        for metric in judge.due(at):
            if metric.name not in self._asked and len(self._asked) < AT_ONCE:
                self._asked[metric.name] = asyncio.ensure_future(self._answer(metric))

    async def _answer(self, metric: Metric) -> Reading:
        if self._metrics is None:
            return Reading.error(_NOBODY)
        return await _ask(self._metrics, self._plan, metric)
