"""What must hold when an interrupted run has been put right: looked at from outside, on the engine and on the disk."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from nself_deploy.adapters.journal import Journal
from nself_deploy.core.audit import ABORT, AuditEvent
from nself_deploy.core.machine import Outcome, Run
from nself_deploy.core.model import LABEL_PROJECT, LABEL_RELEASE, Slot
from nself_deploy.core.plan import Kind
from nself_deploy.core.slot_records import SlotRecord, SlotRole
from tests.real.stack import Stack, docker, inspected

SHARED = ("router", "store")
ROUTED = "web"
PATIENCE_S = 60.0
"""As the clients of the load have it: on a busy machine late is not lost."""
HEADER = "x-shop-release"

Container = dict[str, Any]


@dataclass(frozen=True)
class Baseline:
    """What no run may touch: the containers that are shared, and what may be there at all."""

    shared: dict[str, tuple[str, str]]
    networks: frozenset[str]
    volumes: frozenset[str]

    @classmethod
    def of(cls, stack: Stack) -> Baseline:
        twins = {f"{stack.name}-nself-{side}{slot}-default" for side in ("", "router-") for slot in ("blue", "green")}
        shared = {name: (c["Id"], c["State"]["StartedAt"]) for name, c in plain(found(stack), stack).items()}
        return cls(
            {name: shared[name] for name in SHARED},
            frozenset({f"{stack.name}_default", *twins}),
            frozenset({f"{stack.name}_data"}),
        )


@dataclass(frozen=True)
class Records:
    """What the journal says."""

    runs: list[Run]
    unfinished: list[Run]
    slots: dict[Slot, SlotRecord]
    events: list[AuditEvent]

    @classmethod
    def of(cls, stack: Stack) -> Records:
        with closing(Journal.open(stack.root, create=False)) as journal:
            return cls(journal.history(10_000), journal.all_unfinished(), journal.slots(), journal.events(10_000))

    def in_role(self, role: SlotRole) -> list[Slot]:
        return [slot for slot, record in self.slots.items() if record.role is role]


def found(stack: Stack) -> list[Container]:
    """All containers whose names begin with the project's."""
    ids = docker("ps", "-aq", "--no-trunc", "--filter", f"name={stack.name}").split()
    return inspected(ids)


def names_of(kind: str, stack: Stack) -> list[str]:
    """The networks or volumes that have the project's name, or its label (such as a lock)."""
    wanted = (f"name={stack.name}", f"label={LABEL_PROJECT}={stack.name}")
    found_by = [docker(kind, "ls", "--format", "{{.Name}}", "--filter", word).split() for word in wanted]
    return sorted({name for names in found_by for name in names})


def project_of(container: Container) -> str:
    return str(container["Config"]["Labels"].get("com.docker.compose.project", ""))


def plain(containers: list[Container], stack: Stack) -> dict[str, Container]:
    """Service -> container that plain Compose made."""
    mine = [c for c in containers if project_of(c) == stack.name]
    return {c["Config"]["Labels"]["com.docker.compose.service"]: c for c in mine}


def link(stack: Stack) -> str:
    """Where the router's link sends requests."""
    return (stack.root / ".nself/router/current").readlink().name


def leftovers(stack: Stack, baseline: Baseline) -> list[str]:
    """What must not be there any more, in words."""
    records, containers = Records.of(stack), found(stack)
    kept = {f"{stack.name}-{slot}" for role in (SlotRole.LIVE, SlotRole.STANDBY) for slot in records.in_role(role)}
    allowed = {stack.name, *kept}
    left = [f"container {c['Name']}" for c in containers if project_of(c) not in allowed]
    if link(stack) != Slot.PLAIN:
        left += [f"plain container of {ROUTED}"] if ROUTED in plain(containers, stack) else []
    for kind, known in (("network", baseline.networks), ("volume", baseline.volumes)):
        names = names_of(kind, stack)
        left += [f"{kind} {name}" for name in names if name not in known]
    left += [f"file {path.relative_to(stack.root)}" for path in stack.root.rglob("*.tmp")]
    return [*left, *_locks(stack), *(f"run {run.id}, unfinished" for run in records.unfinished)]


def _locks(stack: Stack) -> list[str]:
    """Whether somebody holds the lock, or is named in it still."""
    left = []
    for path in (stack.root / ".nself/lock", stack.root / ".nself"):
        fd = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            left.append(f"lock on {path.name}")
        finally:
            os.close(fd)
    if (stack.root / ".nself/lock").read_bytes():
        left.append("an owner in the lock")
    return left


