"""Every method of the engine adapter does what the port says, twice, on the real engine."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nself_deploy.adapters.docker_engine import DockerEngine
from nself_deploy.adapters.docker_host import find_engine
from nself_deploy.core.model import LABEL_PROJECT, LABEL_SLOT, Slot
from nself_deploy.errors import EngineError
from tests.real.things import BUSYBOX, Things, docker, engine_at, until

pytestmark = pytest.mark.real


@pytest.fixture
def things() -> Iterator[Things]:
    made = Things()
    yield made
    made.clean()


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    async with engine_at() as made:
        yield made


async def test_info(engine: DockerEngine) -> None:
    info = await engine.info()

    assert info.version == docker("version", "--format", "{{.Server.Version}}")
    assert info.name == docker("info", "--format", "{{.Name}}")
    assert info.api_version


async def test_a_container_as_it_is(engine: DockerEngine, things: Things) -> None:
    healthy = ("--health-cmd", "printf 'all \\033[31mwell\\n'", "--health-interval", "200ms")
    healthy += ("--health-timeout", "300s", "-v", "/tmp:/seen:ro")
    labels = (
        "--label",
        f"com.docker.compose.project={things.name}",
        "--label",
        "com.docker.compose.service=api",
        "--label",
        "com.docker.compose.container-number=2",
    )
    made = things.sleeper("one", *healthy, *labels)

    async def is_healthy() -> bool:
        found = await engine.container(made)
        return found is not None and found.health == "healthy"

    await until(is_healthy, "the container is healthy")
    found = await engine.container(f"{things.name}-one")
    assert found is not None
    assert (found.id, found.name, found.project, found.service) == (made, f"{things.name}-one", things.name, "api")
    assert (found.replica, found.slot, found.release, found.state) == (2, Slot.PLAIN, "", "running")
    assert found.health_log[-1] == "all well"
    assert found.started_at == docker("inspect", "-f", "{{.State.StartedAt}}", made)
    assert found.image_id == docker("image", "inspect", "-f", "{{.Id}}", BUSYBOX)
    assert found.mounts == {"/seen": "/tmp"}
    assert found.addresses == {
        "bridge": docker("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", made)
    }
    assert await engine.container("nst-nobody") is None


async def test_containers_of_a_project(engine: DockerEngine, things: Things) -> None:
    compose = ("--label", f"com.docker.compose.project={things.name}")
    ours = (*compose, "--label", f"{LABEL_PROJECT}={things.name}", "--label", f"{LABEL_SLOT}=green")
    things.sleeper("plain", *compose)
    things.sleeper("slot", *ours)
    things.sleeper("oneoff", *compose, "--label", "com.docker.compose.oneoff=True")
    things.sleeper("other")
    docker("stop", f"{things.name}-slot")

    def names(found: list[object]) -> list[str]:
        return [str(getattr(c, "name", "")).removeprefix(f"{things.name}-") for c in found]

    assert names(list(await engine.containers(compose_project=things.name))) == ["plain", "slot"]
    mine = await engine.containers(nself_project=things.name)
    assert names(list(mine)) == ["slot"]
    assert (mine[0].slot, mine[0].state) == (Slot.GREEN, "exited")
    with pytest.raises(ValueError, match="which project"):
        await engine.containers()


async def test_starting_stopping_and_removing_can_be_repeated(engine: DockerEngine, things: Things) -> None:
    made = things.sleeper("one", "-v", f"{things.name}_named:/named", "-v", "/anonymous")
    anonymous = set(docker("inspect", "-f", "{{range .Mounts}}{{.Name}} {{end}}", made).split()) - {
        f"{things.name}_named"
    }

    async def is_ready() -> bool:
        return "ready" in await engine.logs(made)

    with pytest.raises(EngineError, match="running"):
        await engine.remove(made)
    await until(is_ready, "the container heeds SIGTERM")
    for _ in range(2):
        await engine.stop(made, 300)
    stopped = await engine.container(made)
    assert stopped is not None
    assert (stopped.state, stopped.exit_code) == ("exited", 0)
    for _ in range(2):
        await engine.start(made)
    await engine.stop(made, 5)
    await asyncio.gather(*(engine.remove(made) for _ in range(4)))
    await engine.remove(made)
    await engine.stop(made, 5)
    assert await engine.container(made) is None
    volumes = set(docker("volume", "ls", "-q").split())
    assert f"{things.name}_named" in volumes
    assert not anonymous & volumes
    with pytest.raises(EngineError, match="No such container"):
        await engine.start(made)


async def test_who_ignores_the_signal_is_killed_after_the_grace(engine: DockerEngine, things: Things) -> None:
    script = "trap '' TERM; echo deaf; while :; do sleep 1; done"
    made = things.run("sh", "-c", script, options=("--stop-timeout", "600"))

    async def is_deaf() -> bool:
        return "deaf" in await engine.logs(made)

    await until(is_deaf, "the container ignores SIGTERM")
    began = time.monotonic()
    await engine.stop(made, 1)
    found = await engine.container(made)
    assert time.monotonic() - began > 0.9
    assert found is not None
    assert found.exit_code == 137


async def test_logs(engine: DockerEngine, things: Things) -> None:
    script = r"""i=0; while [ $i -lt 40 ]; do echo "out $i"; i=$((i+1)); done
    printf '\033[31mred\033[0m and\tblue\r\n\n\a\001bell\n' >&2; head -c 2000 /dev/zero | tr '\0' x; echo"""
    made = things.run("sh", "-c", script)
    docker("wait", made)

    lines = await engine.logs(made, 60)
    assert [line for line in lines if line.startswith("out")] == [f"out {n}" for n in range(40)]
    assert {"red and blue", "bell", "x" * 500} == {line for line in lines if not line.startswith("out")}
    assert 4 <= len(await engine.logs(made, 6)) <= 6
    assert len(await engine.logs(made)) <= 20
    assert await engine.logs("nst-nobody") == []
    terminal = things.run("sh", "-c", "echo on a terminal", name="tty", options=("-t",))
    docker("wait", terminal)
    assert await engine.logs(terminal) == ["on a terminal"]


async def test_exec(engine: DockerEngine, things: Things) -> None:
    made = things.sleeper()

    status, words = await engine.exec(made, ["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (status, sorted(words.splitlines())) == (3, ["err", "out"])
    assert await engine.exec(made, ["true"]) == (0, "")
    status, words = await engine.exec(made, ["/no/such/program"])
    assert status in (126, 127)
    assert "no such file" in words
    status, much = await engine.exec(made, ["sh", "-c", "yes | head -c 1000000"])
    assert (status, len(much) <= 65536) == (0, True)
    with pytest.raises(EngineError, match=r"run 'sleep' .* within 0.5 s"):
        await engine.exec(made, ["sleep", "60"], timeout_s=0.5)
    await engine.stop(made, 1)
    with pytest.raises(EngineError, match="not running"):
        await engine.exec(made, ["true"])


async def test_put_files(engine: DockerEngine, things: Things) -> None:
    made = things.sleeper()
    show = "cd /var/lib/nself/router && cat splits/blue/map splits/green/g/00 current/map && readlink current"
    files = {"/var/lib/nself/router/splits/blue/map": b"blue\n", "/var/lib/nself/router/splits/green/g/00": b"x\n"}

    for target in ("splits/green", "splits/blue"):
        await engine.put_files(made, files, {"/var/lib/nself/router/current": target})
    assert await engine.exec(made, ["sh", "-c", show]) == (0, "blue\nx\nblue\nsplits/blue")
    assert (await engine.exec(made, ["stat", "-c", "%a %u", "/var/lib/nself/router/splits/blue/map"]))[1] == "644 0"
    with pytest.raises(ValueError, match="absolute"):
        await engine.put_files(made, {"relative": b""})
    with pytest.raises(EngineError, match="No such container"):
        await engine.put_files("nst-nobody", files)


async def test_volumes(engine: DockerEngine, things: Things) -> None:
    for _ in range(2):
        await engine.ensure_volume(things.name, "data", {"name": f"{things.name}_data", "labels": {"mine": "1"}})

    label = (
        '{{index .Labels "com.docker.compose.project"}} {{index .Labels "com.docker.compose.volume"}} {{.Labels.mine}}'
    )
    assert docker("volume", "inspect", "-f", label, f"{things.name}_data") == f"{things.name} data 1"
    with pytest.raises(EngineError, match=r"docker volume create"):
        await engine.ensure_volume(things.name, "theirs", {"name": f"{things.name}_theirs", "external": True})


async def test_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket; a file that nobody listens on; a server that hangs up; one that is no engine."""
    monkeypatch.setattr("nself_deploy.adapters.docker_engine.INFO_S", 240.0)
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(dead))
    hosts = {
        f"unix://{tmp_path}/none.sock": r"can't be reached: there is no such socket. Start Docker",
        f"unix://{dead}": "nothing listens on this socket",
        "tcp://127.0.0.1:1": "can't be reached",
    }
    for host, words in hosts.items():
        async with engine_at(host) as gone:
            with pytest.raises(EngineError, match=words):
                await gone.info()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    for answer in (b"", b"SSH-2.0-hello\r\n", head + b"{", b"HTTP/1.1 200"):
        with answering(answer) as port:
            async with engine_at(f"tcp://127.0.0.1:{port}") as odd:
                with pytest.raises(EngineError, match="can't be reached"):
                    await odd.info()


async def test_an_engine_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts and never answers: every call ends with an error after its own limit."""
    monkeypatch.setattr("nself_deploy.adapters.docker_engine.INFO_S", 0.5)
    with answering(None) as port:
        async with engine_at(f"tcp://127.0.0.1:{port}") as hung:
            with pytest.raises(EngineError, match=r"did not answer within 0.5 s. Check with `docker info`"):
                await hung.info()


async def test_the_engine_of_the_docker_command_is_found(engine: DockerEngine) -> None:
    found = find_engine(os.environ, Path.home())

    async with engine_at(found.host) as same:
        assert (await same.info()).name == (await engine.info()).name == docker("info", "--format", "{{.Name}}")


class answering:  # noqa: N801 - reads as a word in `with`
    """A server on loopback that gives every connection the same bytes, or nothing at all (None) and stays silent."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=5)
        for held in self._held:
            held.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self._answer is None:
                self._held.append(connection)
                continue
            with connection:
                connection.recv(65536)
                connection.sendall(self._answer)
