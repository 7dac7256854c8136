"""The programs `nself` and `nself-deploy`: words in, words and an exit status out."""

from __future__ import annotations

import io
import os
import sys
from pathlib import PurePath

import click

from nself_deploy import __version__
from nself_deploy.cli.group import DeployGroup
from nself_deploy.cli.key_input import VARIABLE
from nself_deploy.errors import Exit, InfrastructureError, Interrupted, NselfError, UsageError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


DEPLOY_HELP = """Bring the present version of a Compose project live, and users notice nothing.

TARGET is local (the default), staging or prod; it names what this machine's Docker runs, and prod asks first.
TIME is written like 500ms, 90s, 5m or 1h.

\b
First time:       nself deploy init        show and apply the change to your nginx files
                  nself deploy plan        what would be done, and why
Every time:       nself deploy             build, start beside the old version, prove, move traffic
Something wrong:  nself deploy rollback    back to the previous version; at once while it is warm

\b
Exit status: 0 done; 1 wrong use or bad configuration; 2 no Docker, no image, no router; 3 not authorised;
4 refused by a gate (prod without yes); 5 the deploy failed, users are on the previous release;
6 another deploy runs; 7 waits for a person; 130 interrupted, and undone.
"""


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="nself-deploy")
def nself() -> None:
    """Zero-downtime deploys for Docker Compose stacks behind nginx."""


@nself.group(
    cls=DeployGroup,
    context_settings=CONTEXT,
    options_metavar="[TARGET]",
    subcommand_metavar="[OPTIONS] | COMMAND [OPTIONS]",
    help=DEPLOY_HELP,
    short_help="Bring a new version live, look at what is live, go back.",
)
def deploy() -> None:
    """Bring the present version of a Compose project live."""


def run() -> None:
    """Entry point of both programs; never shows a traceback for a mistake of the user's."""
    args = sys.argv[1:]
    if PurePath(sys.argv[0]).name.startswith("nself-deploy") and args[:1] not in (["deploy"], ["--version"]):
        args = ["deploy", *args]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no text in this locale
    sys.exit(main(args))


def main(args: list[str]) -> int:
    """Run one command; its exit status. Whatever goes wrong ends in one message, with `--json` also in one document."""
    from nself_deploy.cli.output import Subject, error_document, lost_output, print_error, print_json

    subject = Subject(key=os.environ.pop(VARIABLE, ""))  # before any command: what is started doesn't inherit it
    try:
        status = nself.main(args=args, prog_name="nself", standalone_mode=False, obj=subject)
        reason = lost_output()
        if not reason:
            return status if isinstance(status, int) else int(Exit.OK)
        error: NselfError = InfrastructureError(f"The output could not be written: {reason}.", "Free some space there.")
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        if sys.stderr.isatty():
            sys.stderr.write("\n")  # behind the question
        error = Interrupted("Interrupted; nothing was changed.")
    except click.ClickException as wrong:
        error = _usage_error(wrong)
    except NselfError as known:
        error = known
    except Exception as bug:  # noqa: BLE001 - whatever it is, the user gets one message; the traceback is kept
        from nself_deploy.cli.bugs import bug_error

        error = bug_error(bug, args)
    print_error(error)
    if "--json" in args and not lost_output():
        print_json(error_document(error, subject.target, subject.strategy))
    return int(error.exit_status)


def _usage_error(wrong: click.ClickException) -> UsageError:
    """What click says about a wrong word, as our own error."""
    context = getattr(wrong, "ctx", None)
    path = context.command_path if context else "nself deploy"
    return UsageError(" ".join(wrong.format_message().split()), f"See {path} --help.")


if __name__ == "__main__":
    run()
