"""What must hold after every event, by the simulated world's truth (spec: section 6)."""

from __future__ import annotations

from nself_deploy.core.model import LABEL_PROJECT, Activate, Role, Slot
from tests.simulation import shop
from tests.simulation.process import Process
from tests.simulation.things import Thing
from tests.simulation.world import US, SimWorld

EXPECTED_WINDOW = 0.8
"""The share of the minimum uptime during which health must really have been seen."""
RECENT_S = 9.0
"""How old a look at a candidate may be when users are sent to it (a slow call lies between)."""


class Violation(Exception):
    """Something that must never be."""


AHEAD = ("commit: begin", "commit: intent", "commit: outcome", "move traffic", "bluegreen/state.json")
"""What a way back to a warm release does before it has the lock on the engine: users first."""


class Watch:
    """Looks at the world after every event."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._target = world.target()
        self._others = self._foreign()
        self._volumes = dict(world.volumes)
        self._states: dict[str, tuple[str, float]] = {}
        self.promise = False
        """Users were served when the present command began."""
        self.found: list[str] = []
        self.remember()

    def begin(self) -> None:
        """The world is there; from now on it is watched."""
        self._others = self._foreign()
        self.remember()
        self._world.check = self.look

    def fail(self, number: int, what: str) -> None:
        """Note a violation of an invariant."""
        words = f"invariant {number}: {what}"
        self._world.note("VIOLATION", words)
        self.found.append(words)

    def remember(self) -> None:
        """How things are now: what changes next is somebody's doing."""
        self._states = {t.id: (t.state, t.started) for t in self._world.things.values()}
        self._target = self._world.target()
        self._volumes = dict(self._world.volumes)
        for thing in self._world.of_slot(self._target):
            thing.proved_before = True

    def look(self, process: Process | None, what: str) -> None:
        """After an event; `process` is whose doing it was, None for the world's."""
        world = self._world
        if process is not None:
            self._alone(process, what)
        if not self._world.stirred:
            return  # only something was written
        self._world.stirred = False
        for thing in self._world.things.values():
            ours = thing.id not in self._states and thing.slot is not Slot.PLAIN and not thing.by_hand
            if ours and (wrong := at_creation(self._world, thing)):
                self.fail(7, f"after {what!r} {wrong}")
        if process is not None:
            self._jobs(what)
            self._stops(what)
            self._moves(what)
            self._served(what)
            self._singles(what)
            if any(world.volumes.get(name) != number for name, number in self._volumes.items()):
                self.fail(4, f"a volume was removed or made anew by {what!r}")
        if self._foreign() != self._others:
            self.fail(8, f"another project was touched by {what!r}")
            self._others = self._foreign()
        self.remember()

    def _foreign(self) -> list[tuple[str, str, float]]:
        return [(t.id, t.state, t.started) for t in self._world.things.values() if t.project.startswith(shop.OTHER)]

    def _alone(self, process: Process, what: str) -> None:
        inside = self._world.inside
        early = AHEAD if process.ahead else ()
        if process not in inside and not what.startswith(("lock ", "commit: audit lock", *early)):
            self.fail(6, f"{process.name} did {what!r} without the lock")
        if len(inside) > 1:
            self.fail(6, f"{' and '.join(p.name for p in inside)} work at once")
        if not process.alive:
            self.fail(6, f"{process.name} is dead and did {what!r}")

    def _stops(self, what: str) -> None:
        """What ran before this event and does not run any more, or was started anew."""
        world = self._world
        for thing_id, (state, started) in self._states.items():
            if state != "running":
                continue
            thing = world.things.get(thing_id) or world.removed[thing_id]
            stopped = thing_id not in world.things or (thing.state == "exited" and thing.stopper == US)
            if stopped and self._is_singular(thing):
                self.fail(4, f"{thing.name} was stopped by {what!r}")
            if stopped and thing.well_when_stopped and self._serves_users(thing):
                self._stopped(thing, started, what)

    def _stopped(self, thing: Thing, started: float, what: str) -> None:
        world = self._world
        if self.promise and world.routing() and world.share(thing.slot) and not world.link_lost:
            self.fail(3, f"{thing.name} was stopped by {what!r} while its slot gets the traffic")
        lost = world.users.lost(thing.slot, started, world.now)
        if 0 <= lost < world.shape.timing.drain_s:
            self.fail(3, f"{thing.name} was stopped by {what!r} with requests in flight, {lost:.2f} s after the move")

    def _is_singular(self, thing: Thing) -> bool:
        service = self._world.project.services.get(thing.service)
        return thing.project == shop.NAME and service is not None and service.role in (Role.SHARED, Role.ROUTER)

    def _serves_users(self, thing: Thing) -> bool:
        service = self._world.project.services.get(thing.service)
        ours = thing.project == shop.NAME or thing.labels.get(LABEL_PROJECT) == shop.NAME
        return ours and service is not None and service.role is Role.APP and service.activate is Activate.WITH_SLOT

    def _moves(self, what: str) -> None:
        """Users were sent to another slot: it must have been proved."""
        world, target = self._world, self._world.target()
        if target is self._target or target is Slot.PLAIN or not self.promise or not world.routing() or world.link_lost:
            return
        wanted = {s.name: s.replicas for s in world.project.with_role(Role.APP) if s.activate is Activate.WITH_SLOT}
        for thing in world.of_slot(target):
            if thing.service in wanted and (reason := self._unproved(thing)):
                self.fail(2, f"{what!r} sends users to {thing.name}, {reason}")
        for route, places in world.servers(target).items():
            if not any(isinstance(place, Thing) for place in places) and self._blame(places):
                self.fail(2, f"{what!r} sends users of {route} where nothing is")

    def _unproved(self, thing: Thing) -> str:
        now = self._world.now
        if thing.stopper and thing.state != "running":
            return ""  # it ended between the last look and this moment
        if thing.last_ok < thing.started and thing.starter == US:
            return "which nobody saw healthy since it was started"
        if thing.proved_before:
            return ""
        if thing.starter == US and now - thing.last_ok > RECENT_S:
            return f"which was last seen healthy {now - thing.last_ok:.1f} s ago"
        seen = now - thing.first_ok if thing.first_ok is not None else None
        wanted = self._world.shape.timing.min_uptime_s * EXPECTED_WINDOW
        if thing.starter == US and seen is not None and seen < wanted:
            return f"which was seen healthy for {seen:.2f} s only"
        return ""

    def _served(self, what: str) -> None:
        world = self._world
        if not self.promise or not world.routing() or world.link_lost:
            return
        for route, places in world.servers(world.target()).items():
            if not any(isinstance(p, Thing) and p.serves(world.now) for p in places) and self._blame(places):
                self.fail(1, f"after {what!r} requests of {route} to {world.target()} are answered by nobody")

    def _blame(self, places: list[Thing | str]) -> bool:
        """Whether nobody but us is the reason that none of these containers serves."""
        if not places:
            return self._world.target() is not Slot.PLAIN
        return all(self._ours(place) for place in places)

    def _ours(self, place: Thing | str) -> bool:
        world = self._world
        if isinstance(place, str):
            return world.graves.get(f"{world.target()} {place}", US) == US
        if place.state == "running":
            booting = world.now - place.started < place.behaviour.boot_s
            return booting and place.starter == US and not place.replaces
        return place.stopper == US

    def _jobs(self, what: str) -> None:
        """A job that is known to have ended well for a release does not run for it again."""
        world = self._world
        for thing in world.things.values():
            known = self._states.get(thing.id, ("",))[0]
            starts = thing.service == "migrate" and thing.state == "running" and known != "running"
            if starts and world.disk.saved.meta.get(f"job-done:{thing.release}:{thing.service}"):
                self.fail(7, f"{thing.name} runs once more for {thing.release} after {what!r}")

    def _singles(self, what: str) -> None:
        """Of a service that must run once never two run."""
        singles = [s.name for s in self._world.project.services.values() if s.activate is Activate.ON_LIVE]
        for name in singles:
            running = [
                t
                for t in self._world.things.values()
                if t.service == name
                and t.state == "running"
                and not t.by_hand
                and (t.project == shop.NAME or t.labels.get(LABEL_PROJECT) == shop.NAME)
            ]
            if len(running) > 1 and any(self._states.get(t.id, ("",))[0] != "running" for t in running):
                self.fail(4, f"{' and '.join(t.name for t in running)} run at once after {what!r}")


def at_creation(world: SimWorld, thing: Thing) -> str:
    """What is wrong with a container of a slot that was just created: its image must be the one on record."""
    release = world.disk.saved.releases.get(thing.release)
    if release is None:
        return f"{thing.name} belongs to a release that is not on record"
    image = release.images[thing.service].id
    return "" if image == thing.image else f"{thing.name} runs {thing.image}, and the record says {image}"
