"""The `Compose` port on the real `docker compose`."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import secrets
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from nself_deploy.adapters.compose import DockerCompose
from nself_deploy.adapters.subprocesses import OutputTooLarge, run
from nself_deploy.adapters.yaml_positions import Positions
from nself_deploy.core.extension_reader import read_extension
from nself_deploy.core.model import Role
from nself_deploy.core.project import WARNINGS_KEY, build_project
from nself_deploy.errors import ConfigError, EngineError, Exit, ImageError, NselfError
from tests.real.things import events

PROJECTS = Path(__file__).parents[1] / "projects"
MANY = PROJECTS / "many"


def docker(*argv: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, timeout=300, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def name() -> Iterator[str]:
    """A project name of our own; everything of it is removed afterwards."""
    name = f"nselft{secrets.token_hex(4)}"
    yield name
    label = f"label=com.docker.compose.project={name}"
    for kind, listing, remove in (
        ("container", ["ps", "-aq"], ["rm", "-fv"]),
        ("network", ["network", "ls", "-q"], ["network", "rm"]),
        ("volume", ["volume", "ls", "-q"], ["volume", "rm"]),
    ):
        found = docker(*listing, "--filter", label).split()
        if found:
            docker(*remove, *found)
        assert not docker(*listing, "--filter", label), f"a {kind} is left"


def _write(root: Path, text: str, name: str = "docker-compose.yml") -> str:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return str(root / name)


async def _refused(root: Path, *files: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        await DockerCompose().resolve(str(root), files)
    assert caught.value.remedy
    return caught.value


async def test_version() -> None:
    assert (await DockerCompose().version())[0].isdigit()


async def test_the_resolved_model_is_a_project() -> None:
    files = (str(MANY / "docker-compose.yml"), str(MANY / "prod.yml"))
    model = await DockerCompose().resolve(str(MANY), files)
    locate = Positions(str(MANY), files)
    extension = read_extension(model, locate)
    project = build_project(model, root=str(MANY), files=files, extension=extension, locate=locate)
    web = project.services["web"]

    environment = {"UNSET": "", "PRICE": "$$5", "WHEN": "2026-01-02", "ANSWER": "yes", "FROM_FILE": "in-the-file"}
    assert web.config["environment"] == environment
    assert (web.replicas, web.stop_grace_s, web.health_timeout_s, web.networks) == (3, 90, 90, ("front",))
    assert web.probe is not None
    assert (web.probe.path, web.probe.statuses) == ("/up$x", (200, 299))
    assert extension.project.health_timeout == 45
    assert [route.key for route in project.routes] == ["web_8000"]
    assert {s.name: s.role for s in project.services.values()} == {
        "web": Role.APP, "edge": Role.ROUTER, "db": Role.SHARED,
    }  # fmt: skip
    assert project.networks["front"] == {"name": "many_front", "internal": True}
    assert any("MANY_UNSET" in warning for warning in project.warnings)


async def test_only_the_named_files_are_read_whatever_the_environment_says(tmp_path: Path) -> None:
    mine = _write(tmp_path, "services: {web: {image: mine}}\n")
    other = _write(tmp_path, "services: {other: {image: other}}\n", "other.yml")
    _write(tmp_path, "services: {generated: {image: x}}\n", "docker-compose.override.yml")
    model = await DockerCompose(env={**os.environ, "COMPOSE_FILE": other}).resolve(str(tmp_path), (mine,))

    assert list(model["services"]) == ["web"]
    assert WARNINGS_KEY not in model


async def test_a_file_in_a_subdirectory_is_read_as_plain_compose_reads_it(tmp_path: Path) -> None:
    file = _write(tmp_path / "deploy", 'services: {web: {image: "web:${TAG}", volumes: ["./x:/x:ro"]}}\n')
    (tmp_path / ".env").write_text("COMPOSE_FILE=deploy/docker-compose.yml\nTAG=7\n")
    plain = _output(["docker", "compose", "config"], cwd=tmp_path)
    model = await DockerCompose().resolve(str(tmp_path), (file,))

    assert model == YAML(typ="safe", pure=True).load(plain)
    assert model["services"]["web"]["image"] == "web:7"


REFUSED = [
    ("services:\n  web: [\n", "docker-compose.yml:2", "invalid YAML"),
    ("services:\n  web: {image: a}\n  web: {image: b}\n", "docker-compose.yml:3", "already defined"),
    ("services: {web: {image: a, foo: 1}}\n", "docker-compose.yml", "services.web Additional property foo"),
    ("services: {web: {image: a, ports: 5}}\n", "docker-compose.yml", "services.web.ports must be a list"),
    ("services: {web: {command: a}}\n", "docker-compose.yml", "neither an image nor a build"),
    ("services: {web: {image: a, depends_on: [b]}}\n", "docker-compose.yml", 'undefined service "b"'),
    ('services: {web: {image: "${NSELF_TEST_X:?say which}"}}\n', "docker-compose.yml", "say which"),
    ("services: {web: {image: a, env_file: gone.env}}\n", "docker-compose.yml", "gone.env"),
    ("", "docker-compose.yml", "empty"),
]


@pytest.mark.parametrize(("text", "where", "words"), REFUSED)
async def test_what_compose_refuses_comes_in_its_own_words(tmp_path: Path, text: str, where: str, words: str) -> None:
    error = await _refused(tmp_path, _write(tmp_path, text))

    assert error.where == where
    assert words in error.what
    assert error.exit_status is Exit.USAGE


async def test_the_broken_one_of_several_files_is_named(tmp_path: Path) -> None:
    good = _write(tmp_path, "services: {web: {image: a}}\n")
    error = await _refused(tmp_path, good, _write(tmp_path, "services:\n  web: {\n", "prod.yml"))

    assert error.where == "prod.yml:2"


async def test_a_broken_env_file_is_named(tmp_path: Path) -> None:
    file = _write(tmp_path, "services: {web: {image: a}}\n")
    (tmp_path / ".env").write_text('A="open\n')

    assert (await _refused(tmp_path, file)).where == ".env"


async def test_a_project_name_that_compose_refuses(tmp_path: Path) -> None:
    error = await _refused(tmp_path / "___", _write(tmp_path / "___", "services: {web: {image: a}}\n"))
    assert "project's name" in error.what

    file = _write(tmp_path, "services: {web: {image: a}}\n")
    with pytest.raises(ConfigError, match="A B"):
        await DockerCompose(env={**os.environ, "COMPOSE_PROJECT_NAME": "A B"}).resolve(str(tmp_path), (file,))
    with pytest.raises(ConfigError, match="not a directory"):
        await DockerCompose().resolve(str(tmp_path / "gone"), (file,))


async def test_without_docker_or_its_plug_in(tmp_path: Path) -> None:
    file = _write(tmp_path, "services: {web: {image: a}}\n")
    real = docker("info", "--format", "{{.ClientInfo.Version}}") and _which("docker")
    without = {**os.environ, "DOCKER_CONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)}

    with pytest.raises(EngineError, match="no `no-such-docker` command"):
        await DockerCompose("no-such-docker").resolve(str(tmp_path), (file,))
    if not _output([real, "compose", "version"], env=without):
        with pytest.raises(EngineError, match="no Compose plug-in") as caught:
            await DockerCompose(real, env=without).resolve(str(tmp_path), (file,))
        assert caught.value.exit_status is Exit.INFRASTRUCTURE


async def test_without_an_engine(tmp_path: Path) -> None:
    file = _write(tmp_path, "services: {web: {image: busybox:1.37}}\n")
    compose = DockerCompose(env={**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/gone.sock"})

    for call in (compose.up("x", [file], []), compose.down("x"), compose.build(str(tmp_path), [file], ["web"])):
        with pytest.raises(NselfError) as caught:
            await call
            raise EngineError("no engine: nothing to build")  # a service without `build` needs none
        assert caught.value.exit_status is Exit.INFRASTRUCTURE
    assert (await compose.resolve(str(tmp_path), [file]))["services"], "reading needs no engine"


async def test_an_unchanged_build_gives_the_same_image() -> None:
    root, tag = PROJECTS / "build", f"t{secrets.token_hex(4)}"
    compose = DockerCompose(env={**os.environ, "TAG": tag})
    files, steps = [str(root / "compose.yaml")], list[str]()
    try:
        await compose.build(str(root), files, ["good"], steps.append)
        first = docker("image", "inspect", "--format", "{{.Id}}", f"nself-test-build:{tag}")
        await compose.build(str(root), files, ["good"])
        second = docker("image", "inspect", "--format", "{{.Id}}", f"nself-test-build:{tag}")
        await DockerCompose(env={**os.environ, "TAG": tag, "TEXT": tag}).build(str(root), files, ["good"])
        third = docker("image", "inspect", "--format", "{{.Id}}", f"nself-test-build:{tag}")
    finally:
        docker("image", "rm", f"nself-test-build:{tag}", check=False)

    assert first == second != third
    assert any("RUN echo" in step for step in steps)


async def test_a_build_that_fails_shows_its_end() -> None:
    root = PROJECTS / "build"
    with pytest.raises(ImageError, match="The build of bad failed") as caught:
        await DockerCompose().build(str(root), [str(root / "compose.yaml")], ["bad"])

    assert "exit code: 7" in caught.value.what
    assert any("about to fail" in line for line in caught.value.evidence)
    assert caught.value.exit_status is Exit.INFRASTRUCTURE


SLOT = """
services:
  blue-web-1: {image: "busybox:1.37", container_name: NAME-web, command: COMMAND, labels: {nself.deploy.project: p},
    stop_grace_period: 1s, volumes: [data:/data, /anonymous], environment: {PRICE: "$$5"}, networks: [default]}
  blue-api-1: {image: "busybox:1.37", command: COMMAND, labels: {nself.deploy.project: p}, stop_grace_period: 1s,
    depends_on: [blue-web-1], networks: [default]}
  stranger: {image: "busybox:1.37", command: COMMAND, stop_grace_period: 1s, network_mode: none}
