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

_DISTURBED = 5
"""Per cent of the router's core that other programs may have in a round that counts as quiet."""
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
    """One line per configuration, over the rounds beside which other programs were least busy.

    These are all rounds on a quiet machine, else the quietest quarter; it is decided by the others' processor time
    alone, never by the result. A ratio is the median of the ratios within the rounds, for a virtual processor is not
    equally fast all the time.
    """
    busiest = [max(run.others for run in done) for done in zip(*runs.values(), strict=True)]
    order = sorted(range(len(busiest)), key=lambda number: busiest[number])
    chosen = [n for n in order if busiest[n] * 100 < _DISTURBED] or order
    chosen = chosen if len(chosen) * 4 >= len(order) else order[: -(-len(order) // 4)]
    quiet = {name: [done[number] for number in chosen] for name, done in runs.items()}
    columns = ("requests/s", "ratio", "p99, ms", "router CPU per request, us", "ratio")
    lines = [f"| router | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    base = next(iter(quiet.values()))
    for name, done in quiet.items():
        speed = median(run.per_s / plain.per_s for run, plain in zip(done, base, strict=True))
        cost = median(run.cpu_us / plain.cpu_us for run, plain in zip(done, base, strict=True))
        cells = (
            spread([run.per_s for run in done]),
            f"{speed:.2f}",
            spread([run.p99_ms for run in done], 1),
            spread([run.cpu_us for run in done], 1),
            f"{cost:.2f}",
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    kept, every = ([run.others * 100 for done in group.values() for run in done] for group in (quiet, runs))
    note = f"Other programs had {spread(kept)} % of the router's core in these runs, {spread(every)} % in all."
    if median(kept) > _QUIET:
        note += " That is too much: at most the processor time per request says something."
    return "\n".join([*lines, "", note])


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median and range."""
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low}-{high})"
