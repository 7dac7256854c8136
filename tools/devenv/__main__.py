"""`python3 tools/devenv COMMAND`: the engine, the images and the other real parts that the tests and the demo need."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence

import images
import users
from engine import PrivateEngine, machine_has_engine, status
from parts import part_program
from places import DevenvError, cache_dir, locked, run_dir

USAGE = """\
tools/engine env | start | stop | status | images | remove    the Docker Engine to work with
tools/with-engine COMMAND [WORD ...]                           run a command with an engine and the images
tools/part NAME                                                print the path of a program from Debian
"""


def engine_command(words: Sequence[str]) -> int:
    """`tools/engine`: returns the exit status."""
    if words == ["env"]:
        print(users.exports(users.engine_environ()))
    elif words == ["start"]:
        users.start_to_stay()
    elif words in (["stop"], ["remove"]):
        with locked(run_dir() / "start.lock"):
            PrivateEngine().stop()
        if words == ["remove"]:
            shutil.rmtree(run_dir())
            shutil.rmtree(cache_dir())
    elif words == ["status"]:
        print(status())
    elif words == ["images"]:
        if not machine_has_engine() and not PrivateEngine().running():
            raise DevenvError("no engine runs: tools/engine start")
        images.provide(users.engine_environ())
    else:
        return usage()
    return 0


def part_command(words: Sequence[str]) -> int:
    """`tools/part`: returns the exit status."""
    if len(words) != 1:
        return usage()
    print(part_program(words[0]))
    return 0


def with_engine_command(words: Sequence[str]) -> int:
    """`tools/with-engine`: returns the command's exit status."""
    return users.run_with_engine(words) if words else usage()


def usage() -> int:
    """Show how the tools are called."""
    print(USAGE, end="", file=sys.stderr)
    return 2


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "engine": engine_command,
    "part": part_command,
    "with-engine": with_engine_command,
}


def main(words: Sequence[str]) -> int:
    """Run one command; a person's mistake or a machine's fault is one message, not a traceback."""
    if not words or words[0] not in COMMANDS:
        return usage()
    try:
        return COMMANDS[words[0]](list(words[1:]))
    except DevenvError as error:
        print(f"devenv: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
