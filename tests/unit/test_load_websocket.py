"""WebSockets: a proper close is none of the user's troubles, every other end is one."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.load import Kind, Limits, Load, LoadMix, Report, Stream
from tests.load.badserver import BadServer, frame
from tests.load.http1 import Failed
from tests.load.websocket import MessageParser, encode_frame
from tests.unit.patience import patiently


def run(path: str, sessions: int = 4, duration_s: float = 20, **stream: float) -> tuple[Report, Counter[str]]:
    """One WebSocket client until it has had so many sessions."""

    async def scenario() -> tuple[Report, Counter[str]]:
        mix = LoadMix(
            (Stream(Kind.WEBSOCKET, path, clients=1, **{"echo_every_s": 0.02, **stream}),),  # type: ignore[arg-type]
            limits=Limits(duration_s=duration_s, requests=sessions),
        )
        async with BadServer() as server, Load(mix, server.url) as load:
            return await load.wait(), server.did

    return patiently(scenario())


@pytest.mark.parametrize("code", ["1000", "1001"])
def test_a_proper_close_is_followed_by_a_new_connection_and_is_no_failure(code: str) -> None:
    report, did = run(f"/ws?ticks=3&end={code}", think_s=0.05)

    assert did[code] == 4
    assert report.failed == 0, report.table()
    assert (report.websocket.opened, report.websocket.proper_closes, report.websocket.abnormal) == (4, 4, 0)
    assert report.websocket.ticks == 12
    assert report.websocket.echoes > 0
    assert report.websocket.longest_reconnect_ms == pytest.approx(50, abs=1)
    assert report.per_release == {"v1": 4}


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ("abrupt", "websocket_abnormal"),
        ("reset", "websocket_abnormal"),
        ("half-frame", "websocket_abnormal"),
        ("1011", "websocket_abnormal"),
        ("1006", "websocket_abnormal"),
        ("bad-frame", "bad_body"),
    ],
)
def test_every_other_end_is_a_failure(end: str, outcome: str) -> None:
    report, did = run(f"/ws?ticks=2&end={end}")

    assert did[end] == 4
    assert report.outcomes == {"ok": 4, outcome: 4}
    assert report.failed == report.websocket.abnormal == 4
    assert report.websocket.proper_closes == 0
    assert len(report.failures) == 4


def test_a_silent_server_is_a_failure() -> None:
    report, _ = run("/ws?end=silent", sessions=2, echo_every_s=0, tick_timeout_s=0.3)

    assert report.outcomes == {"ok": 2, "timeout": 2}
    assert "silent" in report.failures[0].detail


def test_messages_that_never_come_back_are_a_failure() -> None:
    report, _ = run("/ws?end=no-echo", sessions=2, timeout_s=0.3)

    assert report.outcomes == {"ok": 2, "timeout": 2}
    assert "no echo" in report.failures[0].detail


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/ws?end=wrong-accept", "bad_body"),
        ("/ok", "bad_status"),
        ("/unavailable", "bad_status"),
        ("/close", "reset"),
        ("/truncate-head", "truncated"),
        ("/hang", "timeout"),
    ],
)
def test_a_handshake_that_fails_is_a_failed_request(path: str, outcome: str) -> None:
    report, _ = run(path, sessions=3, timeout_s=0.3)

    assert report.outcomes == {outcome: 3}
    assert report.websocket.opened == report.websocket.abnormal == 0


def test_at_the_end_the_client_closes_and_wants_an_answer() -> None:
    good, _ = run("/ws", duration_s=0.4, sessions=9)
    deaf, _ = run("/ws?end=deaf", duration_s=0.4, sessions=9)
    rude, _ = run("/ws?end=rude", duration_s=0.4, sessions=9)

    assert good.failed == 0
    assert (good.websocket.opened, good.websocket.ended_by_client) == (1, 1)
    assert good.websocket.ticks > 5
    assert good.websocket.echoes > 5
    assert deaf.outcomes == rude.outcomes == {"ok": 1, "websocket_abnormal": 1}
    assert rude.websocket.ended_by_client == 0


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_frames_carry_any_length(size: int) -> None:
    payload = bytes(index % 251 for index in range(size))
    sent = encode_frame(2, payload)
    mask_at = len(sent) - size - 4
    mask = sent[mask_at : mask_at + 4]

    assert bytes(byte ^ mask[index & 3] for index, byte in enumerate(sent[mask_at + 4 :])) == payload

    unmasked = sent[:1] + bytes([sent[1] & 0x7F]) + sent[2:mask_at] + payload
    parser = MessageParser()
    cut = len(unmasked) // 2

    assert parser.feed(unmasked[:cut]) == []
    assert parser.feed(unmasked[cut:]) == [(2, payload)]
    assert not parser.midway


def test_fragments_make_one_message_with_control_frames_between_them() -> None:
    parser = MessageParser()

    assert parser.feed(b"\x01\x03hel") == []
    assert parser.midway
    assert parser.feed(frame(9, b"ping")) == [(9, b"ping")]
    assert parser.feed(b"\x80\x02lo") == [(1, b"hello")]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x81\x81abcdx",  # masked
        b"\xc1\x00",  # reserved bit
        b"\x83\x00",  # unknown opcode
        b"\x09\x00",  # fragmented control frame
        b"\x89\x7e\x00\x7e",  # long control frame
        b"\x80\x01x",  # continuation of nothing
        b"\x01\x01a\x81\x01b",  # a new message within a message
        b"\x81\x02\xff\xfe",  # not UTF-8
        b"\x82\x7f\x00\x00\x00\x00\x7f\xff\xff\xff",  # too long
    ],
)
def test_what_the_protocol_forbids_is_a_bad_body(raw: bytes) -> None:
    with pytest.raises(Failed, match="WebSocket"):
        MessageParser().feed(raw)
