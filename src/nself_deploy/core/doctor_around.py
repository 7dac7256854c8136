"""What is wrong around the slots: networks and addresses, the router, files, locks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nself_deploy.core.addresses import address_in
from nself_deploy.core.doctor_facts import SLOTS, Facts
from nself_deploy.core.doctor_ours import ours_in, wanted
from nself_deploy.core.effects import InstallRouter, PrepareNetworks
from nself_deploy.core.findings import (
    Finding,
    Fix,
    ForgetOwner,
    RemoveFiles,
    Severity,
    StopRecording,
    WriteOverride,
    WriteSlotFile,
)
from nself_deploy.core.model import Container, Release, Service, Slot, SlotNetwork, Split, router_side, twin_name
from nself_deploy.core.slot_records import SlotRole

DOCTOR_FIX = "nself deploy doctor --fix, or the next nself deploy"


def _releases(facts: Facts) -> dict[Slot, Release]:
    """What is recorded in the slots, as far as it is known; empty unless links and records agree."""
    if facts.live is None or facts.recorded_live != (facts.live,):
        return {}
    found = {slot: facts.release_in(slot) for slot in SLOTS}
    return {slot: release for slot, release in found.items() if release is not None}


def missing_networks(facts: Facts) -> list[str]:
    """Names of slot networks that what is recorded in the slots needs, and that are not there as ours."""
    releases = _releases(facts)
    if facts.live not in releases:
        return []
    used = {n for r in releases.values() for s in r.services.values() for n in s.networks}
    sides = [*used, *(router_side(n) for n in used if n in facts.router.networks)]
    there = {n.name for n in facts.networks}
    return sorted({twin_name(facts.project, slot, side) for slot in SLOTS for side in sides} - there)


def network_findings(facts: Facts) -> Iterator[Finding]:
    """Slot networks that are missing or somebody else's, and who is not on them."""
    releases = _releases(facts)
    if facts.live not in releases:
        return
    fix = PrepareNetworks(releases[facts.live].id)
    for name in missing_networks(facts):
        if name in facts.foreign_networks:
            yield Finding(
                "network-foreign",
                Severity.ERROR,
                f"There is a network {name} that does not carry our labels.",
                "A slot needs a network of this name, so deploys are refused.",
                f"Look at it (docker network inspect {name}), and remove it if nobody needs it",
            )
            continue
        yield Finding(
            "network-missing",
            Severity.WARNING,
            f"The network {name} is missing.",
            "Somebody removed it (docker network prune?); plain docker compose up stops at it.",
            f"Make it again: {DOCTOR_FIX}",
            fix,
        )
    yield from _detached_router(facts, fix)
    for slot, release in releases.items():
        yield from _detached(facts, slot, release)


def _detached_router(facts: Facts, fix: Fix) -> Iterator[Finding]:
    router = facts.router
    if not router.service or not router.running:
        return
    sides = {router_side(n) for n in router.networks}
    missing = sorted(n.name for n in facts.networks if n.network in sides and n.name not in router.attached)
    if missing:
        yield Finding(
            "router-detached",
            Severity.ERROR,
            f"The router {router.service} is not on the network {', '.join(missing)}.",
            "It can't reach what runs there; somebody disconnected it, or made its container without our override.",
            f"Connect it: {DOCTOR_FIX}",
            fix,
        )


def _detached(facts: Facts, slot: Slot, release: Release) -> Iterator[Finding]:
    """Containers that are not where nginx and the other services look for them."""
    twins = {n.network: n for n in facts.networks if n.slot is slot}
    names = wanted(facts, release, slot, live=True)
    for container in ours_in(facts, slot):
        service = names.get(container.name)
        if service is None or container.release != release.id or container.state != "running":
            continue
        wrong = sorted(_not_at_home(facts, service, container, twins))
        if wrong:
            yield Finding(
                "container-detached",
                Severity.ERROR if slot is facts.live else Severity.WARNING,
                f"{container.name} is not at its address on {', '.join(wrong)}.",
                "Somebody disconnected it; nginx and the other services of its slot look for it there.",
                "Deploy again: nself deploy starts a release anew in the other slot",
            )


def _not_at_home(
    facts: Facts, service: Service, container: Container, twins: Mapping[str, SlotNetwork]
) -> Iterator[str]:
    if service.config.get("network_mode"):
        return
    for network in service.networks:
        host = facts.addresses.get((network, service.name, container.replica))
        twin = twins.get(network)
        if host is None or twin is None:
            continue
        if container.addresses.get(twin.name) != address_in(twin.subnet, host):
            yield twin.name


def address_findings(facts: Facts) -> Iterator[Finding]:
    """Somebody else's containers at addresses that we gave away."""
    for network in facts.networks:
        base = network.network.removesuffix(router_side(""))
        reserved = {
            address_in(network.subnet, host): service
            for (name, service, _), host in facts.addresses.items()
            if name == base
        }
        own = {c.name for c in ours_in(facts, network.slot)}
        for member, address in sorted(facts.members.get(network.name, {}).items()):
            if address in reserved and member not in own:
                yield Finding(
                    "address-taken",
                    Severity.ERROR,
                    f"The container {member} has the address {address} on {network.name}, which is that of "
                    f"{reserved[address]}.",
                    "nginx sends users there once the slot is live, and our own container can't start.",
                    f"Take it off the network: docker network disconnect {network.name} {member}",
                )


