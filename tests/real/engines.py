"""A container engine of a test's own, in a network of its own, that may be restarted; and projects that live there."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import shutil
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.real.stack import Outcome, Stack, docker, wait_for

IMAGES = ("nginx:1.30-alpine", "busybox:1.37")
_NETWORK = 0x40000000  # CLONE_NEWNET


class OwnEngine:
    """A real dockerd with its own data, network and containers. Needs root.

    Inside `with` it is the engine of every docker command of this process.

    Args:
        live_restore: whether its containers outlive it.
    """

    def __init__(self, *, live_restore: bool) -> None:
        assert os.geteuid() == 0, "an engine of its own can be started by root only"
        self._directory = Path(tempfile.mkdtemp(prefix="nself-engine-"))
        self._live_restore = live_restore
        self._holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up && exec sleep 3600"])
        self._daemon: subprocess.Popen[bytes] | None = None
        self.network = f"/proc/{self._holder.pid}/ns/net"
        self.socket = self._directory / "docker.sock"
        self.host = f"unix://{self.socket}"
        self._user = ThreadPoolExecutor(1, initializer=self._enter)
        self._environ = pytest.MonkeyPatch()

    def __enter__(self) -> Self:
        wait_for(lambda: os.readlink(self.network) != os.readlink("/proc/self/ns/net"), "the network")
        archive = self._directory / "images.tar"
        docker("save", "-o", str(archive), *IMAGES)
        self._environ.setenv("DOCKER_HOST", self.host)
        self.start()
        docker("load", "-i", str(archive))
        archive.unlink()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if ids := docker("ps", "-aq").split():
                docker("rm", "-fv", *ids)
            self.stop()
        finally:
            self._environ.undo()
            self._user.shutdown()
            self._clean()

    def _clean(self) -> None:
        self._holder.kill()
        self._holder.wait()
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(str(self._directory))), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self._directory, ignore_errors=True)

    def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        for left in ("docker.pid", "exec/containerd/containerd.pid"):  # of a killed one: the id may be another's by now
            (self._directory / left).unlink(missing_ok=True)
        with (self._directory / "dockerd.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                ["nsenter", f"--net={self.network}", *self._argv()],
                env=_daemon_environ(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers, "the engine")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon by this signal."""
        if self._daemon is not None:
            self._daemon.send_signal(number)
            self._daemon.wait(300)
            self._daemon = None

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """As a package's upgrade does it; with SIGKILL as a crash does."""
        self.stop(number)
        self.start()

    def get(self, address: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """One GET by a user inside the engine's network."""
        return self._user.submit(_get, address, path, headers).result()

    def _enter(self) -> None:
        """Let this thread, and nothing else, live in the engine's network."""
        with open(self.network) as network:
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.setns(network.fileno(), _NETWORK) == 0, os.strerror(ctypes.get_errno())

    def _answers(self) -> bool:
        assert self._daemon is not None and self._daemon.poll() is None, "the engine ended"
        with contextlib.suppress(AssertionError):
            return bool(docker("version", "--format", "{{.Server.Version}}"))
        return False

    def _argv(self) -> list[str]:
        program = shutil.which("dockerd", path=_daemon_environ()["PATH"])
        assert program, "dockerd is not on this machine"
        (self._directory / "daemon.json").write_text("{}\n")
        return [
            program,
            f"--host={self.host}",
            f"--data-root={self._directory / 'data'}",
            f"--exec-root={self._directory / 'exec'}",
            f"--pidfile={self._directory / 'docker.pid'}",
            f"--config-file={self._directory / 'daemon.json'}",
            "--shutdown-timeout=10",
            *(["--live-restore"] if self._live_restore else []),
        ]


def _get(address: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(address, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()


def _daemon_environ() -> dict[str, str]:
    """What a daemon from Debian's packages needs to find its libraries, when it is one: see tools/devenv."""
    found = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    program = shutil.which("dockerd", path=found["PATH"])
    root = next((p for p in Path(program or "/").resolve().parents if p.name == "usr"), Path("/usr")).parent
    if root != Path("/"):
        found["LD_LIBRARY_PATH"] = ":".join(
            map(str, (*root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu")))
        )
        found["XTABLES_LIBDIR"] = str(next(root.glob("usr/lib/*-linux-gnu/xtables")))
    return found


class Abroad(Stack):
    """A project on an engine of its own: its commands and its users are in that engine's network."""

    engine: OwnEngine

    def run(self, *argv: str, timeout_s: float = 240.0, check: bool = True, **env: str) -> Outcome:
        return super().run(*self.inside(), *argv, timeout_s=timeout_s, check=check, **env)

    def get(self, path: str, *, timeout_s: float = 60.0, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Straight at the router's container: the proxy for published ports is the engine's, and goes with it."""
        return self.engine.get(self.address, path, headers)

    address = ""

    def find_router(self) -> None:
        """Where the router is now."""
        found = docker(
            "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", f"{self.name}-router-1"
        )
        self.address = found.split()[0]

    def inside(self) -> tuple[str, ...]:
        return ("nsenter", f"--net={self.engine.network}")
