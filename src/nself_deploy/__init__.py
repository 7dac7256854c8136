"""Zero-downtime deploys for Docker Compose stacks behind nginx.

    from nself_deploy import BlueGreenConfig, run_blue_green

    result = run_blue_green(BlueGreenConfig("."))

What is named here is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nself_deploy.api import (
        DEPLOY_STATE_FILE,
        AuditEvent,
        BlueGreenConfig,
        BlueGreenResult,
        CanaryConfig,
        CanaryResult,
        DeployStep,
        RollbackConfig,
        RollbackResult,
        RollbackUIState,
        StepStatus,
        Strategy,
        StrategyState,
        execute_rollback,
        load_deploy_state,
        load_rollback_result,
        run_blue_green,
        run_canary,
        save_deploy_state,
    )
    from nself_deploy.errors import NselfError, UsageError

__version__ = "0.1.0"

__all__ = [
    "DEPLOY_STATE_FILE",
    "AuditEvent",
    "BlueGreenConfig",
    "BlueGreenResult",
    "CanaryConfig",
    "CanaryResult",
    "DeployStep",
    "NselfError",
    "RollbackConfig",
    "RollbackResult",
    "RollbackUIState",
    "StepStatus",
    "Strategy",
    "StrategyState",
    "UsageError",
    "__version__",
    "execute_rollback",
    "load_deploy_state",
    "load_rollback_result",
    "run_blue_green",
    "run_canary",
    "save_deploy_state",
]

_ERRORS = frozenset({"NselfError", "UsageError"})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module("nself_deploy.errors" if name in _ERRORS else "nself_deploy.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