volumes: {data: {}}
"""


def _waits(on_term: str) -> str:
    return f'["sh","-c","trap {on_term} TERM; while :; do sleep 1 & wait $$!; done"]'


def _slot(tmp_path: Path, name: str, command: str = _waits("exit")) -> str:
    return _write(tmp_path, SLOT.replace("NAME", name).replace("COMMAND", command), "slot.yaml")


def _running(name: str) -> set[str]:
    return set(docker("ps", "--filter", f"label=com.docker.compose.project={name}", "--format", "{{.Names}}").split())


async def test_up_starts_what_is_named_and_nothing_else(tmp_path: Path, name: str) -> None:
    lines: list[str] = []
    compose, file = DockerCompose(), _slot(tmp_path, name)
    await compose.up(name, [file], ["blue-api-1"], progress=lines.append)

    assert _running(name) == {f"{name}-blue-api-1-1"}
    assert f"Container {name}-blue-api-1-1 Started" in lines
    await compose.up(name, [file], ["blue-api-1"], deps=True)
    assert _running(name) == {f"{name}-blue-api-1-1", f"{name}-web"}
    assert "PRICE=$5" in docker("inspect", f"{name}-web", "--format", "{{json .Config.Env}}")


async def test_up_re_creates_what_has_changed_unless_told_not_to(tmp_path: Path, name: str) -> None:
    compose = DockerCompose()
    await compose.up(name, [_slot(tmp_path, name)], ["blue-web-1"])
    first = docker("inspect", f"{name}-web", "--format", "{{.Id}}")
    changed = _slot(tmp_path, name, '["sleep", "1000"]')

    await compose.up(name, [changed], ["blue-web-1"], recreate=False)
    assert docker("inspect", f"{name}-web", "--format", "{{.Id}}") == first
    await compose.up(name, [changed], ["blue-web-1"])
    assert docker("inspect", f"{name}-web", "--format", "{{.Id}}") != first


async def test_up_never_pulls_or_builds(tmp_path: Path, name: str) -> None:
    text = "services: {web: {image: 'nself-no-such-image:1', build: .}}\n"
    (tmp_path / "Dockerfile").write_text("FROM busybox:1.37\n")
    with pytest.raises(EngineError, match=f"Compose could not start {name}"):
        await DockerCompose().up(name, [_write(tmp_path, text)], [])

    assert not _running(name)


async def test_a_port_that_is_taken_is_said(tmp_path: Path, name: str) -> None:
    text = """
