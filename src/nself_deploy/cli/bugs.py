"""An exception that nobody expected: a bug of ours, told in one line; the traceback is kept for the user alone."""

from __future__ import annotations

import os
import sys
import traceback

from nself_deploy.cli.output import emit
from nself_deploy.errors import Bug, NselfError

SHOW = "NSELF_DEPLOY_TRACEBACK"
"""Set to 1 to have tracebacks on stderr."""


def bug_error(error: Exception, args: list[str]) -> NselfError:
    """The error to show. Its words leave out the exception's own, which may hold anything."""
    text = "".join(traceback.format_exception(error))
    kept = ""
    if os.environ.get(SHOW):
        emit(sys.stderr, text)
        remedy = "Please report it with the traceback above."
    else:
        kept = _keep(text, args)
        remedy = f"Please report it with {kept}." if kept else f"Set {SHOW}=1, run it again, and report what it shows."
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}nself_deploy{os.sep}" in frame.filename]
    last = (own or frames)[-1]
    place = f"{os.path.basename(last.filename)}, line {last.lineno}"
    again = "A deploy that was under way is put right by the next command."
    return Bug(f"This is a bug in nself-deploy: {type(error).__name__} in {place}.", f"{remedy} {again}")


def _keep(text: str, args: list[str]) -> str:
    """Where the traceback was written, empty when there is no place for it."""
    from nself_deploy import wiring

    at = args.index("-C") + 1 if "-C" in args else len(args)
    return wiring.keep_traceback(args[at] if at < len(args) else ".", text)
