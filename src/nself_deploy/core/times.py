"""Times as text: UTC, RFC 3339."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)


def parse(text: str) -> datetime:
    """An RFC 3339 time (fractions of any length) with its zone; one without a zone is UTC.

    Raises:
        ValueError: it is not one.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a time")
    moment, fraction, zone = found.groups()
    return datetime.fromisoformat(f"{moment}.{(fraction or '0')[:6]:0<6}{(zone or 'Z').upper()}")


def seconds_between(earlier: str, later: str) -> float:
    """Seconds from one time to another; negative when they are the other way round."""
    return (parse(later) - parse(earlier)).total_seconds()


def plus_seconds(text: str, seconds: float) -> str:
    """A time some seconds later, in whole seconds, ending in Z."""
    later = parse(text) + timedelta(seconds=seconds)
    return later.strftime("%Y-%m-%dT%H:%M:%SZ")
