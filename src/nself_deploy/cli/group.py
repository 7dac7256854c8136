"""The `deploy` group: `nself deploy [TARGET] [flags]` is a command of its own beside `nself deploy status` and others.

Commands are imported when they are called, and options are written down apart from what they lead to, so that help and
mistakes are answered at once.
"""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import click

from nself_deploy.cli.options import value_options

RUN = "run"
"""Hidden name of the command that `nself deploy` without a sub-command is."""


def first_word(args: list[str]) -> int | None:
    """Where the first word stands that is no option and no option's value."""
    takes_value = value_options()
    skip = False
    for index, word in enumerate(args):
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in takes_value
        else:
            return index
    return None


class PartsGroup(click.Group):
    """A command with commands of its own. Options may stand before their names, as everywhere."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move the command to the front."""
        at = first_word(args)
        if at is not None:
            return super().parse_args(ctx, [args[at], *args[:at], *args[at + 1 :]])
        return super().parse_args(ctx, ["--help"] if set(args) & set(ctx.help_option_names) else [])


class DeployContext(click.Context):
    """The context of the hidden command: it is called `nself deploy`, as people call it."""

    @property
    def command_path(self) -> str:
        """Words to call it by."""
        assert self.parent is not None
        return self.parent.command_path


class DeployCommand(click.Command):
    """The hidden command."""

    context_class = DeployContext


class DeployGroup(click.Group):
    """Commands are imported when they are called; a first word that is no command is the target of `run`."""

    lazy: ClassVar[dict[str, str]] = {
        RUN: "nself_deploy.cli.release:run",
        "init": "nself_deploy.cli.setup:init",
        "plan": "nself_deploy.cli.release:plan",
        "status": "nself_deploy.cli.observe:status",
        "history": "nself_deploy.cli.observe:history",
        "audit": "nself_deploy.cli.audit:audit",
        "replay": "nself_deploy.cli.replaying:replay",
        "rollback": "nself_deploy.cli.release:rollback",
        "promote": "nself_deploy.cli.release:promote",
        "pause": "nself_deploy.cli.release:pause",
        "resume": "nself_deploy.cli.release:resume",
        "abort": "nself_deploy.cli.release:abort",
        "doctor": "nself_deploy.cli.doctor:doctor",
        "watch": "nself_deploy.cli.watching:watch",
        "keys": "nself_deploy.cli.keys:keys",
        "breaker": "nself_deploy.cli.breaker:breaker",
        "serve": "nself_deploy.cli.serving:serve",
        "expire-standby": "nself_deploy.cli.release:expire_standby",
        "deliver-audit": "nself_deploy.cli.audit_delivery:deliver_audit",
    }

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Names for the help text, in the order in which people need them."""
        return [name for name in self.lazy if name not in (RUN, "expire-standby", "deliver-audit")]

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
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
        at = self._command_at(args)
        if at is not None:
            return super().parse_args(ctx, [args[at], *args[:at], *args[at + 1 :]])
        if any(word in ctx.help_option_names for word in args):
            return super().parse_args(ctx, ["--help"])
        return super().parse_args(ctx, [RUN, *args])

    def _command_at(self, args: list[str]) -> int | None:
        """Where the name of a sub-command stands."""
        at = first_word(args)
        return at if at is not None and args[at] in self.lazy else None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of a deploy, then the commands."""
        run = self.get_command(ctx, RUN)
        assert run is not None
        records: list[Any] = [p.get_help_record(ctx) for p in run.get_params(ctx) if isinstance(p, click.Option)]
        with formatter.section("Options of a deploy"):
            formatter.write_dl([r for r in records if r is not None])
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with its own short sentence, never cut."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, c.short_help or "") for name, c in commands if c is not None])
