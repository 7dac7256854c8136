"""A real Alertmanager that tells `nself deploy serve`, and a real Prometheus with a rule that tells it: on loopback."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from tests.real.prometheus_parts import Process, program
from tests.real.scene import with_mounts

ALERTMANAGER = """\
route: {{receiver: nself, group_by: [service], group_wait: 0s, group_interval: 1s, repeat_interval: 1s}}
receivers:
  - name: nself
    webhook_configs:
      - url: http://127.0.0.1:{port}/v1/alertmanager
        send_resolved: true
        http_config: {{authorization: {{credentials_file: {key_file}}}}}
"""
PROMETHEUS = """\
global: {{scrape_interval: 400ms, scrape_timeout: 400ms, evaluation_interval: 400ms}}
rule_files: [rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{alertmanager}"]}}]}}]}}
scrape_configs:
  - job_name: users
    metrics_path: /metrics.txt
    static_configs: [{{targets: ["127.0.0.1:{exporter}"]}}]
"""
RULES = """\
groups:
  - name: shop
    rules:
      - alert: TooManyErrors
        expr: rate(answers_bad[8s]) / rate(answers[8s]) > 0.01 and rate(answers[8s]) > 1
        labels: {service: web, environment: local}
        annotations: {summary: "{{ $value | humanizePercentage }} of the answers are errors"}
"""


class Alertmanager(Process):
    """Tells a server on this machine, with a key from a file."""

    def __init__(self, base: Path, server_port: int, key: str) -> None:
        base.mkdir()
        (base / "key").write_text(key)
        config = ALERTMANAGER.format(port=server_port, key_file=base / "key")
        (base / "alertmanager.yml").write_text(config)
        own = (f"--config.file={base / 'alertmanager.yml'}", f"--storage.path={base / 'data'}", "--log.level=debug")
        listen = ("--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=")
        found = Path(program("alertmanager"))
        # Debian's looks for its templates below /usr/share: it gets to see its own one there.
        mounts = f"mount --bind {found.parents[1] / 'share'} /usr/share"
        super().__init__(base, *with_mounts(mounts, [str(found), *own, *listen]))

    def raises(self, starts_at: str, ends_at: str = "2036-01-01T00:00:00Z", **labels: str) -> None:
        """An alert, as Prometheus would raise it."""
        known = {"alertname": "TooManyErrors", "service": "web", **labels}
        summary = {"summary": "5 % of the answers are errors"}
        self._post([{"labels": known, "annotations": summary, "startsAt": starts_at, "endsAt": ends_at}])

    def _post(self, alerts: list[dict[str, Any]]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/api/v2/alerts", json.dumps(alerts), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
        finally:
            connection.close()


class Watching(Process):
    """A Prometheus that looks at what users get, and tells an Alertmanager."""

    def __init__(self, base: Path, exporter_port: int, alertmanager_port: int) -> None:
        base.mkdir()
        config = PROMETHEUS.format(exporter=exporter_port, alertmanager=alertmanager_port)
        (base / "prometheus.yml").write_text(config)
        (base / "rules.yml").write_text(RULES)
        own = (f"--config.file={base / 'prometheus.yml'}", f"--storage.tsdb.path={base / 'data'}", "--log.level=warn")
        listen = ("--web.listen-address=127.0.0.1:{port}", "--rules.alert.resend-delay=1s")
        super().__init__(base, program(), *own, *listen, "--scrape.discovery-reload-interval=100ms")
