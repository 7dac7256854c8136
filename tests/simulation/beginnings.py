"""How a world begins, and what is pushed to its registry."""

from __future__ import annotations

from nself_deploy.core.model import LABEL_PROJECT, Role
from tests.simulation import shop
from tests.simulation.engine import make_plain
from tests.simulation.things import GOOD, Behaviour, Thing
from tests.simulation.world import PEOPLE, SimWorld

JOB = Behaviour(boot_s=0.1, ends_s=0.5, exit_code=0)

VERSIONS: dict[str, dict[str, Behaviour]] = {
    "good": {},
    "slow": {"web": Behaviour(boot_s=2.5)},
    "never": {"web": Behaviour(boot_s=1e9)},
    "crash": {"web": Behaviour(ends_s=0.1, exit_code=3)},
    "loop": {"web": Behaviour(ends_s=0.7)},
    "late-crash": {"web": Behaviour(ends_s=1.9)},
    "flap": {"web": Behaviour(flap_s=0.6)},
    "dies": {"web": Behaviour(dies_under_traffic_s=0.2)},
    "hangs": {"web": Behaviour(hangs_under_traffic_s=0.1)},
    "bad-job": {"migrate": Behaviour(boot_s=0.1, ends_s=0.3, exit_code=1)},
    "api-never": {"api": Behaviour(boot_s=1e9)},
}
"""Which services of a version are not well."""


def begin(world: SimWorld, beginning: str) -> None:
    """The engine as it is before the first command."""
    world.make_net(shop.ORIGINAL, {}, internal=False)
    world.volumes["shop_data"] = world.number()
    push(world, "good")
    for ref, image in world.registry.items():
        world.images.update({ref: image, image: image})
    for name, slot_project in (("web", f"{shop.OTHER}-blue"), ("db", shop.OTHER)):
        labels = {LABEL_PROJECT: shop.OTHER} if name == "web" else {}
        other = Thing(f"{shop.OTHER}-{name}-1", world.number(), slot_project, name, labels=labels)
        world.start(world.add(other), PEOPLE)
    if beginning == "fresh":
        return
    roles = (Role.SHARED, Role.ROUTER, Role.APP) if beginning == "plain" else (Role.SHARED, Role.ROUTER)
    for role in roles:
        for service in world.project.with_role(role):
            for replica in range(1, service.replicas + 1):
                world.start(make_plain(world, service, replica), PEOPLE)
    world.loop.now = 5.0


def push(world: SimWorld, version: str) -> None:
    """New images of this version in the registry."""
    number = world.number()
    for service in world.project.services.values():
        if service.role not in (Role.APP, Role.JOB):
            image = f"sha256:{service.name}"
            world.images.update({service.image: image, image: image})
            continue
        image = f"sha256:{service.name}-{version}-{number}"
        good = JOB if service.role is Role.JOB else GOOD
        world.behaviours[image] = VERSIONS[version].get(service.name, good)
        world.registry[service.image] = image
