"""Deploy after deploy under a steady load: `make soak DEPLOYS=20 RATE=300`. The last line is the RESULT."""

from __future__ import annotations

import argparse
import sys

from tests.load import LoadMix, LoadProcess
from tests.load.drive import drive, fail
from tests.load.mix import Limits
from tests.load.report import Report
from tests.real.stack import Stack, copy_of


def deploys_under_load(stack: Stack, deploys: int, rate: float, *words: str) -> tuple[Report, list[float], list[str]]:
    """Deploy that often; the load's report, seconds of each deploy, and every answer from a wrong slot, in words."""
    limits = Limits(duration_s=60 + deploys * 60, requests=int(rate * (60 + deploys * 60)) + 10_000)
    seconds: list[float] = []
    with LoadProcess(LoadMix.standard(rate, limits=limits), stack.url) as load:
        load.wait_requests(int(rate))
        for number in range(deploys):
            load.mark(f"start {number}")
            driven = drive(stack, load, ["--drain", "5s", *words], moved=f"moved {number}", SHOP_RELEASE=f"s{number}")
            if driven.status != 0:
                fail(f"deploy {number} failed: {driven}\n{load.stop().table()}")
            seconds.append(driven.seconds)
            sys.stdout.write(f"deploy {number + 1} of {deploys}: {driven.seconds:.1f} s\n")
            sys.stdout.flush()
            load.wait_requests(int(rate / 2))
        report = load.stop()
    wrong = [
        f"after move {n}: {answer}"
        for n in range(deploys)
        for answer in report.wrong_after(f"moved {n}", f"s{n}", f"start {n + 1}" if n + 1 < deploys else None)
    ]
    return report, seconds, wrong


def main() -> None:
    """Bring the shop up, deploy it again and again, tell what the clients saw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deploys", type=int, default=20)
    parser.add_argument("--rate", type=float, default=300.0)
    chosen = parser.parse_args()
    stack = copy_of("shop", prefix="soak")
    try:
        stack.nself("init", "--yes")
        stack.nself("--drain", "5s", SHOP_RELEASE="start")
        report, seconds, wrong = deploys_under_load(stack, chosen.deploys, chosen.rate)
    finally:
        stack.remove()
    sys.stdout.write(report.table() + "\n")
    for line in wrong[:20]:
        sys.stdout.write(f"wrong slot {line}\n")
    median = sorted(seconds)[len(seconds) // 2] if seconds else 0.0
    sys.stdout.write(
        report.result_line(deploys=len(seconds), wrong_slot=len(wrong), deploy_median_s=f"{median:.1f}") + "\n"
    )
    raise SystemExit(1 if report.failed or wrong else 0)


if __name__ == "__main__":
    main()
