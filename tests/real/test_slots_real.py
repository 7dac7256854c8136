"""Two slots on the real engine: names mean the slot's own services, addresses stay, shared services are left alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from nself_deploy.adapters.docker_engine import DockerEngine
from nself_deploy.core.addresses import FIRST_HOST, HOSTS, Addresses, allocate, wanted_addresses
from nself_deploy.core.model import (
    LABEL_SLOT,
    Activate,
    PinnedImage,
    Project,
    Release,
    Role,
    Route,
    RouterKind,
    RouterRef,
    Service,
    Slot,
    SlotNetwork,
    twin_name,
)
from nself_deploy.core.release import make_release
from nself_deploy.core.slots import app_keys, compile_slot, on_live_keys, upstreams
from tests.real.things import Things, docker
from tests.unit.slot_examples import NOW, addresses, release, rich_project, twins

pytestmark = pytest.mark.real
HERE = Path(__file__).parent
PROGRAMS = HERE / "containers"
ROLES = {"db": Role.SHARED, "migrate": Role.JOB}
COMPOSE = """
services:
  db: {image: "python:3.13-slim", command: *say, volumes: [*programs, "data:/data"], init: true}
  api:
    <<: *app
    hostname: api
    container_name: NAME-the-api
    ports: ["127.0.0.1::9000"]
  pool:
    <<: *app
    deploy: {replicas: 3}
  web:
    <<: *app
    depends_on: {api: {condition: service_started}, db: {condition: service_started}}
    environment: {PRICE: "$$5"}
  worker: {<<: *app, networks: [inside]}
  migrate: {<<: *app, command: ["true"], restart: "no"}
networks:
  inside: {internal: true}
volumes:
  data:
"""


def compose(*words: str, files: tuple[Path, ...]) -> str:
    """What a docker compose command prints."""
    return docker("compose", *(w for f in files for w in ("-f", str(f))), *words)


class Stack:
    """A small project, and its releases in slots."""

    def __init__(self, things: Things, engine: DockerEngine, root: Path) -> None:
        self.things = things
        self.engine = engine
        self.root = root
        self.file = root / "compose.yaml"
        anchors = (
            f"x-programs: &programs {json.dumps(f'{PROGRAMS}:/programs:ro')}\n"
            "x-say: &say [python, /programs/say.py]\n"
            'x-app: &app {image: "python:3.13-slim", command: *say, volumes: [*programs], init: true}\n'
        )
        self.file.write_text(f"name: {things.name}\n{anchors}{COMPOSE.replace('NAME', things.name)}")
        self.project = self._read()
        image = docker("image", "inspect", "-f", "{{.Id}}", "python:3.13-slim")
        images = {n: PinnedImage(id=image, ref="python:3.13-slim") for n in self.project.services}
        self.release: Release = make_release(self.project, images, now=NOW)
        self.addresses: Addresses = allocate({}, wanted_addresses(self.release))
        self.networks: list[SlotNetwork] = []

    def _read(self) -> Project:
        model: dict[str, Any] = YAML(typ="safe").load(compose("config", files=(self.file,)))
        services = {
            name: Service(
                name=name,
                role=ROLES.get(name, Role.APP),
                reason="the test says so",
                config=config,
                image=config["image"],
                replicas=(config.get("deploy") or {}).get("replicas", 1),
                networks=tuple(config["networks"]),
                activate=Activate.ON_LIVE if name == "worker" else Activate.WITH_SLOT,
            )
            for name, config in model["services"].items()
        }
        return Project(
            name=self.things.name,
            root=str(self.root),
            files=(str(self.file),),
            services=services,
            networks=model["networks"],
            volumes=model["volumes"],
            secrets={},
            configs={},
            router=RouterRef(kind=RouterKind.HOST),
            routes=(Route(key="web", service="web", port=9000),),
        )

    async def start(self, *slots: Slot) -> None:
        """The twins, then the slots' containers."""
        for slot in Slot.BLUE, Slot.GREEN:
            for key, config in sorted(self.project.networks.items()):
                name = twin_name(self.project.name, slot, key)
                internal = bool(config.get("internal"))
                made = await self.engine.ensure_network(self.project.name, slot, key, name=name, internal=internal)
                self.networks.append(made)
        for slot in slots:
            compose(
                "up",
                "-d",
                "--no-deps",
                *app_keys(self.release, slot),
                *on_live_keys(self.release, slot),
                files=(self.slot_file(slot),),
            )

    def slot_file(self, slot: Slot) -> Path:
        """The compiled slot, as a file."""
        model = compile_slot(self.release, self.project.name, slot, self.networks, self.addresses, {"default"})
        path = self.root / f"{slot}.json"
        path.write_text(json.dumps(model))
        return path

    def address(self, slot: Slot, service: str, replica: int = 1) -> str:
        """Where a replica has to be."""
        network = "default" if service != "worker" else "inside"
        twin = next(n for n in self.networks if (n.slot, n.network) == (slot, network))
        return f"{twin.subnet.rpartition('.')[0]}.{self.addresses[network, service, replica]}"

    def name(self, slot: Slot, service: str, replica: int = 1) -> str:
        """A slot container's name."""
        return f"{self.project.name}-{slot}-{service}-{replica}"

    def hostname(self, slot: Slot, service: str, replica: int = 1) -> str:
        """What a slot container calls itself."""
        return docker("inspect", "-f", "{{.Config.Hostname}}", self.name(slot, service, replica))

    def ask(self, slot: Slot, service: str, *words: str) -> dict[str, Any]:
        """Run `ask.py` in a slot's container; what it counted."""
        output = docker("exec", self.name(slot, service), "python", "/programs/ask.py", *words)
        said: dict[str, Any] = json.loads(output)
        return said


