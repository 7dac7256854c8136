"""A step of a run as people and programs see it: one line, of which the documents are made."""

from __future__ import annotations

import msgspec

from nself_deploy.core.machine import StepState
from nself_deploy.core.model import StepStatus


class StepLine(msgspec.Struct, frozen=True):
    """A step as people and programs see it."""

    name: str
    status: StepStatus
    seconds: float = 0.0
    detail: str = ""


def step_line(state: StepState) -> StepLine:
    """One line of a run."""
    return StepLine(state.name, state.status, state.seconds, state.detail)
