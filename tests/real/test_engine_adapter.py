"""Every method of the engine adapter does what the port says, twice, on the real engine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nself_deploy.adapters.docker_engine import DockerEngine
from nself_deploy.adapters.docker_host import EngineAddress, find_engine
from nself_deploy.core.model import LABEL_NETWORK, LABEL_PROJECT, LABEL_SLOT, Slot, twin_name
from nself_deploy.errors import EngineError, ImageError
from tests.real.things import BUSYBOX, Things, docker, until

pytestmark = pytest.mark.real
POOL = "10.214.0.0/18"
TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def things() -> Iterator[Things]:
    made = Things()
    yield made
    made.clean()


@contextlib.asynccontextmanager
async def engine_at(host: str = "", pool: str = POOL) -> AsyncIterator[DockerEngine]:
    """An engine by address (the docker command's own by default), closed afterwards."""
    made = DockerEngine(EngineAddress(host, "the test") if host else None, pool=pool)
    try:
        yield made
    finally:
        await made.close()


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
    healthy = ("--health-cmd", "printf 'all \\033[31mwell\\n'", "--health-interval", "200ms", "-v", "/tmp:/seen:ro")
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

    with pytest.raises(EngineError, match="running"):
        await engine.remove(made)
    for _ in range(2):
        await engine.stop(made, 5)
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
    made = things.run("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done")

    async def is_deaf() -> bool:
        return "deaf" in await engine.logs(made)

    await until(is_deaf, "the container ignores SIGTERM")
    began = time.monotonic()
    await engine.stop(made, 1)
    found = await engine.container(made)
    assert 0.9 < time.monotonic() - began < 10
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


async def test_slot_networks(engine: DockerEngine, things: Things) -> None:
    name = twin_name(things.name, Slot.GREEN, "default")
    made = await engine.ensure_network(things.name, Slot.GREEN, "default", name=name, internal=False)
    again = await engine.ensure_network(things.name, Slot.GREEN, "default", name=name, internal=False)
    inner = await engine.ensure_network(
        things.name, Slot.BLUE, "back", internal=True, name=twin_name(things.name, Slot.BLUE, "back")
    )

    assert made == again
    assert (made.slot, made.network, made.internal, inner.internal) == (Slot.GREEN, "default", False, True)
    assert made.subnet != inner.subnet
    assert made.subnet.startswith("10.214.")
    assert await engine.networks(things.name) == [inner, made]
    assert docker("network", "inspect", "-f", f'{{{{index .Labels "{LABEL_NETWORK}"}}}}', name) == "default"
    assert await engine.network_exists(name)
    assert not await engine.network_exists(name[:-1])
    for _ in range(2):
        await engine.remove_network(name)
    assert not await engine.network_exists(name)


async def test_many_at_once_make_one_network_each(things: Things) -> None:
    """Several processes (here: engines) ask for the same four networks at the same time."""
    engines = [DockerEngine(pool=POOL) for _ in range(4)]
    names = [twin_name(things.name, slot, n) for slot in (Slot.BLUE, Slot.GREEN) for n in ("back", "default")]
    try:
        found = await asyncio.gather(
            *(
                e.ensure_network(
                    things.name,
                    Slot.BLUE if "-blue-" in n else Slot.GREEN,
                    n.rpartition("-")[2],
                    name=n,
                    internal=False,
                )
                for e in engines
                for n in names
            )
        )
        assert [n.name for n in await engines[0].networks(things.name)] == names
    finally:
        await asyncio.gather(*(e.close() for e in engines))

    assert {n.name for n in found} == set(names)
    assert len(set(found)) == len(names) == len({n.subnet for n in found})


async def test_a_taken_subnet_is_passed_over_and_a_full_pool_is_an_error(things: Things) -> None:
    things.network("theirs", "--subnet", "10.214.64.0/25")
    async with engine_at(pool="10.214.64.0/23") as small:
        made = await small.ensure_network(things.name, Slot.BLUE, "a", name=f"{things.name}-a", internal=False)
        assert made.subnet == "10.214.65.0/24"
        with pytest.raises(EngineError, match=r"no subnet of 10.214.64.0/23 is free.*network prune"):
            await small.ensure_network(things.name, Slot.BLUE, "b", name=f"{things.name}-b", internal=False)


async def test_a_network_that_is_not_ours_is_left_alone(engine: DockerEngine, things: Things) -> None:
    theirs = things.network("theirs", "--subnet", "10.214.66.0/24")

    with pytest.raises(EngineError, match="not the slot network it should be"):
        await engine.ensure_network(things.name, Slot.BLUE, "default", name=theirs, internal=False)
    with pytest.raises(EngineError, match="not made by nself-deploy"):
        await engine.remove_network(theirs)
    assert await engine.network_exists(theirs)


async def test_a_network_with_other_settings_is_made_anew_unless_used(engine: DockerEngine, things: Things) -> None:
    name = f"{things.name}-a"
    await engine.ensure_network(things.name, Slot.BLUE, "a", name=name, internal=False)
    inner = await engine.ensure_network(things.name, Slot.BLUE, "a", name=name, internal=True)
    things.sleeper("user", "--network", name)

    assert inner.internal
    with pytest.raises(EngineError, match="other settings"):
        await engine.ensure_network(things.name, Slot.BLUE, "a", name=name, internal=False)
    with pytest.raises(EngineError, match="active endpoints"):
        await engine.remove_network(name)


async def test_connecting(engine: DockerEngine, things: Things) -> None:
    made = things.sleeper()
    name = f"{things.name}-a"
    network = await engine.ensure_network(things.name, Slot.BLUE, "a", name=name, internal=False)

    await asyncio.gather(*(engine.connect(name, made, ["known-as"]) for _ in range(3)))
    await engine.connect(name, made)
    found = await engine.container(made)
    assert found is not None
    assert found.addresses[name].rpartition(".")[0] == network.subnet.rpartition(".")[0]
    assert int(found.addresses[name].rpartition(".")[2]) >= 128
    assert "known-as" in docker("inspect", "-f", f'{{{{(index .NetworkSettings.Networks "{name}").Aliases}}}}', made)
    with pytest.raises(EngineError, match="No such container"):
        await engine.connect(name, "nst-nobody")
    with pytest.raises(EngineError, match="not found"):
        await engine.connect(f"{name}-nothing", made)


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
    monkeypatch.setattr("nself_deploy.adapters.docker_pull.FIRST_ANSWER_S", 2.0)
    began = time.monotonic()
    with pytest.raises(ImageError, match=r"'127.0.0.1:1/nobody:1' could not be pulled.*refused"):
        await engine.pull("127.0.0.1:1/nobody:1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        said: list[str] = []
        with pytest.raises(ImageError, match="no registry answered within 2 s"):
            await engine.pull(f"127.0.0.1:{silent.getsockname()[1]}/nobody:1", said.append)
    assert time.monotonic() - began < 10


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
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
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
        process.wait(timeout=10)


async def test_pulling(engine: DockerEngine, things: Things, registry: str) -> None:
    """What a registry has comes with its digest and with words for a person; what it hasn't is an error."""
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


async def test_no_engine(tmp_path: Path) -> None:
    """No socket; a file that nobody listens on; a server that hangs up; one that is no engine."""
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
