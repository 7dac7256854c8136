"""Commands that change things: deploy (and its plan), rollback, and the end of a standby.

Only their words; the work is in `running`, imported when a command is called.
"""

from __future__ import annotations

from typing import Any

import click

from nself_deploy.cli.group import DeployCommand
from nself_deploy.cli.options import common, deploy_options, flags_of


@click.command(cls=DeployCommand, hidden=True)
@click.argument("target", required=False)
@deploy_options
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing (the same as plan).")
@click.option("-y", "--yes", "--force", "yes", is_flag=True, help="Don't ask, also not for prod.")
@common
def run(target: str | None, dry_run: bool, yes: bool, as_json: bool, directory: str, **options: Any) -> int:
    """Bring the present version of the project live."""
    from nself_deploy.cli import running

    flags = {**flags_of(options), "target": target}
    if dry_run:
        return running.plan(flags, directory, as_json=as_json)
    return running.deploy(flags, directory, as_json=as_json, yes=yes)


@click.command(short_help="Show what a deploy would do, and why.")
@click.argument("target", required=False)
@deploy_options
@common
def plan(target: str | None, as_json: bool, directory: str, **options: Any) -> int:
    """Show what a deploy would do, and why. Nothing is built, pulled, started or written.

    It lists every service with the role that was inferred for it and the reason, every setting with the place it comes
    from, and the steps in their order. The signs: + is created, - is removed, ~ is changed, = is kept.
    """
    from nself_deploy.cli import running

    return running.plan({**flags_of(options), "target": target}, directory, as_json=as_json)


@click.command(short_help="Go back to the previous release; at once while it is warm.")
@click.argument("target", required=False)
@click.option("--to", default="", metavar="RELEASE", help="An older release than the previous one (see history).")
@click.option("-y", "--yes", "--force", "yes", is_flag=True, help="Don't ask, also not for prod.")
@deploy_options
@common
def rollback(target: str | None, to: str, yes: bool, as_json: bool, directory: str, **options: Any) -> int:
    """Go back to the previous release.

    While its slot is warm (see --standby) that is one rename, and takes about a second. Later the release is started
    again from its record, with the very images it had, and proved like a deploy. Databases are not touched: what a
    migration changed stays changed.
    """
    from nself_deploy.cli import running

    flags = {**flags_of(options), "target": target}
    return running.rollback(flags, directory, as_json=as_json, yes=yes, to=to)


@click.command(hidden=True)
@click.argument("seconds", type=float)
@common
def expire_standby(seconds: float, directory: str, **_: Any) -> int:
    """Wait, then remove a standby whose time is over; started in the background by a deploy."""
    from nself_deploy.cli import running

    return running.expire_standby(seconds, directory)
