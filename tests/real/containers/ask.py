"""Runs in a container: `ask.py COUNT NAME...` finds each name COUNT times, and prints as JSON what it came to.

In three ways: through the C library (which reads /etc/hosts first), by asking the name server itself, and by an HTTP
request to port 9000 (COUNT / 5 of them), which counts the names that answered.
"""

import collections
import contextlib
import http.client
import json
import os
import socket
import struct
import sys
import time

SERVER = ("127.0.0.11", 53)
PATIENCE_S = 60
"""A busy machine may take so long for an answer, or to start whoever gives it."""


def libc(name: str) -> list[str]:
    """All addresses that the C library finds."""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(name, 9000, socket.AF_INET, socket.SOCK_STREAM)]
    except socket.gaierror:
        return ["none"]


def dns(name: str, number: int) -> list[str]:
    """All addresses in the name server's answer to one question."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    question = labels + b"\0" + struct.pack(">HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(PATIENCE_S)
        asker.sendto(struct.pack(">HHHHHH", number % 65536, 0x0100, 1, 0, 0, 0) + question, SERVER)
        answer = asker.recv(4096)
    count = struct.unpack(">H", answer[6:8])[0]
    place, found = 12 + len(question), []
    for _ in range(count):
        while answer[place] and answer[place] < 192:
            place += answer[place] + 1
        place += 2 if answer[place] >= 192 else 1
        kind, _, _, length = struct.unpack(">HHIH", answer[place : place + 10])
        place += 10
        if kind == 1:
            found.append(socket.inet_ntoa(answer[place : place + 4]))
        place += length
    return found or ["none"]


def ask(name: str) -> str:
    """The name of whoever answers; who was just started need not listen yet."""
    until = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.closing(http.client.HTTPConnection(name, 9000, timeout=PATIENCE_S)) as connection:
            try:
                connection.request("GET", "/")
                return connection.getresponse().read().decode()
            except OSError as error:
                if not isinstance(error, ConnectionRefusedError) or time.monotonic() > until:
                    return f"nobody: {error}"
        time.sleep(0.1)  # between two tries: it is asked until it answers


os.environ["RES_OPTIONS"] = "timeout:30 attempts:2"  # of the C library
count, names = int(sys.argv[1]), sys.argv[2:]
result: dict[str, dict[str, dict[str, int]]] = {"libc": {}, "dns": {}, "http": {}}
for name in names:
    result["libc"][name] = collections.Counter(libc(name)[0] for _ in range(count))
    result["dns"][name] = collections.Counter(dns(name, n)[0] for n in range(count))
    result["http"][name] = collections.Counter(ask(name) for _ in range(count // 5))
print(json.dumps(result))
