"""What another terminal asks of the process that works on a run, and what is answered: words in the journal."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from nself_deploy.core.pauses import Limit


class Wanted(StrEnum):
    """What is asked for."""

    PAUSE = "pause"
    PROMOTE = "promote"


class Ask(msgspec.Struct, frozen=True):
    """A question. `id` tells its answer from those of others."""

    id: str
    wanted: Wanted
    by: str
    full: bool = False
    reason: str = ""
    """Why it may go on without proof; empty: only with proof."""
    limit: Limit | None = None
    """How long a pause lasts, and what then; None: until somebody decides."""


class Answer(msgspec.Struct, frozen=True):
    """What became of it."""

    id: str
    done: bool
    words: str
    evidence: tuple[str, ...] = ()


def ask_key(run_id: str) -> str:
    """Where questions about a run are written down."""
    return f"ask:{run_id}"


def answer_key(run_id: str) -> str:
    """Where answers are."""
    return f"answer:{run_id}"
