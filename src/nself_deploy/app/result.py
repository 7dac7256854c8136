"""What a use case did, and what it asks before."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from nself_deploy.core.machine import Run
from nself_deploy.core.plan import Plan
from nself_deploy.core.step_lines import StepLine


class Result(msgspec.Struct, frozen=True):
    """What a use case did."""

    plan: Plan
    run: Run | None
    """None when there was nothing to do, or for a dry run."""
    before: tuple[StepLine, ...] = ()
    """Steps from before the run, or the one that says that there was nothing to do."""


Confirm = Callable[[Plan], None]
"""Called with the plan before anything is done; raises to refuse."""