@pytest.fixture
def things() -> Iterator[Things]:
    made = Things()
    yield made
    made.clean()


@pytest.fixture
async def stack(things: Things, tmp_path: Path) -> AsyncIterator[Stack]:
    engine = DockerEngine(pool="10.214.128.0/18")
    yield Stack(things, engine, tmp_path)
    await engine.close()


async def test_names_mean_the_slots_own_services(stack: Stack) -> None:
    """Both slots and a stray plain stack run; what a container of one slot reaches is in its slot, 10,000 times."""
    compose("up", "-d", "db", files=(stack.file,))
    shared = docker("inspect", "-f", "{{.Id}} {{.State.StartedAt}}", f"{stack.project.name}-db-1")
    volumes = docker("volume", "ls", "-q", "--filter", f"name={stack.project.name}")
    await stack.start(Slot.BLUE, Slot.GREEN)
    compose("up", "-d", "api", "pool", files=(stack.file,))  # Somebody types this; the names are on the shared network.

    for slot in Slot.GREEN, Slot.BLUE:
        api = {stack.address(slot, "api")}
        pool = {stack.address(slot, "pool", n) for n in (1, 2, 3)}
        asked = stack.ask(slot, "web", "1250", "api", "pool", "db")
        for way in "libc", "dns":
            assert set(asked[way]["api"]) == api
            assert set(asked[way]["pool"]) == pool
            assert {sum(counts.values()) for counts in asked[way].values()} == {1250}
        assert set(asked["http"]["api"]) == {stack.hostname(slot, "api")} == {f"{slot}-1-api"}
        assert set(asked["http"]["pool"]) == {stack.hostname(slot, "pool", n) for n in (1, 2, 3)}
        network = f'(index .NetworkSettings.Networks "{stack.project.name}_default")'
        db = docker("inspect", "-f", f"{{{{{network}.IPAddress}}}}", f"{stack.project.name}-db-1")
        assert set(asked["dns"]["db"]) == set(asked["libc"]["db"]) == {db}
        by_name = stack.ask(slot, "web", "1", f"{stack.project.name}-the-api", "nobody")["dns"]
        assert set(by_name[f"{stack.project.name}-the-api"]) == api
        assert set(by_name["nobody"]) == {"none"}

    assert docker("inspect", "-f", "{{.Id}} {{.State.StartedAt}}", f"{stack.project.name}-db-1") == shared
    assert docker("volume", "ls", "-q", "--filter", f"name={stack.project.name}") == volumes


async def test_a_services_own_network_stays_its_own(stack: Stack) -> None:
    """Who is only on an internal network neither finds nor reaches the others, in its slot or elsewhere."""
    compose("up", "-d", "db", files=(stack.file,))
    await stack.start(Slot.GREEN)

    asked = stack.ask(Slot.GREEN, "worker", "3", "api", "db", "worker")["dns"]
    assert set(asked["api"]) == set(asked["db"]) == {"none"}
    assert set(asked["worker"]) == {stack.address(Slot.GREEN, "worker")}


