"""Lengths of time as people and Compose write them: `30s`, `5m`, `1h30m`, `500ms`, or a number of seconds."""

from __future__ import annotations

import math
import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)"
_NUMBER = r"\d+(?:\.\d+)?"

SYNTAX = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$|^[0-9]+(\.[0-9]+)?$"
"""What `parse_duration` takes as text, for the JSON Schema."""


class Duration(float):
    """Seconds; written as `30s`, `5m`, `1h`, `500ms` or a number of seconds."""


def parse_duration(value: object) -> float:
    """The seconds of a duration: text such as `30s` or `1h30m`, or a number of seconds.

    Raises:
        ValueError: it is neither, or is negative or infinite; says so in words.
    """
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(_NUMBER, text):
            return float(text)
        if re.fullmatch(f"(?:{_PART})+", text):
            return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    raise ValueError(f"{value!r} is not a duration: write it like 30s, 5m, 1h or 500ms")


def format_duration(seconds: float) -> str:
    """Seconds in the shortest words that say the same: `90` is `1m30s`, `0.5` is `500ms`."""
    if seconds < 1 or seconds != int(seconds):
        return f"{seconds * 1000:g}ms" if seconds < 1 and seconds else f"{seconds:g}s"
    rest, parts = int(seconds), ""
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        if rest >= size:
            parts += f"{rest // size}{unit}"
            rest %= size
    return parts or "0s"
