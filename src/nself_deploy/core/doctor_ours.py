"""Which containers are ours: those, and only those, are what a repair may touch."""

from __future__ import annotations

from collections.abc import Iterator

from nself_deploy.core.doctor_facts import SLOTS, Facts
from nself_deploy.core.findings import Finding, Severity
from nself_deploy.core.model import LABEL_PROJECT, Activate, Container, Release, Role, Service, Slot, slot_project
from nself_deploy.core.slot_service import container_name, key_of

COMPOSE_SERVICE_LABEL = "com.docker.compose.service"


def why_not_ours(container: Container, facts: Facts) -> str:
    """Why a container is none that we made, in words; empty when it is one.

    It carries our label with this project's name, its release is on record, and its place and name are those that the
    slot's compiled Compose file gives it.
    """
    if container.labels.get(LABEL_PROJECT) != facts.project:
        return "it does not carry our labels"
    if container.slot not in SLOTS:
        return "its labels name no slot"
    release = facts.releases.get(container.release)
    if release is None:
        return f"no release {container.release!r} is on record" if container.release else "its labels name no release"
    if container.project != slot_project(facts.project, container.slot):
        return f"it is not in the Compose project of {container.slot}"
    service = release.services.get(container.service)
    if service is None or not 1 <= container.replica <= _count(service):
        return f"release {release.id} has no such container"
    place = (facts.project, container.slot, service.name, container.replica)
    key = container.labels.get(COMPOSE_SERVICE_LABEL)
    if container.name != container_name(*place) or key != key_of(*place[1:]):
        return f"the file of {container.slot} calls it {container_name(*place)}"
    return ""


def _count(service: Service) -> int:
    return 1 if service.role is Role.JOB else service.replicas


def ours_in(facts: Facts, slot: Slot) -> list[Container]:
    """Our containers in a slot, jobs included, by name."""
    found = (c for c in facts.containers if c.slot is slot and not why_not_ours(c, facts))
    return sorted(found, key=lambda c: c.name)


def wanted(facts: Facts, release: Release, slot: Slot, *, live: bool) -> dict[str, Service]:
    """Names of the containers that the release has in the slot: app services, and single ones only where it is live."""
    return {
        container_name(facts.project, slot, service.name, replica): service
        for service in release.apps()
        if live or service.activate is not Activate.ON_LIVE
        for replica in range(1, service.replicas + 1)
    }


def healthy(container: Container) -> bool:
    """Whether it runs and, as far as it has a healthcheck, is healthy."""
    return container.state == "running" and container.health in ("", "healthy")


def complete(facts: Facts, slot: Slot) -> bool:
    """Whether all containers of the recorded release are in the slot, and healthy."""
    release = facts.release_in(slot)
    if release is None:
        return False
    there = {c.name for c in ours_in(facts, slot) if c.release == release.id and healthy(c)}
    return set(wanted(facts, release, slot, live=True)) <= there


def others(facts: Facts) -> Iterator[Finding]:
    """Containers that look like ours and are not: explained, never touched."""
    for container in facts.containers:
        reason = why_not_ours(container, facts)
        if not reason:
            continue
        if container.labels.get(LABEL_PROJECT) == facts.project:
            yield Finding(
                "container-by-hand",
                Severity.WARNING,
                f"The container {container.name} carries our labels, but nself-deploy did not make it.",
                f"{reason[0].upper()}{reason[1:]}; so it is nobody's but yours, and is left alone.",
                f"Remove it if nobody needs it: docker rm -f {container.name}",
            )
        else:
            yield Finding(
                "container-foreign",
                Severity.ERROR,
                f"The container {container.name} is in our Compose project {container.project}, and is not ours.",
                f"nself deploy keeps a slot of {facts.project} in that project, and refuses to while this is there.",
                f"Move it to a Compose project of another name, or remove it: docker rm -f {container.name}",
            )


def strays(facts: Facts) -> Iterator[Finding]:
    """App containers that plain Compose started beside a live slot."""
    live = facts.live
    if live is None:
        return
    names = sorted({c.service for c in facts.plain if c.service in facts.apps and c.state == "running"})
    single = [name for name in names if facts.apps[name] is Activate.ON_LIVE]
    for name in names:
        twice = name in single
        yield Finding(
            "single-twice" if twice else "container-stray",
            Severity.ERROR if twice else Severity.WARNING,
            f"A plain container of {name} runs beside {live}, where it is live.",
            "It must run only once." if twice else "Somebody started it by hand; the router sends it no requests.",
            f"Remove it: docker compose rm -sf {name}",
        )
