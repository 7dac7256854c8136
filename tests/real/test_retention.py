"""Old releases go with their images, but never an image that a container uses."""

from __future__ import annotations

import secrets

import pytest

from nself_deploy.adapters.docker_engine import DockerEngine
from tests.real.scene import FAST, check_message, edit, tiny
from tests.real.stack import docker

pytestmark = pytest.mark.real

BUSYBOX = "busybox:1.37"


def test_the_newest_releases_are_kept_and_older_ones_go() -> None:
    stack = tiny(init=False)
    try:
        edit(stack, "services:", "x-nself-deploy: {keep_releases: 2}\n\nservices:")
        stack.nself("init", "--yes")
        made = [stack.nself("--json", *FAST, "--standby", "0", RELEASE=str(n)).json["release"] for n in range(3)]
        tags = docker("images", "--format", "{{.Tag}}", "--filter", f"reference=nself-deploy/{stack.name}-web").split()
        assert sorted(tags) == made[1:]
        assert sorted(p.name for p in (stack.root / ".nself/releases").iterdir()) == made[1:]
        check_message(stack.nself("rollback", "--to", made[0], check=False), 1, f"There is no release '{made[0]}'")
        stack.nself("rollback", *FAST, "--to", made[1])
        kept = stack.nself("history", "--releases", "--json").json
        assert [(one["id"], one["role"]) for one in kept] == [(made[2], "standby"), (made[1], "live")]
        assert all(one["created_on"] and one["images"]["web"]["id"].startswith("sha256:") for one in kept)
        assert {"name": "standby", "value": "0s", "origin": "flag"} in kept[0]["settings"]
        assert f"{made[1]}  live in " in stack.nself("history", "--releases").out
        assert stack.get("/")[2] == b"release 1\n"
    finally:
        stack.remove()


async def test_an_image_that_a_container_uses_is_left() -> None:
    engine, name = DockerEngine(), f"nself-deploy/retention{secrets.token_hex(3)}-web:1"
    source = docker("run", "-d", BUSYBOX, "true").strip()
    image = docker("commit", source, name).strip()
    containers = [source, docker("create", name, "true").strip()]
    try:
        assert not await engine.untag(name)
        assert (found := await engine.image(name)) is not None and found.id == image
        docker("rm", containers.pop())
        assert await engine.untag(name) and await engine.untag(name)
        assert await engine.image(image) is None and await engine.image(BUSYBOX) is not None
    finally:
        docker("rm", "-f", *containers)
        await engine.close()
