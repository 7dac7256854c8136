"""Where a command gets its deploy key from: `--key`, stdin, a file, or the environment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from nself_deploy.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

VARIABLE = "NSELF_DEPLOY_KEY"
STDIN = "-"
WARNING = f"warning: everybody on this machine can see --key in the process list; use {VARIABLE} or --key -."

_READ_LIMIT = 4096


def key_options(command: F) -> F:
    """`--key` and `--key-file`."""
    text = "Read the deploy key from this file, which only its owner may read."
    command = click.option("--key-file", "key_file", metavar="FILE", help=text)(command)
    text = f"The deploy key; - reads it from stdin. Without it, {VARIABLE} is used, which others can't see."
    return click.option("--key", "key", metavar="KEY", help=text)(command)


def read_key(key: str | None, key_file: str | None) -> str:
    """The deploy key that was given; empty when there is none. Programs that we start don't inherit it.

    Args:
        key: the value of `--key`.
        key_file: the value of `--key-file`.

    Raises:
        UsageError: both were given, or nothing is on stdin.
        ConfigError: the file can't be used.
    """
    from nself_deploy.cli.output import emit, subject

    if key is not None and key_file is not None:
        raise UsageError("--key and --key-file are both there.", "Give one of them.", where="--key-file")
    if key_file is not None:
        from nself_deploy.wiring.guards import read_key_file

        return read_key_file(key_file)
    if key == STDIN:
        return _from_stdin()
    if key is not None:
        emit(sys.stderr, f"{WARNING}\n")
        return key.strip()
    return subject().key.strip()


def _from_stdin() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Deploy key", hide_input=True, err=True)).strip()
    line = sys.stdin.readline(_READ_LIMIT).strip()
    if not line:
        raise UsageError("There is no key on stdin.", "Write it there, followed by a line break.", where="--key -")
    return line
