"""Times as text: UTC, RFC 3339."""

from __future__ import annotations

from datetime import datetime, timedelta


def parse(text: str) -> datetime:
    """An RFC 3339 time (fractions of any length) with its zone.

    Raises:
        ValueError: it is not one.
    """
    head, _, tail = text.partition(".")
    fraction = "".join(c for c in tail if c.isdigit())[:6]
    zone = "" if head.endswith("Z") or "+" in head else "+00:00"
    return datetime.fromisoformat(head.replace("Z", "+00:00") + (f".{fraction}" if fraction else "") + zone)


def seconds_between(earlier: str, later: str) -> float:
    """Seconds from one time to another; negative when they are the other way round."""
    return (parse(later) - parse(earlier)).total_seconds()


def plus_seconds(text: str, seconds: float) -> str:
    """A time some seconds later, in whole seconds, ending in Z."""
    later = parse(text) + timedelta(seconds=seconds)
    return later.strftime("%Y-%m-%dT%H:%M:%SZ")
