"""`make crash`: SIGKILL before and after every effect of every kind of run, on a real engine and nginx, under load.

Kinds: a deploy (with a standby to clear away and one to keep), one whose candidate never is healthy, one that fails
under traffic, a canary, a rollback to a warm slot, one to a release that must be started again, the adoption of a plain
stack, the resuming and aborting of a deploy that was killed when it had moved the traffic, a rollback of one service
with a deploy key (to a warm slot and to a release that must be started again), and the promoting and aborting of a
canary that is parked. Every boundary of each (see `tests/crash/child.py`, and for the last four
`tests/crash/writes.py`), none left out. After each kill users go on being served; then by turns `resume`, `abort`, the
next deploy or the same command again must put everything right: `tests/crash/checks.py` looks at it from outside.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.crash.lane import Share, Told, crash
from tests.crash.scenarios import SCENARIOS


def shares(names: list[str], parts: int) -> list[Share]:
    """Each scenario, dealt out in parts."""
    chosen = [s for s in SCENARIOS if not names or s.name in names]
    return [Share(s, first, parts) for s in chosen for first in range(1, parts + 1)]


def run(todo: list[Share], projects: int) -> list[Told]:
    """All shares, so many projects at once; a line for each kill as it happens."""
    lock, start = threading.Lock(), time.monotonic()

    def say(line: str) -> None:
        with lock:
            sys.stdout.write(f"{time.monotonic() - start:6.1f} s  {line}\n")
            sys.stdout.flush()

    def one(share: Share) -> Told:
        told = Told()
        try:
            crash(share, told, say)
        except Exception as error:  # whatever it is, the other lanes go on, and this one has failed
            told.problem = f"{share.scenario.name}: {type(error).__name__}: {error}"
            say(f"BAD {told.problem}")
        return told

    with ThreadPoolExecutor(projects) as pool:
        return list(pool.map(one, todo))


def result_line(told: list[Told], seconds: float) -> str:
    """`RESULT boundaries=… healed=… failed_requests=… leftovers=…` and what else was counted."""
    kills = [kill for lane in told for kill in lane.kills]
    values = {
        "boundaries": len(kills),
        "healed": sum(kill.healed for kill in kills),
        "failed_requests": sum(lane.failed for lane in told),
        "leftovers": sum(len(kill.leftovers) for kill in kills),
        "requests": sum(lane.requests for lane in told),
        "problems": sum(bool(lane.problem) for lane in told),
        "seconds": round(seconds),
    }
    return "RESULT " + " ".join(f"{name}={value}" for name, value in values.items())


def went_well(told: list[Told]) -> bool:
    """Every boundary healed, no request failed, nothing is left, and no lane gave up."""
    return all(not lane.problem and not lane.failed and all(kill.healed for kill in lane.kills) for lane in told)


def main() -> None:
    """Kill everything everywhere; status 1 unless all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(s.name for s in SCENARIOS)}")
    parser.add_argument("--projects", type=int, default=3, help="How many at once [3].")
    parser.add_argument("--parts", type=int, default=2, help="Into how many projects each scenario is dealt [2].")
    chosen = parser.parse_args()
    start = time.monotonic()
    told = run(shares(chosen.scenarios, chosen.parts), chosen.projects)
    for lane in told:
        for line in [*([lane.problem] if lane.problem else []), *lane.failures]:
            sys.stdout.write(f"{line}\n")
    sys.stdout.write(result_line(told, time.monotonic() - start) + "\n")
    raise SystemExit(0 if went_well(told) and any(lane.kills for lane in told) else 1)


if __name__ == "__main__":
    main()
