"""A real HTTP server that keeps what it is sent, and answers as a test wants: a thread on loopback."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LIMIT_S = 120.0


@dataclass
class Receiver:
    """What came, and what is answered."""

    port: int = 0
    status: int = 204
    location: str = ""
    hang: threading.Event | None = None
    """While it is there and not set, nothing is answered."""
    flood: bool = False
    """Answer with a body without an end."""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/t0ken"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in list(self.got)]

    @property
    def numbers(self) -> list[int]:
        return [event["number"] for event in self.events]

    def wait_for(self, count: int) -> None:
        end, pause = time.monotonic() + LIMIT_S, threading.Event()
        while len(self.got) < count:
            assert time.monotonic() < end, self.numbers
            pause.wait(0.005)


@contextmanager
def receiver(trust: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """One that listens; with `trust` it speaks TLS."""
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if made.hang is not None:
                made.hang.wait(LIMIT_S)
            made.got.append((dict(self.headers.items()), data))
            self.send_response(made.status)
            if made.location:
                self.send_header("Location", made.location)
            self.send_header("Content-Length", str(2**40 if made.flood else 0))
            self.end_headers()
            while made.flood:
                self.wfile.write(b"x" * 65536)

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                self.close_connection = True  # who sent it has gone

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if trust is not None:
        server.socket = trust.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.flood = False
        if made.hang is not None:
            made.hang.set()
        server.shutdown()
        server.server_close()
        thread.join(LIMIT_S)


@contextmanager
def nobody() -> Iterator[str]:
    """An address where nobody listens, nor will: the port is held."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield Receiver(held.getsockname()[1]).url
