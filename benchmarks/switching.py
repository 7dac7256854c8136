"""Ways to switch traffic, compared under load, and what our include costs: `make bench`, about four minutes.

Real nginx and Docker; every load is bounded and goes to container addresses of this machine only. Prints two Markdown
tables; docs/benchmarks.md says how to read them.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence

from benchmarks import configs, tables
from benchmarks.flips import Round, run_round
from benchmarks.methods import InPlace, Method, Reload, Rename
from benchmarks.sites import BenchmarkError, Cpus, site
from benchmarks.throughput import Run, find_wrk, routers, run_wrk
from nself_deploy.core.model import Slot


def compare_switching(cpus: Cpus, rounds: int) -> dict[str, list[Round]]:
    """Rounds of each method, in turn: what else runs on the machine disturbs all of them alike."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(site(cpus))
        servers = {
            slot: f"{place.nginx(slot, configs.backend(slot), cpus.server)}:80" for slot in (Slot.BLUE, Slot.GREEN)
        }
        methods: list[Method] = []
        for make in (
            lambda: Rename(place, servers),
            lambda: Reload(place, servers),
            lambda: Reload(place, servers, "2s"),
            lambda: InPlace(place),
        ):
            methods.append(make())
            stack.callback(methods[-1].close)
        live = dict.fromkeys((method.name for method in methods), Slot.BLUE)
        results: dict[str, list[Round]] = {method.name: [] for method in methods}
        for number in range(rounds):
            for method in methods:
                done, live[method.name] = run_round(method, cpus.client, live[method.name])
                results[method.name].append(done)
                say(f"switching {number + 1}/{rounds} {method.name}: {done.requests} requests, failed {done.failed}")
    return results


def compare_throughput(cpus: Cpus, rounds: int, seconds: int) -> dict[str, list[Run]]:
    """Runs of each configuration, in turn; every second round goes the other way round."""
    wrk = find_wrk()
    with site(cpus) as place:
        compared = routers(place)
        for router in compared:
            run_wrk(wrk, router, cpus, 1)
        results: dict[str, list[Run]] = {router.name: [] for router in compared}
        for number in range(rounds):
            for router in compared if number % 2 == 0 else reversed(compared):
                done = run_wrk(wrk, router, cpus, seconds)
                results[router.name].append(done)
                say(f"throughput {number + 1}/{rounds} {router.name}: {done.per_s:.0f}/s, others {done.others:.0%}")
    return results


def say(text: str) -> None:
    """Progress, apart from the result."""
    sys.stderr.write(text + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both comparisons and print the tables; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each way to switch")
    parser.add_argument("--runs", type=int, default=20, help="runs of each configuration for the throughput")
    parser.add_argument("--seconds", type=int, default=1, help="length of one throughput run")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after Ctrl-C
    cpus = Cpus.of_this_machine()
    try:
        described = tables.machine()
        switched = compare_switching(cpus, chosen.rounds) if chosen.rounds > 0 else {}
        measured = compare_throughput(cpus, chosen.runs, chosen.seconds) if chosen.runs > 0 else {}
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; everything that was started is removed.\n")
        return 130
    sys.stdout.write(f"{described}\n")
    if switched:
        sys.stdout.write(f"\n{tables.switching(switched)}\n")
    if measured:
        sys.stdout.write(f"\n{tables.throughput(measured)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
