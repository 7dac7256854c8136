"""Images on the real engine and in a real registry."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nself_deploy.adapters.docker_engine import DockerEngine
from nself_deploy.errors import ImageError
from tests.real.free_ports import free_port
from tests.real.things import BUSYBOX, Things, docker, engine_at, until

pytestmark = pytest.mark.real
TOOLS = Path(__file__).resolve().parents[2] / "tools"
PATIENT_S = 240.0
"""Where a first word from a registry has to come, also on a busy machine."""


@pytest.fixture
def things() -> Iterator[Things]:
    made = Things()
    yield made
    made.clean()


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    async with engine_at() as made:
        yield made


async def test_images(engine: DockerEngine, things: Things) -> None:
    found = await engine.image(BUSYBOX)
    tag = f"nself-deploy/{things.name}-api:20261122T213000-3fa9c2d1"
    assert found is not None
    assert BUSYBOX in found.tags
    try:
        for _ in range(2):
            await engine.tag(found.id, tag)
        tagged = await engine.image(tag)
        assert tagged is not None
        assert tagged.id == found.id
    finally:
        docker("rmi", tag)
    assert await engine.image(tag) is None
    assert (await engine.image(found.id)) is not None
    with pytest.raises(ImageError, match="No such image"):
        await engine.tag("sha256:" + "0" * 64, tag)
    with pytest.raises(ImageError, match="invalid reference"):
        await engine.image("Not A Reference")


async def test_a_registry_that_does_not_answer_is_an_error_soon(
    engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens on the port; and one listens but never says anything."""
    limit = "nself_deploy.adapters.docker_pull.FIRST_ANSWER_S"
    monkeypatch.setattr(limit, PATIENT_S)
    began = time.monotonic()
    with pytest.raises(ImageError, match=r"'127.0.0.1:1/nobody:1' could not be pulled.*refused"):
        await engine.pull("127.0.0.1:1/nobody:1")
    monkeypatch.setattr(limit, 2.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        said: list[str] = []
        with pytest.raises(ImageError, match="no registry answered within 2 s"):
            await engine.pull(f"127.0.0.1:{silent.getsockname()[1]}/nobody:1", said.append)
    assert time.monotonic() - began < 2 * PATIENT_S


REGISTRY = """
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: ROOT}}
http: {addr: "127.0.0.1:PORT"}
"""


def start_registry(directory: Path, address: str) -> subprocess.Popen[bytes]:
    """Start a registry that keeps its images in a directory."""
    found = subprocess.run([TOOLS / "part", "docker-registry"], capture_output=True, text=True, check=True, timeout=300)
    config = directory / "registry.yml"
    config.write_text(REGISTRY.replace("ROOT", str(directory / "images")).replace("127.0.0.1:PORT", address))
    with (directory / "registry.log").open("w") as log:
        return subprocess.Popen([found.stdout.strip(), "serve", str(config)], stdout=log, stderr=log)


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[str]:
    """A registry of the test's own on loopback; its address."""
    address = f"127.0.0.1:{free_port()}"
    process = start_registry(tmp_path, address)
    host, _, port = address.partition(":")

    async def listens() -> bool:
        assert process.poll() is None, (tmp_path / "registry.log").read_text()
        with socket.socket() as asker:
            return asker.connect_ex((host, int(port))) == 0

    try:
        await until(listens, "the registry listens")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


async def test_pulling(engine: DockerEngine, things: Things, registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a registry has comes with its digest and with words for a person; what it hasn't is an error."""
    monkeypatch.setattr("nself_deploy.adapters.docker_pull.FIRST_ANSWER_S", PATIENT_S)
    ref = f"{registry}/{things.name}:1"
    docker("tag", BUSYBOX, ref)
    try:
        docker("push", ref)
        docker("rmi", ref)
        said: list[str] = []
        pulled = await engine.pull(ref, said.append)
        again = await engine.pull(ref)
    finally:
        docker("rmi", ref, check=False)

    original = await engine.image(BUSYBOX)
    assert original is not None
    assert pulled.id == again.id == original.id
    assert any(d.startswith(f"{registry}/{things.name}@sha256:") for d in pulled.digests)
    assert any("Pulling from" in line for line in said)
    with pytest.raises(ImageError, match=r"(not found|manifest unknown).*Check its name and tag"):
        await engine.pull(f"{registry}/{things.name}:2")
