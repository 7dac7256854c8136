"""A wall clock that a test sets: every Python program with this directory in PYTHONPATH reads it.

The file that NSELF_TEST_CLOCK names has the seconds by which it is wrong; it may be written at any time.
"""

from __future__ import annotations

import datetime as dt
import os
import pathlib

from nself_deploy.adapters import journal, system


class Shifted:
    """In place of `datetime` where the wall clock is read."""

    @staticmethod
    def now(tz: dt.tzinfo | None = None) -> dt.datetime:
        """What the clock on the wall shows."""
        wrong_by = float(pathlib.Path(os.environ["NSELF_TEST_CLOCK"]).read_text(encoding="ascii"))
        return dt.datetime.now(tz) + dt.timedelta(seconds=wrong_by)


for module in (journal, system):
    vars(module)["datetime"] = Shifted
