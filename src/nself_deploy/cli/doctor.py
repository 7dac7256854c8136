"""`nself deploy doctor`: what is left over or inconsistent, why, and what to do; with --fix it does that itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from nself_deploy.cli.options import common

if TYPE_CHECKING:
    from nself_deploy.app.doctor import FindingLine, Report
    from nself_deploy.cli.output import Lines


@click.command(short_help="Find what is left over or inconsistent, and put it right.")
@click.option("--fix", is_flag=True, help="Put right what is ours; what is not is never touched.")
@common
def doctor(fix: bool, as_json: bool, directory: str) -> int:
    """Find and explain everything that is left over or inconsistent. Nothing is changed without --fix.

    It compares what the journal says with the containers, the networks, the router and the files. Each finding is an
    error (users may notice, or deploys are refused), a warning (the next deploy or rollback may), or a note.

    With --fix it puts right what nself deploy made itself: what an interrupted deploy left, a standby whose time is
    over, networks, records, files. Containers, networks and files of others are explained and never touched, whatever
    they are called. What users are served by is never stopped. It may be repeated, and stopped at any moment.

    Exit status: 0 all is well; 1 one of our own files can't be read; 2 the container engine can't be asked;
    6 another command works on the project; 7 a person has to do something.
    """
    import asyncio

    from nself_deploy.app.doctor import exit_status
    from nself_deploy.cli.output import Lines, print_json
    from nself_deploy.errors import Interrupted

    lines = Lines(sys.stdout, quiet=as_json)
    try:
        report = asyncio.run(_go(directory, lines, fix=fix))
    except KeyboardInterrupt as error:
        what = "Interrupted; what was put right stays so." if fix else "Interrupted; nothing was changed."
        raise Interrupted(what, "Run the same command again to go on.") from error
    if as_json:
        print_json(report)
    else:
        show_report(report, lines, fixed=fix)
    return int(exit_status(report))


async def _go(directory: str, lines: Lines, *, fix: bool) -> Report:
    """Look; with `fix`, put right what can be, under the lock."""
    import asyncio

    from nself_deploy import wiring
    from nself_deploy.app import doctor as use_case
    from nself_deploy.app.locking import held
    from nself_deploy.wiring.doctor import open_patient

    async with open_patient(directory, write=False) as patient:
        findings = await use_case.examine(patient)
        if not fix or not any(finding.fix for finding in findings):
            return use_case.make_report(patient.world.project.name, findings)
    async with open_patient(directory, write=True) as patient, lines.ticking():
        world = patient.world
        world.watcher, world.progress, world.note = lines.step, lines.progress, lines.note
        stop = asyncio.Event()
        async with held(world, "doctor --fix", "local", stop):
            treated = await use_case.repair(patient, stop, findings)
    if treated.recovered is not None:
        wiring.schedule_expiry(treated.recovered.plan, str(world.root))
    return treated.report


def show_report(report: Report, lines: Lines, *, fixed: bool) -> None:
    """One line for each finding, with its explanation and what to do below it."""
    for repair in report.repaired:
        lines.note(f"[fixed] {repair.what}")
        lines.list([repair.done])
    for finding in report.findings:
        lines.note(f"[{finding.severity}] {finding.what}")
        lines.list(_explained(finding))
    if report.well:
        lines.note(f"[ok] {report.project}: nothing has to be done.")
        return
    fixable = sum(f.fixable and not f.failed for f in report.findings)
    if fixable and not fixed:
        lines.note(f"nself deploy doctor --fix puts {fixable} of {len(report.findings)} findings right.")


def _explained(finding: FindingLine) -> list[str]:
    failed = f"could not be put right: {finding.failed}" if finding.failed else ""
    remedy = f"-> {finding.remedy}" if finding.remedy else ""
    return [words for words in (finding.why, failed, remedy) if words]
