"""What people look at and type: the worker's record, which containers are the same ones, loads that fit two cores."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.load import Kind, LoadMix, Report, Stream
from tests.load.mix import Limits
from tests.real.free_ports import free_port
from tests.real.stack import ROOT, Stack, copy_of, wait_for

QUICK = ["--drain", "3s", "--min-uptime", "1s", "--health-timeout", "240s", "--standby", "2h"]
"""A deploy for tests: its limits are short where waiting isn't the point, long where only a slow machine would fail."""
SHORT = [*QUICK, "--drain", "240s"]
"""The same where users ask short questions only: a drain ends with the last answer, however late a busy machine is."""
RATE = 40.0


def shop(prefix: str) -> Stack:
    """A copy of the shop that has the patience that a busy machine needs: its healthchecks, and who asks its stores.

    Each check is a process of its own, and several shops run at once: what is healthy is asked less often.
    """
    stack = copy_of("shop", prefix=prefix)
    compose = stack.root / "docker-compose.yml"
    text = compose.read_text()
    for hasty, patient in (
        ("timeout: 2s", "timeout: 20s"),
        ("timeout: 3s", "timeout: 20s"),
        ("retries: 5", "retries: 30"),
        ("interval: 1s", "interval: 20s\n      start_interval: 300ms"),
    ):
        assert hasty in text
        text = text.replace(hasty, patient)
    compose.write_text(text)
    stores = stack.root / "api/stores.py"
    text = stores.read_text()
    for hasty, patient in (
        ("CONNECT_SECONDS = 2.0", "CONNECT_SECONDS = 25.0"),
        ("ANSWER_SECONDS = 3.0", "ANSWER_SECONDS = 25.0"),  # twice that is less than nginx waits for an answer
    ):
        assert hasty in text
        text = text.replace(hasty, patient)
    stores.write_text(text)
    nginx = stack.root / "nginx/nginx.conf"
    # Connections of before `init` are cut this long after its reload: here that is after the first deploy in any case.
    nginx.write_text(nginx.read_text().replace("worker_shutdown_timeout 60s;", "worker_shutdown_timeout 600s;"))
    return stack


def unhurried(stack: Stack) -> Stack:
    """A shop that may take a minute to finish what is in flight when it is stopped: a busy machine cuts nothing short.

    It costs nothing: whoever has finished is stopped at once.
    """
    for file, hasty, patient in (
        ("docker-compose.yml", "stop_grace_period: 15s", "stop_grace_period: 60s"),
        ("common/serving.py", "STOP_WITHIN_SECONDS = 12.0", "STOP_WITHIN_SECONDS = 55.0"),
    ):
        path = stack.root / file
        text = path.read_text()
        assert hasty in text
        path.write_text(text.replace(hasty, patient))
    return stack


def site(compose: str = "compose.yaml") -> Stack:
    """A fresh copy of the site with one of its Compose files."""
    base = Path(tempfile.mkdtemp(prefix="nself-stack-"))
    name = f"site{secrets.token_hex(4)}"
    root = base / name
    shutil.copytree(ROOT / "tests/projects/site", root)
    os.chmod(base, 0o755)
    os.replace(root / compose, root / "compose.yaml")
    (root / "bare.yaml").unlink(missing_ok=True)
    return Stack(root, name, free_port(), {"API_PORT": str(free_port())})


@contextlib.contextmanager
def removed_at_the_end(*stacks: Stack) -> Iterator[None]:
    try:
        yield
    finally:
        for stack in stacks:
            stack.remove()


def served_by(stack: Stack, path: str = "/") -> str:
    """The site's release that answers: project/service/release."""
    return stack.get(path, timeout_s=60)[1].get("x-release", "")


def everyday_load(rate: float = RATE) -> LoadMix:
    """All kinds of clients of the shop, bounded, with the patience that a busy machine needs: late isn't lost."""
    mix = LoadMix.standard(rate, limits=Limits(duration_s=1500, requests=int(rate * 1500), connect_timeout_s=60))
    streams = tuple(replace(s, timeout_s=240, tick_timeout_s=120) for s in mix.streams)
    return replace(mix, streams=streams)


def page_load(rate: float = RATE, path: str = "/") -> LoadMix:
    """Short requests only: what fails, fails at once, so that the time without service can be read off."""
    return LoadMix(
        rate=rate,
        limits=Limits(duration_s=1500, requests=int(rate * 1500), connect_timeout_s=60),
        streams=(
            Stream(Kind.GET, path, share=0.5, name="get", timeout_s=60),
            Stream(Kind.ONE_SHOT_GET, path, share=0.5, name="one-shot get", timeout_s=60),
        ),
    )


def lives(stack: Stack, *services: str) -> dict[str, tuple[str, str]]:
    """Service -> id and start time of its one plain container; two would be a mistake."""
    found = stack.service_containers(*services)
    assert sorted(found) == sorted(services), found
    return found


def ids(stack: Stack, *services: str) -> dict[str, str]:
    """Service -> id of its plain container."""
    return {service: life[0] for service, life in lives(stack, *services).items()}


def told(report: Report) -> str:
    """The table, and when what happened in it."""
    marks = (f"  {at - report.started_at:9.3f} s  {name}" for name, at in report.marks.items())
    return "\n".join([report.table(), *marks])


def worker(stack: Stack) -> dict[str, Any]:
    """The worker's own record, once exactly one worker beats."""

    def one() -> dict[str, Any] | None:
        status, _, body = stack.get("/api/worker")
        record: dict[str, Any] = json.loads(body) if status == 200 else {}
        return record if len(record.get("running", ())) == 1 else None

    found: dict[str, Any] = wait_for(one, "exactly one worker")
    return found


def workers_running(stack: Stack) -> list[str]:
    """Names of all containers of the worker that run, wherever they are."""
    return sorted(c["Name"].lstrip("/") for c in stack.containers() if "worker" in c["Name"] and c["State"]["Running"])


def stray_apps(stack: Stack) -> list[str]:
    """Running plain containers of services that belong into slots."""
    apps = ("web", "api", "worker", "migrate")
    return sorted(
        c["Name"].lstrip("/")
        for c in stack.containers(stack.name)
        if c["Config"]["Labels"]["com.docker.compose.service"] in apps and c["State"]["Running"]
    )


def split(stack: Stack) -> str:
    """What the router's link says."""
    return (stack.root / ".nself/router/current").readlink().name
