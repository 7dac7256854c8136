"""Containers, networks and volumes of one test on the real engine, made and removed with the docker command."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from nself_deploy.adapters.docker_engine import DockerEngine
from nself_deploy.adapters.docker_host import EngineAddress

BUSYBOX = "busybox:1.37"
RUN_S = 600.0
POOL = "10.214.0.0/18"


def docker(*words: str, check: bool = True) -> str:
    """What a docker command prints."""
    done = subprocess.run(
        ["docker", *words], capture_output=True, text=True, timeout=RUN_S, check=False, stdin=subprocess.DEVNULL
    )
    assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


@contextlib.contextmanager
def events(project: str) -> Iterator[Iterator[str]]:
    """What happens to a Compose project's containers, as it comes: a busy engine remembers some seconds only."""
    now = time.time()
    span = ("--since", f"{now:.6f}", "--until", f"{now + 600:.0f}")
    ours = f"label=com.docker.compose.project={project}"
    mine = ("type=container", ours, "event=start", "event=kill", "event=destroy")
    filters = (word for condition in mine for word in ("--filter", condition))
    words = ["docker", "events", *span, *filters, "--format", "{{.Action}} {{.TimeNano}}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield iter(process.stdout)
        finally:
            process.kill()


async def until(condition: Callable[[], Awaitable[bool]], what: str, limit_s: float = 120.0) -> None:
    """Wait for a condition, with a bound."""
    start = time.monotonic()
    while not await condition():
        assert time.monotonic() - start < limit_s, f"not within {limit_s:g} s: {what}"
        await asyncio.sleep(0.05)


@dataclass
class Things:
    """Everything has the test's own name in front."""

    name: str = field(default_factory=lambda: f"nst{secrets.token_hex(4)}")

    def run(self, *words: str, name: str = "one", image: str = BUSYBOX, options: tuple[str, ...] = ()) -> str:
        """Start a container; its id."""
        own = ("--name", f"{self.name}-{name}", "--label", f"nst={self.name}")
        return docker("run", "-d", *own, *options, image, *words)

    def sleeper(self, name: str = "one", *options: str) -> str:
        """A container that does nothing and ends at once on SIGTERM, once it has said `ready`; its id."""
        return self.run("sh", "-c", "trap 'exit 0' TERM; echo ready; sleep 600 & wait", name=name, options=options)

    def network(self, name: str, *options: str) -> str:
        """Make a network that isn't ours; its full name."""
        docker("network", "create", *options, f"{self.name}_{name}")
        return f"{self.name}_{name}"

    def clean(self) -> None:
        """Remove all of it."""
        filters = [f"label=nst={self.name}", f"label=nself.deploy.project={self.name}"]
        filters += [f"label=com.docker.compose.project={self.name}{slot}" for slot in ("", "-blue", "-green")]
        for kind, listing in (
            ("container", ("ps", "-aq")),
            ("network", ("network", "ls", "-q")),
            ("volume", ("volume", "ls", "-q")),
        ):
            found = {i for f in (*filters, f"name={self.name}") for i in docker(*listing, "--filter", f).split()}
            if found:
                docker(kind, "rm", *(("-f", "-v") if kind == "container" else ()), *found)


@contextlib.asynccontextmanager
async def engine_at(host: str = "", pool: str = POOL) -> AsyncIterator[DockerEngine]:
    """An engine by address (the docker command's own by default), closed afterwards."""
    made = DockerEngine(EngineAddress(host, "the test") if host else None, pool=pool)
    try:
        yield made
    finally:
        await made.close()
