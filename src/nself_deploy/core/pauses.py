"""A pause that ends by itself: when that is, and what is done then if nobody has decided.

Time is counted by the machine's steady clock, which nobody can set, for as long as the machine runs on. After another
boot there is only the wall clock, and that may have been set: then a pause that ends with going on lasts, in doubt,
longer than was asked for, never shorter.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from nself_deploy.core.durations import format_duration
from nself_deploy.core.moments import Moment, elapsed_s
from nself_deploy.core.times import plus_seconds


class Then(StrEnum):
    """What is done when a pause is over."""

    ABORT = "abort"
    """The candidate loses its share and is removed."""
    RESUME = "resume"
    """It is judged on, and gets more when it is shown to be good enough."""
    PROMOTE = "promote"
    """It gets its next share at once if it is shown to be good enough for that, else it is judged on."""


class Limit(msgspec.Struct, frozen=True):
    """How long a pause may last, as it is asked for."""

    seconds: float
    then: Then = Then.ABORT


class Expiry(msgspec.Struct, frozen=True):
    """The same of a pause that has begun."""

    limit: Limit
    began: Moment

    @property
    def then(self) -> Then:
        """What is done when it is over."""
        return self.limit.then

    def left_s(self, now: Moment) -> float:
        """Seconds that are left of it; none when it is over."""
        passed = elapsed_s(self.began, now)
        if now.boot != self.began.boot and self.then is not Then.ABORT:
            passed = min(passed, now.uptime_s)
        return max(0.0, self.limit.seconds - passed)

    def over(self, now: Moment) -> bool:
        """Whether it is over."""
        return self.left_s(now) <= 0.0

    def words(self, now: Moment) -> str:
        """For people: until when, and what then."""
        left = self.left_s(now)
        if not left:
            return f"its pause is over: the next command that changes things will {self.then} it"
        about = format_duration(max(1.0, float(round(left))))
        return f"until about {plus_seconds(now.at, left)} (in {about}), then: {self.then}"


def ended_words(expiry: Expiry) -> str:
    """Why something is done without anybody who asked for it now."""
    return f"its pause of {format_duration(expiry.limit.seconds)} is over, and nobody decided: {expiry.then}"
