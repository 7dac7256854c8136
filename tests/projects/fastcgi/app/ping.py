"""Healthcheck: ask the server for `/ping` as nginx would."""

import socket
import sys

name, value = b"DOCUMENT_URI", b"/ping"
params = bytes([len(name), len(value)]) + name + value


def record(kind: int, content: bytes) -> bytes:
    return bytes([1, kind, 0, 1, *len(content).to_bytes(2, "big"), 0, 0]) + content


with socket.create_connection(("127.0.0.1", 9000), 15) as connection:
    begin = record(1, bytes([0, 1, 0, 0, 0, 0, 0, 0]))
    connection.sendall(begin + record(4, params) + record(4, b"") + record(5, b""))
    reply = b""
    while data := connection.recv(65536):
        reply += data
words = reply[8:].split(b"\r\n", 1)[0].decode()
print(words)
sys.exit(0 if "200" in words else 1)
