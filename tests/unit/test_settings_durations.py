"""Durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30), ("5m", 300), ("1h", 3600), ("500ms", 0.5), ("1h30m", 5400), ("1m30s", 90), ("1.5h", 5400),
        ("10m0s", 600), ("2d", 172800), ("30", 30), (" 7s ", 7), (30, 30), (0.25, 0.25), (0, 0), ("0s", 0),
    ],
)  # fmt: skip
def test_reads(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    ["", "s", "5 m", "five", "-3s", "1:30", "10x", "1h-5m", "1e3", -1, float("nan"), float("inf"), True, None, [30]],
)
def test_refuses(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(value)


@given(st.integers(min_value=0, max_value=10**7))
def test_what_is_shown_reads_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


def test_shows_parts_of_a_second() -> None:
    assert format_duration(0.5) == "500ms"
    assert format_duration(1.5) == "1.5s"
