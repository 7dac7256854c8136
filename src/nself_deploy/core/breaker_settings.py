"""From the project's file to the rules of its circuit breakers."""

from __future__ import annotations

from nself_deploy.core.breaker import Rules
from nself_deploy.core.extension import BreakerKeys


def rules_of(keys: BreakerKeys | None) -> Rules:
    """The rules as they are written; what is left out, or 0, is the default."""
    usual = Rules()
    if keys is None:
        return usual
    return Rules(keys.rollbacks, float(keys.window or usual.window_s), float(keys.cooldown or usual.cooldown_s))
