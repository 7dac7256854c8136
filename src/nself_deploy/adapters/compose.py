"""The `docker compose` command, as a subprocess."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nself_deploy.adapters.compose_words import (
    EVIDENCE_LINES,
    LOG_LINE,
    config_error,
    engine_error,
    names,
    plugin_error,
    up_error,
    warnings_of,
    words_of,
)
from nself_deploy.adapters.subprocesses import Finished, OutputTooLarge, run
from nself_deploy.core.model import LABEL_PROJECT
from nself_deploy.core.project import WARNINGS_KEY
from nself_deploy.errors import ConfigError, EngineError, ImageError

Progress = Callable[[str], None]

CONFIG_TIMEOUT_S = 60.0
CONFIG_MAX_BYTES = 32 << 20
BUILD_TIMEOUT_S = 3600.0
SHORT_TIMEOUT_S = 30.0

_STEP = re.compile(r"^#\d+ (\[[^\]]+\] (?!exporting|internal).*)")
_NO_PLUGIN = re.compile(r"is not a docker command|unknown command: docker compose|unknown (?:shorthand )?flag")
_PROJECT_LABEL = "com.docker.compose.project"


class DockerCompose:
    """The `Compose` port.

    Args:
        program: the docker command.
        env: the environment that it runs in; None for ours.
    """

    def __init__(self, program: str = "docker", env: Mapping[str, str] | None = None) -> None:
        self._program = program
        self._env = dict(os.environ if env is None else env)
        for name in ("COMPOSE_FILE", "COMPOSE_PATH_SEPARATOR", "COMPOSE_REMOVE_ORPHANS"):
            self._env.pop(name, None)  # files are named one by one; nothing is removed that isn't asked for
        # Attestations carry the time of the build: with them, an unchanged build gives another image every time.
        self._env |= {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1", "COMPOSE_ANSI": "never", "DOCKER_CLI_HINTS": "false"}

    async def version(self) -> str:
        """The version of the Compose plug-in.

        Raises:
            EngineError: there is no docker command, or no plug-in.
        """
        done = await self._docker(["compose", "version", "--short"], os.sep, SHORT_TIMEOUT_S, keep_bytes=1 << 16)
        if done.status:
            raise plugin_error(done)
        return done.out.decode(errors="replace").strip()

    async def resolve(self, root: str, files: Sequence[str]) -> dict[str, Any]:
        """The resolved model of exactly these files; Compose's warnings are in it under `x-nself-warnings`.

        Raises:
            ConfigError: with Compose's own words, and the file and line when it names them.
            EngineError: there is no docker command, or no Compose plug-in.
        """
        _check_root(root)
        argv = [*_compose(root, files), "config"]
        try:
            done = await self._docker(argv, root, CONFIG_TIMEOUT_S, keep_bytes=CONFIG_MAX_BYTES)
        except OutputTooLarge:
            raise ConfigError("The resolved Compose model is larger than 32 MiB.", where=names(root, files)) from None
        if done.status:
            await self._check_plugin(done)
            raise config_error(root, files, done)
        try:
            model = YAML(typ="safe", pure=True).load(done.out.decode())
        except (YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(
                f"What `docker compose config` printed can't be read: {error}.",
                "Nest less deeply, or update Docker Compose.",
                where=names(root, files),
            ) from error
        if not isinstance(model, dict):
            raise ConfigError(
                "`docker compose config` printed no project.", "Update Docker Compose.", where=names(root, files)
            )
        warnings = warnings_of(done)
        return model | ({WARNINGS_KEY: warnings} if warnings else {})

    async def build(
        self, root: str, files: Sequence[str], services: Sequence[str], progress: Progress | None = None
    ) -> None:
        """Build services; `progress` hears the steps.

        Raises:
            ImageError: with the end of the build's output.
            EngineError: no engine, no plug-in, or not finished within an hour.
        """
        _check_root(root)

        def on_line(line: str) -> None:
            step = _STEP.match(line)
            if step and progress is not None:
                progress(step[1])

        argv = [*_compose(root, files), "--progress", "plain", "build", *services]
        done = await self._docker(argv, root, BUILD_TIMEOUT_S, on_line=on_line)
        if done.status:
            await self._check_plugin(done)
            reason = (words_of(done) or ["no reason given"])[-1]
            raise ImageError(
                f"The build of {', '.join(services) or 'the project'} failed: {reason}.",
                "Correct the build and deploy again; nothing was changed.",
                evidence=tuple(line for line in done.lines if line.strip())[-EVIDENCE_LINES:],
            )

    async def up(
        self,
        project: str,
        files: Sequence[str],
        services: Sequence[str],
        *,
        root: str = "",
        deps: bool = False,
        recreate: bool = True,
        timeout_s: float = 120.0,
        progress: Progress | None = None,
    ) -> None:
        """`up -d` of these services (all when none is named) without building or pulling.

        Raises:
            EngineError: with Compose's own words.
        """
        options = [*([] if deps else ["--no-deps"]), *([] if recreate else ["--no-recreate"])]
        argv = [
            *_compose(root, files, project),
            "--progress",
            "plain",
            "up",
            "--detach",
            "--no-build",
            "--pull",
            "never",
        ]

        def on_line(line: str) -> None:
            if progress is not None and line.strip() and not LOG_LINE.match(line):
                progress(" ".join(line.split()))

        cwd = root or str(Path(files[0]).parent)
        _check_root(cwd)
        done = await self._docker([*argv, *options, *services], cwd, timeout_s, on_line=on_line)
        if done.status:
            await self._check_plugin(done)
            raise up_error(project, done)

    async def down(self, project: str, timeout_s: float = 120.0) -> None:
        """Remove the containers of a slot's project and the networks that Compose made for it.

        By labels, not by `docker compose down`: that needs a file, or fails once a dependency's container is gone.
        Containers without our label are left alone, volumes with a name and other networks too.

        Raises:
            EngineError: the engine can't be reached, or containers are still there when the time is over.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._remove_containers(project, timeout_s)
                networks = await self._ids(["network", "ls", "-q"], f"label={_PROJECT_LABEL}={project}")
                if networks:
                    await self._check(["network", "rm", *networks], timeout_s)
        except TimeoutError:
            left = ", ".join(await self._containers(project))
            raise EngineError(
                f"The containers of {project} could not be removed within {timeout_s:g} s: {left}.",
                "Look at them with `docker ps -a`.",
            ) from None

    async def _remove_containers(self, project: str, timeout_s: float) -> None:
        wait_s = 0.1
        while ids := await self._containers(project):
            # A container may go by itself meanwhile: what counts is that none is left.
            await self._docker(["stop", *ids], os.sep, timeout_s)
            await self._docker(["rm", "--force", "--volumes", *ids], os.sep, timeout_s)
            if not await self._containers(project):
                return
            await asyncio.sleep(wait_s)
            wait_s = min(2.0, wait_s * 2)

    async def _containers(self, project: str) -> list[str]:
        return await self._ids(
            ["ps", "--all", "--quiet"], f"label={_PROJECT_LABEL}={project}", f"label={LABEL_PROJECT}"
        )

    async def _ids(self, argv: Sequence[str], *filters: str) -> list[str]:
        options = [part for wanted in filters for part in ("--filter", wanted)]
        return list((await self._check([*argv, *options], SHORT_TIMEOUT_S)).lines)

    async def _check(self, argv: Sequence[str], timeout_s: float) -> Finished:
        done = await self._docker(argv, os.sep, timeout_s)
        if done.status:
            words = " ".join(words_of(done)) or f"status {done.status}"
            raise engine_error(done) or EngineError(f"docker {argv[0]} failed: {words}.", "Look at the engine's log.")
        return done

    async def _docker(
        self,
        argv: Sequence[str],
        cwd: str,
        timeout_s: float,
        *,
        keep_bytes: int = 0,
        on_line: Progress | None = None,
    ) -> Finished:
        try:
            return await run(
                [self._program, *argv],
                cwd=cwd,
                env=self._env,
                timeout_s=timeout_s,
                keep_bytes=keep_bytes,
                on_line=on_line,
            )
        except TimeoutError:
            words = " ".join(
                argument for argument in argv if argument in ("compose", "config", "build", "up", "stop", "rm")
            )
            raise EngineError(
                f"`docker {words or argv[0]}` did not finish within {timeout_s:g} s, and was stopped.",
                "Look at the engine's load and log, then run the same command again.",
            ) from None
        except FileNotFoundError:
            raise EngineError(
                f"There is no `{self._program}` command.",
                "Install Docker Engine with the Compose plug-in, or correct the PATH.",
            ) from None
        except OSError as error:
            raise EngineError(
                f"`{self._program}` can't be started: {error.strerror}.", "Check its permissions."
            ) from error

    async def _check_plugin(self, done: Finished) -> None:
        """Raise what a failure means when it isn't about the project: no plug-in, no engine."""
        if any(_NO_PLUGIN.search(line) for line in done.errors):
            await self.version()
        error = engine_error(done)
        if error:
            raise error


def _check_root(root: str) -> None:
    if not Path(root).is_dir():
        raise ConfigError("is not a directory.", "Name the directory of the Compose file.", where=root)


def _compose(root: str, files: Sequence[str], project: str = "") -> list[str]:
    """The arguments that make Compose see these files as plain Compose in `root` would.

    The project's directory is that of the first file; `.env` is read there and, with priority, in `root`.
    """
    directory = Path(files[0]).parent
    argv = ["compose", "--project-directory", str(directory)]
    for file in files:
        argv += ["--file", file]
    if project:
        argv += ["--project-name", project]
    if root and directory != Path(root):
        for env_file in (directory / ".env", Path(root) / ".env"):
            argv += ["--env-file", str(env_file)] if env_file.is_file() else []
    return argv
