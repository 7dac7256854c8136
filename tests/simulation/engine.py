"""The container engine, the `docker compose` command and HTTP probes of the simulated world."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nself_deploy.app.ports import EngineInfo, ImageInfo, ProbeAnswer, Progress
from nself_deploy.core.model import (
    LABEL_NETWORK,
    LABEL_PROJECT,
    LABEL_RELEASE,
    LABEL_REPLICA,
    LABEL_SERVICE,
    LABEL_SLOT,
    Container,
    Probe,
    Service,
    Slot,
    SlotNetwork,
)
from nself_deploy.errors import EngineError, ImageError
from tests.simulation import shop
from tests.simulation.process import Process
from tests.simulation.things import Net, Thing
from tests.simulation.world import US, SimWorld

START = "2026-11-22T21:30:00Z"


class SimEngine:
    """The `Engine` port."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world

    async def info(self) -> EngineInfo:
        await self._process.ask()
        return EngineInfo("28.0", "1.48", "sim")

    async def containers(self, *, compose_project: str = "", nself_project: str = "") -> list[Container]:
        if not (compose_project or nself_project):
            raise ValueError("containers of which project?")
        await self._process.ask()
        now = self._world.now
        found = [
            t
            for t in self._world.things.values()
            if (not compose_project or t.project == compose_project)
            and (not nself_project or t.labels.get(LABEL_PROJECT) == nself_project)
        ]
        found.sort(key=lambda t: t.name)
        return [t.shown(now, START) for t in found]

    async def container(self, container_id: str) -> Container | None:
        await self._process.ask()
        found = self._world.named(container_id)
        return found.shown(self._world.now, START) if found else None

    async def networks(self, nself_project: str) -> list[SlotNetwork]:
        await self._process.ask()
        ours = [n for n in self._world.nets.values() if n.labels.get(LABEL_PROJECT) == nself_project]
        return sorted((_shown(n) for n in ours), key=lambda n: n.name)

    async def ensure_network(self, project: str, slot: Slot, network: str, *, name: str, internal: bool) -> SlotNetwork:
        labels = {LABEL_PROJECT: project, LABEL_SLOT: slot.value, LABEL_NETWORK: network}
        world = self._world
        found = world.nets.get(name)
        if found is None:
            found = await self._process.act(
                f"create network {name}",
                lambda: world.nets.get(name) or world.make_net(name, labels, internal=internal),
            )
        else:
            await self._process.ask()
        if found.labels != labels or found.internal != internal:
            raise EngineError(f"there is a network {name!r} that is not the slot network it should be.", "Look at it.")
        return _shown(found)

    async def remove_network(self, name: str) -> None:
        world = self._world
        found = world.nets.get(name)
        if found is not None and LABEL_PROJECT not in found.labels:
            raise EngineError(f"network {name!r} was not made by nself-deploy, so it is not removed.", "Look at it.")

        def remove() -> None:
            if any(t.state == "running" for t in world.attached(name)):
                raise EngineError(f"network {name!r} has active endpoints.", "Remove them first.")
            world.nets.pop(name, None)

        await self._process.act(f"remove network {name}", remove)

    async def network_exists(self, name: str) -> bool:
        await self._process.ask()
        return name in self._world.nets

    async def connect(self, network: str, container_id: str, aliases: Sequence[str] = ()) -> None:
        world = self._world

        def attach() -> None:
            thing = world.named(container_id)
            if thing is None or network not in world.nets:
                raise EngineError(f"No such container or network: {container_id}, {network}.", "Look for it.")
            if network not in thing.addresses:
                world.attach(thing, network)

        await self._process.act(f"connect {container_id} to {network}", attach)

    async def ensure_volume(self, project: str, volume: str, config: dict[str, Any]) -> None:
        name = str(config.get("name") or f"{project}_{volume}")
        if name not in self._world.volumes:
            if config.get("external"):
                raise EngineError(f"there is no volume {name!r}.", "Make it.")
            await self._process.act(
                f"create volume {name}", lambda: self._world.volumes.setdefault(name, self._world.number())
            )

    async def start(self, container_id: str) -> None:
        def start() -> None:
            thing = self._world.named(container_id)
            if thing is None:
                raise EngineError(f"No such container: {container_id}.", "Look for it.")
            self._world.start(thing, US)

        await self._process.act(f"start {self._name(container_id)}", start, 0.1)

    async def stop(self, container_id: str, grace_s: float) -> None:
        def stop() -> None:
            thing = self._world.named(container_id)
            if thing is not None:
                self._world.stop(thing, US)

        await self._process.act(f"stop {self._name(container_id)}", stop, 0.1)

    async def remove(self, container_id: str) -> None:
        def remove() -> None:
            thing = self._world.named(container_id)
            if thing is None:
                return
            if thing.state in ("running", "restarting"):
                raise EngineError(f"the container {thing.name} is running.", "Stop it first.")
            self._world.remove(thing, US)

        await self._process.act(f"remove {self._name(container_id)}", remove)

    def _name(self, container_id: str) -> str:
        found = self._world.named(container_id)
        return found.name if found else container_id

    async def logs(self, container_id: str, lines: int = 20) -> list[str]:
        await self._process.ask()
        return ["the last line of the log"] if self._world.named(container_id) else []

    async def image(self, ref: str) -> ImageInfo | None:
        await self._process.ask()
        found = self._world.images.get(ref)
        return ImageInfo(found, (ref,), (f"{ref}@{found}",)) if found else None

    async def tag(self, image_id: str, ref: str) -> None:
        images = self._world.images
        if image_id not in images.values():
            raise ImageError(f"there is no image {image_id}.", "Pull it again.")
        await self._process.act(f"tag {ref}", lambda: images.__setitem__(ref, image_id), 0.005)

    async def untag(self, ref: str) -> bool:
        world = self._world
        await self._process.ask()
        found = world.images.get(ref)
        if found is None:
            return True
        last = [name for name, image in world.images.items() if image == found and name not in (ref, found)] == []
        if last and any(thing.image == found for thing in world.things.values()):
            return False

        def untag() -> None:
            world.images.pop(ref, None)
            if last:
                world.images.pop(found, None)

        await self._process.act(f"untag {ref}", untag, 0.01)
        return True

    async def pull(self, ref: str, progress: Progress | None = None, timeout_s: float = 600.0) -> ImageInfo:
        await self._process.ask()
        found = self._world.registry.get(ref)
        if found is None:
            raise ImageError(f"no registry has {ref}.", "Push it.")
        images = self._world.images
        await self._process.act(f"pull {ref}", lambda: images.update({ref: found, found: found}), 0.05)
        return ImageInfo(found, (ref,), (f"{ref}@{found}",))

    async def exec(self, container_id: str, argv: Sequence[str], timeout_s: float = 30.0) -> tuple[int, str]:
        await self._process.ask()
        return 0, ""

    async def put_files(self, container_id: str, files: dict[str, bytes], links: dict[str, str] | None = None) -> None:
        await self._process.ask()

    async def close(self) -> None:
        """Nothing is open."""


