"""Counts since the beginning and over the last seconds, in a ring with one row per second."""

from __future__ import annotations

import msgspec

WINDOW_S = 60


class Counts(msgspec.Struct):
    """A row of counters: their sums since the beginning, and over the last `WINDOW_S` seconds."""

    total: list[int]
    recent: list[int]
    rows: list[list[int]]
    """Ring: the row of second s is `rows[s % WINDOW_S]`."""
    second: int = 0

    @classmethod
    def of(cls, width: int) -> Counts:
        """Counters at zero."""
        return cls([0] * width, [0] * width, [[0] * width for _ in range(WINDOW_S)])

    def advance(self, second: int) -> None:
        """Forget what is older than the window at this second."""
        passed = second - self.second
        if passed <= 0:
            return
        for late in range(max(0, passed - WINDOW_S), passed):
            row = self.rows[(self.second + late + 1) % WINDOW_S]
            for i, count in enumerate(row):
                self.recent[i] -= count
                row[i] = 0
        self.second = second

    def add_both(self, index: int, other: int) -> None:
        """Count two things once."""
        row = self.rows[self.second % WINDOW_S]
        for counters in (self.total, self.recent, row):
            counters[index] += 1
            counters[other] += 1

    def add(self, index: int, count: int = 1) -> None:
        """Count at the present second."""
        self.total[index] += count
        self.recent[index] += count
        self.rows[self.second % WINDOW_S][index] += count
