"""Commands about the delivery of the audit trail: init, deliver, status, remove."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from nself_deploy.cli.options import common
from nself_deploy.errors import Exit, NselfError, UsageError

if TYPE_CHECKING:
    from nself_deploy.cli.output import Lines
    from nself_deploy.core.audit_delivery import Sink, SinkLine
    from nself_deploy.wiring.delivery import Added

VARIABLE = "NSELF_AUDIT_POSTGRES"
STDIN = "-"
WARNING = (
    f"warning: everybody on this machine can see the password in the process list; use {VARIABLE} or --postgres -."
)

_READ_LIMIT = 4096
_UNSIGNED = "events are sent unsigned; --secret-file names a file with a secret to sign them with."
_OPEN = (
    "row level security does not hold for this role (a superuser, one with BYPASSRLS, or the owner of a table that "
    "does not force it); use a role that may only INSERT and SELECT."
)


@click.command(short_help="Deliver the trail to a table of PostgreSQL, or to a webhook.")
@click.option("--postgres", "dsn", metavar="DSN", help=f"The database; - reads it from stdin; or set {VARIABLE}.")
@click.option("--webhook", "url", metavar="URL", help="An http or https address; - reads it from stdin.")
@click.option("--secret-file", default="", metavar="FILE", help="Sign what is sent to the webhook with its first line.")
@click.option("--account", default="", metavar="NAME", help="source_account_id of the rows [primary].")
@click.option("--name", default="", metavar="NAME", help="What the sink is called [postgres or webhook].")
@click.option("--sql", "as_sql", is_flag=True, help="Print the statements that make the table, and do nothing.")
@common
def init(
    dsn: str | None, url: str | None, secret_file: str, account: str, name: str, as_json: bool, directory: str,
    *, as_sql: bool,
) -> int:  # fmt: skip
    """Deliver the trail to a table of PostgreSQL, or to a webhook: all events, from the first one on.

    The table np_auditlog_events is made if it is missing; one that is there is checked, and never changed. Give a DSN
    with a password on stdin or in the environment, where others can't see it.
    """
    from nself_deploy.cli.output import emit, print_json
    from nself_deploy.core.audit_table import script

    if as_sql:
        emit(sys.stdout, script())
        return 0
    import asyncio

    from nself_deploy.wiring import delivery

    sink = _sink(dsn, url, secret_file, account, name)
    added = asyncio.run(delivery.add(directory, sink))
    for warning in [_OPEN] * (not added.secured) + [_UNSIGNED] * (not added.signed):
        emit(sys.stderr, f"warning: {warning}\n")
    if as_json:
        print_json(added.line)
    else:
        _show_added(added, _lines())
    return 0


@click.command(short_help="Deliver what waits, now.")
@click.option("--sink", "name", default="", metavar="NAME", help="To this sink only.")
@click.option("--follow", is_flag=True, help="Go on for good, and deliver new events within a second.")
@click.option("--again", is_flag=True, help="From the first event on, for a sink that lost some.")
@common
def deliver(name: str, as_json: bool, directory: str, *, follow: bool, again: bool) -> int:
    """Deliver what waits, now: for a person, or for a timer. Exit status 2 when a sink can't be reached.

    This is done by itself after each command that wrote an event. A sink that does not work is then tried for ten
    minutes; --follow never gives up.
    """
    import asyncio

    from nself_deploy.wiring import delivery

    if follow and again:
        raise UsageError("--follow and --again are both there.", "Run it with --again first.", where="--again")
    if follow:
        return _follow(directory, name)

    errors = asyncio.run(delivery.deliver(directory, name, again=again))
    found = [line for line in delivery.status(directory) if name in ("", line.name)]
    return _told(found, errors, as_json=as_json)


@click.command(short_help="How far each sink is, what waits and why.")
@common
def status(as_json: bool, directory: str) -> int:
    """How far each sink is: how many events wait, since when, and the last error."""
    from nself_deploy.cli.output import print_json
    from nself_deploy.wiring import delivery

    found = delivery.status(directory)
    if as_json:
        print_json(found)
    else:
        _show(found, _lines(), delivery.now())
    return 0


@click.command(short_help="Deliver nothing more to a sink.")
@click.argument("sink", metavar="SINK")
@common
def remove(sink: str, as_json: bool, directory: str) -> int:
    """Deliver nothing more to a sink. What was delivered stays where it is; SINK is the name that status shows."""
    import asyncio

    from nself_deploy.cli.output import print_json
    from nself_deploy.wiring import delivery

    gone = asyncio.run(delivery.remove(directory, sink))
    if as_json:
        print_json({"name": gone.name, "kind": gone.kind.value, "to": gone.to})
    else:
        _lines().note(f"[done] Remove {gone.name}  {gone.to}")
    return 0


@click.command(hidden=True)
@common
def deliver_audit(directory: str, **_: Any) -> int:
    """Deliver what waits; started in the background by a command that wrote an event."""
    import asyncio

    from nself_deploy.wiring import delivery

    asyncio.run(delivery.deliver_in_background(directory))
    return 0


COMMANDS = (init, deliver, status, remove)


def waiting_notes(directory: str) -> list[str]:
    """What waits for each sink, for people."""
    from nself_deploy.core.audit_delivery import waiting_words
    from nself_deploy.wiring import delivery

    words = [waiting_words(line, delivery.now()) for line in delivery.status(directory)]
    return [text for text in words if text]


def _sink(dsn: str | None, url: str | None, secret_file: str, account: str, name: str) -> Sink:
    """The sink that is asked for.

    Raises:
        UsageError: it is not clear which, or it can't be used.
    """
    from nself_deploy.core.audit_delivery import ACCOUNT, check_name
    from nself_deploy.wiring import delivery

    variable = os.environ.pop(VARIABLE, "")
    if dsn is not None and url is not None:
        raise UsageError("--postgres and --webhook are both there.", "Add one sink after the other.")
    if name and not check_name(name):
        raise UsageError(f"{name!r} is no name of a sink.", "Use letters, digits, '.', '-' and '_'.", where="--name")
    if url is not None:
        if account:
            raise UsageError("A webhook has no account.", "Leave it out.", where="--account")
        return delivery.webhook(_read(url, "address"), name or "webhook", secret_file)
    if secret_file:
        raise UsageError("A table is not signed.", "Leave it out, or use --webhook.", where="--secret-file")
    address = _read(dsn, "DSN") if dsn is not None else variable.strip()
    if not address:
        what = "Where to?"
        raise UsageError(what, f"Name a database (--postgres DSN, or {VARIABLE}) or an address (--webhook URL).")
    sink = delivery.postgres(address, name or "postgres", account or ACCOUNT)
    if dsn not in (None, STDIN) and delivery.has_password(address):
        from nself_deploy.cli.output import emit

        emit(sys.stderr, f"{WARNING}\n")
    return sink


def _read(word: str, what: str) -> str:
    if word != STDIN:
        return word.strip()
    if sys.stdin.isatty():
        return str(click.prompt(what, hide_input=True, err=True)).strip()
    line = sys.stdin.readline(_READ_LIMIT).strip()
    if not line:
        raise UsageError(f"There is no {what} on stdin.", "Write it there, followed by a line break.")
    return line


def _follow(directory: str, name: str) -> int:
    import asyncio

    from nself_deploy.cli.telling import ENDING
    from nself_deploy.wiring import delivery

    lines = _lines()

    async def go() -> None:
        task = asyncio.ensure_future(delivery.follow(directory, name, lines.note))
        for number in ENDING:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await task

    try:
        asyncio.run(go())
    except asyncio.CancelledError:
        lines.note("Stopped; what waits is delivered by the next command.")
    return int(Exit.INTERRUPTED)


def _told(found: list[SinkLine], errors: dict[str, NselfError], *, as_json: bool) -> int:
    """How it went. Several errors are one: its status is the first one's."""
    from nself_deploy.cli.output import print_error, print_json
    from nself_deploy.wiring import delivery

    if as_json:
        print_json(found)
    else:
        _show(found, _lines(), delivery.now())
    for error in errors.values():
        print_error(error)
    first = next(iter(errors.values()), None)
    return int(first.exit_status) if first is not None else 0


def _show(found: list[SinkLine], lines: Lines, now: str) -> None:
    from nself_deploy.cli.output import printable
    from nself_deploy.core.audit_delivery import waiting_words

    if not found:
        lines.note("The trail is delivered to nobody; nself deploy audit init adds a sink.")
    for line in found:
        words = waiting_words(line, now)
        if not words:
            at = f" at {line.delivered_at}" if line.delivered_at else ""
            words = f"{line.name} ({line.to}) has all {line.delivered} events{at}"
        lines.note(printable(words))


def _show_added(added: Added, lines: Lines) -> None:
    line = added.line
    if added.server:
        lines.note(f"[done] Connect  {line.to}, {added.server}")
        lines.note(f"[done] {'Make' if added.made else 'Check'} np_auditlog_events")
    lines.note(f"[done] Keep sink {line.name}  {line.to}; {line.waiting} events wait, and are delivered now")


def _lines() -> Lines:
    from nself_deploy.cli.output import Lines

    return Lines(sys.stdout)
