"""What the router can do with and without our include, measured with wrk at saturation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks import configs
from benchmarks.methods import our_router
from benchmarks.sites import BenchmarkError, Cpus, Site, docker, pinned
from nself_deploy.core.model import Slot
from nself_deploy.core.nginx_flags import RECORDING

CONNECTIONS = 32
_ROOT = Path(__file__).resolve().parents[1]
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_TICKS = "cat /proc/[0-9]*/stat"
_OURS = {
    "client": ("our include, key: address + user agent", "client", False),
    "random": ("our include, key: `$request_id`", "random", False),
    "recording": ("our include while it keeps its access log", "client", True),
}
"""Role -> what it is called, the key, whether our access log is kept (as it is while a deploy is being judged)."""


@dataclass(frozen=True)
class Run:
    """One run of wrk."""

    per_s: float
    p99_ms: float
    cpu_us: float
    """Processor time of the router's processes per request."""
    others: float
    """Share of the router's processor that something else had (0 to 1)."""


@dataclass(frozen=True)
class Router:
    """One configuration under test."""

    name: str
    container: str
    address: str


def routers(site: Site) -> list[Router]:
    """The configurations that are compared, in front of one backend that answers 204."""
    server = f"{site.nginx('empty', configs.backend('', 'return 204'), site.cpus.client)}:80"
    servers = {Slot.BLUE: server, Slot.GREEN: server}
    log = configs.USUAL_LOG
    plain = site.nginx("plain", configs.plain(server, log, workers=1), site.cpus.server)
    found = [Router("plain `proxy_pass`", site.container("plain"), plain)]
    for role, (name, sticky, recording) in _OURS.items():
        address, store = our_router(site, role, servers, configs.ours(log, workers=1), sticky)
        if recording:
            (store.directory / RECORDING).touch()
        found.append(Router(name, site.container(role), address))
    return found


def find_wrk() -> str:
    """The program wrk: the machine's own, else the one from the cache of development tools.

    Raises:
        BenchmarkError: there is none, and it can't be had.
    """
    if own := shutil.which("wrk"):
        return own
    done = subprocess.run([_ROOT / "tools" / "part", "wrk"], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise BenchmarkError(f"the throughput runs need wrk: install the package wrk. ({done.stderr.strip()})")
    return done.stdout.strip()


def run_wrk(wrk: str, router: Router, cpus: Cpus, seconds: int) -> Run:
    """One run at saturation, with one thread on one processor.

    Raises:
        BenchmarkError: wrk failed, or a request did.
    """
    words = [
        wrk,
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "--timeout",
        "10s",
        "--latency",
        f"http://{router.address}/",
    ]
    before, busy_before, all_before = _worker_ticks(router.container), *_cpu_ticks(cpus.server)
    with pinned(cpus.client):
        done = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds + 30, check=False
        )
    text = done.stdout
    if done.returncode or "Non-2xx" in text or "Socket errors" in text:
        raise BenchmarkError(f"wrk against {router.name}: {text}")
    requests = int(_found(r"(\d+) requests in", text)[0])
    number, unit = _found(r"99%\s+([\d.]+)(us|ms|s)\b", text)
    busy, everything = _cpu_ticks(cpus.server)
    own = _worker_ticks(router.container) - before
    return Run(
        per_s=float(_found(r"Requests/sec:\s+([\d.]+)", text)[0]),
        p99_ms=float(number) * _UNITS[unit],
        cpu_us=own / os.sysconf("SC_CLK_TCK") / requests * 1e6,
        others=max(0.0, (busy - busy_before - own) / (everything - all_before)),
    )


def _found(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text)
    if not match:
        raise BenchmarkError(f"wrk printed nothing like {pattern!r}: {text}")
    return match.groups()


def _worker_ticks(container: str) -> int:
    """Clock ticks that the nginx processes of a container have used, in user and kernel."""
    lines = docker("exec", container, "sh", "-c", _TICKS).splitlines()
    fields = [line.rpartition(")")[2].split() for line in lines if "(nginx)" in line]
    return sum(int(field[11]) + int(field[12]) for field in fields)


def _cpu_ticks(cpu: int) -> tuple[int, int]:
    """Clock ticks of a processor since the machine started: of processes (interrupts left out), and all."""
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        name, *numbers = line.split()
        if name == f"cpu{cpu}":
            ticks = [int(number) for number in numbers[:8]]
            return sum(ticks[:3]), sum(ticks)
    raise BenchmarkError(f"/proc/stat knows no processor {cpu}.")
