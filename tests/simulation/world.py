"""The simulated world: one engine, one nginx, one disk, users - as they really are, whatever anybody believes."""

from __future__ import annotations

import operator
import pickle
import random
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from nself_deploy.core.addresses import gateway_of, ip_range_of
from nself_deploy.core.lock_rules import Generation, LockOwner
from nself_deploy.core.model import (
    LABEL_NETWORK,
    LABEL_PROJECT,
    LABEL_RELEASE,
    LABEL_REPLICA,
    LABEL_SERVICE,
    LABEL_SLOT,
    Role,
    Slot,
    Split,
)
from nself_deploy.core.routing import TreeSpec, Upstream
from tests.simulation import shop
from tests.simulation.disk import Disk
from tests.simulation.loop import VirtualLoop
from tests.simulation.things import GOOD, Behaviour, Net, Thing
from tests.simulation.users import Users

if TYPE_CHECKING:
    from tests.simulation.process import Process

US, PEOPLE = "us", "world"
EPOCH = 1_795_000_000.0
"""Wall time at the beginning, seconds since 1970."""


_KEPT = (
    *("things", "removed", "nets", "volumes", "behaviours", "registry", "images", "graves", "loaded", "loaded_tree"),
    *("disk", "old_workers_until", "_numbers", "_places", "lock_files", "generations"),
)


