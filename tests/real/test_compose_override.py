"""The generated override under the real `docker compose`, typed as a person types it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from nself_deploy.adapters.compose import DockerCompose
from nself_deploy.adapters.project_files import find_project_files, write_override
from nself_deploy.core.extension_reader import read_extension
from nself_deploy.core.model import Project, Role, Route, Slot, SlotNetwork, router_side, twin_name
from nself_deploy.core.override import override_model
from nself_deploy.core.project import build_project

PLAIN = Path(__file__).parents[1] / "projects" / "plain"
SLEEPERS = ("edge", "web", "api", "db", "cron")


class Person:
    """Someone with a terminal in a copy of the project."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self.env = {**os.environ, "COMPOSE_PROJECT_NAME": name}

    def types(self, *words: str) -> str:
        done = subprocess.run(
            words, cwd=self.root, env=self.env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def containers(self) -> dict[str, str]:
        """Running containers by service: the ids."""
        listed = self.types("docker", "ps", "--no-trunc", "--filter", f"label=com.docker.compose.project={self.name}",
                            "--format", '{{.Label "com.docker.compose.service"}} {{.ID}}')  # fmt: skip
        found: dict[str, list[str]] = {}
        for service, container in (line.split() for line in listed.splitlines()):
            found.setdefault(service, []).append(container)
        return {service: " ".join(sorted(ids)) for service, ids in found.items()}

    def started_at(self, *services: str) -> list[str]:
        ids = self.containers()
        return [self.types("docker", "inspect", ids[s], "--format", "{{.State.StartedAt}}").strip() for s in services]

    async def project(self) -> Project:
        found = find_project_files(self.root, {})
        model = await DockerCompose(env=self.env).resolve(found.root, found.files)
        extension = read_extension(model)
        routes = (Route("web_80", "web", 80),)
        return build_project(model, root=found.root, files=found.files, extension=extension, nginx_routes=routes)

    def twins(self) -> list[SlotNetwork]:
        made = []
        sides = router_side("default"), router_side("front")
        for index, (slot, network) in enumerate(product((Slot.BLUE, Slot.GREEN), sides)):
            name = twin_name(self.name, slot, network)
            twin = SlotNetwork(name, slot, network, f"10.212.{index}.0/24", "", internal=True)
            label = f"com.docker.compose.project={self.name}-test"
            self.types("docker", "network", "create", "--internal", "--label", label, twin.name)
            made.append(twin)
        return made


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    root = tmp_path / "site"
    shutil.copytree(PLAIN, root)
    one = Person(root, f"nselft{secrets.token_hex(4)}")
    yield one
    one.types("docker", "compose", "down", "--volumes", "--remove-orphans", "--timeout", "1")
    label = f"label=com.docker.compose.project={one.name}-test"
    networks = one.types("docker", "network", "ls", "-q", "--filter", label).split()
    if networks:
        one.types("docker", "network", "rm", *networks)


async def test_plain_compose_lives_with_the_override(person: Person) -> None:
    person.types("docker", "compose", "up", "-d")
    plain = person.containers()
    assert set(plain) == set(SLEEPERS)
    assert len(plain["web"].split()) == 2
    project, twins = await person.project(), person.twins()
    shared = person.started_at("db", "cron")
    assert [s.name for s in project.with_role(Role.SHARED)] == ["cron", "db"]
    (person.root / ".nself" / "router" / "log").mkdir(parents=True)

    # Before the first flip: the router gets its networks, everything else stays as it is.
    path = write_override(person.root, override_model(project, twins, retired=False), {})
    person.types("docker", "compose", "config", "--quiet")
    person.types("docker", "compose", "up", "-d")
    before = person.containers()
    assert {s: c for s, c in before.items() if s != "edge"} == {s: c for s, c in plain.items() if s != "edge"}

    # After it: only the router and the shared services, although they depend on what has no containers any more.
    assert write_override(person.root, override_model(project, twins, retired=True), {}) == path
    person.types("docker", "compose", "up", "-d")
    after = person.containers()
    assert after == {s: c for s, c in before.items() if s in ("edge", "db", "cron")}
    assert person.started_at("db", "cron") == shared, "shared services were never restarted"

    networks = json.loads(person.types("docker", "inspect", after["edge"]))[0]["NetworkSettings"]["Networks"]
    wanted = {f"{person.name}_default", f"{person.name}_front", *(twin.name for twin in twins)}
    assert set(networks) == wanted
    mounts = json.loads(person.types("docker", "inspect", after["edge"]))[0]["Mounts"]
    assert {(m["Destination"], m["RW"]) for m in mounts} == {
        ("/etc/nginx/conf.d", False), ("/var/lib/nself/router", False), ("/var/log/nself", True),
    }  # fmt: skip

    # What people type next, from nothing as well.
    for words in (["up", "-d"], ["restart"], ["stop"], ["start"], ["up", "-d", "web"]):
        person.types("docker", "compose", *words)
        assert person.containers() == ({} if words == ["stop"] else after), words
    person.types("docker", "compose", "down", "--timeout", "1")
    person.types("docker", "compose", "up", "-d")
    assert set(person.containers()) == {"edge", "db", "cron"}
    assert (await person.project()).services["web"].replicas == 2, "the override is not part of what the user asks for"


async def test_the_override_beside_one_of_the_users_own(person: Person) -> None:
    own = person.root / "docker-compose.override.yml"
    own.write_text("services: {api: {environment: {OWN: '1'}}, edge: {labels: {own: '1'}}}\n")
    person.types("docker", "compose", "up", "-d")
    before = person.containers()
    project = await person.project()
    (person.root / ".nself" / "router" / "log").mkdir(parents=True)
    write_override(person.root, override_model(project, [], retired=True), {})
    person.types("docker", "compose", "up", "-d")
    after = person.containers()

    assert set(after) == {"edge", "db", "cron"}
    assert (after["db"], after["cron"]) == (before["db"], before["cron"])
    assert person.types("docker", "inspect", after["edge"], "--format", '{{index .Config.Labels "own"}}').strip() == "1"
    assert project.services["api"].config["environment"] == {"OWN": "1"}
    assert (await person.project()) == project


async def test_shared_services_can_be_started_alone(person: Person) -> None:
    project = await person.project()
    compose = DockerCompose(env=person.env)
    await compose.up(project.name, project.files, ["db", "cron"], root=project.root, recreate=False)

    assert set(person.containers()) == {"db", "cron"}
    person.types("docker", "compose", "up", "-d", "--no-deps", "db", "cron")
    assert set(person.containers()) == {"db", "cron"}
