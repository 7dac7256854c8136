"""A real Prometheus, and a real exporter whose page the tests write: processes on loopback, in a test's directory."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nself_deploy.adapters.prometheus import PrometheusMetrics
from nself_deploy.core.metrics import Prometheus, Reading
from tests.real.free_ports import free_port
from tests.real.stack import stands_still, wait_for

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120.0

CONFIG = """\
global: {{scrape_interval: 400ms, scrape_timeout: 400ms}}
scrape_configs:
  - job_name: shop
    metrics_path: /metrics.txt
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


def program(name: str = "prometheus") -> str:
    """A program from Debian; fetched into the cache when it isn't there yet."""
    done = subprocess.run([ROOT / "tools/part", name], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{name} can't be had: {done.stderr}"
    return done.stdout.strip()


class Process:
    """A program that listens on a port of its own."""

    def __init__(self, base: Path, *words: str) -> None:
        self.port = free_port()
        self.log = base / "log"
        self._words = [word.format(port=self.port) for word in words]
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(self._words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end, pause = time.monotonic() + LIMIT_S, threading.Event()
        while not self._listens():
            assert self._running.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"does not listen: {self.log.read_text()}"
            pause.wait(0.05)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True

    def signal(self, number: int) -> None:
        assert self._running is not None
        os.kill(self._running.pid, number)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._running is not None:
            self._running.kill()
            self._running.wait(LIMIT_S)
            self._running = None


class Exporter(Process):
    """Serves one page of metrics."""

    def __init__(self, base: Path) -> None:
        base.mkdir()
        self._pages = base / "pages"
        self._pages.mkdir()
        server = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(self._pages))
        super().__init__(base, *server, "{port}")

    def write(self, **metrics: float | str) -> None:
        """Change the page, at once: a name with `__green` at its end is the metric with that slot."""
        lines = []
        for name, value in metrics.items():
            bare, _, slot = name.partition("__")
            lines.append(f'{bare}{{slot="{slot}"}} {value}' if slot else f"{bare} {value}")
        self.page("\n".join(lines) + "\n")

    def page(self, text: str) -> None:
        draft = self._pages / "draft"
        draft.write_text(text)
        draft.replace(self._pages / "metrics.txt")


class Server(Process):
    """A Prometheus that asks an exporter every 0.4 s, and may look at few samples."""

    def __init__(self, base: Path, exporter: Exporter, *options: str) -> None:
        base.mkdir()
        (base / "prometheus.yml").write_text(CONFIG.format(port=exporter.port))
        own = (f"--config.file={base / 'prometheus.yml'}", f"--storage.tsdb.path={base / 'data'}", "--log.level=warn")
        listen = ("--web.listen-address=127.0.0.1:{port}", "--scrape.discovery-reload-interval=100ms")
        limit = "--query.max-samples=100000"
        super().__init__(base, program(), *own, *listen, limit, *options)
        self.base = base

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def metrics(self, timeout_s: float = 30.0) -> PrometheusMetrics:
        return PrometheusMetrics(Prometheus(self.url, timeout=timeout_s), str(self.base))  # type: ignore[arg-type]

    def stop_answering(self) -> None:
        """Halt it; each of its threads stands still when this returns."""
        self.signal(signal.SIGSTOP)
        assert self._running is not None
        wait_for(partial(stands_still, self._running.pid), "it halts")

    def answer_again(self) -> None:
        self.signal(signal.SIGCONT)

    async def shows(
        self, query: str, wanted: Callable[[Reading], bool], metrics: PrometheusMetrics | None = None
    ) -> Reading:
        """Wait until a query gives what is wanted."""
        end = time.monotonic() + LIMIT_S
        while not wanted(reading := await (metrics or self.metrics()).ask(query)):
            assert time.monotonic() < end, f"{query}: {reading}"
            await asyncio.sleep(0.05)
        return reading
