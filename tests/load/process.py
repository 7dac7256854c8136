"""The load in a process of its own (its own interpreter lock and core), driven from plain synchronous code.

Parent and child exchange JSON lines over pipes; the clock is the machine's monotonic one on both sides. The child ends
when its standard input does, so it never outlives the parent.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from tests.load.mix import LoadError, LoadMix, Target
from tests.load.report import Report, Snapshot, snapshot_from_dict

_ROOT: Final = Path(__file__).resolve().parents[2]
_POLL_S: Final = 0.03
_ANSWER_S: Final = 60.0


class LoadProcess:
    """`with LoadProcess(mix, target) as load:` offers the load from another process until `stop()` or a limit.

    Raises `LoadError` for a bad mix or target, and when the process dies or does not answer. Leaving the block without
    `stop()` ends the process without a report. All calls block: from a coroutine, use `asyncio.to_thread(load.stop)`.
    """

    def __init__(self, mix: LoadMix, target: Target | str) -> None:
        self.target = Target.parse(target) if isinstance(target, str) else target
        self.target.check()
        mix.check()
        self.mix = mix
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile(mode="w+")
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.load.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._ask({"mix": self.mix.to_dict(), "target": dataclasses.asdict(self.target)}, _ANSWER_S)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    @property
    def pid(self) -> int:
        return self._process.pid

    def mark(self, name: str) -> float:
        """Remember this moment under a name; returns it (monotonic seconds, taken here, before the child hears)."""
        at = time.monotonic()
        self._ask({"do": "mark", "name": name, "at": at}, _ANSWER_S)
        return at

    def snapshot(self) -> Snapshot:
        return snapshot_from_dict(self._ask({"do": "snapshot"}, _ANSWER_S)["snapshot"])

    def wait_until(self, holds: Callable[[Snapshot], bool], timeout_s: float = 120.0, what: str = "") -> Snapshot:
        """Wait for a condition on the totals. Raises `LoadError` when it does not come in time, or the load ended.

        What came in time counts, however late it is looked at, and so does what the last requests of a load that ended
        bring.
        """
        until = time.monotonic() + timeout_s
        pause = threading.Event()
        while True:
            late = time.monotonic() > until
            now = self.snapshot()
            if holds(now):
                return now
            ended = not now.running and not now.in_flight
            if ended or late:
                why = "the load ended by itself" if ended else f"{timeout_s} s are over"
                raise LoadError(f"waiting for {what or 'a condition on the load'}: {why}; {now}")
            pause.wait(_POLL_S)

    def wait_requests(self, more: int, timeout_s: float = 120.0) -> Snapshot:
        """Wait until so many more requests have ended well."""
        goal = self.snapshot().ok + more
        return self.wait_until(lambda now: now.ok >= goal, timeout_s, f"{more} more good answers")

    def stop(self) -> Report:
        """Start nothing more, wait for what is in flight, and report."""
        longest = max(stream.timeout_s for stream in self.mix.streams) + self.mix.limits.connect_timeout_s
        answer = self._ask({"do": "stop"}, longest + 60)
        self._end()
        return Report.from_json(answer["report"])

    def _ask(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        with self._lock:
            pipe = self._process.stdin
            assert pipe
            try:
                pipe.write(json.dumps(message) + "\n")
                pipe.flush()
                answer = self._answers.get(timeout=timeout_s)
            except (OSError, ValueError) as error:
                raise LoadError(f"the load process is gone ({error}): {self._stderr()}") from error
            except queue.Empty:
                self._process.kill()  # its late answer must not pass for the next one's
                raise LoadError(f"the load process did not answer within {timeout_s} s: {self._stderr()}") from None
        if answer is None:
            raise LoadError(f"the load process ended: {self._stderr()}")
        if "error" in answer:
            raise LoadError(answer["error"])
        return answer

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._answers.put(json.loads(line))
        self._answers.put(None)

    def _stderr(self) -> str:
        if self._errors.closed:
            return "it was stopped before"
        self._errors.seek(0)
        return self._errors.read()[-2000:].strip() or "it said nothing"

    def _end(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            self._process.kill()
        try:
            self._process.wait(timeout=_ANSWER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._errors.close()
