"""The response parser takes what RFC 9112 allows, whole or in pieces, and nothing else."""

from __future__ import annotations

import pytest

from tests.load.http1 import Garbage, ResponseParser

OK = b"HTTP/1.1 200 OK\r\n"
GOOD = {
    "length": (OK + b"Content-Length: 5\r\nX-Shop-Release: v1 \r\n\r\nhello", b"hello"),
    "empty": (OK + b"Content-Length: 0\r\n\r\n", b""),
    "no-reason": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", b"x"),
    "chunked": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0A;x=y\r\n, you ther\r\n0\r\n\r\n",
        b"hello, you ther",
    ),
    "trailer": (OK + b"transfer-encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n", b"x"),
    "no-content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "interim": (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi", b"hi"),
}
BAD = {
    "other protocol": b"HELLO",
    "http/1.0": b"HTTP/1.0 200 OK\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "header without a colon": OK + b"Content-Length 5\r\n\r\n",
    "space before the colon": OK + b"Content-Length : 5\r\n\r\n",
    "folded header": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare line feed": OK + b"X: a\nContent-Length: 0\r\n\r\n",
    "both lengths": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "negative length": OK + b"Content-Length: -5\r\n\r\n",
    "other coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "no length": OK + b"X: y\r\n\r\nhello",
    "chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "chunk size with a sign": OK + b"Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n",
    "chunk too long": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
    "bad trailer": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nnot a trailer\r\n\r\n",
    "bytes after the end": OK + b"Content-Length: 5\r\n\r\nhello!",
    "a second response": (OK + b"Content-Length: 0\r\n\r\n") * 2,
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "endless head": OK + b"X: " + b"y" * 70_000,
    "endless chunk line": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"5;" + b"y" * 70_000,
}


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100_000])
@pytest.mark.parametrize("name", GOOD)
def test_valid_responses_are_complete_exactly_at_their_last_byte(name: str, step: int) -> None:
    raw, body = GOOD[name]
    parser = ResponseParser()
    pieces = [raw[at : at + step] for at in range(0, len(raw), step)]

    done = [parser.feed(piece) for piece in pieces]

    assert done == [False] * (len(pieces) - 1) + [True]
    assert parser.body == body
    assert parser.length == len(body)


def feed_all(parser: ResponseParser, pieces: list[bytes]) -> None:
    """As a connection does: what comes after the last byte of an answer belongs to no request."""
    for piece in pieces:
        if parser.done:
            raise Garbage("stray bytes")
        parser.feed(piece)


@pytest.mark.parametrize("step", [1, 100_000])
@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_garbage(name: str, step: int) -> None:
    raw = BAD[name]
    step = step if len(raw) < 1000 else max(step, 1000)
    pieces = [raw[at : at + step] for at in range(0, len(raw), step)]

    with pytest.raises(Garbage):
        feed_all(ResponseParser(), pieces)


def test_only_the_first_bytes_of_a_long_body_are_kept() -> None:
    parser = ResponseParser(keep=10)

    assert parser.feed(OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 50_000) is False
    assert parser.feed(b"x" * 50_000) is True

    assert parser.length == 100_000
    assert parser.body == b"x" * 10


@pytest.mark.parametrize(("value", "closes"), [("close", True), ("Keep-Alive, Close", True), ("keep-alive", False)])
def test_an_announced_close_is_seen(value: str, closes: bool) -> None:
    parser = ResponseParser()
    parser.feed(OK + f"Content-Length: 0\r\nConnection: {value}\r\n\r\n".encode())

    assert parser.closes is closes
