"""Moments for tests of what guards rollbacks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from nself_deploy.core.moments import Moment

START = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)


def after(seconds: float, *, set_by: float = 0.0, boot: str = "boot-1") -> Moment:
    """So many seconds after the start of all tests, on a wall clock that was set by so many."""
    wall = START + timedelta(seconds=seconds + set_by)
    return Moment(wall.isoformat(timespec="milliseconds").replace("+00:00", "Z"), boot, 5000.0 + seconds)
