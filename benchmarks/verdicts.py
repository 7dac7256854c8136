"""How often healthy candidates are rolled back, and how soon sick ones are found: `make verdicts`, under ten minutes.

Simulated deployments, judged by the rules of `nself_deploy.core.verdict`, beside the rules of Flagger, Argo Rollouts
and Kayenta on the same traffic. Prints Markdown tables and ends with a line `RESULT ...`; the exit status is 1 when a
goal is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from benchmarks.judging.cells import Outcome, Size, cells, run_cell
from benchmarks.judging.goals import missed, result
from benchmarks.judging.report import brief, tables


def say(text: str) -> None:
    """Progress, apart from the result."""
    sys.stderr.write(text + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--healthy", type=int, default=10_000, help="healthy deployments per cell")
    parser.add_argument("--sick", type=int, default=2_000, help="sick deployments per cell")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives other histories")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rates", type=lambda text: tuple(map(float, text.split(","))), default=Size.rates)
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(chosen.processes) as pool:
        work = cells(Size(chosen.healthy, chosen.sick, chosen.rates))
        running = [pool.submit(run_cell, cell, chosen.seed) for cell in work]
        for number, done in enumerate(as_completed(running), 1):
            if (error := done.exception()) is not None:
                pool.shutdown(cancel_futures=True)
                raise error
            outcomes += done.result()
            own, seconds = done.result()[0], time.monotonic() - began
            say(f"{seconds:.0f} s, {number}/{len(work)} {own.kind}: {own.world}, {own.per_s:g}/s: {brief(own)}")
    used = sum(os.times()[:4])
    sys.stdout.write(tables(outcomes))
    failures = missed(outcomes)
    for failure in failures:
        sys.stdout.write(f"GOAL MISSED: {failure}\n")
    sys.stdout.write(
        f"\nseed {chosen.seed}, {time.monotonic() - began:.0f} s, {used:.0f} s of processor time\n{result(outcomes)}\n"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
