"""`nself deploy init`: shows the exact change to a project's files, and makes it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from nself_deploy.cli.options import common

if TYPE_CHECKING:
    from nself_deploy.cli.output import Lines
    from nself_deploy.wiring.setup import Setup


@click.command(short_help="Show the exact change to your nginx files, and apply it.")
@click.option("-y", "--yes", is_flag=True, help="Apply the change without asking.")
@click.option("--dry-run", is_flag=True, help="Only show the change.")
@common
def init(yes: bool, dry_run: bool, as_json: bool, directory: str) -> int:
    """Show the exact change to your nginx files, and apply it when you say yes.

    Each upstream that means an app service is replaced by a name that nginx looks up per request. A project without an
    nginx gets one. The old files are kept under .nself/init, nginx checks the new ones before it loads them, and a site
    that runs goes on being served by the containers it has. Run it again after you changed your nginx files.
    """
    import asyncio

    from nself_deploy.cli.output import Lines, print_error, print_json
    from nself_deploy.errors import Exit, GateRefused
    from nself_deploy.wiring import setup as wired

    found = asyncio.run(wired.prepare(directory))
    lines = Lines(sys.stdout, quiet=as_json)
    if found.edit.problems:
        *others, last = found.edit.problems
        for problem in others:
            print_error(problem)
        raise last
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


def _show(found: Setup, lines: Lines) -> None:
    import difflib
    import os

    for edit in found.edit.edits:
        old = [] if found.service else edit.old.splitlines(keepends=True)
        for line in difflib.unified_diff(old, edit.new.splitlines(keepends=True), edit.shown, edit.shown):
            lines.note(lines.diff(line.rstrip("\n")))
        if edit.reasons and not found.service:
            lines.title(f"Why, in {edit.shown}")
            lines.list(edit.reasons)
    if found.nothing:
        lines.note("Nothing to change: the nginx files are as they have to be.")
        return
    lines.title("Also")
    override = os.path.relpath(found.override, found.root)
    lines.list([f"{override} is generated; plain docker compose reads it and leaves the slots in peace"])
    lines.plan((), (*found.notes, *found.edit.warnings))


def _document(found: Setup, done: str) -> dict[str, object]:
    return {
        "files": [{"file": e.shown, "reasons": list(e.reasons), "new": e.new} for e in found.edit.edits],
        "routes": [{"key": r.key, "service": r.service, "port": r.port} for r in found.edit.routes],
        "override": found.override,
        "notes": [*found.notes, *found.edit.warnings],
        "done": done,
    }
