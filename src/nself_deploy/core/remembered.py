"""What is kept of a project's files from one command to the next, so that a way back need not read them."""

from __future__ import annotations

import msgspec

from nself_deploy.core.model import RouterRef
from nself_deploy.core.settings import DEFAULT, Settings

KEY = "project"
"""The word of the journal that it is kept under."""


class Remembered(msgspec.Struct, frozen=True):
    """A project as it was read last."""

    project: str
    """The Compose project's name."""
    router: RouterRef
    timing: dict[str, float]
    """Settings in seconds that the project's file gives."""


TIMING = ("health_timeout_s", "min_uptime_s", "drain_s", "standby_s")


def remembered(project: str, router: RouterRef, own: Settings) -> Remembered:
    """What is kept; `own` are the settings without flags and environment."""
    given = {name: getattr(own, name) for name in TIMING if own.origins.get(name, DEFAULT) != DEFAULT}
    return Remembered(project, router, given)


def recall(settings: Settings, known: Remembered) -> Settings:
    """Settings of flags and environment, with those that the project's file gave where they are silent."""
    silent = {n: v for n, v in known.timing.items() if n in TIMING and settings.origins.get(n, DEFAULT) == DEFAULT}
    return msgspec.structs.replace(settings, **silent)
