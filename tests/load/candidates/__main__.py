"""`make canaries`: a shop under load is given one candidate after the other, and every verdict must be right.

A healthy one ten times; then one that fails always, often, rarely, late, for POST alone, on one route alone, that is
slow, hangs or crashes; an outage of the database that both versions share; no users at all; and bad words. Two shops
side by side, at 50 requests per second each. The last line is the RESULT; status 1 when anything is not as it must be.
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import msgspec

from tests.load.candidates.kinds import CANDIDATES, HEALTHY, Candidate, named
from tests.load.candidates.trial import Tried, bad_words, shop, tried
from tests.real.stack import Stack

BAD_INPUT = "bad input"
TIMES = 10
"""So often the healthy one is tried."""
_WIDTHS = (27, 13, 5, 8, 14, 9, 9, 6, 6, 7)
_HEAD = ("candidate", "verdict", "exit", "seconds", "found within", "requests", "answered", "hit", "judge", "by us")


def say(text: str) -> None:
    """A line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def row(one: Tried) -> str:
    """A line of the table."""
    seconds = "" if one.seconds is None else f"{one.seconds:.1f}"
    cells = (one.name, one.verdict or "none", one.status, seconds, one.expected, one.requests, one.answered)
    line = "".join(
        f"{cell!s:<{width}}" for cell, width in zip((*cells, one.hit, one.counted, one.by_us), _WIDTHS, strict=True)
    )
    return "\n".join([line.rstrip(), *(f"    NOT AS EXPECTED: {what}" for what in one.wrong)])


def table(found: list[Tried]) -> str:
    """All of them. `requests` of bad input are tries; `judge` is how many of the users who were hit the judge knew."""
    head = "".join(f"{title:<{width}}" for title, width in zip(_HEAD, _WIDTHS, strict=True)).rstrip()
    return "\n".join([head, *map(row, found)])


def result_line(found: list[Tried]) -> str:
    """`RESULT candidates=… as_expected=… healthy_promoted=…/… failed_by_us=…`."""
    healthy = [one for one in found if one.name == HEALTHY.name]
    promoted = sum(not one.wrong for one in healthy)
    return (
        f"RESULT candidates={len(found)} as_expected={sum(not one.wrong for one in found)} "
        f"healthy_promoted={promoted}/{len(healthy)} failed_by_us={sum(one.by_us for one in found)}"
    )


def lane(name: str, todo: queue.SimpleQueue[str], done: list[Tried], lock: threading.Lock) -> None:
    """A shop, and candidates for it as long as there are any."""
    stack = shop(name)
    try:
        number = 0
        while not todo.empty():
            try:
                what = todo.get_nowait()
            except queue.Empty:
                return
            number += 1
            one = bad_words(stack) if what == BAD_INPUT else _safely(stack, named(what), f"{name}{number}")
            with lock:
                done.append(one)
                say(row(one))
    finally:
        stack.remove()


def _safely(stack: Stack, candidate: Candidate, release: str) -> Tried:
    """One that ends in an error of ours is not as expected; the others go on."""
    try:
        return tried(stack, candidate, release)
    except Exception as error:
        stack.nself("abort", check=False)
        return Tried(candidate.name, str(candidate.found), wrong=[f"{type(error).__name__}: {error}"])


def run(names: list[str], shops: int) -> list[Tried]:
    """Try them, in so many shops at once."""
    todo, done, lock = queue.SimpleQueue[str](), list[Tried](), threading.Lock()
    for name in names:
        todo.put(name)
    with ThreadPoolExecutor(shops) as pool:
        lanes = [pool.submit(lane, f"cand{chr(ord('a') + n)}", todo, done, lock) for n in range(shops)]
        for one in lanes:
            one.result()
    return done


def main() -> None:
    """Try all, or those that are named; status 1 unless each is as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*(c.name for c in CANDIDATES), BAD_INPUT, *[HEALTHY.name] * TIMES]
    known = sorted(set(every))
    parser.add_argument("names", nargs="*", metavar="CANDIDATE", help=f"of: {', '.join(known)}".replace("%", "%%"))
    parser.add_argument("--shops", type=int, default=2, help="How many at once [2].")
    parser.add_argument("--save", type=Path, help="Write what became of them here.")
    parser.add_argument("--load", type=Path, nargs="+", default=[], help="Put what was written together with it.")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(known):
        parser.error(f"no such candidate: {', '.join(sorted(unknown))}")
    start = time.monotonic()
    found = [one for path in chosen.load for one in msgspec.json.decode(path.read_bytes(), type=list[Tried])]
    if chosen.names or not found:
        found += run(chosen.names or every, min(chosen.shops, len(chosen.names or every)))
    if chosen.save:
        chosen.save.write_bytes(msgspec.json.format(msgspec.json.encode([asdict(one) for one in found])))
    order = [HEALTHY.name, *reversed([c.name for c in CANDIDATES]), BAD_INPUT]
    say("\n" + table(sorted(found, key=lambda one: order.index(one.name))))
    say(f"\n{time.monotonic() - start:.0f} s\n{result_line(found)}")
    raise SystemExit(1 if not found or any(one.wrong for one in found) else 0)


if __name__ == "__main__":
    main()
