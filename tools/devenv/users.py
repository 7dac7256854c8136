"""Who uses the private engine: the last one that leaves stops it, unless it was started to stay."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Sequence
from types import FrameType

import images
from engine import PrivateEngine, machine_has_engine
from places import locked, run_dir


def engine_environ() -> dict[str, str]:
    """The variables to set for a docker client: none where the machine's own engine is used."""
    return {} if machine_has_engine() else PrivateEngine().environ()


def start_to_stay() -> None:
    """Make sure of an engine and of the images, and let the engine run until it is stopped by hand."""
    if not machine_has_engine():
        engine = PrivateEngine()
        with locked(run_dir() / "start.lock"):
            engine.start()
            engine.keep = True
    images.provide(engine_environ())


def exports(variables: dict[str, str]) -> str:
    """The variables as shell code for `eval`; PATH gets the engine's programs in front."""
    own = [f"export {name}={shlex.quote(value)}" for name, value in variables.items() if name != "PATH"]
    if "PATH" in variables:
        own.append(f'export PATH={shlex.quote(variables["PATH"].split(":")[0])}:"$PATH"')
    return "\n".join(own)


@contextlib.contextmanager
def using_engine() -> Iterator[dict[str, str]]:
    """Give the variables of a running engine; stop it afterwards if it was started for this and nobody else uses it."""
    if machine_has_engine():
        yield {}
        return
    engine = PrivateEngine()
    start = run_dir() / "start.lock"
    with (run_dir() / "users.lock").open("a") as users:
        with locked(start):
            fcntl.flock(users, fcntl.LOCK_SH)
            engine.start()
        try:
            yield engine.environ()
        finally:
            with locked(start):
                fcntl.flock(users, fcntl.LOCK_UN)
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not engine.keep:
                        engine.stop()


class _Stopped(Exception):
    """A signal asked this program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_with_engine(argv: Sequence[str]) -> int:
    """Run a command with an engine and the images; return its exit status (128 + signal if a signal ended it)."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise _Stopped(number)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        signal.signal(number, stop)
    try:
        with using_engine() as variables:
            images.provide(variables)
            try:
                return _wait(argv, {**os.environ, **variables})
            finally:
                for number in signals:  # the cleaning up must not be cut short
                    signal.signal(number, signal.SIG_IGN)
    except _Stopped as stopped:
        return 128 + stopped.number


def _wait(argv: Sequence[str], environ: dict[str, str]) -> int:
    """Run the command; pass on the signals that end it, and wait for its own end."""
    child = subprocess.Popen(argv, env=environ)
    while True:
        try:
            status = child.wait()
            return status if status >= 0 else 128 - status
        except _Stopped as stopped:
            if stopped.number != signal.SIGINT:  # the terminal sends that one to the command as well
                child.send_signal(stopped.number)
