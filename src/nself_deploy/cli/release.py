"""Commands that change things: deploy (and its plan), rollback, and the end of a standby.

Only their words; the work is in `running`, imported when a command is called.
"""

from __future__ import annotations

from typing import Any

import click

from nself_deploy.cli.group import DeployCommand
from nself_deploy.cli.key_input import key_options, read_key
from nself_deploy.cli.options import (
    REASON_HELP,
    canary_options,
    common,
    deploy_options,
    flags_of,
    force_migration_option,
    keep_failed_option,
    service_rollback_options,
    wait_option,
)
from nself_deploy.errors import UsageError


@click.command(cls=DeployCommand, hidden=True)
@click.argument("target", required=False)
@deploy_options
@canary_options
@keep_failed_option
@force_migration_option
@service_rollback_options
@key_options
@wait_option
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing (the same as plan).")
@click.option("-y", "--yes", "--force", "yes", is_flag=True, help="Don't ask, also not for prod.")
@common
def run(
    target: str | None,
    dry_run: bool,
    yes: bool,
    keep_failed: bool,
    force_migration: bool,
    wait_s: float,
    back: bool,
    service: str,
    key: str | None,
    key_file: str | None,
    reason: str,
    environment: str,
    max_retries: int,
    as_json: bool,
    directory: str,
    **options: Any,
) -> int:
    """Bring the present version of the project live; with --rollback, take one service back to the version before."""
    if back:
        given: dict[str, object] = {
            "--dry-run": dry_run,
            "--keep-failed": keep_failed,
            "--force-migration": force_migration,
            "--wait": wait_s,
        }
        _fits_rollback(options, target or "", environment, given)
        from nself_deploy.cli import service_rollback

        secret = read_key(key, key_file)
        return service_rollback.rollback(
            service, secret, environment or target or "prod", reason, max_retries, directory, as_json=as_json
        )
    if service or key or key_file or environment or reason or max_retries:
        raise UsageError(
            "--service, --key, --env and --reason belong to --rollback.", "Add --rollback, or leave them out."
        )
    from nself_deploy.cli import running

    flags = {**flags_of(options), "target": target}
    if dry_run:
        return running.plan(flags, directory, as_json=as_json, force_migration=force_migration)
    return running.deploy(
        flags,
        directory,
        as_json=as_json,
        yes=yes,
        keep_failed=keep_failed,
        force_migration=force_migration,
        wait_s=wait_s,
    )


