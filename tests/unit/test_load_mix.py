"""What may be configured, and that the load never leaves this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.load import Kind, Limits, LoadError, LoadMix, LoadProcess, Stream, Target

GET = Stream(Kind.GET, "/", share=1)


@pytest.mark.parametrize(
    "url",
    [
        "http://8.8.8.8",
        "http://example.test:8080",
        "http://172.32.0.1",
        "http://192.0.2.1",
        "http://169.254.1.1",
        "http://0.0.0.0:80",
        "http://[2001:db8::1]:80",
        "http://127.0.0.1:0",
        "http://127.0.0.1:99999",
        "https://127.0.0.1",
        "http://127.0.0.1/path",
        "127.0.0.1:80",
    ],
)
def test_other_machines_and_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(LoadError):
        LoadProcess(LoadMix((GET,), 1), url)


@pytest.mark.parametrize(
    ("url", "ip", "host"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1", "127.0.0.1:8080"),
        ("http://localhost", "127.0.0.1", "localhost"),
        ("http://[::1]:81/", "::1", "[::1]:81"),
        ("http://172.18.0.5", "172.18.0.5", "172.18.0.5"),
        ("http://10.1.2.3:80", "10.1.2.3", "10.1.2.3"),
        ("http://192.168.9.9:1", "192.168.9.9", "192.168.9.9:1"),
    ],
)
def test_addresses_of_this_machine_are_taken(url: str, ip: str, host: str) -> None:
    assert Target.parse(url).ip == ip
    assert Target.parse(url).host_header == host
    assert Target.parse(url, host="shop.test").host_header == "shop.test"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 0.0}, "either share or clients"),
        ({"clients": 1}, "either share or clients"),
        ({"think_s": -1.0}, "negative"),
        ({"kind": Kind.WEBSOCKET}, "needs clients"),
        ({"path": "page"}, "must begin with /"),
        ({"path": "/a b"}, "must begin with /"),
        ({"timeout_s": 0.0}, "time limits"),
        ({"kind": Kind.UPLOAD, "over_s": 60.0}, "longer timeout_s"),
        ({"headers": {"X": "a\r\nY: b"}}, "line break"),
        ({"people": 70_000}, "people must be"),
    ],
)
def test_a_stream_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(LoadError, match=message):
        LoadMix((replace(GET, **change),), rate=1).check()


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        (LoadMix(()), "streams"),
        (LoadMix((GET,)), "rate"),
        (LoadMix((replace(GET, share=0, clients=1),), rate=5), "rate"),
        (LoadMix((GET, GET), rate=5), "same name"),
        (LoadMix((GET,), 5, Limits(duration_s=0)), "duration_s"),
        (LoadMix((GET,), 5, Limits(requests=10**9)), "requests"),
        (LoadMix((GET,), 5, Limits(in_flight=0)), "in_flight"),
        (LoadMix((GET,), 5, Limits(connect_timeout_s=0)), "connect_timeout_s"),
    ],
)
def test_a_mix_without_bounds_or_sense_is_refused(mix: LoadMix, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        mix.check()


def test_the_standard_mix_has_every_kind_and_survives_its_journey_as_data() -> None:
    mix = LoadMix.standard(300)
    mix.check()

    assert {stream.kind for stream in mix.streams} == set(Kind)
    assert LoadMix.from_dict(mix.to_dict()) == mix
