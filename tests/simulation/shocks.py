"""What the world and its people do in the middle of a command."""

from __future__ import annotations

from collections.abc import Callable

from nself_deploy.core.model import LABEL_PROJECT, Role, Slot, twin_name
from tests.simulation import shop
from tests.simulation.engine import make_plain, plain_up
from tests.simulation.process import Fault, Process
from tests.simulation.things import Thing
from tests.simulation.world import PEOPLE, SimWorld, slot_labels


def shock(process: Process, fault: Fault) -> None:
    """Let it happen."""
    world = process.world
    if fault.kind == "interrupt":
        process.interrupted.set()
        world.happened(None, f"Ctrl-C for {process.name}")
        return
    world.shocks += 1
    world.people_came |= fault.kind.startswith("person")
    _SHOCKS[fault.kind](world, fault.arg)
    world.happened(None, f"{fault.kind} {fault.arg}")


def _engine_down(world: SimWorld, arg: int) -> None:
    world.engine_back = world.now + (0.5, 2.0, 10.0, 60.0, 1.0, 0.1)[arg]


def _disk_full(world: SimWorld, arg: int) -> None:
    world.disk.full = 1 + arg * 2


def _refuse_files(world: SimWorld, arg: int) -> None:
    world.refusals = 1 + arg % 2


def _clock_back(world: SimWorld, arg: int) -> None:
    world.wall_offset -= (1.0, 60.0, 3600.0, 30.0, 7200.0, 86400.0)[arg]


def _apps(world: SimWorld) -> list[Thing]:
    """Running app containers, wherever they are."""
    names = {s.name for s in world.project.with_role(Role.APP)}
    return [
        t
        for t in world.things.values()
        if t.service in names and t.state == "running" and not t.project.startswith(shop.OTHER)
    ]


def _one(things: list[Thing], arg: int) -> Thing | None:
    return things[arg % len(things)] if things else None


def _crash(world: SimWorld, arg: int) -> None:
    if thing := _one(_apps(world), arg):
        world.stop(thing, PEOPLE, 139)
        if thing.restarts:
            world.start(thing, PEOPLE)


def _hang(world: SimWorld, arg: int) -> None:
    if thing := _one(_apps(world), arg):
        thing.hang()


def _remove_container(world: SimWorld, arg: int) -> None:
    if thing := _one(_apps(world), arg):
        world.stop(thing, PEOPLE)
        world.remove(thing, PEOPLE)


def _stop_container(world: SimWorld, arg: int) -> None:
    if thing := _one(_apps(world), arg):
        world.stop(thing, PEOPLE)


def _restart_plain(world: SimWorld, arg: int) -> None:
    """A plain container comes back with another address; those of slots are fixed."""
    if thing := _one([t for t in _apps(world) if t.slot is Slot.PLAIN], arg):
        world.stop(thing, PEOPLE)
        world.readdress(thing, shop.ORIGINAL)
        world.start(thing, PEOPLE)


def _restart_router(world: SimWorld, arg: int) -> None:
    if router := world.router():
        world.stop(router, PEOPLE)
        world.start(router, PEOPLE)


def _stop_router(world: SimWorld, arg: int) -> None:
    if router := world.router():
        world.stop(router, PEOPLE)


def _shared(world: SimWorld) -> list[Thing]:
    names = {s.name for s in world.project.with_role(Role.SHARED)}
    return [t for t in world.of_project(shop.NAME) if t.service in names]


def _restart_shared(world: SimWorld, arg: int) -> None:
    if thing := _one(_shared(world), arg):
        world.stop(thing, PEOPLE)
        world.start(thing, PEOPLE)


def _stop_shared(world: SimWorld, arg: int) -> None:
    if thing := _one(_shared(world), arg):
        world.stop(thing, PEOPLE)


def _remove_network(world: SimWorld, arg: int) -> None:
    free = [n for n, net in world.nets.items() if LABEL_PROJECT in net.labels and not world.attached(n)]
    if free:
        del world.nets[free[arg % len(free)]]


def _remove_link(world: SimWorld, arg: int) -> None:
    def remove() -> None:
        world.disk.split = None

    if world.disk.split is not None:
        world.retarget(remove)
        world.link_lost = True


def _make_stray(world: SimWorld, arg: int) -> None:
    """A container in a slot that no deploy of ours made, with our labels."""
    slot = Slot.BLUE if arg % 2 else Slot.GREEN
    networks = [n for n in (twin_name(shop.NAME, slot, "default"),) if n in world.nets]
    stray = Thing(
        f"stray-{world.number()}",
        world.number(),
        f"{shop.NAME}-{slot.value}",
        "web",
        slot=slot,
        release="20250101T000000-0badc0de",
        image="sha256:stray",
        labels=slot_labels(slot, "web", 9, "20250101T000000-0badc0de"),
        addresses={n: world.free_address(n) for n in networks},
    )
    stray.by_hand = True
    world.start(world.add(stray), PEOPLE)


def _compose_up(world: SimWorld, arg: int) -> None:
    """`docker compose up -d` by a person."""
    before = {t.id: t.started for t in world.things.values()}
    for _, change in plain_up(world, (), world.disk.files.get(shop.OVERRIDE), PEOPLE):
        change()
    for thing in world.things.values():
        if before.get(thing.id) != thing.started:
            thing.by_hand = True


def restart_all(world: SimWorld) -> None:
    """A person who puts the simple things right: what is to run runs."""
    _restart_router(world, 0)
    for service in world.project.services.values():
        if service.role in (Role.SHARED, Role.ROUTER) and not any(
            t.service == service.name for t in world.of_project(shop.NAME)
        ):
            make_plain(world, service, 1)
    for thing in list(world.of_project(shop.NAME)):
        if world.project.services[thing.service].role in (Role.SHARED, Role.ROUTER):
            world.start(thing, PEOPLE)


_SHOCKS: dict[str, Callable[[SimWorld, int], None]] = {
    "engine-down": _engine_down,
    "disk-full": _disk_full,
    "refuse-files": _refuse_files,
    "clock-back": _clock_back,
    "crash": _crash,
    "hang": _hang,
    "person-removes-container": _remove_container,
    "person-stops-container": _stop_container,
    "person-restarts-plain": _restart_plain,
    "person-restarts-router": _restart_router,
    "person-stops-router": _stop_router,
    "person-restarts-shared": _restart_shared,
    "person-stops-shared": _stop_shared,
    "person-removes-network": _remove_network,
    "person-removes-link": _remove_link,
    "person-makes-stray": _make_stray,
    "person-composes-up": _compose_up,
}
