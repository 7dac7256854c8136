"""The most telling of the candidates that `make canaries` tries; see tests/load/candidates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.load.candidates.kinds import PATIENT, Candidate, named
from tests.load.candidates.trial import shop, tried
from tests.real.stack import Stack

pytestmark = [pytest.mark.real, pytest.mark.few]

USERS = 1000
"""Among so many, a good split looks wrong with a chance of 2e-7; among the 3000 of `make canaries` with one of 3e-5."""


@pytest.fixture(scope="module")
def site() -> Iterator[Stack]:
    stack = shop("cands")
    yield stack
    stack.remove()


@pytest.mark.parametrize(
    "candidate",
    [
        replace(named("posts"), analysis=PATIENT),
        # Killed in the middle of soaks: what is known in the end is what one knows that nobody killed.
        named("killed twice, database away"),
    ],
    ids=lambda candidate: candidate.name,
)
def test_the_verdict_on_a_candidate_is_right(candidate: Candidate, site: Stack) -> None:
    release = candidate.name.split(maxsplit=1)[0]
    found = tried(site, candidate, release, slack_s=120.0, timeout_s=240.0, users=USERS)

    assert not found.wrong, "\n".join(found.wrong)
    assert found.by_us == 0
