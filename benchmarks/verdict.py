"""What a verdict costs: time of the judge per request, bytes that it writes down, lines of the log per second.

`python -m benchmarks.verdict`: ten seconds, one process. The exit status is 1 when an error costs more than the goal,
or fewer lines are read than the goal.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import process_time
from typing import NamedTuple

import msgspec

from nself_deploy.adapters.access_log import AccessLog
from nself_deploy.core.analysis import Analysis
from nself_deploy.core.evidence import Request
from nself_deploy.core.log_clock import Tick
from nself_deploy.core.log_line import Rules
from nself_deploy.core.log_moves import Move
from nself_deploy.core.log_position import LogPosition
from nself_deploy.core.model import Slot, Split
from nself_deploy.core.nginx_flags import bucket_slot
from nself_deploy.core.nginx_names import LOG_FIELDS
from nself_deploy.core.record_lines import encoded, packed
from nself_deploy.core.verdict import Judge

GOAL_US = 50.0
GOAL_LINES = 300_000
_LINES, _BEGAN, _SPLIT = 60_000, 1_800_000_000.0, Split(Slot.BLUE, Slot.GREEN, 10)
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


def log_lines() -> bytes:
    """Lines as nginx writes them: 5,000 clients at 200 requests/s, 1 % of them failed, a few tried again."""
    rng = random.Random(2)
    lines = []
    for number in range(_LINES):
        client = rng.randrange(5000)
        hundredth, fate = client % 100, rng.random()
        seconds = f"{0.05 * rng.lognormvariate(0.0, 0.3):.3f}"
        values = {
            "slot": bucket_slot(_SPLIT, hundredth).value,
            "route": "web_8000",
            "bucket": f"{hundredth:02d}",
            "client": f"{client * 199 % 1_000_000:06d}",
            "method": "GET",
            "status": "500" if fate < 0.01 else "200",
            "upstream_addr": "10.213.0.3:8000, 10.213.0.4:8000" if fate > 0.99 else "10.213.0.3:8000",
            "upstream_status": "502, 200" if fate > 0.99 else "500" if fate < 0.01 else "200",
            "upstream_connect_time": "0.000",
            "upstream_header_time": seconds,
            "upstream_response_time": f"0.001, {seconds}" if fate > 0.99 else seconds,
            "request_id": f"{rng.getrandbits(128):032x}",
        }
        bare = {"time": _BEGAN + 31 + round(number / _PER_S, 3), "request_time": float(seconds), "bytes_sent": 5321}
        lines.append(msgspec.json.encode({field: {**values, **bare}[field] for field in LOG_FIELDS}))
    return b"\n".join(lines) + b"\n"


class Speed(NamedTuple):
    """Lines per second of processor time, and lengths in bytes."""

    alone: float
    """Read and understood."""
    judged: float
    """With the judge behind it."""
    recorded: float
    """And with all that it was told written down for a replay (but for the disk)."""
    line: float
    record: float
    """A request in that record."""


def lines_per_s() -> Speed:
    """How many lines can be read, judged and recorded."""
    rules = Rules(Slot.GREEN, (Move(_SPLIT),), _BEGAN, "salt", patience_s=_CUTS[-1])
    data = log_lines()
    rows: list[tuple[float, float, float]] = []
    written = 0
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "access.log").write_bytes(data)
        for _ in range(_ROUNDS):
            log = AccessLog(Path(directory), lambda: rules, lambda: Tick(_BEGAN + 10_000.0, 0.0))
            judge = Judge.begin(Analysis(slo_error_rate=0.5), ("shop", "api"), _CUTS)
            position, written = LogPosition(), 0
            reading = judging = recording = 0.0
            while position.offset < len(data):
                began = process_time()
                read = log.read(position)
                reading += (between := process_time()) - began
                for request in read.requests:
                    judge.request(request)
                judging += (after := process_time()) - between
                written += len(encoded(packed(read.requests, _BEGAN, tuple(judge.routes), timed=True)))
                recording += process_time() - after
                assert (read.problem, read.skipped) == ("", 0)
                position = read.position
            rows.append((reading, reading + judging, reading + judging + recording))
    alone, judged, recorded = (_LINES / median(taken) for taken in zip(*rows, strict=True))
    return Speed(alone, judged, recorded, len(data) / _LINES, written / _LINES)


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
    speed = lines_per_s()
    lines += ["", f"| lines of {speed.line:.0f} bytes | per second |", "|---|---|"]
    lines += [f"| read and understood | {speed.alone:,.0f} |", f"| and judged, with times | {speed.judged:,.0f} |"]
    lines += [f"| and recorded, {speed.record:.1f} bytes each | {speed.recorded:,.0f} |"]
    result = f"RESULT us_per_error={dearest:.1f} lines_per_s={speed.alone:.0f} judged_per_s={speed.judged:.0f}"
    result += f" recorded_per_s={speed.recorded:.0f}"
    sys.stdout.write("\n".join(lines) + f"\n\n{result}\n")
    return int(dearest > GOAL_US or speed.alone < GOAL_LINES)


if __name__ == "__main__":
    raise SystemExit(main())
