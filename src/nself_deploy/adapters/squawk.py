"""squawk, the linter of PostgreSQL migrations, as a program. It sees texts by names of ours, and no configuration."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from nself_deploy.adapters.subprocesses import Finished, OutputTooLarge, run
from nself_deploy.core.migration_reading import Remark
from nself_deploy.errors import InfrastructureError

TIMEOUT_S = 60.0
MAX_OUTPUT = 64 << 20
_INSTALL = "Install it: pip install 'nself-deploy[migrations]'."


class _Line(msgspec.Struct, frozen=True):
    """One of the program's remarks."""

    file: str
    rule_name: str
    line: int
    column: int


class Squawk:
    """Asks the program; `program` is where it is, found beside this Python or on the PATH when it is empty."""

    def __init__(self, program: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self._program = program
        self._timeout_s = timeout_s

    async def check(self, texts: Sequence[str]) -> list[list[Remark]]:
        """The remarks about each text.

        Raises:
            InfrastructureError: there is no such program, it took too long, or what it says is not understood.
        """
        if not texts:
            return []
        try:
            with tempfile.TemporaryDirectory(prefix="nself-migrations-") as directory:
                names = _write(Path(directory), texts)
                done = await self._ask(directory, names)
        except OSError as error:
            raise InfrastructureError(
                f"squawk can't be run: {error}.", "Look at the disk and at the program."
            ) from error
        return _sorted(_decoded(done), names)

    async def _ask(self, directory: str, names: Sequence[str]) -> Finished:
        argv = [self._program or _found(), "--config", "squawk.toml", "--reporter", "json", *names]
        try:
            return await run(
                argv, cwd=directory, env={"HOME": directory}, timeout_s=self._timeout_s, keep_bytes=MAX_OUTPUT
            )
        except TimeoutError:
            what = f"squawk did not finish within {self._timeout_s:g} s, and was stopped."
            raise InfrastructureError(what, "Look at the load of this machine, then try again.") from None
        except OutputTooLarge:
            what = f"squawk printed more than {MAX_OUTPUT >> 20} MiB."
            raise InfrastructureError(what, "Let x-nself-deploy.migrations match fewer files.") from None
        except FileNotFoundError:
            raise InfrastructureError(f"There is no program {argv[0]}.", _INSTALL) from None


def _found() -> str:
    beside = Path(sys.executable).with_name("squawk")
    program = str(beside) if os.access(beside, os.X_OK) else shutil.which("squawk")
    if not program:
        what = "Migrations are read with the program squawk, which is not here."
        raise InfrastructureError(what, _INSTALL)
    return program


def _write(directory: Path, texts: Sequence[str]) -> list[str]:
    """A file for each text, and an empty configuration, so that nobody else's is looked for."""
    (directory / "squawk.toml").write_bytes(b"")
    names = [f"{number}.sql" for number in range(len(texts))]
    for name, text in zip(names, texts, strict=True):
        (directory / name).write_bytes(text.encode())
    return names


def _decoded(done: Finished) -> list[_Line]:
    try:
        return msgspec.json.decode(done.out, type=list[_Line])
    except msgspec.MsgspecError:
        words = " ".join(done.errors[-3:]) or f"status {done.status}"
        what = f"squawk did not say what is in the migrations: {words}."
        raise InfrastructureError(what, "Install the version that nself-deploy[migrations] asks for.") from None


def _sorted(found: Sequence[_Line], names: Sequence[str]) -> list[list[Remark]]:
    remarks: dict[str, list[Remark]] = {name: [] for name in names}
    for line in found:
        remarks[line.file].append(Remark(line.rule_name, line.line, line.column))
    return [remarks[name] for name in names]
