"""What the engine says becomes our own words; what it doesn't say becomes nothing."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.adapters.docker_files import archive
from nself_deploy.adapters.docker_read import clean_line, clean_lines, read_container, read_network, subnets_in_use
from nself_deploy.core.model import LABEL_NETWORK, LABEL_REPLICA, LABEL_SERVICE, LABEL_SLOT, Slot


@given(st.text())
def test_a_line_moves_no_terminal(text: str) -> None:
    line = clean_line(text)

    assert len(line) <= 500
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line)


def test_lines() -> None:
    """Colours and titles go, words stay; pieces are put together again."""
    assert clean_line("\x1b[1;31mred\x1b[0m \x1b]0;title\x07left\ttab") == "red left tab"
    assert clean_lines(["one\ntw", "o\n\n", "three"], 2) == ["two", "three"]


def test_a_container_of_a_slot() -> None:
    labels = {
        LABEL_SLOT: "green",
        LABEL_SERVICE: "api",
        LABEL_REPLICA: "3",
        "com.docker.compose.service": "green-api-3",
    }
    state = {
        "Status": "running",
        "StartedAt": "2026-11-22T21:30:00Z",
        "OOMKilled": True,
        "Health": {"Status": "unhealthy", "Log": [{"Output": "one\n"}, {"Output": "two\x1b[0m"}]},
    }
    found = read_container(
        {
            "Id": "abc",
            "Name": "/shop-green-api-3",
            "Config": {"Labels": labels},
            "State": state,
            "NetworkSettings": {"Networks": {"b": {"IPAddress": "10.0.0.2"}, "a": {"IPAddress": ""}, "c": None}},
            "Mounts": [{"Destination": "/d", "Source": "", "Name": "vol"}],
        }
    )

    assert (found.service, found.replica, found.slot, found.oom_killed) == ("api", 3, Slot.GREEN, True)
    assert (found.health, found.health_log) == ("unhealthy", ("one", "two"))
    assert (found.addresses, found.mounts) == ({"b": "10.0.0.2"}, {"/d": "vol"})


def test_a_container_that_never_ran() -> None:
    state = {"Status": "created", "StartedAt": "0001-01-01T00:00:00Z", "Health": {"Status": "none"}}
    found = read_container(
        {"Id": "abc", "Config": {"Labels": {LABEL_SLOT: "purple", LABEL_REPLICA: "x"}}, "State": state}
    )

    assert (found.started_at, found.health, found.slot, found.replica) == ("", "", Slot.PLAIN, 1)


def test_networks() -> None:
    pool = {"IPAM": {"Config": [{"Subnet": "10.0.0.0/24", "IPRange": "10.0.0.128/25"}]}}
    labelled = {"Name": "n", "Labels": {LABEL_SLOT: "blue", LABEL_NETWORK: "default"}, "Internal": True}

    found = read_network({**labelled, **pool})
    assert found is not None
    assert (found.slot, found.network, found.subnet, found.internal) == (Slot.BLUE, "default", "10.0.0.0/24", True)
    assert read_network(labelled) is None
    assert read_network({"Name": "n", "Labels": None, **pool}) is None
    six = {"IPAM": {"Config": [{"Subnet": "fd00::/64"}, {"Gateway": "10.0.0.1"}]}}
    assert subnets_in_use([pool, six, {"IPAM": None}, {"IPAM": {"Config": None}}]) == ["10.0.0.0/24"]


def test_an_archive_holds_files_and_links() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive({"/a/b": b"text"}, {"/a/link": "b"}))) as tar:
        assert [(m.name, m.issym(), m.mode, m.linkname) for m in tar] == [
            ("a/b", False, 0o644, ""),
            ("a/link", True, 0o644, "b"),
        ]
        assert tar.extractfile("a/b").read() == b"text"  # type: ignore[union-attr]
    for bad in ("relative", "/a/../b"):
        with pytest.raises(ValueError, match="not an absolute path"):
            archive({bad: b""}, {})


def test_the_adapter_loads_nothing_heavy_until_it_is_used() -> None:
    """A flip back to a warm standby starts cold and must not wait for an HTTP library."""
    code = (
        "import sys, nself_deploy.adapters.docker_engine as e, nself_deploy.adapters.probe; e.DockerEngine();"
        "print([m for m in ('aiodocker', 'aiohttp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)

    assert done.stdout.strip() == "[]"
