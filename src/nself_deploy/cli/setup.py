"""`nself deploy init`: shows the exact change to a project's files, and makes it."""

from __future__ import annotations

import asyncio
import difflib
import sys

import click

from nself_deploy.cli.options import common
from nself_deploy.cli.output import Lines, print_error, print_json
from nself_deploy.errors import Exit, GateRefused
from nself_deploy.wiring import setup as wired


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Apply the change without asking.")
@click.option("--dry-run", is_flag=True, help="Only show the change.")
@common
def init(yes: bool, dry_run: bool, as_json: bool, directory: str) -> int:
    """Show the exact change to your nginx files, and apply it when you say yes. A running site goes on being served."""
    found = asyncio.run(wired.prepare(directory))
    lines = Lines(sys.stdout, quiet=as_json)
    for problem in found.edit.problems:
        print_error(problem)
    if found.edit.problems:
        return int(Exit.USAGE)
    _show(found, lines)
    if found.nothing or dry_run:
        if as_json:
            print_json(_document(found, "nothing to do" if found.nothing else "dry run"))
        return int(Exit.OK)
    if not yes:
        if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise GateRefused("init changes your files and needs a yes.", "Add --yes when nobody can be asked.")
        if not click.confirm("Apply this?", default=False):
            raise GateRefused("You said no; nothing was changed.")
    done = asyncio.run(wired.apply(found))
    lines.note(f"Applied; {done}.")
    if as_json:
        print_json(_document(found, done))
    return int(Exit.OK)


def _show(found: wired.Setup, lines: Lines) -> None:
    for edit in found.edit.edits:
        old = [] if found.service else edit.old.splitlines(keepends=True)
        for line in difflib.unified_diff(old, edit.new.splitlines(keepends=True), edit.shown, edit.shown):
            lines.note(lines.diff(line.rstrip("\n")))
        for reason in () if found.service else edit.reasons:
            lines.note(f"  {reason}")
    if found.nothing:
        lines.note("Nothing to change: the nginx files are as they have to be.")
        return
    lines.note(
        f"{found.override} is generated: plain docker compose reads it, keeps the router on the slots' networks,"
    )
    lines.note("  and (after the first deploy) does not start a second copy of what runs in the slots.")
    for note in (*found.notes, *found.edit.warnings):
        lines.note(f"  ! {note}")


def _document(found: wired.Setup, done: str) -> dict[str, object]:
    return {
        "files": [{"file": e.shown, "reasons": list(e.reasons), "new": e.new} for e in found.edit.edits],
        "routes": [{"key": r.key, "service": r.service, "port": r.port} for r in found.edit.routes],
        "override": found.override,
        "notes": [*found.notes, *found.edit.warnings],
        "done": done,
    }
