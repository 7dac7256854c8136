"""`make demo`: a real shop goes from release 1 to 2 and back under load, refuses a broken one, and no user notices."""

from __future__ import annotations

import sys
import time

from tests.load import LoadMix, LoadProcess
from tests.load.drive import Driven, drive, fail
from tests.load.mix import Limits
from tests.load.report import Report
from tests.real.stack import Stack, copy_of, docker

RATE = 200.0
QUICK = ["--drain", "5s"]


def say(text: str) -> None:
    """A line for the person who watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def act(title: str, stack: Stack, load: LoadProcess | None, words: list[str], expect: int, **env: str) -> Driven:
    """One act of the demo; ends the demo when it does not go as it should."""
    say(f"\n--- {title}: nself deploy {' '.join(words)}")
    if load is not None:
        load.mark(f"{title} begins")
    driven = drive(stack, load, words, moved=title, say=lambda line: say(f"    {line}"), **env)
    if driven.status != expect:
        fail(f"{title}: exit {driven.status}, expected {expect}")
    say(f"    ({driven.seconds:.1f} s, exit {driven.status})")
    return driven


def play(stack: Stack) -> tuple[Report, dict[str, Driven]]:
    """All acts, under load from the second on."""
    acts: dict[str, Driven] = {}
    act("init", stack, None, ["init", "--yes"], 0)
    acts["first deploy (release 1)"] = act("release 1", stack, None, QUICK, 0, SHOP_RELEASE="1")
    limits = Limits(duration_s=600, requests=200_000)
    say(
        f"\n--- load: {RATE:g} requests/s (GET, POST, keep-alive and not), downloads, slow answers, uploads, WebSockets"
    )
    with LoadProcess(LoadMix.standard(RATE, limits=limits), stack.url) as load:
        load.wait_requests(int(RATE))
        acts["deploy (release 2)"] = act("release 2", stack, load, QUICK, 0, SHOP_RELEASE="2")
        load.wait_requests(int(RATE))
        acts["rollback (to release 1, warm)"] = act("rollback", stack, load, ["rollback", *QUICK], 0, SHOP_RELEASE="2")
        load.wait_requests(int(RATE))
        broken = ["--health-timeout", "6s", *QUICK]
        acts["broken deploy (refused)"] = act(
            "broken", stack, load, broken, 5, SHOP_RELEASE="3", SHOP_VARIANT="unhealthy"
        )
        load.wait_requests(int(RATE))
        report = load.stop()
    say("\n--- status")
    for line in stack.nself("status").out.splitlines():
        say(f"    {line}")
    return report, acts


def main() -> None:
    """Play it, show the table, clean up."""
    start = time.monotonic()
    stack = copy_of("shop", prefix="demo")
    say("--- building the shop's images (cached after the first time)")
    try:
        for release, variant in (("1", "good"), ("2", "good"), ("3", "unhealthy")):
            stack.compose("build", "-q", SHOP_RELEASE=release, SHOP_VARIANT=variant)
        report, acts = play(stack)
    finally:
        stack.remove()
    say("")
    say(report.table())
    say("\nduration of each step")
    for title, driven in acts.items():
        say(f"  {title}: {driven.seconds:.1f} s")
        for status, name, seconds in driven.steps:
            say(f"    [{status}] {name:<45} {seconds:5.1f} s")
    wrong = len(report.wrong_after("release 2", "2", "rollback begins")) + len(report.wrong_after("rollback", "1"))
    if wrong:
        say(f"{wrong} requests were answered by the wrong release after a move was confirmed")
    deploys = len([d for d in acts.values() if d.status == 0])
    leftovers = len(docker("ps", "-aq", "--filter", f"name={stack.name}").split())
    say(f"total {time.monotonic() - start:.0f} s; leftovers: {leftovers} containers")
    say(report.result_line(deploys=deploys))
    raise SystemExit(1 if report.failed or wrong else 0)


if __name__ == "__main__":
    main()
