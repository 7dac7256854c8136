"""From one look at everything to what is wrong, why, and what would put it right. Pure; never about what is others'."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from nself_deploy.core import doctor_around as around
from nself_deploy.core import doctor_slots as slots
from nself_deploy.core.doctor_facts import Facts, LockFacts
from nself_deploy.core.doctor_ours import healthy, others, ours_in, strays, wanted
from nself_deploy.core.doctor_states import state_findings
from nself_deploy.core.findings import ORDER, Finding, Fix, Recover, Severity
from nself_deploy.core.machine import Run
from nself_deploy.core.recovery import Standing, Wish, decide

UNREADABLE = frozenset({"journal-unreadable", "state-unreadable", "link-lost"})
"""Codes of findings about files of our own that can't be read."""


def diagnose(facts: Facts) -> tuple[Finding, ...]:
    """Everything that is not as it should be, what matters most first; nothing when all is well.

    While somebody works on the project its state is in between, and while the journal can't be read nothing is known to
    be ours: then only what is certain all the same is said.
    """
    found = sorted(_found(facts), key=lambda finding: _WEIGHT[finding.severity])
    return tuple(found)


_WEIGHT = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2, Severity.OK: 3}


def _found(facts: Facts) -> Iterator[Finding]:
    yield from _unreachable(facts)
    holder = facts.holder
    if holder is not None:
        yield _under_way(facts, holder)
        return
    if facts.journal is not None:
        yield from (msgspec.structs.replace(finding, fix=None) for finding in _without_journal(facts))
        return
    if facts.unfinished is not None:
        yield _parked(facts.unfinished) if _waits(facts, facts.unfinished) else _interrupted(facts)
        yield from state_findings(facts)
        yield from around.leftover_findings(facts)
        yield from around.router_findings(facts) if facts.engine is None else ()
        yield from others(facts)
        return
    yield from _settled(facts)


def _without_journal(facts: Facts) -> Iterator[Finding]:
    """What can be said, and is left alone: every repair is written down in the journal, or needs its word."""
    yield from slots.link_findings(facts)
    yield from state_findings(facts)
    yield from around.router_findings(facts)
    yield from around.leftover_findings(facts)


def _settled(facts: Facts) -> Iterator[Finding]:
    """Nobody is at work and nothing is half done: whatever differs is wrong."""
    yield from slots.link_findings(facts)
    yield from state_findings(facts)
    yield from around.recording_findings(facts)
    yield from around.file_findings(facts)
    yield from around.lock_findings(facts)
    if facts.engine is not None:
        return
    yield from slots.record_findings(facts)
    yield from slots.live_findings(facts)
    yield from slots.idle_findings(facts)
    yield from slots.single_findings(facts)
    yield from others(facts)
    yield from strays(facts)
    yield from around.network_findings(facts)
    yield from around.address_findings(facts)
    yield from around.router_findings(facts)


def _unreachable(facts: Facts) -> Iterator[Finding]:
    if facts.journal is not None:
        trouble = facts.journal
        yield Finding(
            "journal-unreadable",
            Severity.ERROR,
            f"The journal {trouble.where or '.nself/nself.db'} {trouble.what}",
            "It knows which containers are ours, so without it nothing can be repaired. Users are served meanwhile: "
            "nginx needs only the link.",
            trouble.remedy,
        )
    if facts.engine is not None:
        yield Finding(
            "engine-unreachable",
            Severity.ERROR,
            f"The container engine can't be asked: {facts.engine.what}",
            "Nothing is known about containers and networks; what the files say is below.",
            facts.engine.remedy,
        )


def _under_way(facts: Facts, holder: LockFacts) -> Finding:
    run = facts.unfinished
    step = run.current() if run else None
    what = f"A {run.plan.kind} of release {run.plan.release} is under way" if run else "Somebody is at work"
    return Finding(
        "run-under-way",
        Severity.NOTE,
        f"{what}{f', at {step.name!r}' if step else ''}: {holder.owner}.",
        "What is half done now is not looked at.",
        "Nothing has to be done; look again when it has ended",
    )


def _parked(run: Run) -> Finding:
    parking = run.parking
    return Finding(
        "run-parked",
        Severity.WARNING,
        f"The {run.plan.strategy} {run.plan.kind} of release {run.plan.release} is parked: "
        f"{parking.reason if parking else 'it waits'}.",
        "Only a person can decide about it, and other deploys are refused. The rest is looked at when that is done.",
        "nself deploy resume goes on with it, promote gives it the next share, abort undoes it",
    )


def _interrupted(facts: Facts) -> Finding:
    run = facts.unfinished
    assert run is not None
    step = run.current()
    way = "" if facts.engine else f"; doctor --fix would {decide(run, _standing(facts, run), Wish.ONWARD).words}"
    return Finding(
        "run-interrupted",
        Severity.ERROR,
        f"The {run.plan.kind} of release {run.plan.release}{f' stopped at {step.name!r}' if step else ' stopped'}, and "
        "nobody works on it.",
        f"Its process ended, or could not go on{way}. The rest is looked at when that is done.",
        "Put it right: nself deploy doctor --fix, or nself deploy resume, which rather finishes it, or abort",
        Recover(),
    )


def _waits(facts: Facts, run: Run) -> bool:
    return run.waits and (facts.engine is not None or decide(run, _standing(facts, run), Wish.ONWARD).waits)


def _standing(facts: Facts, run: Run) -> Standing:
    """The candidate of an interrupted run, as it was seen."""
    slot, release = run.plan.candidate, facts.releases.get(run.plan.release)
    if slot is None or release is None:
        return Standing(facts.split, candidate_healthy=False)
    up = {c.name for c in ours_in(facts, slot) if c.release == release.id and healthy(c)}
    return Standing(facts.split, candidate_healthy=set(wanted(facts, release, slot, live=False)) <= up)


def fixes(findings: Iterable[Finding]) -> tuple[Fix, ...]:
    """The repairs of the findings, each once, in the order in which they are done."""
    needed: list[Fix] = []
    for finding in findings:
        if finding.fix is not None and finding.fix not in needed:
            needed.append(finding.fix)
    return tuple(sorted(needed, key=lambda fix: ORDER.index(type(fix))))


def all_well(findings: Iterable[Finding]) -> bool:
    """Whether nothing has to be done."""
    return all(finding.severity in (Severity.OK, Severity.NOTE) for finding in findings)
