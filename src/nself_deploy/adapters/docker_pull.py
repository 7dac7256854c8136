"""Pulling images with the docker command: it knows the user's registries, credentials and credential helpers."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import deque
from collections.abc import Callable

from nself_deploy.errors import EngineError, ImageError

FIRST_ANSWER_S = 15.0
"""How long a registry may take until it says the first word about an image."""


async def docker_pull(
    ref: str,
    host: str,
    *,
    progress: Callable[[str], None] | None = None,
    timeout_s: float = 600.0,
) -> None:
    """Pull `ref` to the engine at `host` (as in DOCKER_HOST).

    Raises:
        ImageError: no registry answered in time, or it doesn't have the image.
        EngineError: there is no docker command.
    """
    program = shutil.which("docker")
    if program is None:
        raise EngineError("there is no `docker` command on PATH.", "Install the Docker command line.")
    process = await asyncio.create_subprocess_exec(
        program,
        "pull",
        "--",
        ref,
        env={**os.environ, "DOCKER_HOST": host},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = process.stdout or asyncio.StreamReader()
    said: deque[str] = deque(maxlen=20)
    limit = FIRST_ANSWER_S
    try:
        async with asyncio.timeout(timeout_s):
            while line := await asyncio.wait_for(output.readline(), limit):
                limit = timeout_s
                said.append(line.decode(errors="replace").strip())
                if progress is not None:
                    progress(said[-1])
            status = await process.wait()
    except TimeoutError as error:
        waited = timeout_s if said else FIRST_ANSWER_S
        raise ImageError(
            f"image {ref!r} could not be pulled: no registry {'sent it' if said else 'answered'} within {waited:g} s.",
            "Check the network, or load the image into the engine yourself.",
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status:
        reason = said[-1] if said else f"docker pull ended with status {status}"
        reason = reason.removeprefix("Error response from daemon: ")
        raise ImageError(
            f"image {ref!r} could not be pulled: {reason.rstrip('.')}.",
            "Check its name and tag, and `docker login` if its registry asks for a password.",
            evidence=tuple(said),
        )
