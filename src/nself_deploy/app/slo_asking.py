"""Asking Prometheus about objectives while a release is watched, beside its log and never in the way of it."""

from __future__ import annotations

import asyncio

from nself_deploy.app.measuring import AT_ONCE
from nself_deploy.app.ports import Metrics
from nself_deploy.app.world import World
from nself_deploy.core.extension import KEY
from nself_deploy.core.metrics import Outcome, Reading, fill
from nself_deploy.core.slo import Objective, Queries
from nself_deploy.core.slo_asked import Answer, Asked, Counts, Question, counted, every_s
from nself_deploy.errors import ConfigError

NOBODY = "nobody is named any more who answers: analysis.prometheus is gone"
LONG_AGO = Counts(problem="it is not known when the release went live")


async def ready(world: World, objectives: tuple[Objective, ...]) -> None:
    """Refuse what can never be measured. Whoever can't be reached now may be reached later.

    Raises:
        ConfigError: a certificate, password or token can't be read, or a query can never give a number.
    """
    metrics = world.metrics
    if metrics is None:
        return
    for objective in objectives:
        queries = objective.queries
        if queries is None:
            continue
        metrics.check()
        for key, query in (("total", queries.total), (queries.key, queries.part)):
            answer = await metrics.ask(_filled(world, query, queries.least_s))
            if answer.outcome is Outcome.WRONG:
                where = f"{KEY}.slo[{world.objectives.index(objective)}].prometheus.{key}"
                what = f"The objective {objective.name} can't be measured: {answer.detail}."
                raise ConfigError(what, "Write a query that gives one number.", where=where)
            if answer.outcome is Outcome.ERROR:
                return


class Asking:
    """Asks what objectives want to know. Nothing that it does waits for an answer."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked: dict[int, tuple[float, asyncio.Task[Answer]]] = {}
        """Number of the objective -> when it was asked about, and who waits for the answer."""
        self._due: dict[int, float] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)

    def look(self, asked: Asked, now: float, unix: float, before: float) -> None:
        """Tell the answers that have come, and ask for what is due.

        Args:
            asked: who is told.
            now: the time, in seconds since the watch began to be told.
            unix: the same as unix time.
            before: when the release had no request yet (unix time); 0: unknown.
        """
        for number in [number for number, (_, task) in self._asked.items() if task.done()]:
            at, task = self._asked.pop(number)
            asked.tell(number, at, task.result())
        for number, objective in enumerate(asked.objectives):
            if number in self._asked or self._due.get(number, now) > now:
                continue
            question = asked.question(number, now)
            if question is not None:
                self._asked[number] = (now, asyncio.ensure_future(self._answer(question, unix, before)))
                self._due[number] = now + every_s(objective)

    async def close(self) -> None:
        """Wait for no answer any more."""
        tasks = [task for _, task in self._asked.values()]
        self._asked = {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, question: Question, unix: float, before: float) -> Answer:
        queries, metrics = question.objective.queries, self._world.metrics
        if queries is None or metrics is None:
            return Answer(question, Counts(problem=NOBODY))
        counts = await self._counts(metrics, queries, question.windows, unix)
        if counts.problem or not question.before:
            return Answer(question, counts)
        if not before:
            return Answer(question, counts, LONG_AGO)
        return Answer(question, counts, await self._counts(metrics, queries, question.before, before))

    async def _counts(self, metrics: Metrics, queries: Queries, windows: tuple[int, ...], at: float) -> Counts:
        """All of these windows back from one time; nothing more is asked once there is no number."""
        found = {}
        for window_s in windows:
            total, part = (_filled(self._world, query, window_s) for query in (queries.total, queries.part))
            answers = await asyncio.gather(self._ask(metrics, total, at), self._ask(metrics, part, at))
            counts = counted(queries, *answers)
            if isinstance(counts, Counts):
                return counts
            found[window_s] = counts
        return Counts(found)

    async def _ask(self, metrics: Metrics, query: str, at: float) -> Reading:
        async with self._gate:
            return await metrics.ask(query, at)


def _filled(world: World, query: str, window_s: int) -> str:
    return fill(query, {"project": world.project.name}, float(window_s))