def _shown(net: Net) -> SlotNetwork:
    return SlotNetwork(
        net.name, Slot(net.labels[LABEL_SLOT]), net.labels[LABEL_NETWORK], net.subnet, net.ip_range, net.internal
    )


class SimCompose:
    """The `Compose` port."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world

    async def resolve(self, root: str, files: Sequence[str]) -> dict[str, Any]:
        await self._process.ask()
        return {}

    async def build(
        self, root: str, files: Sequence[str], services: Sequence[str], progress: Progress | None = None
    ) -> None:
        await self._process.ask()

    async def up(
        self,
        project: str,
        files: Sequence[str],
        services: Sequence[str],
        *,
        root: str = "",
        deps: bool = False,
        recreate: bool = True,
        timeout_s: float = 120.0,
        progress: Progress | None = None,
    ) -> None:
        if project == shop.NAME:
            override = self._world.disk.files.get(shop.OVERRIDE) if shop.OVERRIDE in files else None
            changes = plain_up(self._world, services, override, US)
        else:
            model = self._world.disk.files.get(files[0])
            if model is None:
                raise EngineError(f"{files[0]} does not exist.", "Deploy again.")
            changes = slot_up(self._world, model, services)
        await self._process.steps(f"compose up {project}", changes)

    async def down(self, project: str, timeout_s: float = 120.0) -> None:
        world = self._world
        ours = [t for t in world.of_project(project) if LABEL_PROJECT in t.labels]
        await self._process.steps(
            f"compose down {project}",
            ((t.name, lambda t=t: world.remove(t, US)) for t in ours),  # type: ignore[misc]
        )


def slot_up(
    world: SimWorld, model: dict[str, Any], services: Sequence[str]
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Containers of a slot's file that are missing, stopped, or have another configuration."""
    for key in services or list(model["services"]):
        config = model["services"][key]
        name = config["container_name"]
        found = world.named(name)
        if found is not None and found.config is not config and found.config != config:
            old = found
            yield f"replace {name}", lambda old=old: world.remove(old, US)  # type: ignore[misc]
            found = world.named(name)
        if found is None:
            yield f"create {name}", lambda config=config: _create(world, model, config)  # type: ignore[misc]
            found = world.named(name)
        if found is not None and found.state != "running":
            thing = found
            yield f"start {name}", lambda thing=thing: world.start(thing, US)  # type: ignore[misc]


