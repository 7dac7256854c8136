"""A Docker Engine to work with: the machine's own where there is one, else a private one from Debian's packages."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from parts import library_path, part_root
from places import DevenvError, cache_dir, run_dir, say

ASK_TIMEOUT_S = 15
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60
USUAL_MTU = 1500
_ENDED_S = 10
_REMEMBERED = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait")
_GET_MTU = 0x8921  # SIOCGIFMTU
_PROGRAMS = ("usr/bin", "usr/sbin", "usr/libexec/docker/cli-plugins")


def answers(environ: Mapping[str, str], *words: str) -> bool:
    """Whether `docker WORDS` succeeds with these variables."""
    program = shutil.which("docker", path=environ.get("PATH"))
    if program is None:
        return False
    try:
        done = subprocess.run(
            [program, *words],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def machine_has_engine() -> bool:
    """Whether the machine has an engine that answers, and a client with Compose v2 and Buildx."""
    return all(
        answers(os.environ, *words)
        for words in (("version", "--format", "{{.Server.Version}}"), ("compose", "version"), ("buildx", "version"))
    )


class PrivateEngine:
    """The engine that this project starts where the machine has none: at most one for each user."""

    def __init__(self) -> None:
        suite = os.environ.get("NSELF_DEV_SUITE", "trixie")
        self._part = f"engine-{suite}"
        self._run = run_dir()
        self._home_file = self._run / "home"
        self.home = cache_dir() / "engine"
        self.socket = self._run / "docker.sock"
        self.log = self.home / "dockerd.log"
        self._pid_file = self._run / "docker.pid"
        self._exec_root = self._run / "exec"
        self._keep_file = self._run / "keep"
        if self.pid() is not None and self._home_file.exists():  # another checkout may have started it
            self.home = Path(self._home_file.read_text(encoding="utf-8"))

    def environ(self) -> dict[str, str]:
        """The variables with which a docker client reaches this engine."""
        path = f"{self.home / 'bin'}:{os.environ.get('PATH', os.defpath)}"
        return {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.home / "config"), "PATH": path}

    def pid(self) -> int | None:
        """The daemon's process id, or None if it does not run."""
        try:
            pid = int(self._pid_file.read_text(encoding="ascii"))
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None
        return pid if name == "dockerd" else None

    def running(self) -> bool:
        """Whether the daemon runs and answers."""
        return self.pid() is not None and answers({**os.environ, **self.environ()}, "version")

    @property
    def keep(self) -> bool:
        """Whether the engine stays when its last user is gone."""
        return self._keep_file.exists()

    @keep.setter
    def keep(self, value: bool) -> None:
        if value:
            self._keep_file.touch()
        else:
            self._keep_file.unlink(missing_ok=True)

    def start(self) -> None:
        """Start the daemon and wait until it answers. Does nothing if it runs already."""
        if self.running():
            return
        if os.getuid() != 0:
            raise DevenvError("no Docker Engine with Compose v2 answers: start Docker, or run as root to start one")
        self._install()
        if self.pid() is not None:
            raise DevenvError(f"the private engine runs but does not answer: see {self.log}, then tools/engine stop")
        _refuse_beside_another()
        say("starting a private Docker Engine")
        self.home.joinpath("data").mkdir(parents=True, exist_ok=True)
        self._home_file.write_text(str(self.home), encoding="utf-8")
        with self.log.open("wb") as log:
            daemon = subprocess.Popen(
                self._argv(),
                env=self._daemon_environ(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.running():
            if daemon.poll() is not None or time.monotonic() > deadline:
                daemon.kill()
                daemon.wait()
                self._clean()
                raise DevenvError(f"the private engine did not start; the end of {self.log}:\n{self._log_tail()}")
            time.sleep(0.1)
        if "CI" in os.environ:
            _forget_ended_connections()

    def stop(self) -> None:
        """Stop the daemon with its containers, and remove what it leaves in the kernel and in the run directory."""
        if self.pid() is None and (self._exec_root / "containerd" / "containerd.pid").exists():
            say("the engine was killed: starting it again, so that it ends what it had started")
            self.start()
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while _alive(pid):
                if time.monotonic() > deadline:
                    say(f"the engine did not stop within {STOP_TIMEOUT_S} s: killing it")
                    os.kill(pid, signal.SIGKILL)
                    deadline += STOP_TIMEOUT_S
                time.sleep(0.05)
        self._clean()
        self.keep = False

    def _argv(self) -> list[str]:
        argv = [
            str(self.home / "bin" / "dockerd"),
            f"--host=unix://{self.socket}",
            f"--group={os.getgid()}",
            f"--data-root={self.home / 'data'}",
            f"--exec-root={self._exec_root}",
            f"--pidfile={self._pid_file}",
            f"--config-file={self.home / 'daemon.json'}",
            f"--init-path={self.home / 'bin' / 'docker-init'}",
            "--default-address-pool=base=172.16.0.0/12,size=24",  # the usual pools give about thirty networks only
            "--shutdown-timeout=10",
            "--log-opt=max-size=20m",
            "--log-opt=max-file=2",
        ]
        mtu = _route_mtu()
        if mtu < USUAL_MTU:
            argv += [f"--mtu={mtu}", f"--default-network-opt=bridge=com.docker.network.driver.mtu={mtu}"]
        return argv

    def _daemon_environ(self) -> dict[str, str]:
        root = part_root(self._part)
        plugins = next(iter(root.glob("usr/lib/*-linux-gnu/xtables")))
        return {
            **os.environ,
            "PATH": f"{self.home / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
            "LD_LIBRARY_PATH": library_path(root),
            "XTABLES_LIBDIR": str(plugins),
        }

    def _install(self) -> None:
        root = part_root(self._part)
        fresh = self.home / "part"
        if fresh.is_symlink() and fresh.readlink() == root:
            return
        programs = self.home / "bin"
        shutil.rmtree(programs, ignore_errors=True)
        programs.mkdir(parents=True)
        for directory in _PROGRAMS:
            for file in sorted((root / directory).glob("*")):
                with contextlib.suppress(FileExistsError):
                    (programs / file.name).symlink_to(file)
        self._choose_iptables(programs, root)
        plugins = self.home / "config" / "cli-plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        for name in ("docker-compose", "docker-buildx"):
            (plugins / name).unlink(missing_ok=True)
            (plugins / name).symlink_to(programs / name)
        (self.home / "config" / "config.json").write_text("{}\n", encoding="utf-8")
        (self.home / "daemon.json").write_text("{}\n", encoding="utf-8")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(root)

    def _choose_iptables(self, programs: Path, root: Path) -> None:
        environ = self._daemon_environ()
        ask = [str(programs / "iptables-nft"), "--wait", "-t", "nat", "-L", "-n"]
        works = subprocess.run(ask, env=environ, capture_output=True, check=False).returncode == 0
        flavour = "nft" if works else "legacy"
        for base in ("iptables", "ip6tables"):
            for verb in ("", "-save", "-restore"):
                (programs / f"{base}{verb}").symlink_to(root / "usr/sbin" / f"{base}-{flavour}{verb}")

    def _clean(self) -> None:
        """Unmount what a daemon left below its directories, and empty the run directory but for the users' lock."""
        homes = (str(self._exec_root), str(self.home / "data"))
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(homes)), reverse=True):
            subprocess.run(["umount", "--lazy", mount], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        shutil.rmtree(self._exec_root, ignore_errors=True)
        for path in (self.socket, self._pid_file, self._home_file):
            path.unlink(missing_ok=True)

    def _log_tail(self) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-15:])


