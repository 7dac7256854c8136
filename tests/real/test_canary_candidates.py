"""The most telling of the candidates that `make canaries` tries; see tests/load/candidates."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.load.candidates.kinds import named
from tests.load.candidates.trial import shop, tried
from tests.real.stack import Stack

pytestmark = [pytest.mark.real, pytest.mark.few]


@pytest.fixture(scope="module")
def site() -> Iterator[Stack]:
    stack = shop("cands")
    yield stack
    stack.remove()


@pytest.mark.parametrize(
    "name",
    [
        "posts",
        # Killed in the middle of soaks: what is said in the end is what the same log says when it is read in one go.
        "killed twice, database away",
    ],
)
def test_the_verdict_on_a_candidate_is_right(name: str, site: Stack) -> None:
    found = tried(site, named(name), name.split(maxsplit=1)[0], slack_s=120.0, timeout_s=240.0)

    assert not found.wrong, "\n".join(found.wrong)
    assert found.by_us == 0