services:
  a: {image: "busybox:1.37", command: sleep 1000, stop_grace_period: 0s, ports: ["127.0.0.1:PORT:80"]}
"""
    first = _write(tmp_path, text.replace("PORT", ""))
    await DockerCompose().up(name, [first], [])
    port = docker("port", f"{name}-a-1", "80").rsplit(":", 1)[1]
    second = _write(tmp_path / "b", text.replace("PORT", port).replace(" a:", " b:"))
    with pytest.raises(EngineError) as caught:
        await DockerCompose().up(name, [second], ["b"])

    assert port in caught.value.what
    assert f"Stop what holds 127.0.0.1:{port}" in caught.value.remedy


async def test_down_removes_a_slot_without_a_file_and_keeps_what_is_not_ours(tmp_path: Path, name: str) -> None:
    compose, file = DockerCompose(), _slot(tmp_path, name)
    await compose.up(name, [file], [])
    docker("rm", "-fv", f"{name}-web")  # a dependency that is gone makes `docker compose down` fail
    await compose.up(name, [file], ["blue-web-1"])
    docker("stop", "-t", "0", f"{name}-web")
    docker("rm", f"{name}-blue-api-1-1", "-f")
    mounts = json.loads(docker("inspect", f"{name}-web", "--format", "{{json .Mounts}}"))
    anonymous = next(mount["Name"] for mount in mounts if mount["Destination"] == "/anonymous")

    await compose.down(name)
    await compose.down(name)

    assert _running(name) == {f"{name}-stranger-1"}
    assert docker("volume", "ls", "-q", "--filter", f"name={name}_data") == f"{name}_data"
    assert not docker("volume", "ls", "-q", "--filter", f"name={anonymous}")
    assert not docker("network", "ls", "-q", "--filter", f"label=com.docker.compose.project={name}")


async def test_down_gives_each_container_its_own_grace(tmp_path: Path, name: str) -> None:
    """Who stops containers says nothing about time, so the engine goes by what each of them was made with."""
    program, said = tmp_path / "docker", tmp_path / "said"
    program.write_text(f'#!/bin/sh\necho "$*" >> {said}\nexec {_which("docker")} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    compose = DockerCompose(str(program))
    with events(name) as told_of:
        await compose.up(name, [_slot(tmp_path, name, _waits(":"))], ["blue-web-1"])
        assert next(told_of).startswith("start "), "nothing is missed from here on"
        made, grace = docker("inspect", f"{name}-web", "--format", "{{slice .Id 0 12}} {{.Config.StopTimeout}}").split()
        await compose.down(name)
        ending = list(itertools.takewhile(lambda event: not event.startswith("destroy "), told_of))

    assert grace == "1", "stop_grace_period is 1 s, the engine's default would be 10 s"
    assert [words for words in said.read_text().splitlines() if words.startswith("stop")] == [f"stop {made}"]
    told, *_, killed = (int(event.partition(" ")[2]) for event in ending)
    assert (killed - told) / 1e9 > 0.8


async def test_what_takes_too_long_is_stopped_with_all_it_started(tmp_path: Path) -> None:
    program, child = tmp_path / "docker", tmp_path / "child"
    program.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 1000 &\necho $! > {child}.new\nmv {child}.new {child}\nwait\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    file = _write(tmp_path, "services: {web: {image: a}}\n")
    timeout_s = 1
    while not child.exists():  # on a busy machine it may be stopped before its first words
        with pytest.raises(EngineError, match=f"did not finish within {timeout_s} s"):
            await DockerCompose(str(program)).up("x", [file], [], timeout_s=timeout_s)
        timeout_s *= 4

    await _gone(tmp_path / "pid")
    await _gone(child)


async def test_a_cancelled_call_leaves_no_process(tmp_path: Path) -> None:
    program = tmp_path / "docker"
    program.write_text(
        f"#!/bin/sh\ntrap '' INT\necho $$ > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/pid\nsleep 99\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    file = _write(tmp_path, "services: {web: {image: a}}\n")
    call = asyncio.create_task(DockerCompose(str(program)).resolve(str(tmp_path), [file]))
    async with asyncio.timeout(60):
        while not (tmp_path / "pid").exists():
            await asyncio.sleep(0.01)
    assert os.getsid(int((tmp_path / "pid").read_text())) != os.getsid(0), "Ctrl-C in the terminal doesn't reach it"
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    await _gone(tmp_path / "pid")


async def test_output_is_bounded(tmp_path: Path) -> None:
    env = dict(os.environ)
    with pytest.raises(OutputTooLarge):
        await run(["yes"], cwd=str(tmp_path), env=env, timeout_s=200, keep_bytes=1 << 20)
    long = await run(["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; seq 5000"], cwd="/", env=env, timeout_s=200)

    assert len(long.lines) == 400
    assert long.lines[-1] == "5000"
    assert max(map(len, long.lines)) <= 500


async def _gone(pid_file: Path) -> None:
    pid = _number(pid_file)
    async with asyncio.timeout(60):
        while _lives(pid):
            await asyncio.sleep(0.02)


def _output(argv: list[str], **options: Any) -> str:
    """What a command prints, empty when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, **options)
    return "" if done.returncode else done.stdout


def _number(file: Path) -> int:
    return int(file.read_text())


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:  # it may go between the opening and the reading
        return False


def _which(program: str) -> str:
    return next(str(Path(d, program)) for d in os.environ["PATH"].split(":") if Path(d, program).is_file())