def _fits_rollback(options: dict[str, Any], target: str, environment: str, others: dict[str, object]) -> None:
    """Refuse what a rollback of one service would not heed: above all, it can't be tried without doing it."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    given += [word for word, is_given in others.items() if is_given]
    if given:
        remedy = "Leave it out; nself deploy keys check tries a key without doing anything."
        raise UsageError(f"{given[0]} does not go with --rollback; nothing was done.", remedy, where=given[0])
    from nself_deploy.core.settings import TARGETS

    if target and environment and TARGETS.get(target, target) != TARGETS.get(environment, environment):
        raise UsageError(f"Is it {target} or {environment}?", "Name the environment once, with --env.", where="--env")


@click.command(short_help="Show what a deploy would do, and why.")
@click.argument("target", required=False)
@deploy_options
@canary_options
@force_migration_option
@common
def plan(target: str | None, force_migration: bool, as_json: bool, directory: str, **options: Any) -> int:
    """Show what a deploy would do, and why. Nothing is built, pulled, started or written.

    It lists every service with the role that was inferred for it and the reason, every setting with the place it comes
    from, and the steps in their order. The signs: + is created, - is removed, ~ is changed, = is kept.
    """
    from nself_deploy.cli import running

    flags = {**flags_of(options), "target": target}
    return running.plan(flags, directory, as_json=as_json, force_migration=force_migration)


@click.command(short_help="Go back to the previous release; at once while it is warm.")
@click.argument("target", required=False)
@click.option("--to", default="", metavar="RELEASE", help="An older release (see history --releases).")
@click.option("-y", "--yes", "--force", "yes", is_flag=True, help="Don't ask, also not for prod.")
@force_migration_option
@deploy_options
@wait_option
@common
def rollback(
    target: str | None,
    to: str,
    yes: bool,
    force_migration: bool,
    wait_s: float,
    as_json: bool,
    directory: str,
    **options: Any,
) -> int:
    """Go back to the previous release.

    While its slot is warm (see --standby) that is one rename, and takes about a second. Later the release is started
    again from its record, with the very images it had, and proved like a deploy. Databases are not touched: what a
    migration changed stays changed, and a release that can't live with it is refused (exit status 4). Without TARGET
    it is for the environment of the last deploy.
    """
    from nself_deploy.cli import back

    flags = {**flags_of(options), "target": target}
    return back.rollback(
        flags, directory, as_json=as_json, yes=yes, to=to, wait_s=wait_s, force_migration=force_migration
    )


@click.command(short_help="Go on with a parked canary, or a deploy whose process died.")
@wait_option
@common
def resume(as_json: bool, directory: str, wait_s: float) -> int:
    """Go on with a canary that is parked, or finish a deploy or rollback whose process died, from where it was.

    A canary that lacked evidence gets more time at its share; one that lost its share is judged anew, from the first
    share on.

    After a power cut, a lost machine or kill -9 the new version must prove healthy anew. When it can't be finished it
    is undone, and users stay on, or return to, the previous release (exit status 5). Nothing to resume is no error.
    The next deploy does the same by itself, but prefers to undo what no user has seen; status says what would be done.
    """
    from nself_deploy.cli import recovering

    return recovering.resume(directory, as_json=as_json, wait_s=wait_s)


@click.command(short_help="Undo a deploy that runs, or whose process died.")
@wait_option
@common
def abort(as_json: bool, directory: str, wait_s: float) -> int:
    """Undo a deploy or rollback: one that runs in another terminal, one that is parked, or whose process died.

    Users stay on, or return to, the release that was live before it. A deploy that has proved itself under traffic is
    past that: it is finished, and the exit status is 4; nself deploy rollback goes back. Nothing to abort is no error.
    """
    from nself_deploy.cli import recovering

    return recovering.abort(directory, as_json=as_json, wait_s=wait_s)


@click.command(short_help="Park a canary at its present share, for a while or until you decide.")
@click.option("--for", "for_", metavar="TIME", help="How long at most; 0 until somebody decides [0s].")
@click.option("--then", metavar="ACTION", help="What is done after that: abort, resume or promote [abort].")
@wait_option
@common
def pause(for_: str | None, then: str | None, wait_s: float, as_json: bool, directory: str) -> int:
    """Park a canary that runs in another terminal: it keeps its present share, and nobody watches it.

    What is known is kept: resume goes on from there, promote gives it the next share, abort takes it back. That
    terminal's command ends with status 7, but with --for it waits for the end of the pause, and does then what --then
    says; if it is not there any more, the next command that changes things does. Nothing is promoted without proof. A
    canary that is parked already is given that end from now on; with --then alone it keeps its end, and does that then.
    """
    from nself_deploy.cli import asking

    return asking.pause(directory, {"pause_expiry_s": for_, "pause_then": then}, as_json=as_json, wait_s=wait_s)


@click.command(short_help="Give a canary its next share, or all of the traffic, now.")
@click.option("--full", is_flag=True, help="All of the traffic, not only the next share.")
@click.option("--accept-inconclusive", "accept", is_flag=True, help="Also without proof; needs --reason.")
@click.option("--reason", default="", metavar="TEXT", help=REASON_HELP)
@wait_option
@common
def promote(full: bool, accept: bool, reason: str, wait_s: float, as_json: bool, directory: str) -> int:
    """Give a canary its next share now: one that runs in another terminal, or one that is parked.

    What is shown to be good enough for that share goes on at once, without the rest of its time. What is not is
    refused with status 4 and what is missing, unless --accept-inconclusive says that it is accepted and --reason why.
    While it bakes with all of the traffic, the bake ends.
    """
    from nself_deploy.cli import asking

    return asking.promote(directory, full=full, accept=accept, reason=reason, as_json=as_json, wait_s=wait_s)


@click.command(hidden=True)
@click.argument("seconds", type=float)
@common
def expire_standby(seconds: float, directory: str, **_: Any) -> int:
    """Wait, then remove a standby whose time is over; started in the background by a deploy."""
    from nself_deploy.cli import running

    return running.expire_standby(seconds, directory)