async def test_addresses_stay_with_their_containers(stack: Stack) -> None:
    """Stopped, restarted, removed and made again: the address waits, whoever else wants one meanwhile."""
    compose("up", "-d", "db", files=(stack.file,))
    await stack.start(Slot.GREEN)
    name, address = stack.name(Slot.GREEN, "api"), stack.address(Slot.GREEN, "api")
    twin = twin_name(stack.project.name, Slot.GREEN, "default")

    async def where() -> str:
        found = await stack.engine.container(name)
        assert found is not None
        return found.addresses.get(twin, "")

    first = await where()
    docker("restart", "-t", "1", name)
    again = await where()
    docker("stop", "-t", "1", name)
    others = [stack.things.sleeper(f"other{n}", "--network", twin) for n in range(4)]
    docker("start", name)
    started = await where()
    docker("rm", "-f", name)
    others += [stack.things.sleeper(f"more{n}", "--network", twin) for n in range(4)]
    compose("up", "-d", "--no-deps", "green-api-1", files=(stack.slot_file(Slot.GREEN),))
    assert [first, again, started, await where()] == [address] * 4
    for other in others:
        found = await stack.engine.container(other)
        assert found is not None
        assert int(found.addresses[twin].rpartition(".")[2]) >= HOSTS > FIRST_HOST


async def test_the_router_reaches_every_replica_where_the_files_say(stack: Stack) -> None:
    """The addresses for nginx are those of the containers, in both slots, seen from the host."""
    compose("up", "-d", "db", files=(stack.file,))
    await stack.start(Slot.BLUE, Slot.GREEN)
    routes = [Route(key="web", service="web", port=9000), Route(key="pool", service="pool", port=9000)]
    router = stack.project.router
    assert router is not None

    pool, web = upstreams(routes, stack.project.services, router, stack.networks, stack.addresses)
    assert web.servers[Slot.GREEN] == (f"{stack.address(Slot.GREEN, 'web')}:9000",)
    for slot in Slot.BLUE, Slot.GREEN:
        found = {c.name: c for c in await stack.engine.containers(nself_project=stack.project.name) if c.slot is slot}
        assert len(found) == 6
        twin = twin_name(stack.project.name, slot, "default")
        running = [found[stack.name(slot, "pool", n)].addresses[twin] for n in (1, 2, 3)]
        assert pool.servers[slot] == tuple(f"{a}:9000" for a in running)
        assert all(c.release == stack.release.id and c.labels[LABEL_SLOT] == slot for c in found.values())
        assert docker("port", stack.name(slot, "api")) == ""
        assert docker("exec", stack.name(slot, "web"), "printenv", "PRICE") == "$5"


def test_compose_takes_a_rich_slot_as_it_is_meant(tmp_path: Path) -> None:
    """`docker compose config` reads the file that most of a slot's features go into, and finds what was meant."""
    of = rich_project()
    made = release(of)
    model = compile_slot(made, of.name, Slot.GREEN, twins(of), addresses(made), {"back", "default"})
    path = tmp_path / "slot.json"
    path.write_text(json.dumps(model))

    read: dict[str, Any] = YAML(typ="safe").load(compose("config", files=(path,)))
    assert read["name"] == "shop-green"
    assert set(read["services"]) == set(model["services"])
    api = read["services"]["green-api-1"]
    assert (api["image"], api["pull_policy"]) == (made.images["api"].id, "never")
    assert api["environment"]["GREETING"] == "it costs $$5"
    assert api["command"][-1] == "--price=$$5"
    assert api["networks"] == model["services"]["green-api-1"]["networks"]
    assert sorted(api["extra_hosts"]) == sorted(model["services"]["green-api-1"]["extra_hosts"])
    assert api["labels"] == model["services"]["green-api-1"]["labels"]
    assert (api["secrets"][0]["source"], api["configs"][0]["source"]) == ("api-key", "limits")
    assert read["services"]["green-agent-1"]["network_mode"] == "service:green-web-1"
    assert read["volumes"]["uploads"]["name"] == "shop_uploads"
    assert all(n["external"] for n in read["networks"].values())
    assert all("ports" not in s and "build" not in s for s in read["services"].values())
