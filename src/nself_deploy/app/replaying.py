"""What was decided about a release, decided once more from what is on record."""

from __future__ import annotations

import hashlib

import msgspec

from nself_deploy.app.judge_records import KEPT, Closed, closed_key
from nself_deploy.app.judging import session_key
from nself_deploy.app.ports import JudgeRecords
from nself_deploy.app.stores import Store
from nself_deploy.core.machine import Run
from nself_deploy.core.replay import Difference, replayed
from nself_deploy.errors import StateFileError, UsageError

CHANGED = "it is not what was written: somebody or something changed it"


class RunReplay(msgspec.Struct, frozen=True):
    """One run, judged again."""

    run: str
    started_at: str
    identical: bool
    """Whether all that was decided comes out as it did, from a record that nobody changed."""
    whole: bool
    """Whether all that was decided is on record."""
    requests: int
    decisions: int
    """What was compared: verdicts with their evidence, and what was decided."""
    verdict: str
    """The last one."""
    note: str = ""
    """What has to be known about the record."""
    difference: Difference | None = None
    """The first one."""


class Replay(msgspec.Struct, frozen=True):
    """What `replay` prints."""

    release: str
    identical: bool
    runs: tuple[RunReplay, ...]
    """Oldest first."""


def replay(store: Store, records: JudgeRecords, release_id: str) -> Replay:
    """Judge all runs again that brought this release.

    Raises:
        UsageError: there is no such release, or nothing on record about it.
        StateFileError: what the journal says about a record can't be read.
        NselfError: a record can't be read.
    """
    if store.release(release_id) is None:
        raise UsageError(f"There is no release {release_id!r}.", "nself deploy history shows their ids.")
    found = []
    for run_id in records.runs():
        run = store.run(run_id)
        data = records.read(run_id) if run is not None and run.plan.release == release_id else None
        if run is not None and data is not None:
            found.append(again(store, run, data))
    if not found:
        raise UsageError(
            f"What was judged about release {release_id} is not on record.",
            f"Only canaries and bakes are judged, and the newest {KEPT} records are kept; "
            "nself deploy history shows how each deploy ended.",
        )
    return Replay(release_id, all(run.identical for run in found), tuple(found))


class _Open(msgspec.Struct, frozen=True):
    """What is needed of the session of a run that has not ended."""

    recorded: int = 0
    unrecorded: bool = False


def again(store: Store, run: Run, data: bytes) -> RunReplay:
    """Judge one run again, from its record as it was read.

    Raises:
        StateFileError: what the journal says about it can't be read.
    """
    data, changed, open_ = _known(store, run, data)
    result = replayed(data)
    note = result.note
    if not result.whole and not note:
        note = "the run has not ended" if open_ else "what came after its last line is not on record"
    return RunReplay(
        run.id,
        run.started_at,
        identical=result.difference is None and not changed,
        whole=result.whole,
        requests=result.requests,
        decisions=result.decisions,
        verdict=result.verdict,
        note=CHANGED if changed else note,
        difference=result.difference,
    )


def _known(store: Store, run: Run, data: bytes) -> tuple[bytes, bool, bool]:
    """What the journal knows of a record; whether it was changed, and whether more is to come."""
    session, closed = store.meta(session_key(run.id)), store.meta(closed_key(run.id))
    try:
        if session:
            known = msgspec.json.decode(session, type=_Open)
            return data[: known.recorded], len(data) < known.recorded, not known.unrecorded
        if closed:
            digest = msgspec.json.decode(closed, type=Closed).sha256
            return data, hashlib.sha256(data).hexdigest() != digest, False
    except msgspec.DecodeError as error:
        what = f"what the journal says about the record of run {run.id} can't be read: {error}."
        raise StateFileError(what, "Restore the journal from a backup.", where=".nself/nself.db") from error
    return data, False, False
