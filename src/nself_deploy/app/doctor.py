"""What `doctor` does: look, say what is wrong, and put right what is ours, repair by repair, each after a look.

Each repair is safe to repeat and may be cut short at any moment: the next look finds what is left to do.
"""

from __future__ import annotations

import asyncio

import msgspec

from nself_deploy.app.checkup import Leftovers, look
from nself_deploy.app.repairs import Repairs
from nself_deploy.app.world import World
from nself_deploy.core.doctor import UNREADABLE, all_well, diagnose, fixes
from nself_deploy.core.doctor_facts import Trouble
from nself_deploy.core.findings import Finding, Fix, ForgetOwner
from nself_deploy.core.machine import Outcome, Run
from nself_deploy.core.plan import Timing
from nself_deploy.errors import Exit, NselfError

MOST = 50
"""Repairs in one go: more can only mean that one of them does not last."""


class FindingLine(msgspec.Struct, frozen=True):
    """One finding, as programs read it."""

    code: str
    severity: str
    what: str
    why: str
    remedy: str
    fixable: bool
    """Whether `--fix` can do something about it."""
    failed: str = ""
    """Why the repair did not work, empty when it was not tried."""


class RepairLine(msgspec.Struct, frozen=True):
    """One thing that was put right."""

    code: str
    """Of the finding."""
    what: str
    done: str
    """What was done, in words."""


class Report(msgspec.Struct, frozen=True):
    """What `doctor` prints."""

    project: str
    well: bool
    """Whether nothing has to be done (any more)."""
    findings: tuple[FindingLine, ...]
    """What is not as it should be now."""
    repaired: tuple[RepairLine, ...] = ()


class Patient(msgspec.Struct, frozen=True):
    """A project to look at."""

    world: World
    leftovers: Leftovers
    timing: Timing
    journal: Trouble | None = None
    """Why the journal can't be read, None when it can."""


class Treated(msgspec.Struct, frozen=True):
    """How it went."""

    report: Report
    recovered: Run | None = None
    """An interrupted run that was finished."""


async def examine(patient: Patient, *, ours: bool = False) -> tuple[Finding, ...]:
    """Everything that is not as it should be; changes nothing. `ours`: we hold the lock."""
    facts = await look(patient.world, patient.leftovers, patient.timing.standby_s, patient.journal, ours=ours)
    return diagnose(facts)


async def repair(patient: Patient, interrupted: asyncio.Event, before: tuple[Finding, ...]) -> Treated:
    """Put right what is ours, then look again. The caller holds the lock, and found `before` without it.

    Raises:
        Locked: somebody else has got the lock meanwhile; what was put right stays so.
    """
    left = [finding for finding in before if isinstance(finding.fix, ForgetOwner)]
    repaired = [RepairLine(finding.code, finding.what, "taken over and given back") for finding in left]
    failed: list[tuple[Fix, str]] = []
    hands = Repairs(patient.world, patient.leftovers, patient.timing, interrupted)
    findings = await examine(patient, ours=True)
    for _ in range(MOST):
        fix = next((f for f in fixes(findings) if f not in [known for known, _ in failed]), None)
        if fix is None or interrupted.is_set():
            break
        causes = [finding for finding in findings if finding.fix == fix]
        await patient.world.still_ours()
        try:
            words = await hands.perform(fix)
        except NselfError as error:
            failed.append((fix, str(error)))
        else:
            repaired += [RepairLine(cause.code, cause.what, words) for cause in causes]
        findings = await examine(patient, ours=True)
    report = make_report(patient.world.project.name, findings, failed, repaired)
    run = hands.recovered
    return Treated(report, run if run is not None and run.outcome is Outcome.DONE else None)


def make_report(
    project: str,
    findings: tuple[Finding, ...],
    failed: list[tuple[Fix, str]] | None = None,
    repaired: list[RepairLine] | None = None,
) -> Report:
    """What is printed."""

    def failure(finding: Finding) -> str:
        return next((words for fix, words in failed or () if fix == finding.fix), "")

    lines = tuple(
        FindingLine(f.code, f.severity.value, f.what, f.why, f.remedy, f.fix is not None, failure(f)) for f in findings
    )
    return Report(project, all_well(findings), lines, tuple(repaired or ()))


def exit_status(report: Report) -> Exit:
    """Of the command: 0 all is well, 1 a file of ours can't be read, 2 no engine, 7 a person has to do something."""
    codes = {finding.code for finding in report.findings}
    if report.well:
        return Exit.OK
    if codes & UNREADABLE:
        return Exit.USAGE
    return Exit.INFRASTRUCTURE if "engine-unreachable" in codes else Exit.PARKED
