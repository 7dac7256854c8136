"""The generator process behind `LoadProcess`: JSON lines in, JSON lines out, one answer per line."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import sys
from typing import Any

from tests.load.client import Load
from tests.load.mix import LoadMix, Target


def say(message: dict[str, Any]) -> None:
    """One answer to the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def serve() -> None:
    """The first line is the mix and the target; then commands until the end of the input, which gives the load up."""
    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    first = json.loads(await reader.readline())
    async with Load(LoadMix.from_dict(first["mix"]), Target(**first["target"])) as load:
        say({"started": load.books.started_at})
        while line := await reader.readline():
            message = json.loads(line)
            match message["do"]:
                case "mark":
                    say({"mark": load.mark(message["name"], message["at"])})
                case "snapshot":
                    say({"snapshot": dataclasses.asdict(load.snapshot())})
                case "stop":
                    report = await load.stop()
                    say({"report": report.to_json()})


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: it closes our input
    asyncio.run(serve())
