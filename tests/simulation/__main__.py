"""Many histories, one after the other or in several processes: `python -m tests.simulation --seeds 5000`.

Ends with `RESULT histories=… violations=… faults_planted=… faults_found=…`; the status is 1 when there is a violation,
or when a planted fault (see `mutations`) was not found.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from functools import partial

from tests.simulation.history import played
from tests.simulation.mutations import MUTATIONS
from tests.simulation.schedule import Schedule, planned, read, words
from tests.simulation.shrinking import chunks, failing, found_within, shrunk

CHUNK = 100
SHOWN = 5
"""Failing seeds that are shrunk and shown."""
PATIENCE = 3000
"""Seeds within which a planted fault must be found."""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="play this one")
    parser.add_argument("--schedule", help="play this schedule (as it was printed)")
    parser.add_argument("--verbose", action="store_true", help="show every event of it")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--mutations", action="store_true", help="plant each fault, and say after how many seeds it is found"
    )
    asked = parser.parse_args()
    if asked.seed is not None or asked.schedule:
        return _one(read(asked.schedule) if asked.schedule else planned(asked.seed), verbose=asked.verbose)
    bad = _many(asked.start, asked.seeds, asked.processes)
    planted = found = 0
    if asked.mutations:
        planted, found = _mutations(asked.processes)
    print(
        f"RESULT histories={asked.seeds} violations={len(bad)} faults_planted={planted} faults_found={found}",
        flush=True,
    )
    return int(bool(bad) or found < planted)


def _one(schedule: Schedule, *, verbose: bool) -> int:
    print(words(schedule))
    report = played(schedule, verbose=verbose)
    print("".join(f"{line}\n" for line in report.log), end="")
    for violation in report.violations:
        print(f"VIOLATION {violation}")
    print(f"{report.events} events, {report.fired} faults, {report.seconds:.1f} virtual seconds, {report.digest:08x}")
    return int(bool(report.violations))


def _many(start: int, count: int, processes: int) -> list[int]:
    """The seeds that fail; the first ones are shrunk and shown."""
    began, done, bad = time.monotonic(), 0, []
    pieces = chunks(start, count, CHUNK)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for (first, end), found in zip(pieces, pool.imap(failing, pieces), strict=True):
            done += end - first
            for seed, _ in found:
                bad.append(seed)
                if len(bad) <= SHOWN:
                    _show(seed)
            if done % (20 * CHUNK) == 0:
                print(f"{done} histories in {time.monotonic() - began:.0f} s, {len(bad)} violations", flush=True)
    return bad


def _show(seed: int) -> None:
    schedule = shrunk(planned(seed))
    report = played(schedule, verbose=True)
    print(f"\nVIOLATION in seed {seed}: {'; '.join(report.violations[:3])}")
    print(f"make simulate SEED={seed}; the smallest history that still has it:\n{words(schedule)}")
    print("\n".join(report.log[-60:]), flush=True)


def _mutations(processes: int) -> tuple[int, int]:
    """How many faults were planted, and how many of them found."""
    count = 0
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        # Named by its module: a process that is spawned does not know what stands in this one.
        for name, (seeds, what) in zip(
            MUTATIONS, pool.imap(partial(found_within, seeds=PATIENCE), MUTATIONS), strict=True
        ):
            count += bool(seeds)
            print(f"{name:28} {f'found after {seeds:5} seeds: {what[:120]}' if seeds else 'NOT FOUND'}", flush=True)
    return len(MUTATIONS), count


if __name__ == "__main__":
    sys.exit(main())
