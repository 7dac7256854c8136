"""How often healthy candidates are rolled back, and how soon sick ones are found: `make verdicts`, under ten minutes.

Simulated deployments, judged by `nself_deploy.core.verdict` itself, beside the rules of Flagger, Argo Rollouts and
Kayenta on the same traffic. Only times, the guard of the split and the rule without its gate are judged by copies in
numpy, which tests prove to say the same. Prints Markdown tables and ends with a line `RESULT ...`; the exit status is 1
when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import msgspec

from benchmarks.judging.cells import Outcome, Size, cells, run_cell
from benchmarks.judging.goals import missed, result
from benchmarks.judging.report import brief, tables


def say(text: str) -> None:
    """Progress, apart from the result."""
    sys.stderr.write(text + "\n")


def options() -> argparse.ArgumentParser:
    """What can be chosen."""
    parser, size = argparse.ArgumentParser(description=__doc__), Size()
    parser.add_argument("--healthy", type=int, default=size.healthy, help="healthy deployments per world")
    parser.add_argument("--sick", type=int, default=size.sick, help="sick deployments per candidate and rate")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives other histories")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rates", type=lambda text: tuple(map(float, text.split(","))), default=size.rates)
    parser.add_argument("--only", default="", help="simulate only what has this in its name")
    parser.add_argument("--part", type=lambda text: tuple(map(int, text.split("/"))), default=(1, 1), help="as 2/8")
    parser.add_argument("--save", type=Path, help="write the outcomes here, for `benchmarks.judging.plots`")
    parser.add_argument("--load", type=Path, nargs="+", help="simulate nothing: outcomes that were written before")
    return parser


def simulated(chosen: argparse.Namespace, began: float) -> list[Outcome]:
    """The outcomes of all cells that were chosen. A cell's are the same whatever else is simulated."""
    every = cells(Size(chosen.healthy, chosen.sick, chosen.rates))
    part, parts = chosen.part
    work = [cell for cell in every if chosen.only in f"{cell.kind}: {cell.world}"][part - 1 :: parts]
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(chosen.processes) as pool:
        running = [pool.submit(run_cell, cell, chosen.seed) for cell in work]
        for number, done in enumerate(as_completed(running), 1):
            if (error := done.exception()) is not None:
                pool.shutdown(cancel_futures=True)
                raise error
            outcomes += done.result()
            own, seconds = done.result()[0], time.monotonic() - began
            say(f"{seconds:.0f} s, {number}/{len(work)} {own.kind}: {own.world}, {own.per_s:g}/s: {brief(own)}")
    return outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and print; the exit status."""
    chosen, began = options().parse_args(arguments), time.monotonic()
    if chosen.load is None:
        outcomes = simulated(chosen, began)
        used = sum(os.times()[:4])
        took = f"seed {chosen.seed}, {time.monotonic() - began:.0f} s, {used:.0f} s of processor time"
    else:
        outcomes = [o for path in chosen.load for o in msgspec.json.decode(path.read_bytes(), type=list[Outcome])]
        took = f"of {len(chosen.load)} parts"
    if chosen.save is not None:
        chosen.save.write_bytes(msgspec.json.format(msgspec.json.encode(outcomes), indent=1))
    sys.stdout.write(tables(outcomes))
    failures = missed(outcomes)
    for failure in failures:
        sys.stdout.write(f"GOAL MISSED: {failure}\n")
    sys.stdout.write(f"\n{took}\n{result(outcomes)}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
