"""Deploying while a load runs: the deploy's own lines are read as they come, and its moments are marked in the load."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.load import LoadProcess
from tests.real.stack import Stack

_STEP = re.compile(r"^\[(\w+)\] (.+?)(?: \((\d+\.\d) s\))?(?:  .*)?$")


@dataclass
class Driven:
    """One run of `nself deploy …`."""

    status: int
    seconds: float
    lines: list[str] = field(default_factory=list)
    errors: str = ""
    steps: list[tuple[str, str, float]] = field(default_factory=list)
    """status, name, seconds."""

    def __str__(self) -> str:
        return "\n".join([f"exit {self.status} after {self.seconds:.1f} s", *self.lines, self.errors])


def drive(
    stack: Stack,
    load: LoadProcess | None,
    words: list[str],
    *,
    moved: str = "",
    say: Callable[[str], None] = lambda line: None,
    **env: str,
) -> Driven:
    """Run the command to its end; `moved` is the mark set the moment after traffic was confirmed on the other slot."""
    start = time.monotonic()
    driven = Driven(-1, 0.0)
    with stack.start_nself(*words, **env) as process:
        assert process.stdout and process.stderr
        for line in process.stdout:
            text = line.rstrip("\n")
            driven.lines.append(text)
            say(text)
            match = _STEP.match(text)
            if match and match[1] in ("done", "failed", "unhealthy"):
                driven.steps.append((match[1], match[2], float(match[3] or 0)))
                if load is not None and moved and match[1] == "done" and match[2].startswith("Move traffic"):
                    load.mark(moved)
        driven.errors = process.stderr.read()
        driven.status = process.wait(120)
    driven.seconds = time.monotonic() - start
    for line in driven.errors.splitlines():
        say(line)
    return driven


def fail(text: str) -> None:
    """Say why and end with status 1."""
    sys.stderr.write(text + "\n")
    raise SystemExit(1)