class SimWorld:
    """Everything outside our processes. Synchronous: time passes only between calls."""

    stirred = False
    """Something changed that users may notice."""
    people_came = False
    """Somebody changed something by hand."""
    link_lost = False
    """Somebody removed the link that says where requests go."""
    old_workers_until = -1.0
    engine_back = -1.0
    refusals = 0
    """How many `nginx -t` from now on refuse."""
    wall_offset = 0.0
    digest = 0
    events = 0
    now = property(operator.attrgetter("loop.now"))
    """Virtual seconds."""
    _router: Thing | None = None
    """Its container when it was last looked for."""

    def __init__(self, seed: int, shape: shop.Shape) -> None:
        self.loop = VirtualLoop()
        self.random = random.Random(seed)
        self.shape = shape
        self.project = shop.project(shape)
        self.disk = Disk()
        self.images: dict[str, str] = {}
        """Names and ids of the images on the engine -> their ids."""
        self.users = Users(self.random)
        self.splits: list[tuple[float, Split]] = []
        """Where requests went, and from when on, in this history."""
        self.things: dict[str, Thing] = {}
        """By id, in the order in which they were made."""
        self.removed: dict[str, Thing] = {}
        self.nets: dict[str, Net] = {}
        self.volumes: dict[str, int] = {}
        """Name -> which one it is: one that is made anew has another number."""
        self.behaviours: dict[str, Behaviour] = {}
        """Image id -> what its containers do."""
        self.registry: dict[str, str] = {}
        """Reference -> image id, as the registry has it now."""
        self.graves: dict[str, str] = {}
        """`SLOT ADDRESS` -> who removed the container of that slot that was there last."""
        self.loaded: TreeSpec | None = None
        """What the running nginx has read."""
        self.loaded_tree = ""
        self.refused: set[str] = set()
        """Fingerprints of files with which nginx does not start."""
        self.flocks: dict[bool, Process] = {}
        """Who has the lock of the kernel, here and elsewhere."""
        self.lock_files: dict[bool, LockOwner] = {}
        self.generations: dict[int, Generation] = {}
        """Lock objects on the engine."""
        self.living: set[int] = set()
        """Ids of our processes that run."""
        self.inside: dict[Process, None] = {}
        """Processes that believe to have the lock."""
        self.check: Callable[[Process | None, str], None] = lambda process, what: None
        self.log: list[str] | None = None
        self._numbers = 0
        self._places: dict[str, list[Thing]] = {}
        """Address -> the containers that have it."""

    def kept(self) -> bytes:
        """All that there is, to begin other histories with."""
        kept = {name: getattr(self, name) for name in _KEPT}
        return pickle.dumps((self.now, self.users.kept(), kept))

    def restore(self, data: bytes) -> None:
        """Be as that world was."""
        self.loop.now, flights, kept = pickle.loads(data)
        self.users.restore(flights)
        for name, value in kept.items():
            setattr(self, name, value)

    def number(self) -> int:
        """A number that nothing else has."""
        self._numbers += 1
        return self._numbers

    def note(self, who: str, what: str) -> None:
        """One line of the history."""
        line = f"{self.loop.now:10.3f} {who}: {what}"
        self.digest = zlib.crc32(line.encode(), self.digest)
        if self.log is not None:
            self.log.append(line)

    def happened(self, process: Process | None, what: str) -> None:
        """Something changed: it is noted, and all that must hold is looked at."""
        self.events += 1
        self.note(process.name if process else "world", what)
        self.check(process, what)

    # Networks.

    def make_net(self, name: str, labels: dict[str, str], *, internal: bool) -> Net:
        """A network with a subnet of its own."""
        used = {net.subnet for net in self.nets.values()}
        pool = "10.213" if LABEL_PROJECT in labels else "172.18"
        subnet = next(s for s in (f"{pool}.{n}.0/24" for n in range(256)) if s not in used)
        self.stirred = True
        self.nets[name] = Net(name, labels, subnet, ip_range_of(subnet), internal)
        return self.nets[name]

    def attached(self, name: str) -> list[Thing]:
        """Containers on a network."""
        return [t for t in self.things.values() if name in t.addresses]

    def free_address(self, name: str) -> str:
        """One that the engine hands out itself: of the upper half in a slot's network."""
        net = self.nets[name]
        taken = {t.addresses[name] for t in self.attached(name)} | {gateway_of(net.subnet)}
        start = 128 if LABEL_PROJECT in net.labels else 2
        stem = net.subnet.rsplit(".", 1)[0]
        return next(a for a in (f"{stem}.{n}" for n in range(start, 255)) if a not in taken)

    # Containers.

    def named(self, name: str) -> Thing | None:
        """The container of this name or id."""
        return self.things.get(name) or next((t for t in self.things.values() if t.name == name), None)

    def at(self, address: str) -> Thing | None:
        """The container that has an address, or had it when it ran."""
        found = self._places.get(address)
        if not found:
            return None
        for thing in found:
            if thing.state == "running":
                return thing
        return found[0]

    def of_project(self, project: str) -> Iterator[Thing]:
        """Containers of a Compose project, by name."""
        return iter(sorted((t for t in self.things.values() if t.project == project), key=lambda t: t.name))

    def of_slot(self, slot: Slot) -> list[Thing]:
        """The containers that really are in a slot of the shop (its app containers for the plain stack)."""
        if slot is Slot.PLAIN:
            apps = {s.name for s in self.project.with_role(Role.APP)}
            return [t for t in self.of_project(shop.NAME) if t.service in apps]
        return [t for t in self.of_project(f"{shop.NAME}-{slot.value}") if t.labels.get(LABEL_PROJECT) == shop.NAME]

    def router(self) -> Thing | None:
        """The router's container."""
        found = self._router
        if found is None or self.things.get(found.id) is not found:
            ours = (t for t in self.things.values() if t.service == "router" and t.project == shop.NAME)
            found = self._router = next(ours, None)
        return found

    def add(self, thing: Thing) -> Thing:
        """A container that was created."""
        thing.behaviour = self.behaviours.get(thing.image, GOOD)
        self.stirred = True
        self.things[thing.id] = thing
        for address in thing.addresses.values():
            self._places.setdefault(address, []).append(thing)
        return thing

    def attach(self, thing: Thing, network: str) -> None:
        """Connect a container to one more network."""
        address = self.free_address(network)
        thing.addresses = {**thing.addresses, network: address}
        self._places.setdefault(address, []).append(thing)

    def readdress(self, thing: Thing, network: str) -> None:
        """The engine gives it another address when it starts."""
        old, new = thing.addresses[network], self.free_address(network)
        self.graves[f"{thing.slot} {old}"] = PEOPLE
        self._places[old].remove(thing)
        self._places.setdefault(new, []).append(thing)
        thing.addresses = {**thing.addresses, network: new}

    def start(self, thing: Thing, who: str) -> None:
        """Start a container, and all that comes with it."""
        if thing.state == "running":
            return
        self.stirred = True
        thing.replaces = self.share(thing.slot) and self._ended_by_others(thing)
        thing.start(self.now, who)
        thing.traffic_since = self.now if self.share(thing.slot) and thing.slot is not Slot.PLAIN else None
        if thing is self.router():
            self.load()

    def _ended_by_others(self, thing: Thing) -> bool:
        """Whether somebody else ended the run before, of it or of the container that was in its place."""
        if thing.started >= 0:
            return thing.stopper not in ("", US)
        places = [f"{thing.slot} {address}" for address in thing.addresses.values()]
        return any(self.graves.get(place, US) != US for place in places)

    def load(self) -> None:
        """Nginx starts, and reads what there is on the disk."""
        if self.disk.tree_print in self.refused:
            self.loaded, self.loaded_tree = None, ""
            if (router := self.router()) is not None:
                router.stop(US, self.now, 1)
        elif self.disk.tree is not None:
            self.loaded, self.loaded_tree = self.disk.tree, self.disk.tree_print
        else:
            self.loaded, self.loaded_tree = None, ""
        self.old_workers_until = -1.0

    def stop(self, thing: Thing, who: str, code: int = 0) -> None:
        """Stop a container; the requests that it served are gone."""
        self.stirred = True
        was = thing.state
        thing.stop(who, self.now, code)
        if thing is self.router() and was == "running":
            self.users.cut()

    def remove(self, thing: Thing, who: str) -> None:
        """Remove a container."""
        if thing.state in ("running", "restarting"):
            self.stop(thing, who, 137)
        self.graves.update((f"{thing.slot} {address}", thing.stopper or who) for address in thing.addresses.values())
        if self.things.pop(thing.id, None) is not None:
            self.stirred = True
            self.removed[thing.id] = thing
            for address in thing.addresses.values():
                self._places[address].remove(thing)

    # Traffic.

    def routing(self) -> bool:
        """Whether nginx runs."""
        router = self.router()
        return router is not None and router.serves(self.now)

    def target(self) -> Slot:
        """The slot that gets requests now."""
        if self.loaded is None:
            return Slot.PLAIN
        return self.disk.split.base if self.disk.split is not None else Slot.BLUE

    def share(self, slot: Slot) -> bool:
        """Whether a slot gets requests now."""
        return self.target() is slot

    def retarget(self, change: Callable[[], None]) -> None:
        """Do what may send users somewhere else, and let them go."""
        self.stirred = True
        before, astray = self.target(), self.link_lost
        change()
        after = self.target()
        if after is before:
            return
        if astray:
            self.users.left_at[before] = self.now  # what was in flight went where nobody knows
        else:
            self.users.left(before, self.now)
        for thing in self.of_slot(before):
            thing.traffic_since = None
        for thing in self.of_slot(after):
            thing.live(self.now)
            thing.traffic_since, thing.had_traffic = self.now, True

    def servers(self, slot: Slot) -> dict[str, list[Thing | str]]:
        """Route -> the containers that its requests to a slot may reach, or the addresses where there is none."""
        if self.loaded is None:
            plain = self.of_slot(Slot.PLAIN)
            return {r.key: [t for t in plain if t.service == r.service] for r in self.project.routes}
        return {upstream.route.key: self.places(upstream, slot) for upstream in self.loaded.upstreams}

    def places(self, upstream: Upstream, slot: Slot) -> list[Thing | str]:
        """The same for one upstream of those that nginx has read."""
        addresses = [server.rpartition(":")[0] for server in upstream.servers.get(slot) or ()]
        there = [(self.at(address), address) for address in addresses]
        # A plain container's address may be another's after somebody removed it.
        return [t if t is not None and t.slot is slot else address for t, address in there]

    def served(self) -> bool:
        """Whether a request over each route would be answered well at this moment."""
        return self.routing() and all(
            any(isinstance(place, Thing) and place.serves(self.now) for place in places)
            for places in self.servers(self.target()).values()
        )


def slot_labels(slot: Slot, service: str, replica: int, release: str) -> dict[str, str]:
    """Our labels, as somebody could put them on a container by hand."""
    return {
        LABEL_PROJECT: shop.NAME,
        LABEL_SLOT: slot.value,
        LABEL_SERVICE: service,
        LABEL_REPLICA: str(replica),
        LABEL_RELEASE: release,
    }


def net_labels(slot: Slot, network: str) -> dict[str, str]:
    """The labels of a slot's network."""
    return {LABEL_PROJECT: shop.NAME, LABEL_SLOT: slot.value, LABEL_NETWORK: network}


__all__ = ["EPOCH", "PEOPLE", "US", "Any", "SimWorld", "Split", "net_labels", "slot_labels"]
