"""The command that judges a canary once more."""

from __future__ import annotations

import contextlib
import sys

import click

from nself_deploy.cli.options import common


@click.command(short_help="Judge a canary again from its record, and compare.")
@click.argument("release", metavar="RELEASE")
@common
def replay(release: str, as_json: bool, directory: str) -> int:
    """Judge a canary again from its record, and compare: all verdicts must be the same.

    RELEASE is an id that history shows. Every request that was counted is on record, with all that was decided and the
    evidence; so is a bake. Nothing is changed, and neither Docker nor nginx is needed.
    Exit status: 0 all is identical; 4 something differs; 1 there is no such release, or no record of it.
    """
    from nself_deploy import wiring
    from nself_deploy.app.replaying import replay as judge_again
    from nself_deploy.cli.output import Lines, print_error, print_json
    from nself_deploy.cli.showing import show_replay
    from nself_deploy.errors import Exit, GateRefused

    with contextlib.closing(wiring.open_store(directory)) as store:
        found = judge_again(store, wiring.judge_records(directory), release)
    if as_json:
        print_json(found)
    else:
        show_replay(found, Lines(sys.stdout))
    if found.identical:
        return int(Exit.OK)
    wrong = next(run for run in found.runs if not run.identical)
    difference, record = wrong.difference, f".nself/canary/{wrong.run}"
    what = f"The record {record} is not what was written, though all that was decided comes out of it."
    if difference is not None:
        what = f"What was decided about {release} does not come out of its record: line {difference.line} of {record}."
    remedy = "Find out who could write there, or which version of this program judged: it may have had other rules."
    evidence = (f"decided:  {difference.recorded}", f"computed: {difference.computed}") if difference else ()
    print_error(GateRefused(what, remedy, evidence=evidence if as_json else ()))
    return int(Exit.REFUSED)
