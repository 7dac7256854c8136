"""The `deploy` group: `nself deploy [TARGET] [flags]` is a command of its own beside `nself deploy status` and others."""

from __future__ import annotations

import importlib
from typing import Any

import click

RUN = "run"
"""Hidden name of the command that `nself deploy` without a sub-command is."""


class DeployGroup(click.Group):
    """Commands are imported when they are called; a first word that is no command is the target of `run`."""

    lazy: dict[str, str] = {
        RUN: "nself_deploy.cli.release:run",
        "init": "nself_deploy.cli.setup:init",
        "plan": "nself_deploy.cli.release:plan",
        "status": "nself_deploy.cli.observe:status",
        "history": "nself_deploy.cli.observe:history",
        "rollback": "nself_deploy.cli.release:rollback",
        "expire-standby": "nself_deploy.cli.release:expire_standby",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names for the help text, in the order in which people need them."""
        return [name for name in self.lazy if name not in (RUN, "expire-standby")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        place = self.lazy.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move the sub-command to the front; without one it is `run`."""
        if args and args[0] in ("--help", "-h"):
            return super().parse_args(ctx, ["--help"])
        at = self._command_at(ctx, args)
        if at is None:
            return super().parse_args(ctx, [RUN, *args])
        return super().parse_args(ctx, [args[at], *args[:at], *args[at + 1 :]])

    def _command_at(self, ctx: click.Context, args: list[str]) -> int | None:
        run = self.get_command(ctx, RUN)
        assert run is not None
        takes_value = {name for p in run.params if isinstance(p, click.Option) and not p.is_flag for name in p.opts}
        skip = False
        for index, word in enumerate(args):
            if skip:
                skip = False
            elif word.startswith("-"):
                skip = word in takes_value
            else:
                return index if word in self.lazy else None
        return None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of a deploy, then the commands."""
        run = self.get_command(ctx, RUN)
        assert run is not None
        records: list[Any] = [p.get_help_record(ctx) for p in run.params if isinstance(p, click.Option)]
        with formatter.section("Options of a deploy"):
            formatter.write_dl([r for r in records if r is not None])
        self.format_commands(ctx, formatter)