def router_findings(facts: Facts) -> Iterator[Finding]:
    """The router does not run, or not with the files that are on the disk."""
    router, live = facts.router, facts.live
    if facts.link is not None:
        return  # it can't be asked either, for the same reason
    name = f"The router {router.service}".strip()
    start = f"Start it: docker compose up -d {router.service}" if router.service else "Start nginx"
    if router.trouble is not None:
        if facts.engine is None:
            what = f"{name} can't be asked: {router.trouble.what}"
            yield Finding("router-unknown", Severity.ERROR, what, remedy=router.trouble.remedy)
        return
    if not router.running:
        if live is not None and facts.recorded_live:
            why = f"{live} is live, and nobody can reach it. Where requests go is on the disk and stays."
            yield Finding("router-down", Severity.ERROR, f"{name} is not running.", why, start)
        return
    if router.refused is not None:
        place = f"{router.refused.where}: " if router.refused.where else ""
        yield Finding(
            "router-refuses",
            Severity.ERROR,
            f"nginx -t refuses the router's files: {place}{router.refused.what}",
            "nginx goes on with the files that it loaded before; a restart would be its end.",
            router.refused.remedy,
        )
        return
    yield from _loaded(facts, name)


def _loaded(facts: Facts, name: str) -> Iterator[Finding]:
    router, live = facts.router, facts.live
    if router.tree and not router.loaded_tree:
        yield Finding(
            "router-silent",
            Severity.ERROR,
            f"{name} runs, but does not answer our probes.",
            "It has not loaded our files, or its probe port is taken; deploys can't prove anything through it.",
            "See what its files lack: nself deploy init",
        )
    elif router.tree != router.loaded_tree:
        release = facts.release_in(live) if live else None
        yield Finding(
            "router-stale",
            Severity.WARNING,
            f"{name} runs with other files of ours than those on the disk.",
            "A deploy was cut short between writing and loading them.",
            f"Load them: {DOCTOR_FIX}",
            InstallRouter(release.id, live, Split.all_to(live)) if release and live else None,
        )
    if not router.mounted:
        yield Finding(
            "router-copies",
            Severity.NOTE,
            f"The container of {router.service} does not see our directory, and gets copies of our files.",
            "It was made before nself deploy init; everything works, but a new container would be simpler.",
        )


def recording_findings(facts: Facts) -> Iterator[Finding]:
    """The access log is kept though nobody will read it."""
    standby = any(record.role is SlotRole.STANDBY for record in facts.slots.values())
    if facts.router.recording and not standby:
        yield Finding(
            "recording-left",
            Severity.WARNING,
            "nginx still writes our access log, though no deploy runs and nothing is kept warm.",
            "A deploy was cut short; the log grows until the next one.",
            f"Stop it: {DOCTOR_FIX}",
            StopRecording(),
        )


def file_findings(facts: Facts) -> Iterator[Finding]:
    """The generated override, the slots' compiled files, and what nobody needs."""
    disk = facts.disk
    if disk.override and facts.live is not None and facts.recorded_live and not missing_networks(facts):
        state = "is missing" if disk.override_missing else "is not as nself-deploy wrote it"
        yield Finding(
            "override-missing" if disk.override_missing else "override-stale",
            Severity.WARNING,
            f"The generated file {disk.override} {state}.",
            "Plain docker compose would start second copies of what runs in the slots, or take the router off them.",
            f"Write it anew: {DOCTOR_FIX}",
            WriteOverride(),
        )
    for slot, release in _releases(facts).items():
        if (release.id, slot) not in disk.slot_files:
            yield Finding(
                "slot-file-missing",
                Severity.WARNING,
                f"The compiled Compose file of {slot} (.nself/releases/{release.id}) is missing.",
                f"docker compose -p {facts.project}-{slot} needs it; the release itself is in the journal.",
                f"Write it anew: {DOCTOR_FIX}",
                WriteSlotFile(release.id, slot),
            )
    yield from leftover_findings(facts)


def leftover_findings(facts: Facts) -> Iterator[Finding]:
    """Files of ours that nobody needs."""
    disk = facts.disk
    if disk.temp_files:
        yield Finding(
            "files-temporary",
            Severity.WARNING,
            f"Half-written files are left: {', '.join(disk.temp_files)}",
            "Their writers were killed before they gave them a name; nobody reads them.",
            "Remove them: nself deploy doctor --fix",
            RemoveFiles(disk.temp_files),
        )
    for release, clean in sorted(disk.release_dirs.items()) if facts.journal is None else ():
        if release in facts.releases:
            continue
        path = f".nself/releases/{release}"
        used = facts.engine is not None or any(c.release == release for c in facts.containers)
        sure = clean and not used
        yield Finding(
            "release-orphaned",
            Severity.WARNING,
            f"{path} belongs to no release on record.",
            "The journal was put back from an older copy, or somebody made it."
            if clean
            else "It holds files that nself-deploy did not write.",
            "Remove it: nself deploy doctor --fix" if sure else f"Look at it, and remove it: rm -r {path}",
            RemoveFiles((path,)) if sure else None,
        )
    if disk.traceback:
        yield Finding(
            "traceback",
            Severity.NOTE,
            f"{disk.traceback} is there.",
            "A command met a bug of ours, and kept what we need to mend it.",
            "Tell us about it with this file, then remove it",
        )


def lock_findings(facts: Facts) -> Iterator[Finding]:
    """What a process that died left of its lock."""
    for lock in facts.locks:
        if lock.owner and not lock.held:
            yield Finding(
                "lock-left",
                Severity.NOTE,
                f"{lock.where} still names {lock.owner}.",
                "That process ended without giving the lock back; it holds nobody up, and the next one takes it.",
                "Nothing has to be done; nself deploy doctor --fix takes it away",
                ForgetOwner(),
            )
