"""The programs `nself` and `nself-deploy`: words in, words and an exit status out."""

from __future__ import annotations

import os
import sys
from pathlib import PurePath

import click

from nself_deploy import __version__
from nself_deploy.cli.group import DeployGroup
from nself_deploy.errors import Exit, NselfError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="nself-deploy")
def nself() -> None:
    """Zero-downtime deploys for Docker Compose stacks behind nginx."""


@nself.group(cls=DeployGroup, context_settings=CONTEXT, subcommand_metavar="[TARGET] [OPTIONS] | COMMAND [OPTIONS]")
def deploy() -> None:
    """Bring the present version of a Compose project live, and users notice nothing.

    TARGET is local (the default), staging or prod.

    \b
    First time:       nself deploy init        show and apply the change to your nginx files
                      nself deploy plan        what would be done, and why
    Every time:       nself deploy             build, start beside the old version, prove, move traffic
    Something wrong:  nself deploy rollback    back to the previous version; at once while it is warm
    """


def run() -> None:
    """Entry point of both programs; never shows a traceback for a mistake of the user's."""
    args = sys.argv[1:]
    if PurePath(sys.argv[0]).name.startswith("nself-deploy") and args[:1] not in (["deploy"], ["--version"]):
        args = ["deploy", *args]
    sys.exit(main(args))


def main(args: list[str]) -> int:
    """Run one command; its exit status."""
    from nself_deploy.cli.output import print_error

    try:
        status = nself.main(args=args, prog_name="nself", standalone_mode=False)
        return int(status) if isinstance(status, int) else int(Exit.OK)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return int(Exit.INTERRUPTED)
    except click.ClickException as error:
        error.show()
        return int(Exit.USAGE)
    except NselfError as error:
        print_error(error)
        return int(error.exit_status)
    except BrokenPipeError:
        # The reader of our output went away; what was done is in the journal.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)


if __name__ == "__main__":
    run()
