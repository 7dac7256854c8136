"""Ask this container's own /healthz and exit 0 on a 200, 1 on anything else.

Sockets only: it runs every second, and urllib would cost ten times as much to import.
"""

import socket
import sys

TIMEOUT_SECONDS = 1.5
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def main(port: int) -> int:
    """Print the status line that /healthz on *port* gave, or why it gave none."""
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
            connection.sendall(REQUEST)
            status_line = connection.makefile("rb").readline().decode("latin-1").strip()
    except OSError as error:
        print(f"no answer on port {port}: {error}")
        return 1
    print(status_line or "the connection was closed without an answer")
    return 0 if status_line.split()[1:2] == ["200"] else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
