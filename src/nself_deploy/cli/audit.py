"""Commands about the audit trail: list, show, verify, export, and those of its delivery."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import Any

import click

from nself_deploy.cli.audit_delivery import COMMANDS, waiting_notes
from nself_deploy.cli.group import PartsGroup
from nself_deploy.cli.options import common

_NOTED = re.compile(r"(\d{1,12}):([0-9a-f]{64})")
_SHOWN = 20


@click.group(cls=PartsGroup, no_args_is_help=False, short_help="Who did what, when, and how it ended; checked.")
def audit() -> None:
    """Who did what, when, and how it ended: one event for each deploy and rollback, and others.

    Events are only ever added, and each one carries the hash of the one before it: verify finds what was changed,
    removed or moved. They can be delivered to a table or a webhook as well (init), without a deploy waiting for it.
    """


@audit.command("list", short_help="Events, newest first.")
@click.option("--limit", default=20, metavar="N", type=click.IntRange(1, 100_000), help="How many [20].")
@common
def list_events(limit: int, as_json: bool, directory: str) -> int:
    """Events, newest first: when, what, how it ended, where, who, and the id."""
    from nself_deploy import wiring
    from nself_deploy.cli.output import Lines, print_json, printable
    from nself_deploy.cli.showing import show_events

    with contextlib.closing(wiring.open_store(directory)) as store:
        found = store.events(limit)
    if as_json:
        print_json(found)
    else:
        lines = Lines(sys.stdout)
        show_events(found, lines)
        for words in waiting_notes(directory):
            lines.note(printable(words))
    return 0


@audit.command(short_help="One event with all that is known.")
@click.argument("event_id", metavar="ID")
@common
def show(event_id: str, as_json: bool, directory: str) -> int:
    """One event with all that is known. ID is what list shows."""
    from nself_deploy import wiring
    from nself_deploy.cli.output import Lines, print_json
    from nself_deploy.cli.showing import show_event
    from nself_deploy.errors import UsageError

    with contextlib.closing(wiring.open_store(directory)) as store:
        found = store.audit.event(event_id)
    if found is None:
        raise UsageError(f"There is no audit event {event_id!r}.", "nself deploy audit list shows their ids.")
    if as_json:
        print_json(found)
    else:
        show_event(found, Lines(sys.stdout))
    return 0


@audit.command(short_help="Check that no event was changed, removed or moved.")
@click.option("--noted", default="", metavar="N:HASH", help="What an earlier verify said, noted elsewhere.")
@common
def verify(noted: str, as_json: bool, directory: str) -> int:
    """Check that no event was changed, removed or moved.

    It ends with what to note elsewhere, the number of events and the newest one's hash. Give it to a later verify
    with --noted, and even somebody who can write all of our files can't have changed what was there then.
    """
    from nself_deploy import wiring
    from nself_deploy.cli.output import Lines, print_error, print_json
    from nself_deploy.core.audit import Anchor
    from nself_deploy.errors import Exit, StateFileError, UsageError

    known = _NOTED.fullmatch(noted) if noted else None
    if noted and known is None:
        raise UsageError(f"--noted: {noted!r} is not a number and a hash.", "Give it as verify printed it: 12:3fa9….")
    with contextlib.closing(wiring.open_store(directory)) as store:
        report = store.audit.verify(Anchor(int(known[1]), known[2]) if known else None)
        path = str(store.path)
    if as_json:
        print_json(report)
    if not report.findings:
        if not as_json:
            Lines(sys.stdout).note(f"The trail is whole. To note elsewhere: {report.events}:{report.newest}")
        return int(Exit.OK)
    first, *others = [finding.words for finding in report.findings]
    more = (f"and {len(others) - _SHOWN} more",) if len(others) > _SHOWN else ()
    what, remedy = f"the audit trail is damaged: {first}", "Find out who could write there; a backup shows what was."
    print_error(StateFileError(what, remedy, where=path, evidence=(*others[:_SHOWN], *more)))
    return int(Exit.USAGE)


@audit.command(short_help="All events as JSON lines, oldest first.")
@common
def export(directory: str, **_: Any) -> int:
    """All events as JSON lines, oldest first.

    Each line can be checked without this program: the hash is the sha256 of the line without its hash.
    """
    from nself_deploy import wiring
    from nself_deploy.cli.output import emit
    from nself_deploy.core.audit import exported
    from nself_deploy.errors import StateFileError

    with contextlib.closing(wiring.open_store(directory)) as store:
        for record in store.audit.records():
            try:
                emit(sys.stdout, exported(record) + "\n")
            except ValueError as error:
                what = f"the record of audit event {record.number} can't be read: {error}."
                remedy = "Run nself deploy audit verify to see what else is wrong."
                raise StateFileError(what, remedy, where=str(store.path)) from error
    return 0


for command in COMMANDS:
    audit.add_command(command)
