"""Commands about deploy keys: create, list, revoke, rotate, check."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from nself_deploy.cli.group import PartsGroup
from nself_deploy.cli.key_input import key_options, read_key
from nself_deploy.cli.options import common
from nself_deploy.errors import UsageError

if TYPE_CHECKING:
    from nself_deploy.app.key_changes import Author, Made
    from nself_deploy.cli.output import Lines
    from nself_deploy.core.deploy_keys import KeyLine

_NEVER = "never"
_DEFAULT = "365d"
_LONGEST_S = 3650 * 86400.0


@click.group(cls=PartsGroup, no_args_is_help=False, short_help="Who may roll back from outside: keys, and their scope.")
def keys() -> None:
    """Deploy keys: what lets a program roll back a service, at night, without a person.

    A key is shown once, when it is made; only its hash is kept. Each key is for some services, environments and
    actions, and expires. Every change and every denied attempt is in the audit trail.
    """


@keys.command(short_help="Make a key, and show it this once.")
@click.argument("name", metavar="NAME")
@click.option("--service", "services", multiple=True, metavar="NAME", help="A service it is for; again for more; '*'.")
@click.option("--env", "environments", multiple=True, metavar="NAME", help="An environment it is for; '*' [prod].")
@click.option(
    "--action", "actions", multiple=True, metavar="NAME", help="What it is for: rollback, deploy, … [rollback]."
)
@click.option("--expires", default=_DEFAULT, metavar="TIME", help=f"How long it works, or {_NEVER} [{_DEFAULT}].")
@common
def create(
    name: str,
    services: tuple[str, ...],
    environments: tuple[str, ...],
    actions: tuple[str, ...],
    expires: str,
    as_json: bool,
    directory: str,
) -> int:
    """Make a key called NAME, and print it: alone on stdout, what it is for on stderr.

    It can't be shown again. Say for which services it is with --service.
    """
    from nself_deploy.app import key_changes
    from nself_deploy.wiring import guards

    if not services:
        raise UsageError("For which service is the key?", "Add --service NAME, or --service '*' for all.")
    wanted = key_changes.Wanted(
        name,
        tuple(dict.fromkeys(_environment(word) for word in environments or ("prod",))),
        tuple(dict.fromkeys(services)),
        tuple(dict.fromkeys(actions or ("rollback",))),
        _lasting(expires, "--expires"),
    )
    key_changes.check(wanted)
    with guards.open_guards(directory, write=True) as store:
        made = key_changes.create(store, wanted, _author())
    return _told_made(made, "Create", as_json=as_json)


@keys.command("list", short_help="All keys: for what, until when, last used.")
@common
def list_keys(as_json: bool, directory: str) -> int:
    """All keys, oldest first: name, id, whether it works, what it is for, until when, and when it was used last.

    Below them: the attempts that were denied lately.
    """
    from nself_deploy.app import key_changes
    from nself_deploy.cli.output import Lines, print_json
    from nself_deploy.wiring import guards

    with guards.open_guards(directory, write=False) as store:
        found, denied = key_changes.lines(store, guards.now()), key_changes.failures(store)
    if as_json:
        print_json(found)
        return 0
    lines = Lines(sys.stdout)
    _show(found, lines)
    if denied is not None:
        lines.note(f"{denied.attempts} attempts were denied between {denied.began} and {denied.last.at}.")
    return 0


@keys.command(short_help="Let a key open nothing any more, at once.")
@click.argument("key", metavar="KEY")
@common
def revoke(key: str, as_json: bool, directory: str) -> int:
    """Let a key open nothing any more, at once. KEY is its id or its name. Doing so twice is no error."""
    from nself_deploy.app import key_changes
    from nself_deploy.cli.output import Lines, print_json
    from nself_deploy.core.deploy_keys import line_of
    from nself_deploy.wiring import guards

    author = _author()
    with guards.open_guards(directory, write=True) as store:
        gone, changed = key_changes.revoke(store, key, author)
    if as_json:
        print_json(line_of(gone, author.now.at))
    else:
        words = f"[done] Revoke {gone.name} ({gone.id})"
        Lines(sys.stdout).note(words if changed else f"{words}  it was revoked at {gone.revoked_at}")
    return 0


@keys.command(short_help="Make a new key in the place of one.")
@click.argument("key", metavar="KEY")
@click.option("--overlap", default="0s", metavar="TIME", help="How long the old key still works [0s].")
@click.option(
    "--expires", default=_DEFAULT, metavar="TIME", help=f"How long the new one works, or {_NEVER} [{_DEFAULT}]."
)
@common
def rotate(key: str, overlap: str, expires: str, as_json: bool, directory: str) -> int:
    """Make a key of the same name and scope in the place of KEY (an id or a name), and print it as create does.

    The old one stops at once, or works on for --overlap, while the new one is brought to those who use it.
    """
    from nself_deploy.app import key_changes
    from nself_deploy.wiring import guards

    lasts_s, overlap_s = _lasting(expires, "--expires"), _lasting(overlap, "--overlap") or 0.0
    with guards.open_guards(directory, write=True) as store:
        made, old = key_changes.rotate(store, key, lasts_s, overlap_s, _author())
    until = f"works until {old.expires_at}" if not old.revoked_at else "is revoked"
    return _told_made(made, "Rotate", f"; {old.id} {until}", as_json=as_json)


@keys.command(short_help="Try whether a key would do, and change nothing.")
@click.option("--service", required=True, metavar="NAME", help="The service that it is to be used for.")
@click.option("--env", "environment", default="prod", metavar="NAME", help="The environment [prod].")
@click.option("--action", default="rollback", metavar="NAME", help="The action [rollback].")
@key_options
@common
def check(
    service: str,
    environment: str,
    action: str,
    key: str | None,
    key_file: str | None,
    as_json: bool,
    directory: str,
) -> int:
    """Try whether a key would do, and do nothing with it: for those who set up a watcher.

    It is an attempt like any other: a denied one is audited and counted. Exit status: 0 it would do; 3 it would not;
    4 too many attempts failed.
    """
    from nself_deploy.app.key_changes import check_asked
    from nself_deploy.app.keys import Denied, authorize
    from nself_deploy.cli.output import Lines, print_json
    from nself_deploy.wiring import guards

    environment = _environment(environment)
    check_asked(action, environment, service)
    shown = read_key(key, key_file)
    with guards.open_guards(directory, write=True) as store:
        answer = authorize(store, shown, action, environment, service, guards.source(), guards.now())
    if isinstance(answer, Denied):
        raise answer.error()
    if as_json:
        print_json(answer)
    else:
        warning = f"  {answer.warning}" if answer.warning else ""
        Lines(sys.stdout).note(f"[done] {answer.name} ({answer.key_id}) may: {action} {service} {environment}{warning}")
    return 0


def _author() -> Author:
    from nself_deploy.app.key_changes import Author
    from nself_deploy.wiring import guards

    return Author(guards.source(), guards.now(), guards.secret(), guards.key_id())


def _environment(word: str) -> str:
    from nself_deploy.core.settings import TARGETS

    return TARGETS.get(word, word)


def _lasting(text: str, where: str) -> float | None:
    """Seconds; None for ever."""
    from nself_deploy.core.durations import parse_duration

    if text == _NEVER and where == "--expires":
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{error}.", where=where) from None
    least = 1.0 if where == "--expires" else 0.0
    if not least <= seconds <= _LONGEST_S:
        raise UsageError(f"{text!r} is out of range.", "It may be up to ten years (3650d).", where=where)
    return seconds


def _told_made(made: Made, verb: str, more: str = "", *, as_json: bool) -> int:
    """The key alone on stdout, or in a document; words for people on stderr."""
    from nself_deploy.cli.output import emit, print_json

    key = made.key
    until = f"until {key.expires_at}" if key.expires_at else "without an end"
    emit(sys.stderr, f"[done] {verb} {key.name} ({key.id}): {key.scope.words}, {until}{more}\n")
    if as_json:
        print_json({"key": made.text, "id": key.id, "name": key.name, "expires_at": key.expires_at})
        return 0
    emit(sys.stderr, "Keep it now, it can't be shown again:\n")
    emit(sys.stdout, f"{made.text}\n")
    return 0


def _show(found: list[KeyLine], lines: Lines) -> None:
    if not found:
        lines.note("There are no deploy keys.")
        return
    rows = []
    for key in found:
        scope = " ".join(",".join(words) for words in (key.actions, key.services, key.environments))
        until = key.revoked_at or key.expires_at or _NEVER
        used = f"used {key.used_at} from {key.used_from}: {key.used_for}" if key.used_at else "never used"
        rows.append((key.id, key.name, key.state, until, scope, used))
    lines.table(rows)
