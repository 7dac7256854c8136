"""Reading a project's files as Compose does, and its settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nself_deploy.adapters.compose import DockerCompose
from nself_deploy.adapters.project_files import ProjectFiles, find_project_files
from nself_deploy.adapters.yaml_positions import Positions
from nself_deploy.core.extension import Extension
from nself_deploy.core.extension_reader import read_extension
from nself_deploy.core.key_places import Locate
from nself_deploy.core.settings import Settings, resolve_settings


@dataclass
class Read:
    """A project as its files say it."""

    found: ProjectFiles
    model: dict[str, Any]
    extension: Extension
    settings: Settings
    locate: Locate


async def read(directory: str, flags: Mapping[str, object]) -> Read:
    """Read a project's files as Compose does.

    Raises:
        ConfigError: something in them is wrong.
        UsageError: a flag or variable is wrong.
    """
    resolve_settings(flags, os.environ)
    found = find_project_files(directory, os.environ)
    model = await DockerCompose().resolve(found.root, found.files)
    locate = Positions(found.root, found.files)
    extension = read_extension(model, locate)
    source = locate.name(found.files[0])
    return Read(found, model, extension, resolve_settings(flags, os.environ, extension.project, source=source), locate)
