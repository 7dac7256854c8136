"""Events that are POSTed to a real HTTP server: signed, in order, and only to where they were meant to go."""

from __future__ import annotations

import hashlib
import hmac
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nself_deploy.adapters.audit_webhook import WebhookSink, check_url, shown
from nself_deploy.adapters.journal import Journal
from nself_deploy.core.audit import AuditEvent, Record
from nself_deploy.errors import ConfigError, InfrastructureError
from tests.unit.http_receiver import Receiver, nobody, receiver

SECRET = "a secret of two parties"


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    with Journal.open(tmp_path, actor="ada@one") as journal:
        for name in ("first", "\u00e9 /?#\n", "third"):
            journal.add_event(AuditEvent("deploy", "prod", "done", id=name))
        return journal.deliveries.after(0, 10)


def secret_file(tmp_path: Path, mode: int = 0o600) -> str:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(mode)
    return str(path)


async def test_each_event_is_one_signed_post_in_order(server: Receiver, records: list[Record], tmp_path: Path) -> None:
    sink = WebhookSink(server.url, secret_file(tmp_path))
    await sink.deliver(records)
    await sink.close()

    assert server.numbers == [1, 2, 3]
    for (headers, body), record in zip(server.got, records, strict=True):
        wanted = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert headers["X-Nself-Signature"] == f"sha256={wanted}"
        assert headers["Content-Type"] == "application/json" and record.hash.encode() in body
    assert [headers["Idempotency-Key"] for headers, _ in server.got] == ["first", "%C3%A9%20%2F%3F%23%0A", "third"]


async def test_without_a_secret_nothing_is_signed(server: Receiver, records: list[Record]) -> None:
    sink = WebhookSink(server.url, "")
    await sink.deliver(records[:1])
    await sink.close()

    assert "X-Nself-Signature" not in server.got[0][0]


@pytest.mark.parametrize("status", [400, 404, 409, 429, 500, 503])
async def test_what_is_not_2xx_is_not_delivered(server: Receiver, records: list[Record], status: int) -> None:
    server.status = status
    sink = WebhookSink(server.url, "")
    with pytest.raises(InfrastructureError, match=rf"^http://127.0.0.1:\d+: answered {status}\."):
        await sink.deliver(records)
    await sink.close()

    assert len(server.got) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(server: Receiver, records: list[Record], status: int) -> None:
    with receiver() as other:
        server.status, server.location = status, other.url
        sink = WebhookSink(server.url, "")
        with pytest.raises(ConfigError, match="a redirect to http://127.0.0.1:") as caught:
            await sink.deliver(records)
        await sink.close()

    assert other.got == [] and "t0ken" not in str(caught.value)


async def test_a_receiver_that_hangs_is_given_up(server: Receiver, records: list[Record]) -> None:
    server.hang = threading.Event()
    sink = WebhookSink(server.url, "", timeout_s=0.2)
    with pytest.raises(InfrastructureError, match=r"did not answer within 0\.2 s"):
        await sink.deliver(records)
    await sink.close()

    assert server.got == []  # it hangs still


async def test_an_answer_without_an_end_is_not_read(server: Receiver, records: list[Record]) -> None:
    server.status, server.flood = 200, True
    sink = WebhookSink(server.url, "", timeout_s=30)
    await sink.deliver(records[:2])
    await sink.close()

    assert server.numbers == [1, 2]


async def test_a_receiver_that_is_away(records: list[Record]) -> None:
    with nobody() as url:
        sink = WebhookSink(url, "")
        with pytest.raises(InfrastructureError, match="can't be reached") as caught:
            await sink.deliver(records)
        await sink.close()

    assert "t0ken" not in str(caught.value)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """One that vouches for itself, and its key in the same file."""
    path = tmp_path / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(tmp_path / "key"), "-out", str(path))
    subprocess.run([*words, *names], check=True, capture_output=True, timeout=300)
    path.write_text(path.read_text() + (tmp_path / "key").read_text())
    return path


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    records: list[Record], certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with receiver(context) as server:
        url = server.url.replace("http:", "https:")
        stranger = WebhookSink(url, "")
        with pytest.raises(InfrastructureError, match="its certificate is not trusted"):
            await stranger.deliver(records)
        await stranger.close()
        refused = list(server.got)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        known = WebhookSink(url, "")
        await known.deliver(records)
        await known.close()

    assert refused == [] and server.numbers == [1, 2, 3]


@pytest.mark.parametrize("mode", [0o640, 0o644])
async def test_a_secret_that_others_may_read_is_not_used(
    server: Receiver, records: list[Record], tmp_path: Path, mode: int
) -> None:
    sink = WebhookSink(server.url, secret_file(tmp_path, mode))
    with pytest.raises(ConfigError, match="holds a webhook secret, and others may open it"):
        await sink.deliver(records)

    assert server.got == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "file:///etc/passwd",
        "host/x",
        "http://",
        "https://ann:hunter2@host/x",
        "http://host:port/x",
        "http://host/a b",
        "http://host/\n",
        "",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_url(url)

    assert "hunter2" not in str(caught.value)


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    assert shown("https://ann:x@hooks.example:8443/T0/B1?key=2") == "https://hooks.example:8443"
    assert shown("nothing") == shown("http://[") == ""