def _alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be reaped does not."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"


def _forget_ended_connections() -> None:
    """Let the packet filter forget a connection ten seconds after its end; a setting of the whole machine.

    The engine reads all that the filter knows whenever a container comes or goes, and loads leave tens of thousands
    behind: two thirds of the engine's own time.
    """
    try:
        _REMEMBERED.write_text(f"{_ENDED_S}\n", encoding="ascii")
    except OSError as error:
        say(f"the packet filter goes on remembering ended connections for long: {error}")


def _refuse_beside_another() -> None:
    """Raise if a Docker daemon runs in this network already: a second one would replace its packet filter's rules."""
    here = os.readlink("/proc/self/ns/net")
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "comm").read_text().strip() == "dockerd" and os.readlink(entry / "ns/net") == here:
                raise DevenvError(
                    f"a Docker daemon runs here (process {entry.name}), but `docker version`, `docker compose version` "
                    "or `docker buildx version` fails: make it usable (DOCKER_HOST? plug-ins?), or stop it"
                )


def _route_mtu() -> int:
    """The MTU of the interface with the default route: a larger one inside containers would lose packets."""
    for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
        interface, destination = line.split()[:2]
        if destination == "00000000":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                request = struct.pack("16si12x", interface.encode(), 0)
                return int(struct.unpack("16si12x", fcntl.ioctl(any_socket, _GET_MTU, request))[1])
    return USUAL_MTU


def status() -> str:
    """One JSON line: which engine is in use, and where."""
    engine = PrivateEngine()
    if engine.running():
        return json.dumps({"engine": "private", "socket": str(engine.socket), "pid": engine.pid(), "keep": engine.keep})
    return json.dumps({"engine": "machine" if machine_has_engine() else "none"})


if __name__ == "__main__":
    sys.exit("run tools/engine instead")
