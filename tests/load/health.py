"""When each container was healthy, by the engine's own events: was any request answered by one that was not?"""

from __future__ import annotations

import json
import math
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self

from tests.load.report import Report
from tests.real.stack import Stack, wait_for

_LABEL = "nself.deploy.project"
_ASKED = "top"
"""The event that we cause: what happened before is told before it."""
_EVENTS = ("health_status", "kill", "die", _ASKED)
_ENDING_SIGNALS = ("3", "9", "15")


@dataclass
class Life:
    """One container: spans (monotonic seconds) from when it was healthy until it wasn't, or was told to end."""

    name: str
    spans: list[tuple[float, float]] = field(default_factory=list)
    since: float | None = None

    def healthy(self, at: float) -> None:
        if self.since is None:
            self.since = at

    def over(self, at: float) -> None:
        if self.since is not None:
            self.spans.append((self.since, at))
            self.since = None

    def covers(self, sent: float, end: float) -> bool:
        """Whether it was healthy at some moment between the two."""
        spans = [*self.spans, *([] if self.since is None else [(self.since, math.inf)])]
        return any(start <= end and sent <= stop for start, stop in spans)


def _offset() -> float:
    """What the wall clock is ahead of the monotonic one: of several looks the one that was interrupted least."""
    looks = []
    for _ in range(20):
        before, wall, after = time.monotonic(), time.time(), time.monotonic()
        looks.append((after - before, wall - before))
    return min(looks)[1]


class HealthWatch:
    """`with HealthWatch(stack) as watch:` follows the containers of a stack's slots, one of which runs all the time."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.lives: dict[str, Life] = {}
        self._heard = 0

    def __enter__(self) -> Self:
        words = ["docker", "events", "--since", f"{time.time():.6f}", "--format", "{{json .}}"]
        words += ["--filter", f"label={_LABEL}={self._stack.name}"]
        words += [word for event in _EVENTS for word in ("--filter", f"event={event}")]
        self._offset = _offset()
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._hear()
            for container in self._running():
                if container["State"].get("Health", {}).get("Status") == "healthy":
                    self._life(container["Id"], container["Name"].lstrip("/")).healthy(0.0)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._reader.join(60)
        assert self._process.stdout
        self._process.stdout.close()

    def served_unhealthy(self, report: Report) -> list[str]:
        """Answers of containers that were not healthy while they gave them, in words."""
        self._hear()
        return self._served_unhealthy(report)

    def _hear(self) -> None:
        """Wait until all that has happened up to now is known."""
        before = self._heard
        wait_for(self._asked, "a container of the slots that runs")
        wait_for(lambda: self._heard > before, "the engine's events")

    def _asked(self) -> bool:
        """Let the engine have something to tell of, after all that it has to tell now; whether that could be done."""
        words = (["docker", _ASKED, container["Id"]] for container in self._running())
        return any(subprocess.run(w, capture_output=True, timeout=300, check=False).returncode == 0 for w in words)

    def _running(self) -> list[dict[str, Any]]:
        """The containers of the slots that run."""
        found = self._stack.containers()
        return [c for c in found if c["State"]["Running"] and c["Config"]["Labels"].get(_LABEL) == self._stack.name]

    def _served_unhealthy(self, report: Report) -> list[str]:
        found = []
        for answer in report.records:
            if answer.status and answer.instance:
                life = self.lives.get(answer.instance)
                if life is None or not life.covers(answer.sent, answer.end):
                    found.append(
                        f"{answer.stream} {answer.status} by {answer.instance} ({life}), release {answer.release}"
                    )
        return found

    def _life(self, container: str, name: str) -> Life:
        return self.lives.setdefault(container[:12], Life(name))

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["Action"] == _ASKED:
                self._heard += 1
                continue
            attributes = event["Actor"]["Attributes"]
            life = self._life(event["Actor"]["ID"], attributes.get("name", ""))
            at = event["timeNano"] / 1e9 - self._offset
            action = event["Action"]
            if action == "health_status: healthy":
                life.healthy(at)
            elif action != "kill" or attributes.get("signal") in _ENDING_SIGNALS:
                life.over(at)
