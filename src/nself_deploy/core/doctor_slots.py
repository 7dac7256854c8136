"""What is wrong with the slots: the link against the records, and both against the containers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nself_deploy.core.doctor_facts import SLOTS, Facts
from nself_deploy.core.doctor_ours import complete, healthy, ours_in, wanted
from nself_deploy.core.effects import MoveTraffic
from nself_deploy.core.findings import ClearSlot, CorrectSlots, Finding, RemoveContainers, Severity, StartContainers
from nself_deploy.core.model import Activate, Container, Slot, Split
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from nself_deploy.core.times import plus_seconds, seconds_between

STARTABLE = frozenset({"created", "exited"})
GRACE_S = 15.0
"""How long the process that removes a standby may need."""
LINK = ".nself/router/current"


def link_findings(facts: Facts) -> Iterator[Finding]:
    """The link that says where requests go is lost."""
    lives = facts.recorded_live
    if facts.link is None and (facts.split is not None or not lives):
        return
    live = lives[0] if len(lives) == 1 else None
    sure = live is not None and complete(facts, live)
    if facts.link is not None:
        what, remedy = f"The link {facts.link.where or LINK} {facts.link.what}", facts.link.remedy
    else:
        what = f"The link {LINK} is gone, and it says where requests go."
        remedy = f"Put it back: ln -sfn splits/{live or lives[0]} {LINK}"
    yield Finding(
        "link-lost",
        Severity.ERROR,
        what,
        f"nginx sends all requests to blue without it; {' and '.join(lives) or 'nothing'} was live when it was last "
        "written down. Deploys are refused until it is there.",
        remedy,
        MoveTraffic(Split.all_to(live)) if sure and live else None,
    )


def record_findings(facts: Facts) -> Iterator[Finding]:
    """The records say something else than the link, which is the truth about traffic."""
    live, lives = facts.live, facts.recorded_live
    if live is None:
        if lives and facts.split is not None:
            yield Finding(
                "records-wrong",
                Severity.ERROR,
                f"Requests go to the plain stack, but {' and '.join(lives)} is recorded as live.",
                "Somebody moved the link by hand.",
                f"Move it back (ln -sfn splits/{lives[0]} {LINK}), or run nself deploy to take the plain stack over.",
            )
        return
    if lives == (live,):
        return
    releases = {c.release for c in ours_in(facts, live)}
    if not lives and not releases:
        return  # the first deploy has set the link, and was undone
    said = " and ".join(lives) or "nothing"
    what = f"Requests go to {live}, but {said} is recorded as live."
    if len(releases) != 1:
        back = next((s for s in lives if complete(facts, s)), None)
        yield Finding(
            "records-wrong",
            Severity.ERROR,
            what,
            f"No release's containers are in {live}, so users are not served." if not releases else
            f"Containers of several releases are in {live}.",
            f"Move the link back: ln -sfn splits/{back} {LINK}" if back else "Deploy again: nself deploy",
        )  # fmt: skip
        return
    yield Finding(
        "records-wrong",
        Severity.ERROR,
        what,
        "The link is the truth about traffic; somebody moved it by hand.",
        "Correct the records: nself deploy doctor --fix",
        CorrectSlots(_corrected(facts, live, releases.pop())),
    )


def _corrected(facts: Facts, live: Slot, release: str) -> dict[Slot, SlotRecord]:
    """The slot with the traffic is live; what the other one holds is kept warm for a while, for a way back."""
    other = live.other
    there = {c.release for c in ours_in(facts, other)}
    record = SlotRecord("", SlotRole.EMPTY, facts.now)
    if len(there) == 1 and not facts.serves(other):
        record = SlotRecord(there.pop(), SlotRole.STANDBY, facts.now, plus_seconds(facts.now, facts.standby_s))
    return {live: SlotRecord(release, SlotRole.LIVE, facts.now), other: record}


def live_findings(facts: Facts) -> Iterator[Finding]:
    """What the live slot lacks."""
    live = facts.live
    if live is None or facts.recorded_live != (live,):
        return
    release = facts.release_in(live)
    if release is None:
        yield Finding(
            "release-unknown",
            Severity.ERROR,
            f"The record of the live release {facts.slots[live].release} is gone.",
            "Without it nothing can be said about its containers, and no rollback leads to it.",
            "Deploy again: nself deploy",
        )
        return
    found = {c.name: c for c in ours_in(facts, live)}
    right = {name: c for name, c in found.items() if c.release == release.id}
    names = wanted(facts, release, live, live=True)
    if other := [c for c in found.values() if c.release != release.id]:
        yield Finding(
            "live-other-release",
            Severity.ERROR,
            f"{_listed(other)} in {live} is of another release than the live one, {release.id}.",
            "Somebody started it by hand; users may be served by it, so it is left alone.",
            "Deploy again: nself deploy",
        )
    if missing := sorted(set(names) - set(found)):
        yield Finding(
            "live-missing",
            Severity.ERROR,
            f"{', '.join(missing)} of the live release is missing.",
            "Somebody or something removed it.",
            "Deploy again: nself deploy starts the release in the other slot",
        )
    yield from _stopped(live, [c for n, c in right.items() if n in names], Severity.ERROR, "live")
    yield from _unhealthy(live, [c for n, c in right.items() if n in names])


def _stopped(slot: Slot, containers: Iterable[Container], severity: Severity, kind: str) -> Iterator[Finding]:
    stopped = [c for c in containers if c.state in STARTABLE]
    if stopped:
        names = " ".join(c.name for c in stopped)
        yield Finding(
            f"{kind}-stopped",
            severity,
            f"{_listed(stopped)} in {slot} does not run.",
            f"It ended with exit code {stopped[0].exit_code}, or somebody stopped it.",
            f"See why (docker logs {stopped[0].name}), then start it: docker start {names}",
            StartContainers(slot, tuple(c.id for c in stopped)),
        )


def _unhealthy(slot: Slot, containers: Iterable[Container]) -> Iterator[Finding]:
    for container in containers:
        if container.state in STARTABLE or healthy(container):
            continue
        starting = container.state == "running" and container.health == "starting"
        state = container.health if container.state == "running" else container.state
        yield Finding(
            "live-starting" if starting else "live-unhealthy",
            Severity.NOTE if starting else Severity.ERROR,
            f"{container.name} in {slot} is {state}.",
            "Its healthcheck has not answered yet." if starting else (container.health_log or ("",))[-1],
            ""
            if starting
            else f"See why: docker logs {container.name}. A new version, or nself deploy rollback, "
            "replaces it without a gap",
        )


def idle_findings(facts: Facts) -> Iterator[Finding]:
    """What is left in a slot that is not live."""
    live = facts.live
    if live is None and facts.recorded_live:
        return  # the link or the records are wrong, and that comes first
    for slot in SLOTS:
        if slot is live or facts.serves(slot):
            continue
        record = facts.slots.get(slot)
        role = record.role if record else SlotRole.EMPTY
        if role is SlotRole.STANDBY and record is not None:
            yield from _standby(facts, slot, record)
        elif role is not SlotRole.LIVE:
            yield from _leftover(facts, slot, role)


def _leftover(facts: Facts, slot: Slot, role: SlotRole) -> Iterator[Finding]:
    found = ours_in(facts, slot)
    if not found and role is not SlotRole.CANDIDATE:
        return
    of = f"release {found[0].release}" if found else facts.slots[slot].release
    yield Finding(
        "slot-leftover",
        Severity.WARNING,
        f"{_listed(found)} of {of} is left in {slot}." if found else f"{slot} is recorded as a candidate's.",
        "A deploy was cut short there, and nothing in the journal needs it; it gets no requests.",
        "Remove it: nself deploy doctor --fix, or the next nself deploy",
        ClearSlot(slot, tuple(c.id for c in found)),
    )


def _standby(facts: Facts, slot: Slot, record: SlotRecord) -> Iterator[Finding]:
    found = ours_in(facts, slot)
    release = facts.releases.get(record.release)
    clear = ClearSlot(slot, tuple(c.id for c in found))
    fixed = "Remove it: nself deploy doctor --fix, or the next nself deploy"
    if record.until and seconds_between(record.until, facts.now) >= GRACE_S:
        yield Finding(
            "standby-expired",
            Severity.WARNING,
            f"The standby in {slot} was to be removed at {record.until}.",
            "The process that does it was ended, or the machine was off.",
            fixed,
            clear,
        )
        return
    names = wanted(facts, release, slot, live=False) if release else {}
    right = {c.name: c for c in found if release and c.release == release.id}
    missing = sorted(set(names) - set(right))
    if not found or missing or release is None:
        lacks = f"lacks {', '.join(missing)}" if found and missing else "has no containers any more"
        yield Finding(
            "standby-gone",
            Severity.WARNING,
            f"The standby in {slot} {lacks if release else 'is of a release that is not on record'}.",
            "Somebody removed it; a rollback starts the release again from its record.",
            "Record it as gone: nself deploy doctor --fix",
            clear,
        )
        return
    yield from _stopped(slot, [c for n, c in right.items() if n in names], Severity.WARNING, "standby")


def single_findings(facts: Facts) -> Iterator[Finding]:
    """Services that must run only once run in the idle slot as well."""
    live = facts.live
    if live is None or facts.recorded_live != (live,):
        return
    record = facts.slots.get(live.other)
    if record is None or record.role is not SlotRole.STANDBY or facts.serves(live.other):
        return  # whatever is in a slot that is nobody's is left over, and found as such
    twice = [c for c in ours_in(facts, live.other) if c.state == "running" and _is_single(facts, c)]
    if twice:
        yield Finding(
            "single-twice",
            Severity.ERROR,
            f"{_listed(twice)} runs in {live.other}, and must run only where the release is live, in {live}.",
            "Somebody started it by hand, or a hand-over was cut short.",
            f"Stop it: docker rm -f {' '.join(c.name for c in twice)}",
            RemoveContainers(live.other, tuple(c.id for c in twice)),
        )


def _is_single(facts: Facts, container: Container) -> bool:
    service = facts.releases[container.release].services.get(container.service)
    return service is not None and service.activate is Activate.ON_LIVE


def _listed(containers: Iterable[Container]) -> str:
    return ", ".join(c.name for c in containers)
