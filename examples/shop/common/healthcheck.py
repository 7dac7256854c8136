"""Ask this container's own /healthz and exit 0 on a 200, 1 on anything else.

Sockets only: it runs every second, and urllib would cost ten times as much to import (`create_connection`, which
looks names up, twice as much).
"""

import socket
import sys

TIMEOUT_SECONDS = 1.5
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def main(port: int) -> int:
    """Print what /healthz on *port* answered, or why it did not."""
    try:
        with socket.socket() as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(("127.0.0.1", port))
            connection.sendall(REQUEST)
            answer = connection.makefile("rb").read(4096).decode("utf-8", "replace")
    except OSError as error:
        print(f"no answer on port {port}: {error}")
        return 1
    head, _, body = answer.partition("\r\n\r\n")
    status_line = head.partition("\r\n")[0]
    print(status_line or "the connection was closed without an answer", body)
    return 0 if status_line.split()[1:2] == ["200"] else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
