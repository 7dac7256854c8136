"""The load itself, in this process's event loop: who sends when, within which bounds."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final, Self

from tests.load.books import Books, moment
from tests.load.mix import Kind, LoadMix, Target
from tests.load.records import Attempt, Outcome
from tests.load.report import Report, Snapshot, build_report, snapshot_of
from tests.load.streams import HttpStream
from tests.load.websocket import WebSocketClient

_PAUSE_AFTER_FAILURE_S: Final = 0.05  # keeps a closed-loop client from hammering a dead server
_SLACK_S: Final = 5.0  # beyond every request's own time limit; reaching it is a bug of ours and is counted


class Load:
    """`async with Load(mix, target) as load:` offers the load until `stop()`, or until a limit of the mix is reached.

    Raises `LoadError` for a bad mix and for a target that is not on this machine.
    """

    def __init__(self, mix: LoadMix, target: Target | str) -> None:
        self.target = Target.parse(target) if isinstance(target, str) else target
        self.target.check()
        mix.check()
        self.mix = mix
        self._stopping = asyncio.Event()
        self._because = "asked"
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: list[asyncio.Task[None]] = []
        self._waiting: deque[tuple[HttpStream, float]] = deque()
        self._in_flight = 0
        self._pacer: asyncio.Task[None] | None = None
        self._main: asyncio.Task[Report] | None = None

    async def __aenter__(self) -> Self:
        self.books = Books(self.mix, moment())
        self._cpu_at_start = time.process_time()
        self._paced = [
            (HttpStream(index, self.mix, self.target, self.books), stream.share)
            for index, stream in enumerate(self.mix.streams)
            if stream.share
        ]
        self._streams = [stream for stream, _ in self._paced]
        self._main = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._main and not self._main.done():
            await self.abort()

    def mark(self, name: str, at: float | None = None) -> float:
        """Remember this moment under a name; returns it (monotonic seconds)."""
        self.books.marks[name] = moment() if at is None else at
        return self.books.marks[name]

    def snapshot(self) -> Snapshot:
        return snapshot_of(self.books, running=not self._stopping.is_set())

    async def stop(self) -> Report:
        """Start nothing more, wait until every request in flight has ended (each has a time limit), and report."""
        self._request_stop("asked")
        return await self.wait()

    async def wait(self) -> Report:
        """The report, once the load has ended by a limit of its mix (or by `stop`)."""
        assert self._main, "the load was not started"
        return await asyncio.shield(self._main)

    async def abort(self) -> None:
        """Give everything up at once; there is no report."""
        self._stopping.set()
        self._waiting.clear()
        tasks = [task for task in (self._main, self._pacer, *self._clients, *self._tasks) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stream in self._streams:
            stream.pool.close()

    def _request_stop(self, because: str) -> None:
        if not self._stopping.is_set():
            self._because = because
            self._stopping.set()

    async def _run(self) -> Report:
        for index, stream in enumerate(self.mix.streams):
            for _ in range(stream.clients):
                self._clients.append(asyncio.create_task(self._client(index)))
        self._pacer = asyncio.create_task(self._pace()) if self._paced else None
        try:
            async with asyncio.timeout(self.mix.limits.duration_s):
                await self._stopping.wait()
        except TimeoutError:
            self._request_stop("duration")
        stopped_at = moment()
        await self._finish()
        cpu_share = (time.process_time() - self._cpu_at_start) / max(moment() - self.books.started_at, 1e-6)
        return build_report(self.books, stopped_at, self._because, round(cpu_share, 4))

    # Paced: on time, whatever the answers do.

    async def _pace(self) -> None:
        """Start requests at the mix's rate, each due at a moment fixed beforehand."""
        loop, period = asyncio.get_running_loop(), 1.0 / self.mix.rate
        total = sum(share for _, share in self._paced)
        credit = [0.0] * len(self._paced)
        begin, number = loop.time(), 0
        while not self._stopping.is_set():
            due = begin + number * period
            wait = due - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            credit = [have + share for have, (_, share) in zip(credit, self._paced, strict=True)]
            chosen = max(range(len(credit)), key=credit.__getitem__)
            credit[chosen] -= total
            self._offer(self._paced[chosen][0], due)
            number += 1

    def _offer(self, stream: HttpStream, due: float) -> None:
        limits = self.mix.limits
        self.books.paced_due += 1
        if self._in_flight < limits.in_flight:
            self._launch(stream, due)
        elif len(self._waiting) < limits.waiting:
            self._waiting.append((stream, due))
        else:
            self._not_sent(stream, due, f"{limits.in_flight} in flight and {limits.waiting} waiting already")

    def _launch(self, stream: HttpStream, due: float) -> None:
        if not self._count_start():
            return
        self._in_flight += 1
        self.books.paced_started += 1
        task = asyncio.create_task(self._one(stream, due))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, stream: HttpStream, due: float) -> None:
        try:
            await stream.run_one(due)
        finally:
            self._in_flight -= 1
            if self._waiting:
                self._launch(*self._waiting.popleft())

    def _not_sent(self, stream: HttpStream, due: float, detail: str) -> None:
        self.books.started += 1
        self.books.add(Attempt(stream.index, moment(), due=due), Outcome.NOT_SENT, detail)

    def _count_start(self) -> bool:
        if self.books.started >= self.mix.limits.requests:
            self._request_stop("requests")
            return False
        self.books.started += 1
        return True

    # Closed loop: a client waits for its answer, thinks, and goes on.

    async def _client(self, index: int) -> None:
        stream = self.mix.streams[index]
        websocket = WebSocketClient(index, self.mix, self.target, self.books)
        http = HttpStream(index, self.mix, self.target, self.books)
        if stream.kind is not Kind.WEBSOCKET:
            self._streams.append(http)
        while not self._stopping.is_set() and self._count_start():
            if stream.kind is Kind.WEBSOCKET:
                ok = await websocket.run_one(self._stopping.is_set)
            else:
                ok = await http.run_one()
            pause = stream.think_s if ok else max(stream.think_s, _PAUSE_AFTER_FAILURE_S)
            if pause > 0 and not self._stopping.is_set():
                await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    # The end.

    async def _finish(self) -> None:
        """Every request ends by itself; what does not within its time limit is a failure of this client."""
        if self._pacer:
            self._pacer.cancel()
            await asyncio.wait({self._pacer})
            if not self._pacer.cancelled():
                self._pacer.result()
        longest = max(stream.timeout_s for stream in self.mix.streams) + self.mix.limits.connect_timeout_s
        until = moment() + longest + _SLACK_S
        while (left := [task for task in (*self._tasks, *self._clients) if not task.done()]) and until > moment():
            await asyncio.wait(left, timeout=min(1.0, max(0.01, until - moment())))
        if self._because != "requests":  # with that limit reached, no further one was to be sent
            for stream, due in self._waiting:
                self._not_sent(stream, due, "still waiting for a free place at the end")
        self._waiting.clear()
        for task in left:
            task.cancel()
        for stream in self._streams:
            stream.pool.close()
        for outcome in await asyncio.gather(*self._clients, *left, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
