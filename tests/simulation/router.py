"""The nginx of the simulated world: what it has read, what the link says, who is in flight."""

from __future__ import annotations

from nself_deploy.app.ports import ProbeAnswer, RouterState
from nself_deploy.core.model import Probe, Route, Slot, Split
from nself_deploy.core.nginx_tree import compile_tree, fingerprint
from nself_deploy.core.routing import TreeSpec
from nself_deploy.errors import NselfError, RouterError, RouterFilesRefused
from tests.simulation.process import Process
from tests.simulation.things import Thing

VERSION = (1, 30, 0)
OLD_WORKERS_S = 3.0
CONFIRM_S = 5.0
SECRET_PATH = "0123456789abcdef" * 4
BASE = TreeSpec("shop", (), "/var/lib/nself/router", "/var/log/nself", "0.0.0.0:8472", SECRET_PATH)
BUSY = 4
"""What is always in flight to a slot with traffic."""


async def base_tree() -> TreeSpec:
    """What the router's files need beside the upstreams."""
    return BASE


def router_error(what: str) -> NselfError:
    """What the adapter raises when nginx is not there."""
    return RouterError(f"{what}: the router does not answer.", "Look whether nginx runs.")


class SimRouter:
    """The `Router` port."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world

    def split(self) -> Split | None:
        self._process.living()
        return self._world.disk.split

    async def observe(self) -> RouterState:
        await self._process.ask()
        world = self._world
        running = world.routing()
        router = world.router()
        return RouterState(
            running,
            VERSION if running else (),
            router.id if router else "",
            True,
            world.disk.split,
            world.disk.tree_print,
            world.loaded_tree if running else "",
        )

    async def install(self, spec: TreeSpec) -> str:
        process, world, disk = self._process, self._world, self._world.disk
        tree = fingerprint(compile_tree(spec))
        await process.ask()
        running = world.routing()
        if disk.split is None and any(u.servers.get(Slot.PLAIN) for u in spec.upstreams):
            process.touch("link the plain stack", lambda: self._point(Split.all_to(Slot.PLAIN)))
        before = (disk.tree, disk.tree_print)
        if disk.tree_print != tree:
            process.touch("write the router's files", lambda: self._write(spec, tree))
        if not running:
            return tree
        try:
            await self._load(tree)
        except RouterError:
            process.touch("put the router's files back", lambda: self._write(*before))
            raise
        return tree

    def _write(self, spec: TreeSpec | None, tree: str) -> None:
        self._world.disk.tree, self._world.disk.tree_print = spec, tree

    async def _load(self, tree: str) -> None:
        process, world = self._process, self._world
        await process.ask(0.03)
        if not world.routing():
            raise router_error("nginx -t")
        if world.refusals > 0:
            world.refusals -= 1
            if world.loaded_tree != tree:
                world.refused.add(tree)
            raise RouterFilesRefused("nginx refuses the files.", "Correct them.")
        if world.loaded_tree == tree:
            return
        world.refused.discard(tree)
        first = world.loaded is None
        await process.act("reload nginx", self._reload, 0.1, router_error)
        end = world.now + OLD_WORKERS_S
        while first and world.old_workers_until > world.now and world.now < end:
            await process.pause(0.1)

    def _reload(self) -> None:
        world = self._world
        if not world.routing():
            raise router_error("reload")
        if world.loaded is None:
            world.old_workers_until = world.users.reloaded(world.target(), world.now)
        until = world.old_workers_until
        world.retarget(world.load)
        world.old_workers_until = until

    async def move(self, split: Split) -> None:
        if self._world.disk.split == split:
            await self._process.spend(0.001)
            return
        await self._process.spend(0.002)
        self._process.touch(f"move traffic to {split.name}", lambda: self._point(split))

    def _point(self, split: Split) -> None:
        def point() -> None:
            self._world.disk.split, self._world.link_lost = split, False
            self._world.splits.append((self._world.now, split))

        self._world.retarget(point)

    async def record(self, *, on: bool) -> None:
        await self._process.spend(0.001)
        disk = self._world.disk
        if disk.recording != on:
            self._process.touch(f"recording {on}", lambda: setattr(disk, "recording", on))

    async def confirm(self, split: Split, timeout_s: float = CONFIRM_S) -> None:
        world = self._world
        end = world.now + timeout_s
        while True:
            await self._process.pause(0.01)
            if not world.routing() or world.loaded is None:
                raise router_error("confirm")
            if world.disk.split == split:
                return
            if world.now > end:
                raise RouterError(f"nginx does not split requests as {split.name}.", "Look whether it reads them.")

    async def in_flight(self, slot: Slot) -> int:
        await self._process.spend(0.004)
        world = self._world
        if not world.routing() or world.loaded is None:
            raise router_error("in flight")
        return world.users.in_flight(slot, world.now) + (BUSY if world.share(slot) else 0)

    async def old_workers(self) -> int:
        await self._process.ask()
        return 1 if self._world.old_workers_until > self._world.now else 0

    async def probe(self, route: Route, slot: Slot, probe: Probe) -> ProbeAnswer:
        await self._process.spend(0.004)
        world = self._world
        if not world.routing() or world.loaded is None:
            raise router_error("probe")
        upstream = next((u for u in world.loaded.upstreams if u.route.key == route.key), None)
        places = world.places(upstream, slot) if upstream else []
        well = [place for place in places if isinstance(place, Thing) and place.serves(world.now)]
        for place in well:
            place.last_ok = world.now
        ok = bool(well)
        return ProbeAnswer(ok, 200 if ok else 502, f"GET {probe.path} at {route.key} in {slot}")
