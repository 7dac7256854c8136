"""`make slo-drill`: a release that begins to fail ten seconds after it took all traffic, found by its objectives.

A watch runs; release 2 of the shop goes live under load and answers 500 to every twentieth request from its eleventh
second on. The watch must find it and roll it back, and no request may fail for another reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from tests.load import LoadMix, LoadProcess
from tests.load.drive import drive, fail
from tests.load.mix import Limits, Paths
from tests.load.records import Answer
from tests.load.report import Report
from tests.real.stack import Stack, copy_of

RATE = 100.0
QUICK = ["--drain", "5s"]
OBJECTIVES = "\nx-nself-deploy:\n  slo:\n    - availability: 99.9\n"
BAD, MOVED = "late-rare", "release 2"
FOUND_WITHIN_S = 120.0


def say(text: str) -> None:
    """A line for the person who watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def bad_answers(report: Report) -> list[Answer]:
    """What the bad release answered with 500, on purpose; oldest first."""
    return sorted((a for a in report.records if a.status == 500 and a.release == "2"), key=lambda a: a.end)


def play(stack: Stack) -> tuple[Report, dict[str, Any]]:
    """Both releases under load, until the watch has ended; the load's report and the watch's document."""
    for words, env in ((["init", "--yes"], {}), (QUICK, {"SHOP_RELEASE": "1"})):
        if (driven := drive(stack, None, words, say=say, **env)).status:
            fail(str(driven))
    limits = Limits(duration_s=400, requests=60_000)
    mix = LoadMix.standard(RATE, limits=limits, paths=Paths(page="/whoami"))
    with LoadProcess(mix, stack.url) as load:
        load.wait_requests(int(RATE) * 10)
        watch = stack.start_nself("watch", "--for", "5m", "--json")
        try:
            driven = drive(stack, load, QUICK, moved=MOVED, say=say, SHOP_RELEASE="2", SHOP_VARIANT=BAD)
            if driven.status:
                fail(str(driven))
            say("--- release 2 is live, and will answer 500 to 5 % of the requests")
            out, errors = watch.communicate(timeout=FOUND_WITHIN_S + 60)
        except subprocess.TimeoutExpired:
            fail("the watch did not end")
        finally:
            watch.kill()
            watch.wait(30)
        for line in errors.splitlines():
            say(f"    {line}")
        load.wait_requests(int(RATE) * 5)
        return load.stop(), json.loads(out)


def main() -> None:
    """Play it, show what was seen, clean up."""
    start = time.monotonic()
    stack = copy_of("shop", prefix="slo")
    compose = stack.root / "docker-compose.yml"
    compose.write_text(compose.read_text() + OBJECTIVES)
    say("--- building the shop's images (cached after the first time)")
    try:
        for release, variant in (("1", "good"), ("2", BAD)):
            stack.compose("build", "-q", SHOP_RELEASE=release, SHOP_VARIANT=variant)
        report, document = play(stack)
        served = stack.release_served()
    finally:
        stack.remove()
    bad = bad_answers(report)
    detect_s = bad[-1].end - bad[0].end if bad else 0.0
    ours = report.failed - len(bad)
    for alert in document["alerts"]:
        say(f"    {alert['at']}: {alert['objective']} ({alert['pace']}) burn {alert['burn']} over {alert['windows']}")
    if bad:
        say(f"first bad answer {bad[0].end - report.moment(MOVED):.1f} s after the traffic moved")
    say(report.table())
    say(f"total {time.monotonic() - start:.0f} s; release {served} is live")
    ui_state = document["ui_state"]
    say(f"RESULT ui_state={ui_state} detect_s={detect_s:.1f} bad_answers={len(bad)} failed_by_us={ours}")
    good = ui_state == "populated" and served == "1" and bad and detect_s < FOUND_WITHIN_S
    raise SystemExit(1 if ours or not good else 0)


if __name__ == "__main__":
    main()
