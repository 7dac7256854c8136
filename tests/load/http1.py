"""A strict HTTP/1.1 response parser. Nothing is repaired or guessed here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from tests.load.records import Outcome

MAX_HEAD: Final = 65536
_STATUS: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?\Z")
_HEADER: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)\Z")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\Z")


class Failed(Exception):
    """A request that failed, and how."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


class Garbage(Failed):
    """The bytes are not a valid HTTP/1.1 response."""

    def __init__(self, detail: str) -> None:
        super().__init__(Outcome.BAD_BODY, detail)


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers (lower-case names, repeated ones joined with a comma) of a head without the blank line."""
    lines = head.split(b"\r\n")
    status = _STATUS.match(lines[0])
    if not status:
        raise Garbage(f"status line {lines[0][:60]!r} is not HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        match = _HEADER.match(line)
        if not match:
            raise Garbage(f"header line {line[:60]!r}")
        name, value = match[1].decode().lower(), match[2].rstrip().decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return int(status[1]), headers


class ResponseParser:
    """Feed it bytes until `done`. The first `keep` bytes of the body are kept in `body`, the rest is only counted."""

    __slots__ = ("_left", "_rest", "_step", "body", "done", "headers", "keep", "length", "status")

    def __init__(self, keep: int = 65536) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.length = 0
        self.done = False
        self.keep = keep
        self._left = 0
        self._rest = b""
        self._step: Callable[[bytes, int], int] = self._head

    def feed(self, data: bytes) -> bool:
        """Take bytes; True when the response is complete. Raises `Garbage`."""
        data = self._rest + data if self._rest else data
        position, size = 0, len(data)
        while not self.done and position < size:
            after = self._step(data, position)
            if after < 0:
                break
            position = after
        self._rest = data[position:]
        if self.done and self._rest:
            raise Garbage(f"{len(self._rest)} bytes after the end of the response: {self._rest[:40]!r}")
        return self.done

    @property
    def closes(self) -> bool:
        """True if the server announced that it closes the connection."""
        return "close" in (token.strip().lower() for token in self.headers.get("connection", "").split(","))

    def _line(self, data: bytes, position: int) -> tuple[bytes, int]:
        end = data.find(b"\r\n", position)
        if end < 0:
            if len(data) - position > MAX_HEAD:
                raise Garbage("a line of more than 64 KiB")
            return b"", -1
        return data[position:end], end + 2

    def _head(self, data: bytes, position: int) -> int:
        end = data.find(b"\r\n\r\n", position)
        if end < 0:
            start = data[position : position + 9]
            if not b"HTTP/1.1 ".startswith(start):
                raise Garbage(f"answer begins with {data[position : position + 40]!r}")
            if len(data) - position > MAX_HEAD:
                raise Garbage("a head of more than 64 KiB")
            return -1
        self.status, self.headers = parse_head(data[position:end])
        if self.status == 101:
            raise Garbage("101 Switching Protocols, which nobody asked for")
        if self.status >= 200:
            self._choose_body()
        return end + 4

    def _choose_body(self) -> None:
        length, coding = self.headers.get("content-length"), self.headers.get("transfer-encoding")
        if length is not None and coding is not None:
            raise Garbage("both Content-Length and Transfer-Encoding")
        if coding is not None and coding.lower() != "chunked":
            raise Garbage(f"Transfer-Encoding {coding!r}")
        if length is not None and not (length.isascii() and length.isdigit()):
            raise Garbage(f"Content-Length {length!r}")
        if self.status in (204, 304):
            self.done = True
        elif coding is not None:
            self._step = self._chunk_size
        elif length is not None:
            self._left, self._step = int(length), self._plain
            self.done = self._left == 0
        else:
            raise Garbage("neither Content-Length nor chunked: the end cannot be told from a cut")

    def _take(self, data: bytes, position: int) -> int:
        taken = min(self._left, len(data) - position)
        wanted = min(taken, self.keep - len(self.body))
        if wanted > 0:
            self.body += data[position : position + wanted]
        self._left -= taken
        self.length += taken
        return position + taken

    def _plain(self, data: bytes, position: int) -> int:
        position = self._take(data, position)
        self.done = self._left == 0
        return position

    def _chunk_size(self, data: bytes, position: int) -> int:
        line, after = self._line(data, position)
        if after < 0:
            return after
        match = _CHUNK.match(line)
        if not match:
            raise Garbage(f"chunk size line {line[:40]!r}")
        self._left = int(match[1], 16)
        self._step = self._chunk if self._left else self._trailer
        return after

    def _chunk(self, data: bytes, position: int) -> int:
        position = self._take(data, position)
        if not self._left:
            self._step = self._chunk_end
        return position

    def _chunk_end(self, data: bytes, position: int) -> int:
        if len(data) - position < 2:
            return -1
        if data[position : position + 2] != b"\r\n":
            raise Garbage(f"a chunk ends with {data[position : position + 2]!r}")
        self._step = self._chunk_size
        return position + 2

    def _trailer(self, data: bytes, position: int) -> int:
        line, after = self._line(data, position)
        if after > 0:
            if not line:
                self.done = True
            elif not _HEADER.match(line):
                raise Garbage(f"trailer line {line[:40]!r}")
        return after
