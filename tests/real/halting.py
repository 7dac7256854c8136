"""`nself deploy …` that halts itself (SIGSTOP) whenever it has printed the next of some lines: `… halting LINES WORDS`.

LINES is a JSON list of how those lines begin. Who waits for one of them can do something at just this moment, however
slow the machine is, and lets it go on with SIGCONT.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import TextIO

from nself_deploy.cli import output
from nself_deploy.cli.main import run


def halt_after(lines: Sequence[str]) -> None:
    """Change this process, and nothing else, into one that halts after each of these."""
    left, emit = list(lines), output.emit

    def wrapped(stream: TextIO, text: str) -> None:
        emit(stream, text)
        if left and text.startswith(left[0]):
            del left[0]
            os.kill(os.getpid(), signal.SIGSTOP)

    output.emit = wrapped


if __name__ == "__main__":
    halt_after(json.loads(sys.argv[1]))
    sys.argv[1:2] = ["deploy"]
    run()
