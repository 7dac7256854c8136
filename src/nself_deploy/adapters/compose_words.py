"""What the words of `docker compose` mean: its failures as our errors, with place and remedy."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nself_deploy.adapters.subprocesses import Finished
from nself_deploy.errors import ConfigError, EngineError

EVIDENCE_LINES = 20

_WARNING = re.compile(r'level=warning msg=("(?:[^"\\]|\\.)*")')
LOG_LINE = re.compile(r'^time="[^"]*" level=(?:warning|info|debug) ')
_NO_ENGINE = re.compile(
    r"Cannot connect to the Docker daemon|error during connect|unable to resolve docker endpoint"
    r"|permission denied while trying to"
)
_PORT = re.compile(r"(?:listen (?:tcp|udp)\d? |Bind for )(\S+?)(?:: bind| failed)")
_NOISE = "the attribute `version` is obsolete"
"""Compose says that at every command anyway."""


def warnings_of(done: Finished) -> list[str]:
    """Compose's warnings, each once, but for what it says at every command anyway."""
    found = (str(json.loads(match[1])) for match in map(_WARNING.search, done.errors) if match)
    return [text for text in dict.fromkeys(found) if _NOISE not in text]


def words_of(done: Finished) -> list[str]:
    """What Compose says about a failure: stderr without warnings and progress."""
    return [
        line.strip()
        for line in done.errors
        if line.strip() and not LOG_LINE.match(line) and not re.match(r"^ (?:Container|Network|Volume|Image) ", line)
    ]


def config_error(root: str, files: Sequence[str], done: Finished) -> ConfigError:
    """Why the files are no project, in Compose's words, with the place."""
    text = " ".join(words_of(done)) or f"status {done.status}"
    where = names(root, files)
    named = next((file for file in files if file in text), "")
    line = re.search(r"^yaml: (?:unmarshal errors: )?line (\d+): ", text)
    if not named and text.startswith("yaml:"):
        named = _broken(files)
    if unread := re.match(r"failed to read (\S+): ", text):
        named, text = unread[1], text[unread.end() :]
    if named:
        text = re.sub(rf"^(?:validating |parsing )?{re.escape(named)}: ", "", text)
        where = names(root, [named]) + (f":{line[1]}" if line else "")
    if line and named:
        text = f"invalid YAML: {text[line.end() :]}"
    if "project name" in text:
        return ConfigError(
            f"Compose refuses the project's name: {text}.",
            "Set `name:` in the Compose file, or COMPOSE_PROJECT_NAME.",
            where=where,
        )
    return ConfigError(
        f"Compose refuses it: {text}.", "Correct it; `docker compose config` says the same.", where=where
    )


def _broken(files: Sequence[str]) -> str:
    """Which of several files isn't YAML, when Compose doesn't say."""
    for file in files:
        try:
            YAML(typ="rt").load(Path(file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, YAMLError):
            return file
    return files[0] if len(files) == 1 else ""


def names(root: str, files: Sequence[str]) -> str:
    """Files as people call them: relative to the project."""
    found = (os.path.relpath(file, root) for file in files)
    return ", ".join(file if name.startswith("..") else name for file, name in zip(files, found, strict=True))


def engine_error(done: Finished) -> EngineError | None:
    """The error for an engine that can't be reached; None when it is about something else."""
    words = next((line.strip() for line in done.errors if _NO_ENGINE.search(line)), "")
    if not words:
        return None
    return EngineError(
        f"The container engine can't be reached: {words}",
        "Start Docker, or check DOCKER_HOST, the docker context and your permissions.",
    )


def plugin_error(done: Finished) -> EngineError:
    """The error for a docker command without `compose`."""
    return engine_error(done) or EngineError(
        "Docker has no Compose plug-in (`docker compose version` fails).",
        "Install the Compose v2 plug-in.",
        evidence=done.errors[:1],
    )


def up_error(project: str, done: Finished) -> EngineError:
    """Why containers could not be started, with what to do."""
    words = words_of(done)
    text = " ".join(words) or f"status {done.status}"
    remedy = "Correct what it says, then run the same command again."
    if "port is already allocated" in text or "address already in use" in text:
        port = _PORT.search(text)
        remedy = f"Stop what holds {port[1] if port else 'that port'}, or publish another one (`ports` of the service)."
    elif "No such image" in text or "no such image" in text:
        remedy = "Build or pull that image."
    return EngineError(
        f"Compose could not start {project}: {text}",
        remedy,
        evidence=tuple(line for line in done.lines if line.strip())[-EVIDENCE_LINES:],
    )
