"""How short and how long the lengths of time can be that are settings, as they are written."""

from __future__ import annotations

LIMITS = {
    "health_timeout": ("1s", "1h"),
    "min_uptime": ("1s", "10m"),
    "drain": ("1s", "1h"),
    "standby": ("0s", "1d"),
    "bake": ("0s", "1d"),
    "pause_expiry": ("0s", "7d"),
}
"""By key of `x-nself-deploy`: the lowest and the highest value."""