def _create(world: SimWorld, model: dict[str, Any], config: dict[str, Any]) -> None:
    name, labels = config["container_name"], config["labels"]
    if world.named(name) is not None:
        raise EngineError(f'the container name "{name}" is in use.', "Remove it.")
    if config["image"] not in world.images.values():
        raise EngineError(f"no such image: {config['image']}.", "Pull it.")
    addresses = {}
    for key, how in config["networks"].items():
        network = model["networks"][key]["name"]
        if network not in world.nets:
            raise EngineError(f"network {network} declared as external, but could not be found.", "Make it.")
        wanted = (how or {}).get("ipv4_address")
        other = world.at(wanted) if wanted else None
        if other is not None and other.state in ("running", "restarting"):
            raise EngineError(f"Address already in use: {wanted}.", "Remove who has it.")
        addresses[network] = wanted or world.free_address(network)
    world.add(
        Thing(
            name,
            world.number(),
            model["name"],
            labels[LABEL_SERVICE],
            replica=int(labels[LABEL_REPLICA]),
            slot=Slot(labels[LABEL_SLOT]),
            release=labels[LABEL_RELEASE],
            image=config["image"],
            labels=labels,
            addresses=addresses,
            restarts=config.get("restart", "no") != "no",
            checked=world.project.services[labels[LABEL_SERVICE]].has_healthcheck,
            config=config,
        )
    )


def plain_up(
    world: SimWorld, services: Sequence[str], override: dict[str, Any] | None, who: str
) -> Iterator[tuple[str, Callable[[], None]]]:
    """`docker compose up --no-recreate` of the user's own file (all services when none is named)."""
    overlaid = (override or {}).get("services", {})
    for name in services or list(world.project.services):
        service = world.project.services[name]
        if (overlaid.get(name, {}).get("deploy") or {}).get("replicas") == 0:
            continue
        for replica in range(1, service.replicas + 1):
            full = f"{shop.NAME}-{name}-{replica}"
            if world.named(full) is None:
                yield f"create {full}", lambda s=service, r=replica: make_plain(world, s, r)  # type: ignore[misc]
            found = world.named(full)
            if found is not None and found.state != "running":
                yield f"start {full}", lambda thing=found: world.start(thing, who)  # type: ignore[misc]


def make_plain(world: SimWorld, service: Service, replica: int) -> Thing:
    """A container of the plain stack, with addresses that the engine hands out."""
    nets = [shop.ORIGINAL]
    if service.name == "router":
        nets += [n.name for n in world.nets.values() if "@router" in n.labels.get(LABEL_NETWORK, "")]
    ref = f"{service.name}:1"
    return world.add(
        Thing(
            f"{shop.NAME}-{service.name}-{replica}",
            world.number(),
            shop.NAME,
            service.name,
            replica=replica,
            image=world.images.get(ref, ref),
            addresses={net: world.free_address(net) for net in nets},
            restarts=service.config.get("restart") != "no",
            checked=service.has_healthcheck,
        )
    )


class SimProber:
    """The `Prober` port."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def get(self, address: str, port: int, probe: Probe) -> ProbeAnswer:
        await self._process.spend(0.003)
        world = self._process.world
        found = world.at(address)
        ok = found is not None and found.serves(world.now)
        if found is not None:
            found.seen(world.now, ok=ok)
        return ProbeAnswer(ok, 200 if ok else 0, f"GET http://{address}:{port}/")
