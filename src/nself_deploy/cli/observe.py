"""Commands that only look: status, history."""

from __future__ import annotations

import sys

import click

from nself_deploy.cli.options import common


@click.command(short_help="Which release is live, where requests go, what is warm.")
@common
def status(as_json: bool, directory: str) -> int:
    """Which release is live, where requests go, what is warm, and what is under way.

    Nothing is changed, and the project's files need not be right: it is shown as it was deployed last. An engine that
    can't be asked is said; everything else is shown all the same.
    """
    import asyncio

    from nself_deploy.app import inspect
    from nself_deploy.cli.output import Lines, print_error, print_json
    from nself_deploy.cli.showing import show_status
    from nself_deploy.errors import Exit, StateFileError
    from nself_deploy.wiring.looking import open_to_look

    async def go() -> inspect.Status:
        async with open_to_look(directory) as world:
            return await inspect.status(world)

    found = asyncio.run(go())
    if as_json:
        print_json(found)
    else:
        show_status(found, Lines(sys.stdout))
    if found.problem:
        print_error(StateFileError(found.problem))
        return int(Exit.USAGE)
    return int(Exit.OK)


@click.command(short_help="Deploys and rollbacks, newest first.")
@click.option("--limit", default=20, metavar="N", type=click.IntRange(1, 1000), help="How many [20].")
@click.option("--releases", is_flag=True, help="The releases that are kept, in place of what was done with them.")
@common
def history(limit: int, releases: bool, as_json: bool, directory: str) -> int:
    """Deploys and rollbacks, newest first: when, what, how it ended, and which release it was about.

    With --releases: what can be gone back to (rollback --to), who made it and where, of which commit and images.
    """
    from nself_deploy import wiring
    from nself_deploy.app import inspect, release_list
    from nself_deploy.cli.output import Lines, print_json
    from nself_deploy.cli.showing import show_history, show_releases

    store, lines = wiring.open_store(directory), Lines(sys.stdout)
    if releases:
        kept = release_list.release_list(store, limit)
        print_json(kept) if as_json else show_releases(kept, lines)
        return 0
    found = inspect.history(store, limit)
    print_json(found) if as_json else show_history(found, lines)
    return 0