def faults(stack: Stack, baseline: Baseline) -> list[str]:
    """What is not as it should be when nothing is under way, in words."""
    records, containers = Records.of(stack), found(stack)
    wrong = [*_shared(stack, baseline, containers), *_history(records)]
    live = records.in_role(SlotRole.LIVE)
    if records.runs and live != [link(stack)]:
        wrong.append(f"live by the records {live}, by the link {link(stack)}")
    if records.in_role(SlotRole.CANDIDATE):
        wrong.append(f"a candidate is on record: {records.slots}")
    for slot in (s for s in records.slots if records.slots[s].role in (SlotRole.LIVE, SlotRole.STANDBY)):
        wrong += _slot(stack, containers, slot, records.slots[slot].release)
    return [*wrong, *(_states(stack, records) if records.runs else []), *_served(stack, containers)]


def _shared(stack: Stack, baseline: Baseline, containers: list[Container]) -> list[str]:
    now = {name: (c["Id"], c["State"]["StartedAt"]) for name, c in plain(containers, stack).items()}
    changed = [name for name in SHARED if now.get(name) != baseline.shared[name]]
    gone = baseline.volumes - set(names_of("volume", stack))
    return [f"{name} is not the container it was" for name in changed] + [f"volume {name} is gone" for name in gone]


def _slot(stack: Stack, containers: list[Container], slot: Slot, release: str) -> list[str]:
    project = stack.name if slot is Slot.PLAIN else f"{stack.name}-{slot}"
    mine = [c for c in containers if project_of(c) == project and f"-{ROUTED}" in c["Name"]]
    if len(mine) != 1:
        return [f"{len(mine)} containers in {slot}"]
    state, labels = mine[0]["State"], mine[0]["Config"]["Labels"]
    wrong = []
    if not state["Running"] or state["Health"]["Status"] != "healthy":
        wrong.append(f"{slot} is {state['Status']}, {state['Health']['Status']}")
    if slot is not Slot.PLAIN and labels.get(LABEL_RELEASE) != release:
        wrong.append(f"{slot} runs {labels.get(LABEL_RELEASE)}, on record is {release}")
    return wrong


def _history(records: Records) -> list[str]:
    """One record and one event of each run."""
    wrong = [f"run {run.id} has not ended" for run in records.runs if not run.ended]
    events = Counter(event.metadata.get("run", "") for event in records.events if event.event_type in set(Kind))
    wrong += [f"{events[run.id]} events of run {run.id}" for run in records.runs if events[run.id] != 1]
    aborts = Counter(event.metadata.get("run", "") for event in records.events if event.event_type == ABORT)
    wrong += [f"{aborts[r.id]} aborts of run {r.id}" for r in records.runs if aborts[r.id] != bool(r.aborted_by)]
    known = {run.id for run in records.runs}
    return wrong + [f"an event of an unknown run {name}" for name in events if name and name not in known]


def _states(stack: Stack, records: Records) -> list[str]:
    """The JSON files for other programs say what the journal says."""
    last, blue_green, deploy = records.runs[0], stack.state("bluegreen/state.json"), stack.state("state/deploy.json")
    expected = {
        "active": link(stack),
        "blue_version": records.slots[Slot.BLUE].release,
        "green_version": records.slots[Slot.GREEN].release,
    }
    seen = {key: blue_green[key] for key in expected}
    wrong = [f"bluegreen/state.json has {seen}, true is {expected}"] if seen != expected else []
    how = {
        "success": last.outcome is Outcome.DONE,
        "rolled_back": last.rolled_back and last.outcome is not Outcome.DONE,
    }
    told = {key: deploy[key] for key in how}
    return wrong + ([f"state/deploy.json has {told}, true is {how}"] if told != how else [])


def _served(stack: Stack, containers: list[Container]) -> list[str]:
    """Users get the release that runs where the link points to."""
    name = link(stack)
    project = stack.name if name == Slot.PLAIN else f"{stack.name}-{name}"
    runs = [c for c in containers if project_of(c) == project and f"-{ROUTED}" in c["Name"]]
    expected = [e.partition("=")[2] for c in runs for e in c["Config"]["Env"] if e.startswith("RELEASE=")]
    answers = {stack.get("/", timeout_s=PATIENCE_S)[1].get(HEADER, "") for _ in range(3)}
    return [] if answers == set(expected) else [f"users got {answers}, {name} has {expected}"]
