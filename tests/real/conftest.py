"""What several files of real tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.real.router_parts import KINDS, Bench


@pytest.fixture(params=["host", "container"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """A project with an nginx in front of it: a program of this machine, or a container."""
    made = KINDS[request.param]()
    try:
        yield made
    finally:
        await made.close()
