"""One project that is killed in again and again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.real.stack import Stack, copy_of


@dataclass
class Site:
    """One project, and the releases that it has had."""

    stack: Stack
    number: int = 0

    def next_release(self) -> str:
        self.number += 1
        return f"r{self.number}"


@contextlib.contextmanager
def fresh() -> Iterator[Site]:
    """A project of its own, which does not stay when it can't be prepared."""
    site = Site(copy_of("crash", prefix="crash"))
    try:
        yield site
    except BaseException:
        site.stack.remove()
        raise
