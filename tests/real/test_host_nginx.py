"""The nginx of the machine itself (Debian 12: 1.22.1) as the router: taken over once, then nobody notices a deploy."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.load import LoadMix
from tests.load.drive import drive
from tests.load.soak import Soaked, deploys_under_load, limits_for
from tests.real import people
from tests.real.free_ports import free_port
from tests.real.stack import ROOT, Stack, docker, wait_for

pytestmark = [pytest.mark.real, pytest.mark.alone]

DEPLOYS = 4
WORKERS = 2
RATE = 300.0
LAG_S = 20.0
"""So far may the load be behind its rate when it is stopped: a machine that stood still is caught up with later."""
QUICK = ["--drain", "3s", "--min-uptime", "1s", "--health-timeout", "240s"]
CONF = """\
worker_processes 2;
pid {base}/nginx.pid;
error_log {base}/error.log warn;
worker_shutdown_timeout 60s;

events {{
    worker_connections 4096;
}}

http {{
    default_type application/octet-stream;
    access_log {base}/access.log;
    client_body_temp_path {base}/body;
    proxy_temp_path {base}/proxy;
    fastcgi_temp_path {base}/fastcgi;
    uwsgi_temp_path {base}/uwsgi;
    scgi_temp_path {base}/scgi;

    sendfile on;
    keepalive_timeout 65s;
    client_max_body_size 32m;
    gzip on;

    include {base}/sites/*.conf;
}}
"""


@dataclass
class HostNginx:
    """A user's nginx on this machine, with files of its own outside the project."""

    base: Path
    bin: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def master(self) -> int:
        return int((self.base / "nginx.pid").read_text())

    def words(self) -> list[str]:
        conf = str(self.base / "nginx.conf")
        return [self.bin, "-c", conf, "-p", str(self.base), "-e", str(self.base / "error.log")]

    def start(self, port: int) -> None:
        self.process = subprocess.Popen(
            [*self.words(), "-g", "daemon off;"], stdin=subprocess.DEVNULL, start_new_session=True
        )
        wait_for(lambda: (self.base / "nginx.pid").exists() and listens(port), "nginx listens")

    def stop(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGQUIT)
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(120)
            self.process = None

    def workers(self) -> list[int]:
        """Its worker processes."""
        children = Path(f"/proc/{self.master}/task/{self.master}/children").read_text().split()
        return sorted(int(pid) for pid in children)


def listens(port: int) -> bool:
    """Whether somebody listens on this port of loopback."""
    wanted = f"0100007F:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1] == wanted and row[3] == "0A" for row in rows)


def host_project(stack: Stack, nginx: HostNginx) -> None:
    """The shop without its nginx service: web and api on published ports, the machine's nginx in front."""
    ports = {"web": (free_port(), 8000), "api": (free_port(), 9000)}
    file = stack.root / "docker-compose.yml"
    text = re.sub(r"\n  router:\n.*?\n(?=\n  web:)", "\n", file.read_text(), flags=re.DOTALL)
    text = text.replace("logging: *logging", "logging: &logging\n      driver: local", 1)
    for service, (published, port) in ports.items():
        text = text.replace(f"\n  {service}:\n", f'\n  {service}:\n    ports: ["127.0.0.1:{published}:{port}"]\n', 1)
    keys = {"config": nginx.base / "nginx.conf", "bin": nginx.bin, "prefix": nginx.base}
    keys["pid_file"] = nginx.base / "nginx.pid"
    host = ", ".join(f'{key}: "{value}"' for key, value in keys.items())
    file.write_text(f"{text}\nx-nself-deploy:\n  router:\n    host: {{{host}}}\n")
    site = (stack.root / "nginx/conf.d/shop.conf").read_text()
    for service, (published, port) in ports.items():
        site = site.replace(f"http://{service}:{port}", f"http://127.0.0.1:{published}")
    site = site.replace("listen 80;", f"listen 127.0.0.1:{stack.port};")
    (nginx.base / "sites/shop.conf").write_text(site)


def show(what: str, soaked: Soaked) -> None:
    print(f"\n{what}\n{soaked.report.table()}\n{soaked.result_line()}")
    print(f"deploys (s): {' '.join(f'{d.seconds:.1f}' for d in soaked.deploys)}")
    print(f"rename/confirmed (ms): {' '.join(f'{rename}/{seen}' for rename, seen in soaked.moves_ms())}")


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Stack, HostNginx]]:
    """The shop, up by plain Compose and served by nginx; then init and a first deploy."""
    part = subprocess.run(
        [str(ROOT / "tools/part"), "nginx-1.22"], capture_output=True, text=True, timeout=300, check=True
    )
    stack = people.unhurried(people.shop("host"))
    nginx = HostNginx(stack.root.parent / "etc", part.stdout.strip())
    try:
        (nginx.base / "sites").mkdir(parents=True)
        (nginx.base / "nginx.conf").write_text(CONF.format(base=nginx.base))
        host_project(stack, nginx)
        stack.compose("up", "-d", "--wait", SHOP_RELEASE="plain")
        nginx.start(stack.port)
        yield stack, nginx
    finally:
        nginx.stop()
        stack.remove()


def test_init_takes_a_running_site_over(site: tuple[Stack, HostNginx]) -> None:
    stack, _ = site
    assert stack.release_served() == "plain"
    shown = stack.nself("init", "--yes").out
    assert "nginx 1.22.1: a reload can cut idle keep-alive connections" in shown, shown
    assert (stack.release_served(), stack.get("/api/items")[0]) == ("plain", 200)
    first = drive(stack, None, QUICK, SHOP_RELEASE="first")
    assert first.status == 0, first
    assert stack.release_served() == "first"
    assert not stack.service_containers("web", "api"), "the plain copies are gone"
    assert "nself" not in str(stack.get("/")[1]).lower(), "something about slots is shown to the public"


def test_deploys_through_the_machines_nginx(site: tuple[Stack, HostNginx]) -> None:
    stack, nginx = site
    assert stack.release_served() == "first"
    before = wait_for(lambda: len(found := nginx.workers()) == WORKERS and found, "the workers of before are gone")
    soaked = deploys_under_load(stack, DEPLOYS, LoadMix.standard(RATE, limits=limits_for(DEPLOYS, RATE)), *QUICK)
    show(f"{DEPLOYS} deploys, nginx 1.22.1 on the host", soaked)
    assert not soaked.faults, "\n".join([*soaked.faults[:20], soaked.report.table()])
    assert soaked.report.failed == 0
    assert len(soaked.deploys) == len(soaked.moves_ms()) == DEPLOYS
    seconds = soaked.report.stopped_at - soaked.report.started_at
    assert soaked.report.paced.started >= RATE * 0.95 * (seconds - LAG_S)
    assert soaked.report.websocket.proper_closes >= DEPLOYS
    assert nginx.workers() == before, "nginx was reloaded"


def test_a_restarted_nginx_keeps_the_split(site: tuple[Stack, HostNginx]) -> None:
    stack, nginx = site
    live = stack.release_served()
    assert live == f"s{DEPLOYS - 1}"
    nginx.stop()
    assert not listens(stack.port)
    nginx.start(stack.port)
    assert {stack.release_served() for _ in range(50)} == {live}
    back = drive(stack, None, ["rollback", "--drain", "3s"])
    assert back.status == 0, back
    assert {stack.release_served() for _ in range(50)} == {f"s{DEPLOYS - 2}"}
    assert docker("ps", "-q", "--filter", f"label=com.docker.compose.project={stack.name}-blue")
