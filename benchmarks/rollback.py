"""How soon a bad release answers nobody any more: `python -m benchmarks.rollback`, about two minutes.

From the start of the process (the cold start of Python included) to the last request that the bad release answered:
back to a warm release, with and without an engine, back to one that has to be started again, and `docker compose up`
of the old tag. Real nginx and Docker; one client on loopback asks about 500 times a second. Prints one Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.tables import machine
from tests.real.scene import nself_argv, tiny
from tests.real.stack import Stack

QUICK = ("--drain", "1s", "--min-uptime", "1s", "--health-timeout", "90s")
PAUSE_S = 0.002
LIMIT_S = 120.0
WAYS = ("warm", "no-engine", "cold", "compose")
NOWHERE = {"DOCKER_HOST": "unix:///nowhere.sock"}


@dataclass
class Client(threading.Thread):
    """Asks again and again, on connections of its own, and notes when which release answered."""

    stack: Stack
    seen: list[tuple[float, str]] = field(default_factory=list)
    """When an answer was there (monotonic), and the release; empty when there was no good answer."""

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.done = threading.Event()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        """Until `done` is set."""
        while not self.done.wait(PAUSE_S):
            release = ""
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, _, body = self.stack.get("/", timeout_s=5)
                release = body.decode().strip() if status == 200 else ""
            self.seen.append((time.monotonic(), release))


@dataclass
class Measured:
    """One way back."""

    last_bad_ms: float
    """From the start of the process to the last answer of the bad release."""
    first_good_ms: float
    failed: int
    command_s: float


def measured(stack: Stack, argv: list[str], **env: str) -> Measured:
    """Run a command that goes back, beside a client."""
    bad = stack.get("/")[2].decode().strip()
    client = Client(stack)
    client.start()
    threading.Event().wait(0.2)
    start = time.monotonic()
    try:
        stack.run(*argv, timeout_s=LIMIT_S, **env)
        ended = time.monotonic()
        threading.Event().wait(0.2)
    finally:
        client.done.set()
        client.join()
    after = [(at, release) for at, release in client.seen if at >= start]
    last_bad = max((at for at, release in after if release == bad), default=start)
    first_good = min((at for at, release in after if release not in ("", bad)), default=float("inf"))
    failed = sum(not release for _, release in client.seen)
    return Measured((last_bad - start) * 1000, (first_good - start) * 1000, failed, ended - start)


def ours(runs: int, ways: Sequence[str]) -> dict[str, list[Measured]]:
    """Warm, warm without an engine, and cold: those of them that are asked for."""
    stack = tiny()
    # As an installed program is: compiled once. Some environments forbid that, and every start compiles all of it.
    stack.env |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(stack.root.parent / "compiled")}
    back = nself_argv("rollback", *QUICK)
    try:
        for release in ("one", "two"):
            stack.nself(*QUICK, "--standby", "1h", RELEASE=release)
        found: dict[str, list[Measured]] = {}
        warm = [*back, "--standby", "1h"]
        if "warm" in ways:
            found["warm"] = [told("warm", measured(stack, warm)) for _ in range(runs)]
        if "no-engine" in ways:
            found["warm, no engine"] = []
            for _ in range(runs):
                found["warm, no engine"].append(told("warm, no engine", measured(stack, warm, **NOWHERE)))
                stack.nself("resume")
        if "cold" in ways:
            cold = [*back, "--standby", "0"]
            stack.run(*cold)
            found["cold"] = [told("cold", measured(stack, cold)) for _ in range(runs)]
        return found
    finally:
        stack.remove()


def compose(runs: int) -> list[Measured]:
    """`docker compose up -d` of the other tag, as plain Compose does it."""
    stack = tiny(init=False)
    tags = ["one", "two"]
    try:
        stack.compose("up", "-d", "--wait", RELEASE=tags[0])
        found = []
        for n in range(runs):
            argv = ["docker", "compose", "up", "-d", "--wait"]
            found.append(told("compose", measured(stack, argv, RELEASE=tags[(n + 1) % 2])))
        return found
    finally:
        stack.remove()


def told(name: str, done: Measured) -> Measured:
    """Progress, apart from the result."""
    sys.stderr.write(f"{name}: last bad answer after {done.last_bad_ms:.0f} ms, {done.failed} failed\n")
    return done


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"


def table(found: dict[str, list[Measured]]) -> str:
    """One line for each way."""
    columns: dict[str, Callable[[Measured], float]] = {
        "last answer of the bad release, ms": lambda one: one.last_bad_ms,
        "first of the old one, ms": lambda one: one.first_good_ms,
        "the whole command, ms": lambda one: one.command_s * 1000,
    }
    lines = [f"| way back | {' | '.join(columns)} | failed requests |", "|---" * (len(columns) + 2) + "|"]
    for name, done in found.items():
        cells = [spread([value(one) for one in done]) for value in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} | {sum(one.failed for one in done)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all of them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each way back")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="ways back that are measured")
    given = parser.parse_args(arguments)
    found = ours(given.runs, given.ways)
    if "compose" in given.ways:
        found["`docker compose up -d`"] = compose(given.runs)
    sys.stdout.write(f"{machine()}\n\n{table(found)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
