"""What the judge costs: microseconds per failed and per good request, and bytes that it writes down.

`python -m benchmarks.verdict`: five seconds, one process. The exit status is 1 when an error costs more than the goal.
"""

from __future__ import annotations

import random
import sys
from statistics import median
from time import process_time

import msgspec

from nself_deploy.core.analysis import Analysis
from nself_deploy.core.evidence import Request
from nself_deploy.core.verdict import Judge

GOAL_US = 50.0
_REQUESTS, _ROUNDS, _PER_S = 10_000, 5, 200.0
_CUTS = (0.05, 0.0734, 0.1005)


def requests(failing: float, *, timed: bool) -> list[Request]:
    """Traffic of ever new clients; as many failures on both slots, so that nothing is decided by comparison."""
    rng = random.Random(1)
    return [
        Request(
            at=31.0 + number / _PER_S,
            client=rng.getrandbits(40),
            candidate=rng.random() < 0.1,
            failed=rng.random() < failing,
            share=0.1,
            route="shop",
            seconds=0.05 * rng.lognormvariate(0.0, 0.3) if timed else None,
        )
        for number in range(_REQUESTS)
    ]


def cost_us(traffic: list[Request], *, timed: bool) -> tuple[float, int]:
    """Microseconds of processor time per request (median of the rounds), and the size of the state in bytes."""
    taken, size = [], 0
    for _ in range(_ROUNDS):
        judge = Judge.begin(Analysis(slo_error_rate=0.5), ("shop", "api"), _CUTS if timed else ())
        began = process_time()
        for request in traffic:
            judge.request(request)
        taken.append((process_time() - began) / len(traffic) * 1e6)
        assert judge.decision is None, judge.decision
        size = len(msgspec.json.encode(judge))
    return median(taken), size


def main() -> int:
    """Measure and print; the exit status."""
    lines, dearest = ["| requests | us each | state, bytes |", "|---|---|---|"], 0.0
    for name, failing, timed in (
        ("good", 0.0, False),
        ("good, with times", 0.0, True),
        ("half of them failed", 0.5, False),
        ("half of them failed, with times", 0.5, True),
    ):
        each, size = cost_us(requests(failing, timed=timed), timed=timed)
        dearest = max(dearest, 2.0 * each if failing else each)
        lines.append(f"| {name} | {each:.1f} | {size:,} |")
    sys.stdout.write("\n".join(lines) + f"\n\nRESULT us_per_error={dearest:.1f}\n")
    return int(dearest > GOAL_US)


if __name__ == "__main__":
    raise SystemExit(main())
