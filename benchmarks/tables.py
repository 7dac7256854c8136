"""Medians and spreads as Markdown tables, and the machine in words."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.flips import Round
from benchmarks.sites import IMAGE, docker
from benchmarks.throughput import Run

_QUIET = 20
"""Per cent of the router's core beyond which throughput is other programs' business more than ours."""


def machine() -> str:
    """Cores, kernel, nginx, Docker and Compose: what the numbers depend on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    nginx = docker("run", "--rm", "--entrypoint", "nginx", IMAGE, "-v", merge=True).rpartition("/")[2]
    engine = docker("version", "--format", "{{.Server.Version}}").partition("+")[0]
    compose = docker("compose", "version", "--short").partition("-")[0]
    cores = len(os.sched_getaffinity(0))
    kernel = platform.release().partition("-")[0]
    return f"{cores} cores ({model}), Linux {kernel}, nginx {nginx} in a container, Docker {engine}, Compose {compose}"


def switching(rounds: Mapping[str, Sequence[Round]]) -> str:
    """One line per method: sums over the rounds, medians with the range over rounds or switches."""
    columns = ("switches", "failed requests", "longest gap, ms", "decision to last old answer, ms", "switch itself, ms")
    lines = [f"| method | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, done in rounds.items():
        failed = sum((Counter(r.failed) for r in done), Counter[str]())
        kinds = ", ".join(f"{kind} {count}" for kind, count in failed.most_common())
        total = sum(r.requests for r in done)
        share = f" ({failed.total() / total:.2%}: {kinds})" if kinds else ""
        old = [ms for r in done for ms in r.old_ms]
        took = [ms for r in done for ms in r.took_ms]
        lines.append(
            f"| {name} | {len(old)} | {failed.total():,} of {total:,}{share} | {spread([r.gap_ms for r in done])} "
            f"| {spread(old)} | {spread(took, 1)} |"
        )
    return "\n".join(lines)


def throughput(runs: Mapping[str, Sequence[Run]]) -> str:
    """One line per configuration, with two ratios to the first one.

    The one is the median over the rounds, each run against the one beside it. The other compares the best runs: what
    else the machine does can only make a run slower.
    """
    columns = ("requests/s", "ratio", "ratio of the best runs", "p99, ms", "router CPU per request, us")
    lines = [f"| router | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    base = next(iter(runs.values()))
    for name, done in runs.items():
        ratios = [run.per_s / plain.per_s for run, plain in zip(done, base, strict=True)]
        best = max(run.per_s for run in done) / max(run.per_s for run in base)
        cells = (
            spread([run.per_s for run in done]),
            spread(ratios, 2),
            f"{best:.2f}",
            spread([run.p99_ms for run in done], 1),
            spread([run.cpu_us for run in done], 1),
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    others = [run.others * 100 for done in runs.values() for run in done]
    note = f"Meanwhile other programs had {spread(others)} % of the router's core."
    if median(others) > _QUIET:
        note += " That is too much: only the last column says something."
    return "\n".join([*lines, "", note])


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median and range."""
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low}-{high})"
