"""Deploy after deploy under a steady load: `make soak DEPLOYS=20 RATE=300`. The last line is the RESULT."""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from dataclasses import dataclass, field

from tests.load import Kind, Limits, LoadMix, LoadProcess, Report, Stream
from tests.load.drive import Driven, drive
from tests.load.health import HealthWatch
from tests.real.people import shop
from tests.real.stack import Stack

_MOVED = re.compile(r"moved in (\d+) ms, confirmed after (\d+) ms")
_DEPLOY_S = 300
"""What a deploy takes at most, however busy the machine is: the load goes on for that long."""
_DAY_S = 24 * 3600
_WAIT_S = 120.0


@dataclass
class Soaked:
    """What became of a row of deploys."""

    report: Report
    deploys: list[Driven] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Answers from another release than the one that was live for sure, in words."""
    unhealthy: list[str] = field(default_factory=list)
    """Answers from containers that were not healthy, in words."""
    problem: str = ""
    """Why a deploy failed."""

    @property
    def faults(self) -> list[str]:
        """All that must not be, in words."""
        failed = [f"failed {f.at_s:.3f} s {f.stream}: {f.outcome}: {f.detail}" for f in self.report.failures]
        wrong = [f"wrong slot {line}" for line in self.wrong]
        return [
            *([self.problem] if self.problem else []),
            *failed,
            *wrong,
            *(f"unhealthy: {u}" for u in self.unhealthy),
        ]

    def moves_ms(self) -> list[tuple[int, int]]:
        """Of each deploy: the rename, and until nginx was seen to follow it."""
        found = [_MOVED.search(line) for driven in self.deploys for line in driven.lines]
        return [(int(match[1]), int(match[2])) for match in found if match]

    def step_s(self, name: str) -> list[float]:
        """Seconds of the steps whose names begin so."""
        return [s for driven in self.deploys for _, step, s in driven.steps if step.startswith(name)]

    def result_line(self) -> str:
        """`RESULT requests=… failed=… …`."""
        seconds = [driven.seconds for driven in self.deploys] or [0.0]
        moves = self.moves_ms() or [(0, 0)]
        return self.report.result_line(
            deploys=len(self.deploys),
            wrong_slot=len(self.wrong),
            unhealthy=len(self.unhealthy),
            rate=f"{self.report.paced.rate:.0f}",
            deploy_median_s=f"{statistics.median(seconds):.1f}",
            flip_median_ms=f"{statistics.median(confirmed for _, confirmed in moves):.0f}",
            drain_median_s=f"{statistics.median(self.step_s('Drain') or [0.0]):.1f}",
        )


def short_mix(rate: float, limits: Limits) -> LoadMix:
    """Requests that are over at once: GET and POST, with keep-alive and without, to both services of the shop."""
    return LoadMix(
        rate=rate,
        limits=limits,
        streams=(
            Stream(Kind.GET, "/", share=0.35, name="get", timeout_s=60),
            Stream(Kind.GET, "/api/items", share=0.10, name="get from api", timeout_s=60),
            Stream(Kind.POST, "/echo", share=0.30, name="post", timeout_s=60),
            Stream(Kind.ONE_SHOT_GET, "/", share=0.15, name="one-shot get", timeout_s=60),
            Stream(Kind.ONE_SHOT_POST, "/echo", share=0.10, name="one-shot post", timeout_s=60),
        ),
    )


def limits_for(deploys: int, rate: float) -> Limits:
    """Bounds of the load that goes with so many deploys.

    What a machine that stood still has to catch up with comes in portions that one nginx worker can take, with the
    connections that it has by default (1024, two for each request).
    """
    seconds = min(_DAY_S, 120 + deploys * _DEPLOY_S)
    return Limits(duration_s=seconds, requests=min(20_000_000, int(rate * seconds * 1.2) + 10_000), in_flight=256)


def deploys_under_load(
    stack: Stack, deploys: int, mix: LoadMix, *words: str, variable: str = "SHOP_RELEASE", say: bool = False
) -> Soaked:
    """Deploy the releases s0, s1, … in a row; ends at the first deploy that fails, with what was seen until then.

    The environment variable that names the release is `variable`.
    """
    done: list[Driven] = []
    problem = ""
    few = int(mix.rate / 2)
    with HealthWatch(stack) as watch:
        with LoadProcess(mix, stack.url) as load:
            load.wait_requests(few * 2, _WAIT_S)
            clients = sum(stream.clients for stream in mix.streams if stream.kind is Kind.WEBSOCKET)
            load.wait_until(lambda now: now.websocket.opened >= clients, _WAIT_S, "all WebSockets are open")
            for number in range(deploys):
                load.mark(f"start {number}")
                driven = drive(stack, load, list(words), moved=f"moved {number}", **{variable: f"s{number}"})
                if driven.status != 0:
                    problem = f"deploy {number} failed: {driven}"
                    break
                done.append(driven)
                if say:
                    sys.stdout.write(f"deploy {number + 1} of {deploys}: {driven.seconds:.1f} s\n")
                    sys.stdout.flush()
                load.wait_requests(few + load.snapshot().in_flight, _WAIT_S)  # some of them were sent after it
            report = load.stop()
        unhealthy = watch.served_unhealthy(report)
    wrong = [line for number in range(len(done)) for line in wrong_answers(report, number)]
    return Soaked(report, done, wrong, unhealthy, problem)


def wrong_answers(report: Report, number: int) -> list[str]:
    """Answers of a release that was not live for sure after this deploy, in words; nor was it the next one's turn."""
    moved, begun, next_moved = f"moved {number}", f"start {number + 1}", f"moved {number + 1}"
    alone = report.wrong_after(moved, f"s{number}", begun if begun in report.marks else None)
    found = [f"after move {number}: {answer}" for answer in alone]
    if begun in report.marks:
        others = report.wrong_after(begun, f"s{number}", next_moved if next_moved in report.marks else None)
        found += [f"during deploy {number + 1}: {a}" for a in others if a.release != f"s{number + 1}"]
    return found


def main() -> None:
    """Bring the shop up, deploy it again and again, tell what the clients saw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deploys", type=int, default=20)
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--words", default="--drain 5s", help="Options of each deploy.")
    chosen = parser.parse_args()
    words = str(chosen.words).split()
    stack = shop("soak")
    try:
        stack.nself("init", "--yes")
        stack.nself(*words, SHOP_RELEASE="start")
        mix = LoadMix.standard(chosen.rate, limits=limits_for(chosen.deploys, chosen.rate))
        soaked = deploys_under_load(stack, chosen.deploys, mix, *words, say=True)
    finally:
        stack.remove()
    sys.stdout.write(soaked.report.table() + "\n")
    for fault in soaked.faults[:30]:
        sys.stdout.write(fault + "\n")
    sys.stdout.write(soaked.result_line() + "\n")
    raise SystemExit(1 if soaked.faults or soaked.report.failed else 0)


if __name__ == "__main__":
    main()
