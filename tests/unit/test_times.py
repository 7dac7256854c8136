"""Times as text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nself_deploy.core.times import parse, plus_seconds, seconds_between

MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T21:30:00Z", datetime(2026, 11, 22, 21, 30, tzinfo=UTC)),
        ("2026-11-22T21:30:00.5Z", datetime(2026, 11, 22, 21, 30, 0, 500_000, tzinfo=UTC)),
        ("2026-11-22T21:30:00.123456789Z", datetime(2026, 11, 22, 21, 30, 0, 123_456, tzinfo=UTC)),
        ("2026-11-22T22:30:00+01:00", datetime(2026, 11, 22, 21, 30, tzinfo=UTC)),
        ("2026-11-22T23:30:00.123456+02:00", datetime(2026, 11, 22, 21, 30, 0, 123_456, tzinfo=UTC)),
        ("2026-11-22T16:30:00.5-05:00", datetime(2026, 11, 22, 21, 30, 0, 500_000, tzinfo=UTC)),
        ("2026-11-22T16:30:00-05:00", datetime(2026, 11, 22, 21, 30, tzinfo=UTC)),
        ("2026-11-22T21:30:00", datetime(2026, 11, 22, 21, 30, tzinfo=UTC)),
    ],
)
def test_times_of_docker_and_of_ours_are_read(text: str, moment: datetime) -> None:
    assert parse(text) == moment


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-11-22T21:30:00.Z", "2026-11-22T21:30:00.5+1"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_the_zero_time_of_docker_is_long_ago() -> None:
    assert seconds_between("0001-01-01T00:00:00Z", "2026-11-22T21:30:00Z") > 2000 * 365 * 86_400


@given(MOMENTS, st.integers(0, 10**7))
def test_adding_seconds_and_taking_the_difference_agree(moment: datetime, seconds: int) -> None:
    text = moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")

    assert seconds_between(text, plus_seconds(text, seconds)) == seconds
    assert seconds_between(plus_seconds(text, seconds), text) == -seconds
    assert plus_seconds(text, seconds).endswith("Z")
