"""Commands that only look: status, history."""

from __future__ import annotations

import asyncio
import sys

import click

from nself_deploy.app import inspect
from nself_deploy.cli.options import common
from nself_deploy.cli.output import Lines, print_error, print_json
from nself_deploy.errors import Exit, StateFileError


@click.command()
@common
def status(as_json: bool, directory: str) -> int:
    """Which release is live, where requests go, what is warm, and what is under way."""
    from nself_deploy import wiring

    async def go() -> inspect.Status:
        async with wiring.open_world(directory, {}, write=False) as opened:
            return await inspect.status(opened.world)

    found = asyncio.run(go())
    if as_json:
        print_json(found)
    else:
        _show(found, Lines(sys.stdout))
    if found.problem:
        print_error(StateFileError(found.problem))
        return int(Exit.USAGE)
    return int(Exit.OK)


def _show(found: inspect.Status, lines: Lines) -> None:
    lines.note(f"{found.project}: router {found.router}, split {found.split}")
    for slot in found.slots:
        until = f", until {slot.until}" if slot.until else ""
        containers = f"{slot.healthy} of {slot.containers} containers healthy" if slot.containers else "no containers"
        lines.note(f"  {slot.slot:<5}  {slot.percent:>3} %  {slot.role:<9}  {slot.release or '-'}  {containers}{until}")
    if found.engine != "ok":
        lines.note(f"  engine: {found.engine}")
    if found.last is not None:
        lines.note(f"last: {_line(found.last)}")
    if found.under_way is not None:
        lines.note(
            f"interrupted: {found.under_way.kind} {found.under_way.id} at step {found.under_way.step!r}; the next deploy puts it right"
        )
    if found.holder:
        lines.note(f"under way: {found.holder}")


@click.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many.")
@common
def history(limit: int, as_json: bool, directory: str) -> int:
    """Deploys and rollbacks, newest first."""
    from nself_deploy import wiring

    found = inspect.history(wiring.open_store(directory), limit)
    if as_json:
        print_json(found)
        return int(Exit.OK)
    lines = Lines(sys.stdout)
    for run in found:
        lines.note(_line(run))
    if not found:
        lines.note("Nothing was deployed yet.")
    return int(Exit.OK)


def _line(run: inspect.RunStatus) -> str:
    error = f"  {run.error}" if run.error else ""
    return f"{run.started_at}  {run.kind:<8}  {run.outcome:<11}  {run.release}{error}"
