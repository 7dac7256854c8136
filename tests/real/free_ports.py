"""Ports for the tests that run at the same time: none is given twice, and no connection gets one by chance."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

PORTS = range(10_000, 20_000)
"""Below what the kernel gives to connections (32768 and up), and beside what the tool picks itself (20000 to 29999)."""

_held: list[int] = []


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, for this process alone until it ends."""
    locks = Path(tempfile.gettempdir()) / f"nself-test-ports-{os.getuid()}"
    locks.mkdir(exist_ok=True)
    for port in random.sample(PORTS, len(PORTS)):
        lock = os.open(locks / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _locked(lock) and _unused(port):
            _held.append(lock)  # given back by the kernel when the process ends, however it ends
            return port
        os.close(lock)
    raise AssertionError("no port is free")


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unused(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
