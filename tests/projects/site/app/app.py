"""Both services of the site: says who answers, whom it finds by name, and whether it reaches them."""

import hashlib
import http.client
import json
import os
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

RELEASE = f"{os.environ['PROJECT']}/{os.environ['SERVICE']}/{os.environ['RELEASE']}"
PORT = int(os.environ["PORT"])
PATIENCE_S = 60
"""A busy machine may take so long for an answer."""
os.environ["RES_OPTIONS"] = "timeout:30 attempts:2"  # the same for names


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 75

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if url.path == "/crash":
            os._exit(1)
        elif url.path == "/reach":
            self.answer(reach(asked["host"], int(asked["port"])))
        elif url.path == "/who":
            self.answer(who(asked["host"], int(asked["port"]), int(asked["n"])))
        else:
            self.answer({"release": RELEASE, "instance": socket.gethostname(), "note": os.environ.get("NOTE", "")})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()})

    def answer(self, document: dict[str, object]) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Release", RELEASE)
        self.send_header("X-Instance", socket.gethostname())
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def reach(host: str, port: int) -> dict[str, object]:
    """What a name means here, and whether somebody listens there."""
    try:
        addresses = sorted({str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    except OSError as error:
        return {"addresses": [], "connected": False, "error": str(error)}
    try:
        socket.create_connection((addresses[0], port), timeout=PATIENCE_S).close()
    except OSError as error:
        return {"addresses": addresses, "connected": False, "error": str(error)}
    return {"addresses": addresses, "connected": True, "error": ""}


def who(host: str, port: int, calls: int) -> dict[str, object]:
    """Who answers under a name: each call asks for the name anew, on a new connection."""
    answers: dict[str, int] = {}
    for _ in range(calls):
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/")
            name = json.loads(connection.getresponse().read())["release"]
        except (OSError, http.client.HTTPException) as error:
            name = f"failed: {error}"
        finally:
            connection.close()
        answers[name] = answers.get(name, 0) + 1
    return {"release": RELEASE, "answers": answers}


class Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = False  # what is being answered is finished


if __name__ == "__main__":
    server = Server(("0.0.0.0", PORT), App)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(0.05)
