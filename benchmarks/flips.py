"""Switches under load, and what the clients saw of them."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import dataclass

from benchmarks.configs import RELEASE_HEADER
from benchmarks.methods import Method
from benchmarks.sites import pinned
from nself_deploy.core.model import Slot
from tests.load import Kind, Limits, LoadMix, LoadProcess, Outcome, Report, Stream

CLIENTS = 32
THINK_S = 0.005
BODY_BYTES = 2048
_WARM_UP = 500

_POST = Stream(
    Kind.POST,
    "/",
    clients=CLIENTS,
    think_s=THINK_S,
    body_bytes=BODY_BYTES,
    check_echo=False,
    timeout_s=5.0,
    name="post",
)
MIX = LoadMix((_POST,), limits=Limits(duration_s=60.0, requests=200_000), release_header=RELEASE_HEADER)


@dataclass(frozen=True)
class Round:
    """One round of one method."""

    requests: int
    failed: dict[str, int]
    """Category -> failed requests."""
    gap_ms: float
    """Longest time without a good answer, from the first switch on."""
    old_ms: list[float]
    """For each switch: from the decision to the last answer of the old slot."""
    took_ms: list[float]
    """For each switch: how long the one who switches was busy."""


def run_round(method: Method, client_cpu: int, live: Slot) -> tuple[Round, Slot]:
    """Load for `round_s` seconds, with switches `pause_s` apart; the counts, and the slot that is live now."""
    moments: list[tuple[float, Slot]] = []
    took_ms = []
    with contextlib.ExitStack() as stack:
        with pinned(client_cpu):
            load = stack.enter_context(LoadProcess(MIX, f"http://{method.address}"))
        load.wait_requests(_WARM_UP)
        begin = time.monotonic()
        while time.monotonic() - begin < method.round_s:
            decided = time.monotonic()
            moments.append((decided, live))
            live = live.other
            method.switch(live)
            took_s = time.monotonic() - decided
            took_ms.append(took_s * 1000)
            time.sleep(method.pause_s)
        report = load.stop()
    return _judge(report, moments, took_ms), live


def _judge(report: Report, moments: list[tuple[float, Slot]], took_ms: list[float]) -> Round:
    failed = Counter(str(answer.outcome) for answer in report.records if answer.outcome is not Outcome.OK)
    return Round(
        requests=report.requests,
        failed=dict(failed),
        gap_ms=report.gap_ms(moments[0][0]),
        old_ms=last_of_old(report, moments),
        took_ms=took_ms,
    )


def last_of_old(report: Report, moments: list[tuple[float, Slot]]) -> list[float]:
    """Milliseconds from each decision to the last answer (before the next decision) of the slot that was live."""
    ends = [decided for decided, _ in moments[1:]] + [report.ended_at + 1]
    result = []
    answers = [(answer.end, answer.release) for answer in report.records if answer.status]
    for (decided, old), until in zip(moments, ends, strict=True):
        last = max((end for end, release in answers if release == old and decided <= end < until), default=decided)
        result.append((last - decided) * 1000)
    return result
