"""The container engine behind the `Engine` port, over its own API."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nself_deploy.adapters.docker_client import DockerClient, Refused
from nself_deploy.adapters.docker_files import archive
from nself_deploy.adapters.docker_host import EngineAddress
from nself_deploy.adapters.docker_networks import SlotNetworks
from nself_deploy.adapters.docker_pull import docker_pull
from nself_deploy.adapters.docker_read import (
    COMPOSE_ONE_OFF,
    COMPOSE_PROJECT,
    COMPOSE_VOLUME,
    clean_line,
    clean_lines,
    read_container,
)
from nself_deploy.app.ports import EngineInfo, ImageInfo, Progress
from nself_deploy.core.addresses import DEFAULT_POOL
from nself_deploy.core.model import LABEL_PROJECT, Container, Slot, SlotNetwork
from nself_deploy.errors import EngineError, ImageError

if TYPE_CHECKING:
    import aiodocker

INFO_S = 30.0
STOP_MARGIN_S = 30.0
"""What the engine may need beside the grace time to stop a container."""
SLOW_S = 60.0
"""For what the engine does to a container's processes and files."""
POLL_S = 0.02
MAX_OUTPUT = 64 * 1024
"""Bytes of a command's output that are kept."""
_CONFLICT = 409


class DockerEngine:
    """Docker Engine.

    Args:
        address: which one; None for the one that the `docker` command uses.
        pool: CIDR of the addresses for slot networks.
    """

    def __init__(self, address: EngineAddress | None = None, *, pool: str = DEFAULT_POOL) -> None:
        self._client = DockerClient(address)
        self._networks = SlotNetworks(self._client, pool)

    async def info(self) -> EngineInfo:
        """Version and name."""

        async def ask(docker: aiodocker.Docker) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
            return await docker.version(), await docker.system.info()

        version, info = await self._client.run("ask the engine for its version", ask, INFO_S)
        return EngineInfo(
            version=str(version.get("Version", "")),
            api_version=str(version.get("ApiVersion", "")),
            name=str(info.get("Name", "")),
        )

    async def containers(self, *, compose_project: str = "", nself_project: str = "") -> list[Container]:
        """Containers with all of the given labels, by name, without those of `docker compose run`."""
        labels = [f"{COMPOSE_PROJECT}={compose_project}"] if compose_project else []
        labels += [f"{LABEL_PROJECT}={nself_project}"] if nself_project else []
        if not labels:
            raise ValueError("containers of which project?")
        wanted = json.dumps({"label": labels})
        listed = await self._client.run("list containers", lambda d: d.containers.list(all=1, filters=wanted))
        found = await asyncio.gather(*(self.container(c.id) for c in listed))
        return sorted(
            (c for c in found if c is not None and c.labels.get(COMPOSE_ONE_OFF, "False") != "True"),
            key=lambda c: c.name,
        )

    async def container(self, container_id: str) -> Container | None:
        """One container by id or name."""
        answer = await self._client.run_or_none(
            f"inspect container {container_id}", lambda d: d.containers.container(container_id).show()
        )
        return None if answer is None else read_container(answer)

    async def networks(self, nself_project: str) -> list[SlotNetwork]:
        """The slot networks of a project, by name."""
        return await self._networks.of_project(nself_project)

    async def ensure_network(self, project: str, slot: Slot, network: str, *, name: str, internal: bool) -> SlotNetwork:
        """The slot network `name`, made with a free subnet of the pool when it isn't there."""
        return await self._networks.ensure(project, slot, network, name, internal)

    async def remove_network(self, name: str) -> None:
        """Remove a slot network; a network that isn't ours is refused."""
        await self._networks.remove(name)

    async def network_exists(self, name: str) -> bool:
        """Whether there is a network of this name."""
        return bool(await self._networks.named(name))

    async def attached(self, network: str) -> dict[str, str]:
        """Names of the running containers on a network, with their IPv4 addresses."""
        found = [c for answer in await self._networks.named(network) for c in (answer.get("Containers") or {}).values()]
        return {str(c["Name"]): str(c.get("IPv4Address") or "").partition("/")[0] for c in found}

    async def connect(self, network: str, container_id: str, aliases: Sequence[str] = ()) -> None:
        """Attach a container to a network."""
        await self._networks.connect(network, container_id, aliases)

    async def ensure_volume(self, project: str, volume: str, config: dict[str, Any]) -> None:
        """The engine's volume of a Compose volume, made as Compose itself would when it isn't there."""
        name = str(config.get("name") or f"{project}_{volume}")
        named = {"name": [name]}
        listed = await self._client.run("list volumes", lambda d: d.volumes.list(filters=named))  # type: ignore[no-untyped-call]
        if any(v["Name"] == name for v in listed.get("Volumes") or ()):
            return
        if config.get("external"):
            raise EngineError(
                f"there is no volume {name!r}, which the project uses as an external one.",
                f"Make it with `docker volume create {name}`.",
                where=f"volumes.{volume}",
            )
        wanted = {
            "Name": name,
            "Driver": config.get("driver") or "local",
            "DriverOpts": dict(config.get("driver_opts") or {}),
            "Labels": {**(config.get("labels") or {}), COMPOSE_PROJECT: project, COMPOSE_VOLUME: volume},
        }
        await self._client.run(f"create volume {name!r}", lambda d: d.volumes.create(wanted))  # type: ignore[no-untyped-call]

    async def start(self, container_id: str) -> None:
        """Start a stopped container."""
        await self._client.run(
            f"start container {container_id}", lambda d: d.containers.container(container_id).start(), SLOW_S
        )

    async def stop(self, container_id: str, grace_s: float) -> None:
        """SIGTERM (or the container's own signal), `grace_s` seconds, SIGKILL."""
        await self._client.run_or_none(
            f"stop container {container_id}",
            lambda d: d.containers.container(container_id).stop(t=math.ceil(grace_s)),
            grace_s + STOP_MARGIN_S,
        )

    async def remove(self, container_id: str) -> None:
        """Remove a stopped container with its anonymous volumes; returns when it is gone."""
        try:
            await self._client.run_or_none(
                f"remove container {container_id}",
                lambda d: d.containers.container(container_id).delete(v=True),
                SLOW_S,
            )
        except Refused as error:
            if error.status != _CONFLICT or "already in progress" not in error.what:
                raise
            await self._client.run(
                f"wait until container {container_id} is removed", lambda _: self._gone(container_id), SLOW_S
            )

    async def _gone(self, container_id: str) -> None:
        while await self.container(container_id) is not None:
            await asyncio.sleep(POLL_S)

    async def logs(self, container_id: str, lines: int = 20) -> list[str]:
        """Last lines of both streams; none of a container that is gone."""
        pieces = await self._client.run_or_none(
            f"read the log of container {container_id}",
            lambda d: d.containers.container(container_id).log(stdout=True, stderr=True, tail=lines),
        )
        return clean_lines(pieces or (), lines)

    async def image(self, ref: str) -> ImageInfo | None:
        """An image by reference or id."""
        try:
            found = await self._client.run_or_none(f"look for image {ref!r}", lambda d: d.images.inspect(ref))
        except Refused as error:
            raise ImageError(error.what, "Check the image's name.") from error
        if found is None:
            return None
        return ImageInfo(
            id=found["Id"], tags=tuple(found.get("RepoTags") or ()), digests=tuple(found.get("RepoDigests") or ())
        )

    async def tag(self, image_id: str, ref: str) -> None:
        """Give an image one more name (`repository:tag`)."""
        repository, _, tag = ref.rpartition(":")
        if not repository or "/" in tag:
            raise ValueError(f"{ref!r} has no tag")
        try:
            await self._client.run(
                f"name image {image_id} {ref!r}", lambda d: d.images.tag(image_id, repository, tag=tag)
            )
        except Refused as error:
            raise ImageError(error.what, "Was the image removed meanwhile? Build or pull it again.") from error

    async def untag(self, ref: str) -> bool:
        """Take a name from an image, which goes with its last name; False while a container uses the image.

        The engine itself refuses then, in the same step: nobody can begin to use it in between.
        """
        try:
            await self._client.run_or_none(f"take the name {ref!r} away", lambda d: d.images.delete(ref), SLOW_S)
        except Refused as error:
            if error.status == _CONFLICT:
                return False
            raise
        return True

    async def pull(self, ref: str, progress: Progress | None = None, timeout_s: float = 600.0) -> ImageInfo:
        """Pull an image; a registry that says nothing for 15 s is taken as none."""
        await self.info()
        await docker_pull(ref, self._client.address.host, progress=progress, timeout_s=timeout_s)
        found = await self.image(ref)
        if found is None:
            raise ImageError(f"image {ref!r} was pulled and is gone again.", "Is something pruning images? Try again.")
        return found

    async def exec(self, container_id: str, argv: Sequence[str], timeout_s: float = 30.0) -> tuple[int, str]:
        """Run a command in a container: exit status, and the first 64 KiB of both streams.

        A command that takes too long is an EngineError; it may still be running in the container then.
        """

        async def run(docker: aiodocker.Docker) -> tuple[int, bytes]:
            started = await docker.containers.container(container_id).exec(list(argv))
            kept = bytearray()
            async with started.start(detach=False) as stream:
                while (message := await stream.read_out()) is not None:
                    kept += message.data[: MAX_OUTPUT - len(kept)]
            state = await started.inspect()
            while state.get("Running"):
                await asyncio.sleep(POLL_S)
                state = await started.inspect()
            return int(state["ExitCode"] or 0), bytes(kept)

        status, output = await self._client.run(f"run {argv[0]!r} in container {container_id}", run, timeout_s)
        return status, "\n".join(clean_line(line) for line in output.decode(errors="replace").splitlines())

    async def put_files(self, container_id: str, files: dict[str, bytes], links: dict[str, str] | None = None) -> None:
        """Write files and symbolic links into a container."""
        data = archive(files, links or {})

        async def put(docker: aiodocker.Docker) -> None:
            await docker.containers.container(container_id).put_archive("/", data)  # type: ignore[no-untyped-call]

        await self._client.run(f"write files into container {container_id}", put)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()
