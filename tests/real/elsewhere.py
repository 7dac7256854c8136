"""The program as it would run on another machine: an identity and a patience of its own, and no `flock` if so wished.

`python -m tests.real.elsewhere '{"machine": …}' WORDS…` is `nself deploy WORDS…` there. With `"times": n` it is started
n times at once, each with a release of its own, and prints one JSON list with the exit status and the words of each.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import tempfile
from types import SimpleNamespace
from typing import Any, NoReturn

from nself_deploy.adapters import docker_lock, lock, system
from nself_deploy.cli.main import main
from nself_deploy.core.lock_rules import Patience

HEAVY = (
    "aiodocker",
    "nself_deploy.adapters.compose",
    "nself_deploy.adapters.docker_engine",
    "nself_deploy.adapters.probe",
    "nself_deploy.cli.running",
    "nself_deploy.wiring.router",
)
"""What every deploy imports on its way."""


def become(there: dict[str, Any]) -> None:
    """Change this process, and nothing else, into one of that machine."""
    if name := there.get("machine"):
        system.machine_id = lambda: name
        system.host_name = lambda: name
        system.boot_id = lambda: f"boot of {name}"
    if boot := there.get("boot"):
        system.boot_id = lambda: boot
    if scale := there.get("scale"):
        usual = Patience()
        limits = (usual.beat_s, usual.quiet_s, usual.silent_s, usual.watch_s)
        docker_lock.Patience = lambda: Patience(*(scale * limit for limit in limits))
    if not there.get("flock", True):
        lock.fcntl = SimpleNamespace(flock=lambda *_: None, LOCK_EX=0, LOCK_NB=0, LOCK_SH=0)


def many(there: dict[str, Any], words: list[str]) -> list[tuple[int, str]]:
    """Fork them all, then wait for all; what they all import is imported once, for it takes most of a second."""
    for module in HEAVY:
        importlib.import_module(module)
    with contextlib.ExitStack() as stack:
        started = []
        for number in range(there["times"]):
            kept = stack.enter_context(tempfile.TemporaryFile())
            pid = os.fork()
            if pid == 0:
                os.dup2(kept.fileno(), 1)
                os.dup2(kept.fileno(), 2)
                os.environ["RELEASE"] = f"{there['machine']}-{number}"
                patient = ["--wait", "25m"] if number < there.get("waiting", 0) else []
                _end([*words, *patient])
            started.append((pid, kept))
        ended = []
        for pid, kept in started:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            kept.seek(0)
            ended.append((status, kept.read().decode()))
        return ended


def _end(words: list[str]) -> NoReturn:
    try:
        status = main(["deploy", *words])
    except SystemExit as end:
        status = int(end.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    become(given)
    if "times" in given:
        print(json.dumps(many(given, sys.argv[2:])))
    else:
        _end(sys.argv[2:])
