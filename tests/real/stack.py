"""A copy of an example as a user has it: a directory, name and port of its own; driven by the real programs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.real.free_ports import free_port

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 240.0
PROJECT = "com.docker.compose.project"


@dataclass
class Outcome:
    """What a program did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def text(self) -> str:
        return f"exit {self.status}\n{self.out}\n{self.err}"


@dataclass
class Stack:
    """One project. `env` is what its commands see beside the machine's environment."""

    root: Path
    name: str
    port: int
    env: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where users reach it, on loopback (through the published port)."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, **more: str) -> dict[str, str]:
        return {
            **os.environ,
            "COMPOSE_PROJECT_NAME": self.name,
            "SHOP_PORT": f"127.0.0.1:{self.port}",
            "SITE_PORT": f"127.0.0.1:{self.port}",
            **self.env,
            **more,
        }

    def run(self, *argv: str, timeout_s: float = 600.0, check: bool = True, **env: str) -> Outcome:
        """Any program in the project's directory."""
        done = subprocess.run(
            argv,
            cwd=self.root,
            env=self.environment(**env),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        outcome = Outcome(done.returncode, done.stdout, done.stderr)
        assert not check or outcome.status == 0, f"{' '.join(argv)}: {outcome.text}"
        return outcome

    def compose(self, *words: str, check: bool = True, **env: str) -> Outcome:
        """`docker compose …` as a person types it."""
        return self.run("docker", "compose", *words, check=check, **env)

    def nself(self, *words: str, check: bool = True, timeout_s: float = 600.0, **env: str) -> Outcome:
        """`nself deploy …`."""
        return self.run(
            sys.executable, "-m", "nself_deploy.cli.main", "deploy", *words, check=check, timeout_s=timeout_s, **env
        )

    def start_nself(self, *words: str, halts: Sequence[str] = (), **env: str) -> subprocess.Popen[str]:
        """`nself deploy …` in the background; it stands still after lines that begin like `halts`: `halting.py`."""
        program = ("nself_deploy.cli.main", "deploy")
        if halts:
            program = ("tests.real.halting", json.dumps(halts))
            env["PYTHONPATH"] = os.pathsep.join(
                filter(None, [str(ROOT), self.environment(**env).get("PYTHONPATH", "")])
            )
        return subprocess.Popen(
            [*self.inside(), sys.executable, "-m", *program, *words],
            cwd=self.root,
            env=self.environment(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def inside(self) -> tuple[str, ...]:
        """What comes before a command for it to run where the project is."""
        return ()

    def deploy(self, release: str, *words: str, check: bool = True, **env: str) -> Outcome:
        """Deploy a release of the shop."""
        return self.nself("--json", *words, check=check, SHOP_RELEASE=release, **env)

    def get(self, path: str, *, timeout_s: float = 60.0, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """One GET through the router: status, headers (lower case), body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()

    def get_json(self, path: str, *, timeout_s: float = 60.0) -> Any:
        status, _, body = self.get(path, timeout_s=timeout_s)
        assert status == 200, (path, status, body[:300])
        return json.loads(body)

    def release_served(self) -> str:
        """Which release answers users now."""
        return self.get("/")[1].get("x-shop-release", "")

    def releases_served(self, browsers: int = 20) -> set[str]:
        """Which releases answer users now who have different browsers: `release_served` asks for one of them only."""
        seen = (self.get("/", **{"User-Agent": f"browser {n}"})[1] for n in range(browsers))
        return {headers.get("x-shop-release", "") for headers in seen}

    def containers(self, project: str = "") -> list[dict[str, Any]]:
        """Containers of the project and its slots (or of one Compose project), as `docker inspect` shows them."""
        return inspected(self._ids(project))

    def _ids(self, project: str = "") -> list[str]:
        names = [project] if project else [self.name, f"{self.name}-blue", f"{self.name}-green"]
        words = ("--filter", f"label={PROJECT}", "--format", f'{{{{.ID}}}} {{{{.Label "{PROJECT}"}}}}')
        found = [line.split() for line in docker("ps", "--all", "--no-trunc", *words).splitlines()]
        return [container for name in names for container, of in found if of == name]

    def service_containers(self, *services: str) -> dict[str, tuple[str, str]]:
        """Plain containers of services: service -> (id, start time)."""
        return {
            c["Config"]["Labels"]["com.docker.compose.service"]: (c["Id"], c["State"]["StartedAt"])
            for c in self.containers(self.name)
            if c["Config"]["Labels"]["com.docker.compose.service"] in services
        }

    def slots(self) -> dict[str, list[str]]:
        """Slot -> names of its containers."""
        found: dict[str, list[str]] = {"blue": [], "green": []}
        for container in self.containers():
            slot = container["Config"]["Labels"][PROJECT].removeprefix(f"{self.name}-")
            if slot in found:
                found[slot].append(container["Name"].lstrip("/"))
        return {slot: sorted(names) for slot, names in found.items()}

    def state(self, relative: str) -> Any:
        """A JSON file of ours."""
        return json.loads((self.root / ".nself" / relative).read_text())

    def remove(self) -> None:
        """Everything of it, whatever state it is in; what is just being removed by somebody else is waited for."""
        for process in expirers(self.root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        wait_for(lambda: emptied(self._ids(), "rm", "-fv"), f"{self.name}'s containers are gone")
        for kind in ("network", "volume"):
            wait_for(partial(self._without, kind), f"{self.name}'s {kind}s are gone")
        for name in (f"{self.name}-*", f"nself-deploy/{self.name}-*"):
            wait_for(partial(self._without_images, name), f"the images {name} are gone")
        shutil.rmtree(self.root.parent, ignore_errors=True)

    def _without(self, kind: str) -> bool:
        return emptied(docker(kind, "ls", "-q", "--filter", f"name={self.name}").split(), kind, "rm")

    def _without_images(self, name: str) -> bool:
        listed = ("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={name}")
        return emptied(docker(*listed).split(), "rmi")


def expirers(root: Path) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if b"expire-standby" in words and str(root).encode() in words:
                yield int(entry.name)


def stands_still(process: int) -> bool:
    """Whether each of its threads was halted."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def docker(*words: str) -> str:
    """Run the docker command; its output."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
    return done.stdout


def inspected(ids: Sequence[str]) -> list[dict[str, Any]]:
    """Containers as `docker inspect` shows them, without those that are gone meanwhile."""
    if not ids:
        return []
    done = subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, timeout=300, check=False)
    wrong = [line for line in done.stderr.splitlines() if line and "no such" not in line.lower()]
    assert not wrong and (done.returncode == 0 or done.stderr), f"docker inspect: {done.stderr}"
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def emptied(found: Sequence[str], *words: str) -> bool:
    """Try to remove what was found, with these words of docker; whether there was nothing."""
    if found:
        subprocess.run(["docker", *words, *found], capture_output=True, timeout=300, check=False)
    return not found


def copy_of(example: str, *, prefix: str = "t") -> Stack:
    """A fresh copy of an example, or of a project of the tests, under a name of its own."""
    source = next(p for p in (ROOT / "examples" / example, ROOT / "tests" / "projects" / example) if p.is_dir())
    base = Path(tempfile.mkdtemp(prefix="nself-stack-"))
    name = f"{prefix}{secrets.token_hex(4)}"
    root = base / name
    shutil.copytree(source, root)
    os.chmod(base, 0o755)
    return Stack(root, name, free_port())


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """Wait until the condition gives something true; its value.

    It is asked again after as long as the question took, and half a second at most.
    """
    pause, until = threading.Event(), time.monotonic() + timeout_s
    while True:
        began = time.monotonic()
        with contextlib.suppress(OSError, http.client.HTTPException):
            value = condition()
            if value:
                return value
        now = time.monotonic()
        assert now < until, f"waited {timeout_s:g} s for {what}"
        pause.wait(min(0.5, max(0.05, now - began)))
